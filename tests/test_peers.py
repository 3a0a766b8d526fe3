"""Outputs and input gradients of other people's non-local blocks, computed by their own PyTorch code.

The weights are mapped here by hand, independently of keras_nonlocal.weights.
"""

import json
import pathlib

import blocks
import numpy as np
import pytest
import tensorflow as tf

DATA = pathlib.Path(__file__).parent / "data"
Y_TOLERANCE = {"atol": 2e-5, "rtol": 1e-5}
GX_TOLERANCE = {"atol": 5e-5, "rtol": 1e-5}


def _read(name):
    with np.load(DATA / name, allow_pickle=False) as bundle:
        arrays = {key: bundle[key] for key in bundle.files}
    metas = json.loads(str(arrays["meta"]))["cases"]
    return [
        (meta, {key.removeprefix(f"case/{i}/"): a for key, a in arrays.items() if key.startswith(f"case/{i}/")})
        for i, meta in enumerate(metas)
    ]


def _mmcv_id(case):
    meta = case[0]
    pool, norm, scale = (meta[key] for key in ("sub_sample", "norm", "use_scale"))
    words = [f"{meta['rank']}d", meta["mode"], "pool" if pool else "", "norm" if norm else "", "scale" if scale else ""]
    return "-".join(filter(None, words))


def _slowfast_id(case):
    return f"{case[0]['instantiation']}-pool_{case[0]['pool_size']}"


def _kernel(weight):
    """(O, I, 1, ...) -> (I, O)."""
    return weight.reshape(weight.shape[:2]).T


def _channels_last(x):
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


def _check(flavour, rank, kwargs, weights, arrays):
    x, r = _channels_last(arrays["x"]), _channels_last(arrays["r"])
    layer = blocks.make(flavour, rank, norm_epsilon=1e-5, **kwargs)
    layer.build(x.shape)
    blocks.assign(layer, weights)
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=False)
        loss = tf.reduce_sum(y * r)
    np.testing.assert_allclose(y, _channels_last(arrays["y"]), **Y_TOLERANCE)
    np.testing.assert_allclose(tape.gradient(loss, x), _channels_last(arrays["gx"]), **GX_TOLERANCE)


@pytest.mark.parametrize("flavour", blocks.FLAVOURS)
@pytest.mark.parametrize("case", _read("mmcv_blocks.npz"), ids=_mmcv_id)
def test_mmcv(flavour, case):
    meta, arrays = case
    pooled_in_order = {1: 2, 2: (2, 2), 3: (1, 2, 2)}[meta["rank"]]
    kwargs = {
        "pairwise": meta["mode"],
        "inner_channels": meta["inter_channels"],
        "pool_size": pooled_in_order if meta["sub_sample"] else None,
        "pool_before_projection": False,
        "scale": meta["use_scale"],
        "norm": "batch_norm" if meta["norm"] else None,
        "use_out_bias": meta["conv_out_bias"],
    }
    g = "g.0" if meta["sub_sample"] else "g"
    phi = "phi.0" if meta["sub_sample"] else "phi"
    weights = {
        "g/kernel": _kernel(arrays[f"w/{g}.conv.weight"]),
        "g/bias": arrays[f"w/{g}.conv.bias"],
        "out/kernel": _kernel(arrays["w/conv_out.conv.weight"]),
    }
    if meta["conv_out_bias"]:
        weights["out/bias"] = arrays["w/conv_out.conv.bias"]
    if meta["norm"]:
        weights["norm/gamma"] = arrays["w/conv_out.bn.weight"]
        weights["norm/beta"] = arrays["w/conv_out.bn.bias"]
        weights["norm/moving_mean"] = arrays["w/conv_out.bn.running_mean"]
        weights["norm/moving_variance"] = arrays["w/conv_out.bn.running_var"]
    if meta["mode"] != "gaussian":
        weights["theta/kernel"] = _kernel(arrays["w/theta.conv.weight"])
        weights["theta/bias"] = arrays["w/theta.conv.bias"]
        weights["phi/kernel"] = _kernel(arrays[f"w/{phi}.conv.weight"])
        weights["phi/bias"] = arrays[f"w/{phi}.conv.bias"]
    if meta["mode"] == "concatenation":
        weights["w_f"] = arrays["w/concat_project.conv.weight"].reshape(-1)
    _check(flavour, meta["rank"], kwargs, weights, arrays)


@pytest.mark.parametrize("flavour", blocks.FLAVOURS)
@pytest.mark.parametrize("case", _read("slowfast_blocks.npz"), ids=_slowfast_id)
def test_slowfast(flavour, case):
    meta, arrays = case
    kwargs = {
        "pairwise": {"softmax": "embedded_gaussian", "dot_product": "dot_product"}[meta["instantiation"]],
        "inner_channels": meta["dim_inner"],
        "pool_size": meta["pool_size"],
    }
    weights = {f"{name}/kernel": _kernel(arrays[f"w/conv_{name}.weight"]) for name in ("theta", "phi", "g", "out")}
    weights |= {f"{name}/bias": arrays[f"w/conv_{name}.bias"] for name in ("theta", "phi", "g", "out")}
    weights["norm/gamma"] = arrays["w/bn.weight"]
    weights["norm/beta"] = arrays["w/bn.bias"]
    weights["norm/moving_mean"] = arrays["w/bn.running_mean"]
    weights["norm/moving_variance"] = arrays["w/bn.running_var"]
    _check(flavour, 3, kwargs, weights, arrays)


def test_every_peer_case_is_here():
    assert len(_read("mmcv_blocks.npz")) == 38
    assert len(_read("slowfast_blocks.npz")) == 6
