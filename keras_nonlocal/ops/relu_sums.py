"""Sums over ReLU(a_i + b_j), Eq. 5, exactly and without the N x M matrix.

F(t) = sum_j ReLU(b_j - t) v_j is piecewise linear in t, with a corner at each b_j. With b sorted, its values at the
corners are suffix sums of suffix sums of v, and y_i = F(-a_i) is read off beside the corner that follows -a_i.
"""

import tensorflow as tf

from keras_nonlocal.ops import gradients
from keras_nonlocal.ops.positions import dims

BLOCK = 128


def relu_sums(a, b, v):
    """y_i = sum_j ReLU(a_i + b_j) v_j, in O(M log M + (N + M) D).

    Args:
      a: (B, N), float32 or float64.
      b: (B, M).
      v: (B, M, D).

    Returns:
      (B, N, D). An infinity or NaN in b makes it NaN.
    """

    def active_gradients(inputs, dactive):
        a, b, _ = inputs
        return tf.zeros_like(a), tf.zeros_like(b), _sums(b, a, dactive)[1]

    def backward(inputs, active, dy):
        a, b, v = inputs
        active = gradients.known(active, lambda *inputs: _sums(*inputs)[1], active_gradients, a, b, v)
        # dy/da_i is the sum of the active v, and ReLU(a_i + b_j) is as much a function of j summed over i.
        dv, dy_active = _sums(b, a, dy)
        return tf.reduce_sum(dy * active, axis=-1), tf.reduce_sum(v * dy_active, axis=-1), dv

    return gradients.with_gradients(_sums, backward)(a, b, v)


def _sums(a, b, v):
    """sum_j ReLU(a_i + b_j) v_j, and the sum of those v_j for which a_i + b_j > 0; both (B, N, D)."""
    _, keys, _ = dims(v)
    order = tf.argsort(b)
    b = tf.gather(b, order, batch_dims=1)
    # A row of zeros at the end is what a query finds that no key is active for; more fill up the last block.
    rows = BLOCK * (keys // BLOCK + 1)
    # A b that is not finite has no place in the order: 0 * b marks everything.
    b_end = tf.reduce_sum(0 * b, axis=1, keepdims=True)  # (B, 1)
    corners_at = tf.concat([b, b_end], axis=1)  # (B, M + 1)
    gaps = corners_at[:, 1:] - b  # (B, M); nothing is active behind the last
    v = tf.gather(v, order, batch_dims=1)
    v = tf.pad(v, [[0, 0], [0, rows - keys], [0, 0]])  # (B, M, D) -> (B, rows, D)
    gaps = tf.pad(gaps, [[0, 0], [0, rows - keys]])[..., None]  # (B, M) -> (B, rows, 1)
    # active_k = sum of v_m over m >= k, and F(b_k) = F(b_k+1) + (b_k+1 - b_k) active_k+1. The textbook way, S1 - t S0
    # with S1 the suffix sums of b v, subtracts numbers that can be far larger than their difference.
    active = _suffix_sums(v)
    steps = gaps * tf.concat([active[:, 1:], active[:, -1:]], axis=1)
    corners = _suffix_sums(steps)
    first = tf.searchsorted(b, -a, side="right")  # (B, N): the first key with b_j > -a_i, M for none
    distance = a + tf.gather(corners_at, first, batch_dims=1)  # (B, N)
    active = tf.gather(active, first, batch_dims=1)
    return tf.gather(corners, first, batch_dims=1) + distance[..., None] * active, active


def _suffix_sums(x):
    """sum of x_m over m >= k, for (B, rows, D) with rows a multiple of BLOCK."""
    batch, rows, channels = dims(x)
    blocks = tf.reshape(x, [batch, rows // BLOCK, BLOCK, channels])
    # Inside a block a multiplication by a triangle of ones, quicker and more accurate than one sum after another.
    triangle = tf.linalg.band_part(tf.ones([BLOCK, BLOCK], x.dtype), 0, -1)
    inside = tf.matmul(triangle, blocks)  # (B, rows / BLOCK, BLOCK, D)
    after = tf.cumsum(inside[:, :, :1], axis=1, exclusive=True, reverse=True)  # (B, rows / BLOCK, 1, D)
    return tf.reshape(inside + after, [batch, rows, channels])
