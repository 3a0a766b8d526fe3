"""The affine form of a norm: a scale and a shift where other files have a batch norm with its statistics."""

import numpy as np

from keras_nonlocal.weights.formats.values import CheckpointError

STATISTICS = ("moving_mean", "moving_variance")


def is_affine(targets, suffix):
    """Whether a residual network has scales and shifts only.

    Args:
      targets: {(layer, weight): (name, array)}.
      suffix: what names of scales end in where the source has this form; None where a norm without statistics has lost
        them.
    """
    norms = {layer for layer, weight in targets if weight == "gamma"}
    return bool(suffix and norms) and all(
        targets[layer, "gamma"][0].endswith(suffix) and not any((layer, part) in targets for part in STATISTICS)
        for layer in norms
    )


def statistic(weight, shape, epsilon):
    """(what it is, values) of the moving statistic that makes a batch norm a scale and a shift."""
    if weight == "moving_mean":
        return "0 (affine)", np.zeros(shape, np.float32)
    value = 1.0 - epsilon
    return f"{value} (affine)", np.full(shape, value, np.float32)


def fold_blocks(targets, suffix, epsilon):
    """The targets with the affine at the end of each non-local block in the block's W_z, which comes before it.

    The long-term feature banks' code has such blocks. Where the rest of the network is affine, a batch norm at the end
    of a block is folded by its statistics too, because a network of ours is frozen with all its norms.

    Args:
      targets, suffix: those of is_affine.
      epsilon: of a batch norm.
    """
    if not suffix:
        return targets
    folded, frozen = dict(targets), is_affine(targets, suffix)
    for layer in [layer for layer, weight in targets if weight == "norm/gamma"]:
        parts = {part: targets.get((layer, f"norm/{part}")) for part in ("gamma", "beta", *STATISTICS)}
        present = [part for part, found in parts.items() if found is not None]
        if not parts["gamma"][0].endswith(suffix) or (len(present) == 4 and not frozen):
            continue
        kernel, bias = (targets.get((layer, f"out/{part}")) for part in ("kernel", "bias"))
        if present not in (["gamma", "beta"], ["gamma", "beta", *STATISTICS]) or kernel is None:
            raise CheckpointError(f"{layer} has some parts of a norm or of an affine, and not the others.")
        _check_vectors(kernel, [bias, *parts.values()])
        scale, shift = (parts[part][1].astype(np.float64) for part in ("gamma", "beta"))
        if len(present) == 4:
            mean, variance = (parts[part][1].astype(np.float64) for part in STATISTICS)
            scale = scale / np.sqrt(variance + epsilon)
            shift = shift - mean * scale
        names = [parts[part][0] for part in present]
        folded[layer, "out/kernel"] = (
            " x ".join([kernel[0], names[0], *names[3:]]),
            kernel[1].astype(np.float64) * scale.reshape([-1] + [1] * (kernel[1].ndim - 1)),
        )
        before, name = (0.0, "0") if bias is None else (bias[1].astype(np.float64), bias[0])
        folded[layer, "out/bias"] = " and ".join([name, *names]), before * scale + shift
        for part in present:
            del folded[layer, f"norm/{part}"]
    return folded


def _check_vectors(kernel, vectors):
    """CheckpointError unless all vectors that there are fit to a kernel (O, I, ...)."""
    for name, vector in [found for found in vectors if found is not None]:
        if kernel[1].ndim < 2 or vector.shape != kernel[1].shape[:1]:
            raise CheckpointError(
                f"{name} has the shape {vector.shape}, which does not fit to {kernel[0]} of {kernel[1].shape}."
            )
