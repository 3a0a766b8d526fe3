"""The non-local operation y = sum_j attention_ij g_j, evaluated."""

import tensorflow as tf

from keras_nonlocal import pairwise


def attend(form, theta, phi, g, w_f=None, key_mask=None):
    """Eq. 1 for a batch of position sets, by its dense definition.

    Args:
      form: a pairwise.PairwiseForm.
      theta: (B, N, C), one row for each query.
      phi: (B, M, C), one row for each key.
      g: (B, M, D), what is summed.
      w_f: (2 C,), only for the concatenation form.
      key_mask: (B, M) boolean of the keys that take part, or None for all.

    Returns:
      y, (B, N, D) in g's dtype, and the attention, (B, N, M) in float32 or better.
    """
    attention = pairwise.attention(form, theta, phi, w_f, key_mask)
    if g.dtype == tf.float16:
        # Weights of the forms that count may pass 65504, as scores do.
        return tf.cast(tf.matmul(attention, tf.cast(g, attention.dtype)), g.dtype), attention
    return tf.matmul(tf.cast(attention, g.dtype), g), attention
