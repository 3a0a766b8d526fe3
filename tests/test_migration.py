"""keras-non-local-nets' block, written in float64 NumPy from its operations, against ours as docs/migration.md says.

Positions are flattened, keys are pooled in runs of `compression` of them, nothing has a bias, nothing scales.
"""

import numpy as np
import pytest

import keras_nonlocal


def peer(x, kernels, mode, compression):
    """(B, *positions, C) -> the same."""
    rows = x.reshape(x.shape[0], -1, x.shape[-1]).astype("float64")  # (B, *positions, C) -> (B, N, C)
    theta, phi = (rows, rows) if mode == "gaussian" else (rows @ kernels["theta"], rows @ kernels["phi"])
    g = rows @ kernels["g"]
    if mode == "embedded":
        phi, g = (runs_pooled(part, compression) for part in (phi, g))
    f = theta @ phi.transpose(0, 2, 1)
    if mode == "dot":
        f /= f.shape[-1]
    else:
        f = np.exp(f - f.max(-1, keepdims=True))
        f /= f.sum(-1, keepdims=True)
    return ((f @ g) @ kernels["out"] + rows).reshape(x.shape)


def runs_pooled(rows, size):
    count = rows.shape[1] // size
    return rows[:, : count * size].reshape(rows.shape[0], count, size, -1).max(axis=2)  # (B, M*k, C) -> (B, M, C)


CASES = [
    ((9,), "embedded", 2, {"pool_size": 2}),
    ((5, 6), "embedded", 2, {"pool_size": (1, 2)}),
    ((5, 6), "embedded", 3, {"pool_size": (1, 3)}),
    ((2, 3, 4), "embedded", 2, {"pool_size": (1, 1, 2)}),
    ((5, 5), "embedded", 1, {"pool_size": None}),
    ((5, 5), "gaussian", 2, {"pool_size": None}),
    ((5, 5), "dot", 2, {"pool_size": None}),
]
FORMS = {"embedded": "embedded_gaussian", "gaussian": "gaussian", "dot": "dot_product"}


@pytest.mark.parametrize(("positions", "mode", "compression", "arguments"), CASES)
def test_the_arguments_of_the_page(positions, mode, compression, arguments):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(2, *positions, 6)).astype("float32")
    kernels = {name: generator.normal(size=(6, 3)) for name in ("theta", "phi", "g")} | {
        "out": generator.normal(size=(3, 6))
    }
    layer_class = getattr(keras_nonlocal, f"NonLocal{len(positions)}D")
    layer = layer_class(
        FORMS[mode],
        pool_before_projection=False,
        scale=False,
        use_bias=False,
        use_out_bias=False,
        norm=None,
        **arguments,
    )
    layer.build(x.shape)
    for name, kernel in kernels.items():
        if getattr(layer, name) is not None:
            getattr(layer, name).kernel.assign(kernel)
    expected = peer(x, kernels, mode, compression)
    np.testing.assert_allclose(layer(x), expected, atol=1e-5 * np.abs(expected).max())
    assert np.abs(expected - x).max() > 0.1


def test_an_odd_width_has_no_equal():
    """Its runs then go over the ends of rows."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(1, 4, 5, 6)).astype("float32")
    rows = x.reshape(1, 20, 6)  # (B, H, W, C) -> (B, N, C)
    assert runs_pooled(rows, 2).shape[1] == 10
    assert keras_nonlocal.NonLocal2D(pool_size=(1, 2)).key_grid((4, 5)) == (4, 2)
