"""The softmax forms, Eq. 2 and 3, evaluated exactly: in one piece, or chunk by chunk in memory linear in N.

Everything here takes theta (B, N, C), phi (B, M, C), g (B, M, D) and key_mask, (B, M) boolean or None. g is zero at
the keys that the mask leaves out.
"""

import tensorflow as tf

from keras_nonlocal.ops import gradients, limits, pairwise
from keras_nonlocal.ops.positions import dims


def one_piece(theta, phi, g, key_mask=None):
    """y (B, N, D) by the whole N x M matrix at once, which is kept for the gradient."""

    def softmax(theta, phi):
        return tf.cast(pairwise.softmax(theta, phi, key_mask), g.dtype)

    def softmax_gradients(inputs, dweights):
        return _score_gradients(*inputs, softmax(*inputs), dweights)

    def forward(theta, phi, g):
        weights = softmax(theta, phi)
        return tf.matmul(weights, g), weights

    def backward(inputs, weights, dy):
        theta, phi, g = inputs
        weights = gradients.known(weights, softmax, softmax_gradients, theta, phi)
        return _gradients(theta, phi, g, weights, dy)

    return gradients.with_gradients(forward, backward)(theta, phi, g)


def chunked(theta, phi, g, key_mask=None):
    """y (B, N, D) by a chunk of queries at a time, whose weights are computed once more for the gradient.

    To keep the logarithm of each row's sum, and take exp(scores - that) on the way back, was tried: it is no faster
    than tf.nn.softmax, whose kernel goes over the matrix once.
    """
    sizes = limits.of(theta)

    def forward(theta, phi, g):
        phi = pairwise.for_scores(phi)  # once, not for every chunk
        chunks = _Chunks(theta, phi, sizes.forward_bytes, sizes.queries)
        queries = chunks.split_queries(theta)
        keys = [chunks.split_keys(x) for x in (phi, g, key_mask)]

        def sets(s):
            phi, g, key_mask = (None if x is None else x[s] for x in keys)
            theta = queries[s]

            def step(k):
                weights = pairwise.softmax(theta[k], phi, key_mask)
                return (tf.matmul(tf.cast(weights, g.dtype), g),), ()

            (y,), _ = gradients.loop(chunks.chunks, step, (), [chunks.query_spec(g)])
            return (y,), ()

        (y,), _ = gradients.loop(chunks.steps, sets, (), [chunks.queries_spec(g)])
        return chunks.join_queries(y), None

    def backward(inputs, _, dy):
        theta, phi, g = inputs
        phi = pairwise.for_scores(phi)
        accumulator = pairwise.normalising_dtype(g.dtype)
        chunks = _Chunks(theta, phi, sizes.backward_bytes, sizes.queries)
        queries = [chunks.split_queries(x) for x in (theta, dy)]
        keys = [chunks.split_keys(x) for x in (phi, g, key_mask)]

        def sets(s):
            phi, g, key_mask = (None if x is None else x[s] for x in keys)
            theta, dy = (x[s] for x in queries)

            def step(k, dphi, dg):
                weights = pairwise.softmax(theta[k], phi, key_mask)
                dtheta, dphi_k, dg_k = _gradients(theta[k], phi, g, weights, dy[k])
                return (dtheta,), (dphi + tf.cast(dphi_k, accumulator), dg + tf.cast(dg_k, accumulator))

            zeros = (tf.zeros(tf.shape(phi), accumulator), tf.zeros(tf.shape(g), accumulator))
            (dtheta,), (dphi, dg) = gradients.loop(chunks.chunks, step, zeros, [chunks.query_spec(theta)])
            return (dtheta, dphi, dg), ()

        specs = [chunks.queries_spec(theta), chunks.keys_spec(phi), chunks.keys_spec(g, accumulator)]
        (dtheta, dphi, dg), _ = gradients.loop(chunks.steps, sets, (), specs)
        return chunks.join_queries(dtheta), chunks.join_keys(dphi), chunks.join_keys(dg)

    return gradients.with_gradients(forward, backward)(theta, phi, g)


def _gradients(theta, phi, g, weights, dy):
    """The gradients in theta, phi and g of y = weights g with weights = softmax(theta phi^T), (B, N, M)."""
    dg = tf.matmul(tf.cast(weights, g.dtype), dy, transpose_a=True)
    dweights = tf.matmul(dy, g, transpose_b=True)
    return *_score_gradients(theta, phi, weights, dweights), dg


def _score_gradients(theta, phi, weights, dweights):
    """The gradients in theta and phi of weights = softmax(theta phi^T), in the dtype of dweights.

    The gradient of a softmax subtracts sum_j weights_ij dweights_ij from dweights_i. For y = weights g that sum is also
    dy_i . y_i, which would spare a pass over the matrix and 5 % of the time. But where few keys have all of the weight
    the two cancel, and sums that are rounded otherwise do not: in float32 dx was up to 600 times as far off.
    """
    products, sums = dweights.dtype, pairwise.normalising_dtype(dweights.dtype)
    weights, dweights = tf.cast(weights, sums), tf.cast(dweights, sums)
    weighted = weights * dweights
    dscores = tf.cast(weighted - weights * tf.reduce_sum(weighted, axis=-1, keepdims=True), products)
    theta, phi = tf.cast(theta, products), tf.cast(phi, products)
    return tf.matmul(dscores, phi), tf.matmul(dscores, theta, transpose_a=True)


class _Chunks:
    """How B sets of N queries are cut into steps of some sets, and these into chunks of some queries.

    A step has several sets with all of their queries, or one set whose queries come in chunks. What does not divide is
    filled up with zeros, which end up nowhere.

    Args:
      theta: (B, N, C).
      phi: (B, M, C).
      matrix_bytes: of a step's (sets, queries, M) matrix of float32, at most.
      most_queries: of a chunk.
    """

    def __init__(self, theta, phi, matrix_bytes, most_queries):
        self._batch, self._count, _ = dims(theta)
        self._keys = dims(phi)[1]
        rows = matrix_bytes // 4 // _at_least_one(self._keys)
        queries = _smallest(most_queries, _largest(limits.LEAST_QUERIES, rows))
        self.queries, self.chunks = _cut(self._count, queries)
        # More than one set only where these are whole.
        whole = _at_least_one(_smallest(self._batch, rows // _at_least_one(self.queries)))
        self.sets, self.steps = _cut(self._batch, _where(self.chunks, whole))

    def split_queries(self, x):
        """(B, N, C) -> (steps, chunks, sets, queries, C)."""
        x = _pad(x, self._batch, self.steps * self.sets, axis=0)
        x = _pad(x, self._count, self.chunks * self.queries, axis=1)
        return tf.reshape(x, [self.steps, self.chunks, self.sets, self.queries, x.shape[-1]])

    def split_keys(self, x):
        """(B, M, C) -> (steps, sets, M, C), and likewise without C; None stays None."""
        if x is None:
            return None
        x = _pad(x, self._batch, self.steps * self.sets, axis=0)
        return tf.reshape(x, [self.steps, self.sets, self._keys, *x.shape[2:]])

    def join_queries(self, x):
        """The inverse of split_queries."""
        x = tf.reshape(x, [self.steps * self.sets, self.chunks * self.queries, x.shape[-1]])
        return x[: self._batch, : self._count]

    def join_keys(self, x):
        """The inverse of split_keys."""
        return tf.reshape(x, [self.steps * self.sets, self._keys, x.shape[-1]])[: self._batch]

    def query_spec(self, x):
        """Of a chunk's queries, with the dtype and channels of x."""
        return _spec(x, self.sets, self.queries)

    def queries_spec(self, x):
        """Of a step's queries."""
        return _spec(x, self.chunks, self.sets, self.queries)

    def keys_spec(self, x, dtype=None):
        """Of a step's keys."""
        return _spec(x, self.sets, self._keys, dtype=dtype)


def _cut(count, most):
    """The length of equal pieces of at most `most` that count is cut into, and their number."""
    if isinstance(count, int) and isinstance(most, int):
        for length in range(min(count, most), most // 2, -1):
            if count % length == 0:
                return length, count // length
    pieces = _at_least_one(_ceil_divide(count, most))
    return _at_least_one(_ceil_divide(count, pieces)), pieces


def _pad(x, size, padded, axis):
    if isinstance(size, int) and isinstance(padded, int) and size == padded:
        return x
    return tf.pad(x, [[0, padded - size if i == axis else 0] for i in range(len(x.shape))])


def _spec(x, *sizes, dtype=None):
    return tf.TensorSpec([size if isinstance(size, int) else None for size in (*sizes, x.shape[-1])], dtype or x.dtype)


def _ceil_divide(a, b):
    return -(-a // b)


def _at_least_one(x):
    return _largest(1, x)


def _smallest(a, b):
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else tf.minimum(a, b)


def _largest(a, b):
    return max(a, b) if isinstance(a, int) and isinstance(b, int) else tf.maximum(a, b)


def _where(chunks, whole):
    """`whole` if there is one chunk, 1 otherwise."""
    if isinstance(chunks, int):
        return whole if chunks == 1 else 1
    return tf.where(chunks == 1, whole, 1)
