"""C2D's weights as NumPy arrays by the names of its layers, the same for every framework."""

import zlib

import numpy as np

FRAMES, SIZE, CLASSES, DEPTHS = 8, 224, 400, (3, 4, 6, 3)


def draw(name, shape):
    """One weight.

    Args:
      name: "<layer>/<weight>", with kernel, bias, gamma, beta, moving_mean or moving_variance as the weight.
      shape: of it; of a kernel (..., in, out), as in TensorFlow.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))  # of its own, so that the order does not matter
    kind = name.rsplit("/", 1)[1]
    if kind == "kernel":
        return rng.standard_normal(shape, dtype="float32") * np.float32((2 / np.prod(shape[:-1])) ** 0.5)
    if kind in ("gamma", "moving_variance"):
        # A branch that is as large as its shortcut would double the variance 16 times.
        return rng.uniform(0.5, 1.5, shape).astype("float32") * np.float32(0.3 if "branch2c" in name else 1)
    return rng.standard_normal(shape, dtype="float32") * np.float32(0.1)


def clip():
    """(1, T, H, W, 3), what a normalised clip looks like to the arithmetic."""
    return np.random.default_rng(0).standard_normal((1, FRAMES, SIZE, SIZE, 3), dtype="float32")
