"""The input and the weights of a non-local block as NumPy arrays, the same for every framework."""

import math
import typing

import numpy as np


class BlockInputs(typing.NamedTuple):
    """What a block computes on, all in float32 and with channels last.

    x and cotangent are (1, *positions, C); the loss of a training step is sum(z * cotangent). weights maps theta, phi,
    g and out to (kernel (in, out), bias (out,)), and w_f to (2 C',); a form has those that it uses.
    """

    x: np.ndarray
    cotangent: np.ndarray
    weights: dict


def make(pairwise, positions, channels, inner, pool=None, seed=0):
    """Draws BlockInputs whose attention is neither flat nor one-hot, and whose block adds about as much as comes in.

    Args:
      pairwise: "gaussian", "embedded_gaussian", "dot_product" or "concatenation".
      positions: sizes of the position axes.
      channels: C.
      inner: C', of theta, phi and g.
      pool: sizes of the windows that keys are pooled in, one for each position axis; None for no pooling.
      seed: of everything.
    """
    rng = np.random.default_rng(seed)

    def normal(*shape, std=1.0):
        return rng.standard_normal(shape, dtype="float32") * np.float32(std)

    # The unscaled x_i . x_j of the Gaussian form would pass 500: exponentials below float32's normal range, which
    # PyTorch computes slowly and TensorFlow flushes to zero.
    x = normal(1, *positions, channels, std=2 / math.sqrt(channels) if pairwise == "gaussian" else 1)
    names = ["g"] if pairwise == "gaussian" else ["theta", "phi", "g"]
    weights = {name: (normal(channels, inner, std=channels**-0.5), normal(inner, std=0.01)) for name in names}
    # A mean over M keys is small, about M ** -0.5: W_z makes up for it, or x would hide it in every comparison.
    keys = math.prod(positions) / math.prod(pool or [1])
    weights["out"] = (normal(inner, channels, std=math.sqrt(keys / inner) / 2), normal(channels, std=0.01))
    if pairwise == "concatenation":
        weights["w_f"] = normal(2 * inner, std=inner**-0.5)
    return BlockInputs(x, normal(1, *positions, channels), weights)
