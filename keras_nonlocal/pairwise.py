"""The pairwise forms of the paper's section 3.2 as data, and the non-local operation by its dense definition.

    y_i = 1/C(x) * sum_j f(x_i, x_j) g(x_j)                                                    (Eq. 1)

Here theta, phi and g are what f and g are evaluated on, as matrices whose rows are positions. The layer projects;
this file only knows how a form scores a pair and how it normalises.
"""

import dataclasses

import tensorflow as tf

from keras_nonlocal import errors


@dataclasses.dataclass(frozen=True)
class PairwiseForm:
    """One choice of f and C(x).

    Args:
      name: the word users write.
      score: "product" for theta_i . phi_j, "concatenation" for ReLU(w_f . [theta_i, phi_j]).
      normaliser: "softmax" when f is the exponential of the score and C(x) = sum_j f, "count" when C(x) = N,
        the number of keys.
      embeds: whether theta and phi are learned projections; otherwise both are x itself.
    """

    name: str
    score: str
    normaliser: str
    embeds: bool

    @property
    def owns_w_f(self):
        return self.score == "concatenation"

    @property
    def scales(self):
        # The 1/sqrt(d) of the official code belongs to the learned embedding: Eq. 2 has nothing to scale it by.
        return self.normaliser == "softmax" and self.embeds


FORMS = {
    form.name: form
    for form in (
        PairwiseForm("gaussian", "product", "softmax", embeds=False),  # Eq. 2
        PairwiseForm("embedded_gaussian", "product", "softmax", embeds=True),  # Eq. 3
        PairwiseForm("dot_product", "product", "count", embeds=True),  # Eq. 4
        PairwiseForm("unembedded_dot_product", "product", "count", embeds=False),  # Eq. 4 on x itself
        PairwiseForm("concatenation", "concatenation", "count", embeds=True),  # Eq. 5
    )
}


def get(name):
    """The form of this name. Raises ValueError for an unknown one."""
    return FORMS[errors.check_choice("pairwise", name, FORMS)]


def attention(form, theta, phi, w_f=None, key_mask=None):
    """The normalised N x M weights f(x_i, x_j) / C(x).

    Args:
      form: a PairwiseForm.
      theta: (B, N, C), one row for each query.
      phi: (B, M, C), one row for each key.
      w_f: (2 C,), the vector of Eq. 5; only for the concatenation form.
      key_mask: (B, M) boolean, False for keys that take no part; None when all do. A query without any valid key gets
        a row of zeros.

    Returns:
      (B, N, M), in float32 for 16-bit inputs and in the inputs' dtype otherwise.
    """
    scores = _scores(form, theta, phi, w_f)  # (B, N, M)
    scores = tf.cast(scores, normalising_dtype(scores.dtype))
    valid = None if key_mask is None else tf.expand_dims(key_mask, 1)  # (B, M) -> (B, 1, M)
    if form.normaliser == "softmax":
        if valid is None:
            return tf.nn.softmax(scores)
        # The lowest finite number, not -inf: a row of nothing but -inf would be NaN.
        weights = tf.nn.softmax(tf.where(valid, scores, scores.dtype.min))
        return tf.where(valid, weights, tf.zeros_like(weights))
    if valid is None:
        return scores / tf.cast(tf.shape(phi)[1], scores.dtype)
    count = tf.reduce_sum(tf.cast(valid, scores.dtype), axis=-1, keepdims=True)  # (B, 1, 1)
    return tf.math.divide_no_nan(tf.where(valid, scores, tf.zeros_like(scores)), count)


def normalising_dtype(dtype):
    """At least float32: 16-bit sums over thousands of keys lose the small weights."""
    return tf.float32 if dtype in (tf.float16, tf.bfloat16) else dtype


def _scores(form, theta, phi, w_f):
    if theta.dtype == tf.float16:
        # A product over hundreds of channels passes 65504 before anything can normalise it.
        theta, phi = tf.cast(theta, tf.float32), tf.cast(phi, tf.float32)
    if form.score == "product":
        return tf.matmul(theta, phi, transpose_b=True)
    # w_f . [theta_i, phi_j] = a_i + b_j: no pair is ever concatenated.
    w_theta, w_phi = tf.split(tf.cast(w_f, theta.dtype), 2)
    a = tf.linalg.matvec(theta, w_theta)  # (B, N)
    b = tf.linalg.matvec(phi, w_phi)  # (B, M)
    return tf.nn.relu(a[:, :, None] + b[:, None, :])
