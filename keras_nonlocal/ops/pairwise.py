"""The pairwise forms of the paper's section 3.2 as data, and the non-local operation by its dense definition.

    y_i = 1/C(x) * sum_j f(x_i, x_j) g(x_j)                                                    (Eq. 1)

Here theta, phi and g are what f and g are evaluated on, as matrices whose rows are positions. The layer projects;
this file only knows how a form scores a pair and how it normalises.
"""

import dataclasses
from typing import Literal

import tensorflow as tf

from keras_nonlocal import errors

Pairwise = Literal["gaussian", "embedded_gaussian", "dot_product", "unembedded_dot_product", "concatenation"]


@dataclasses.dataclass(frozen=True)
class PairwiseForm:
    """One choice of f and C(x).

    Args:
      name: the word users write.
      score: "product" for theta_i . phi_j, "concatenation" for ReLU(w_f . [theta_i, phi_j]).
      normalization: "softmax" when f is the exponential of the score and C(x) = sum_j f, "count" when C(x) = N,
        the number of keys.
      embeds: whether theta and phi are learned projections; otherwise both are x itself.
    """

    name: str
    score: str
    normalization: str
    embeds: bool

    @property
    def owns_w_f(self):
        return self.score == "concatenation"

    @property
    def associates(self):
        """Whether (theta phi^T) g is a product of three matrices and no more."""
        return self.score == "product" and self.normalization == "count"

    @property
    def scales(self):
        # The 1/sqrt(d) of the official code belongs to the learned embedding: Eq. 2 has nothing to scale it by.
        return self.normalization == "softmax" and self.embeds


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


def attention(form, theta, phi, key_mask=None):
    """The normalised N x M weights f(x_i, x_j) / C(x).

    Args:
      form: a PairwiseForm.
      theta: (B, N, C), one row for each query. For the concatenation form (B, N, 1): w_f . [theta_i, phi_j] is a sum
        of a number of i and a number of j, so that no pair is ever concatenated, and these are the numbers.
      phi: (B, M, C) or (B, M, 1), one row for each key.
      key_mask: (B, M) boolean, False for keys that take no part; None when all do. A query without any valid key gets
        a row of zeros.

    Returns:
      (B, N, M), in float32 for 16-bit inputs and in the inputs' dtype otherwise.
    """
    valid = None if key_mask is None else key_mask[:, None, :]  # (B, M) -> (B, 1, M)
    return normalised(form, scores(form, theta, phi), valid)


def scores(form, theta, phi):
    """The number of every pair that `normalised` makes weights of: (B, N, M) for what `attention` takes."""
    return _concatenation_scores(theta, phi) if form.owns_w_f else _product_scores(theta, phi)


def normalised(form, scores, valid=None):
    """The weights f / C(x) of scores.

    Args:
      form: a PairwiseForm.
      scores: (..., M) of queries, each with all its keys.
      valid: boolean, as `scores` or broadcast to it, False for keys that take no part; None when all do.

    Returns:
      As `scores`. A query without any valid key gets zeros.
    """
    if form.normalization == "softmax":
        weights = _softmax(scores, valid)
        return weights if valid is None else tf.where(valid, weights, tf.zeros_like(weights))
    if valid is None:
        return tf.math.divide_no_nan(scores, tf.cast(tf.shape(scores)[-1], scores.dtype))
    count = tf.reduce_sum(tf.cast(valid, scores.dtype), axis=-1, keepdims=True)
    return tf.math.divide_no_nan(tf.where(valid, scores, tf.zeros_like(scores)), count)


def softmax(theta, phi, key_mask=None):
    """The attention of the softmax forms, but that a query without any valid key gets equal weights.

    Args and returns: those of `attention`.
    """
    return _softmax(_product_scores(theta, phi), None if key_mask is None else key_mask[:, None, :])


def count_keys(phi, key_mask, dtype):
    """N of the forms that divide by it: the number of (valid) keys, a scalar or (B, 1, 1)."""
    if key_mask is None:
        return tf.cast(tf.shape(phi)[1], dtype)
    return tf.reduce_sum(tf.cast(key_mask, dtype), axis=-1)[:, None, None]


def normalising_dtype(dtype):
    """At least float32: 16-bit sums over thousands of keys lose the small weights."""
    return tf.float32 if dtype in (tf.float16, tf.bfloat16) else dtype


def for_scores(x):
    """theta or phi in the dtype that scores are computed in.

    Of 16-bit numbers a product over hundreds of channels passes float16's 65504, and bfloat16's eight bits would round
    a score of 100 by as much as a quarter, and its exponential by as much. TensorFlow has no product of 16-bit matrices
    that comes out in float32.
    """
    return tf.cast(x, normalising_dtype(x.dtype))


def _softmax(scores, valid):
    if valid is not None:
        # The lowest finite number, not -inf: a row of nothing but -inf would be NaN.
        scores = tf.where(valid, scores, scores.dtype.min)
    return tf.nn.softmax(scores)


def _product_scores(theta, phi):
    return tf.matmul(for_scores(theta), for_scores(phi), transpose_b=True)  # (B, N, M)


def _concatenation_scores(a, b):
    return tf.nn.relu(for_scores(a) + tf.transpose(for_scores(b), [0, 2, 1]))  # (B, N, 1) + (B, 1, M)
