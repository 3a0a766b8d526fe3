"""The non-local operation y = sum_j attention_ij g_j, evaluated: the ways to do it exactly, and which one when.

| implementation | forms | memory | when "auto" picks it |
|---|---|---|---|
| dense | all | N x M | the definition; for the forms that count where N or M is small |
| one_piece | softmax | N x M | B N M floats up to limits.matrix_bytes, 64 MiB on a CPU |
| chunked | softmax | N + M | above, and where N or M is known at run time only |
| associated | dot product | N + M | phi^T g first, where that takes fewer operations or the sizes are not known |
| sorted | concatenation | N + M | 1024 keys and more, more than the softmax forms' bytes, or sizes not known |
"""

from typing import Literal

import tensorflow as tf

from keras_nonlocal.ops import limits, pairwise, relu_sums, softmax_attention
from keras_nonlocal.ops.positions import dims

Implementation = Literal["auto", "dense", "one_piece", "chunked", "associated", "sorted"]
# Fewer keys are summed sooner than sorted.
SORTED_KEYS = 1024
# Examples a device that a batch of unknown size is taken to have.
UNKNOWN_BATCH = 8


def implementations(form):
    """The names of the implementations that a form has, "auto" among them."""
    if form.normalization == "softmax":
        return ("auto", "dense", "one_piece", "chunked")
    return ("auto", "dense", "sorted" if form.owns_w_f else "associated")


def attend(form, theta, phi, g, key_mask=None, w_out=None, implementation="auto", attention=None):
    """Eq. 1 for a batch of position sets.

    Args:
      form: a pairwise.PairwiseForm.
      theta: (B, N, C), one row for each query; for the concatenation form (B, N, 1), see pairwise.attention.
      phi: (B, M, C) or (B, M, 1), one row for each key.
      g: (B, M, D), what is summed.
      key_mask: (B, M) boolean of the keys that take part, or None for all.
      w_out: (D, E) to multiply y with, which the dot product can do before y; None for not.
      implementation: one of implementations(form).
      attention: what pairwise.attention gives for these, where that is there already; it is not computed then.

    Returns:
      y, (B, N, D) or with w_out (B, N, E), in g's dtype.
    """
    dtype = g.dtype
    if dtype == tf.float16:
        # Scores, sums over keys and the weights of the forms that count may all pass 65504.
        theta, phi, g = (tf.cast(x, tf.float32) for x in (theta, phi, g))
        w_out = None if w_out is None else tf.cast(w_out, tf.float32)
    if key_mask is not None:
        g = tf.where(key_mask[..., None], g, tf.zeros_like(g))
    inputs = (form, theta, phi, g, key_mask, w_out)
    if attention is not None:
        y = _weighted(attention, g, w_out)
    else:
        y = _IMPLEMENTATIONS[_pick(form, theta, phi, g) if implementation == "auto" else implementation](*inputs)
    return tf.cast(y, dtype)


def _pick(form, theta, phi, g):
    """The implementation that "auto" means for these sizes, as far as they are known.

    There is no branch on sizes that only the run knows: XLA cannot compile its gradient, a SavedModel cannot keep the
    gradient of what is inside, and the implementations in linear memory are right for any size.
    """
    batch, queries, channels = (size if isinstance(size, int) else None for size in dims(theta))
    keys, channels_g = (size if isinstance(size, int) else None for size in dims(g)[1:])
    known = queries is not None and keys is not None
    fits = known and 4 * (batch or UNKNOWN_BATCH) * queries * keys <= limits.of(theta).matrix_bytes
    if form.normalization == "softmax":
        return "one_piece" if fits else "chunked"
    if form.owns_w_f:
        return "dense" if fits and keys < SORTED_KEYS else "sorted"
    few = known and queries * keys * (channels + channels_g) <= (queries + keys) * channels * channels_g
    return "dense" if few else "associated"


def _dense(form, theta, phi, g, key_mask, w_out):
    return _weighted(pairwise.attention(form, theta, phi, key_mask), g, w_out)


def _weighted(attention, g, w_out):
    return _multiply_out(tf.matmul(tf.cast(attention, g.dtype), g), w_out)


def _one_piece(form, theta, phi, g, key_mask, w_out):
    return _multiply_out(softmax_attention.one_piece(theta, phi, g, key_mask), w_out)


def _chunked(form, theta, phi, g, key_mask, w_out):
    return _multiply_out(softmax_attention.chunked(theta, phi, g, key_mask), w_out)


def _associated(form, theta, phi, g, key_mask, w_out):
    """(theta phi^T) g / N = theta (phi^T g / N), whose second factor is C x D whatever N and M."""
    dtype = pairwise.normalising_dtype(g.dtype)
    sums = tf.cast(tf.matmul(phi, g, transpose_a=True), dtype)  # (B, C, D)
    means = tf.cast(tf.math.divide_no_nan(sums, pairwise.count_keys(phi, key_mask, dtype)), g.dtype)
    if w_out is None:
        return tf.matmul(theta, means)
    queries, (channels, channels_g, channels_out) = dims(theta)[1], (theta.shape[-1], *w_out.shape)
    before = channels_g * channels * channels_out + queries * channels * channels_out
    after = queries * channels * channels_g + queries * channels_g * channels_out
    if isinstance(queries, int) and after < before:
        return _multiply_out(tf.matmul(theta, means), w_out)
    return tf.matmul(theta, _multiply_out(means, w_out))


def _sorted(form, theta, phi, g, key_mask, w_out):
    dtype = pairwise.normalising_dtype(g.dtype)
    a, b, v = (tf.cast(x, dtype) for x in (theta[..., 0], phi[..., 0], g))
    # Divided before the sums, which are large for many keys.
    v = tf.math.divide_no_nan(v, pairwise.count_keys(phi, key_mask, dtype))
    return _multiply_out(tf.cast(relu_sums.relu_sums(a, b, v), g.dtype), w_out)


def _multiply_out(y, w_out):
    if w_out is None:
        return y
    batch, rows, channels = dims(y)
    z = tf.matmul(tf.reshape(y, [batch * rows, channels]), w_out)  # (B, N, D) -> (B*N, D) -> (B*N, E)
    return tf.reshape(z, [batch, rows, w_out.shape[-1]])


_IMPLEMENTATIONS = {
    "dense": _dense,
    "one_piece": _one_piece,
    "chunked": _chunked,
    "associated": _associated,
    "sorted": _sorted,
}
