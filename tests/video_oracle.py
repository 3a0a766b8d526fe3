"""A C2D with non-local blocks in float64 NumPy, from the paper's Table 1 and equations: no code of the package.

A network is {layer: {"kernel": (O, I, k, k), "gamma": (O,), "beta", "mean", "variance"}}, with a dict of the weights of
`oracle.block` for each "res3_0_nonlocal", and "pred": {"kernel": (O, I), "bias": (O,)}. Layers have the official code's
names.
"""

import numpy as np
import oracle

EPSILON = 1e-5


def random_network(rng, places, counts=(1, 1, 1, 1), width=2, classes=3):
    """Weights of a network with blocks at places, [(stage, index), ...]; some gammas are negative."""
    network = {}

    def norm(size):
        return {
            "gamma": rng.uniform(0.5, 1.5, size) * rng.choice([-1, 1], size),
            "beta": rng.normal(0, 0.3, size),
            "mean": rng.normal(0, 0.3, size),
            "variance": rng.uniform(0.5, 1.5, size),
        }

    def conv(name, inputs, outputs, size):
        kernel = rng.normal(0, (2 / (inputs * size * size)) ** 0.5, (outputs, inputs, size, size))
        network[name] = {"kernel": kernel, **norm(outputs)}

    conv("conv1", 3, width, 7)
    channels = width
    for index, (stage, count) in enumerate(zip(("res2", "res3", "res4", "res5"), counts, strict=True)):
        filters = width * 2**index
        for i in range(count):
            if i == 0:
                conv(f"{stage}_{i}_branch1", channels, 4 * filters, 1)
            conv(f"{stage}_{i}_branch2a", channels, filters, 1)
            conv(f"{stage}_{i}_branch2b", filters, filters, 3)
            conv(f"{stage}_{i}_branch2c", filters, 4 * filters, 1)
            channels = 4 * filters
            if (stage, i) in places:
                sizes = {part: (channels, channels // 2) for part in ("theta", "phi", "g")}
                block = {}
                for part, size in {**sizes, "out": (channels // 2, channels)}.items():
                    block[f"{part}/kernel"] = rng.normal(0, 1.5 / size[0] ** 0.5, size)
                    block[f"{part}/bias"] = rng.normal(0, 0.3, size[1])
                final = norm(channels)
                block |= {"norm/gamma": final["gamma"], "norm/beta": final["beta"]}
                block |= {"norm/moving_mean": final["mean"], "norm/moving_variance": final["variance"]}
                network[f"{stage}_{i}_nonlocal"] = block
    network["pred"] = {
        "kernel": rng.normal(0, 1 / channels**0.5, (classes, channels)),
        "bias": rng.normal(size=classes),
    }
    return network


def logits(network, x, pad_pool1, affine=False, pool_size=(1, 2, 2), group_frames=None, pairwise="embedded_gaussian"):
    """The classifier's scores of clips.

    Args:
      network: see above.
      x: (B, T, H, W, 3).
      pad_pool1: pixels of padding around pool1.
      affine: gamma and beta are a scale and a shift, the last ones of the blocks too.
      pool_size, pairwise: of all non-local blocks.
      group_frames: {stage: frames of a group}.

    Returns:
      (B, classes).
    """

    def norm(layer, y):
        if not affine:
            y = (y - layer["mean"]) / np.sqrt(layer["variance"] + EPSILON)
        return y * layer["gamma"] + layer["beta"]

    def conv(name, y, stride=1):
        return norm(network[name], _conv(y, network[name]["kernel"], stride))

    y = np.maximum(conv("conv1", np.asarray(x, np.float64), 2), 0)
    y = _pool1(y, pad_pool1)
    for stage in ("res2", "res3", "res4", "res5"):
        i = 0
        while f"{stage}_{i}_branch2a" in network:
            name, stride = f"{stage}_{i}", 2 if i == 0 and stage != "res2" else 1
            shortcut = conv(f"{name}_branch1", y, stride) if i == 0 else y
            y = np.maximum(conv(f"{name}_branch2a", y), 0)
            y = np.maximum(conv(f"{name}_branch2b", y, stride), 0)
            y = np.maximum(conv(f"{name}_branch2c", y) + shortcut, 0)
            if f"{name}_nonlocal" in network:
                frames = (group_frames or {}).get(stage)
                y = _non_local(y, network[f"{name}_nonlocal"], affine, pairwise, pool_size, frames)
            i += 1
        if stage == "res2":
            y = y[:, : y.shape[1] // 2 * 2].reshape(len(y), -1, 2, *y.shape[2:]).max(2)
    return y.mean((1, 2, 3)) @ network["pred"]["kernel"].T + network["pred"]["bias"]


def _non_local(y, block, affine, pairwise, pool_size, group_frames):
    options = dict(pairwise=pairwise, pool_size=pool_size, group_frames=group_frames)
    if not affine:
        return oracle.block(y, block, **options)[0]
    before = {name: value for name, value in block.items() if not name.startswith("norm/")}
    added = oracle.block(y, before, **options)[0] - y
    return y + added * block["norm/gamma"] + block["norm/beta"]


def _conv(y, kernel, stride):
    """1 x k x k with the padding of k // 2 on every side."""
    size = kernel.shape[-1]
    pad = size // 2
    y = np.pad(y, ((0, 0), (0, 0), (pad, pad), (pad, pad), (0, 0)))
    rows, columns = ((n - size) // stride + 1 for n in y.shape[2:4])
    out = 0.0
    for i in range(size):
        for j in range(size):
            part = y[:, :, i : i + stride * rows : stride, j : j + stride * columns : stride]
            out = out + part[:, :, :rows, :columns] @ kernel[:, :, i, j].T
    return out


def _pool1(y, pad):
    """The maximum over 3 x 3 pixels, every second one."""
    y = np.pad(y, ((0, 0), (0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=-np.inf)
    rows, columns = ((n - 3) // 2 + 1 for n in y.shape[2:4])
    parts = [y[:, :, i : i + 2 * rows : 2, j : j + 2 * columns : 2] for i in range(3) for j in range(3)]
    return np.max([part[:, :, :rows, :columns] for part in parts], axis=0)
