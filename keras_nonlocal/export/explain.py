"""What a query attends to, few numbers that a server can send: the strongest keys, as places in the model's input."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from keras_nonlocal import errors
from keras_nonlocal.analysis import blocks, receptive_field, tracing
from keras_nonlocal.ops.positions import AXES, dims
from keras_nonlocal.serving import constants
from keras_nonlocal.surgery import functional

# The coordinate of the centre of the first index: pixels as in annotated keypoints, frames by their numbers.
ORIGINS = {"T": 0.0, "H": 0.5, "W": 0.5}
# Of an example. Each takes a row of weights as long as there are keys: a request must not take all memory.
MAX_QUERIES = 1024


class Explain(tf.Module):
    """What chosen queries of a non-local block attend to, for a batch that the model looks at.

    The N x M attention is never built, and nothing of the model behind the block is run. The graph is of plain
    operations. It knows the block's position by the centre of its receptive field, exactly through strides, pooling and
    padding; see analysis.receptive_field.

    Args:
      model: of either Keras, functional, sequential or subclassed, also one with others inside, with its weights.
      block: the path of a non-local block in it, as "backbone/res4_1_nonlocal", or its name; see analysis.blocks.
        Default the last.
      top_k: how many keys of each query, at most. Default 20, as the paper's Fig. 3.

    Call arguments:
      inputs: what the model takes; the tensor alone where that is a dict or list of one.
      queries: (B, Q, R) float32, at most MAX_QUERIES for each example: coordinates in the model's input of as many axes
        as the block has: (frame, y, x), (y, x) or (step of a sequence). The centre of the first pixel is 0.5, the first
        frame and the first step are 0. Each goes to the nearest position of the block; what lies outside goes to the
        edge, and NaN to the first.

    Returns:
      {"queries": (B, Q, R), the centres of the positions that were taken;
       "positions": (B, Q, K, R), the centres of the keys that have most of the attention, the strongest first; the
       centre of a pooled key is that of its window; K is top_k, or the number of keys where there are fewer;
       "weights": (B, Q, K), theirs. By a softmax they are shares of 1; by the other forms they may have any sign and
       size, and the strongest is the largest without its sign},
      all float32.

    Raises:
      ValueError: if there is no such block, or it is not known where in the input its positions are.

    Example:

    >>> model = keras_nonlocal.models.C2D(50, (4, 64, 64, 3), width=4, non_local={"res3": [1]})
    >>> look = explain.Explain(model, "res3_1_nonlocal", top_k=3)
    >>> answer = look(np.zeros([1, 4, 64, 64, 3], "float32"), np.array([[[2, 30.0, 61.0]]], "float32"))
    >>> answer["queries"].numpy().tolist(), answer["weights"].shape
    ([[[2.5, 26.5, 58.5]]], TensorShape([1, 1, 3]))

    Wang et al., "Non-local Neural Networks", CVPR 2018, Fig. 3.
    """

    def __init__(self, model: Any, block: str | None = None, top_k: int = 20) -> None:
        super().__init__(name="explain")
        self.model = model
        self.block = blocks.find(model, block)
        self.top_k = errors.check_positive_int("top_k", top_k)
        self._origins = [ORIGINS[axis] for axis in AXES[self.block.rank]]
        self._compiled = tf.function(self._explain, autograph=False)

    def __call__(self, inputs: Any, queries: tf.Tensor) -> Mapping[str, tf.Tensor]:
        return (self._compiled if tf.executing_eagerly() else self._explain)(inputs, queries)

    def _explain(self, inputs, queries):
        trace = tracing.trace_to(self.model, self.block, self._as_taken(inputs))
        axes = receptive_field.axes(trace)
        batch, *positions, _ = dims(trace.features)
        queries = self._checked(tf.cast(queries, tf.float32), batch)
        cells = tf.stack([_nearest(*each) for each in self._by_axis(queries, axes, positions)], axis=-1)
        attention = self.block.attention_of(trace.features, cells, mask=trace.mask)
        keys = attention.shape[-1]
        count = tf.minimum(self.top_k, tf.shape(attention)[-1]) if keys is None else min(self.top_k, keys)
        _, strongest = tf.math.top_k(tf.abs(attention), count)  # (B, Q, K)
        key_cells = tf.cast(self.block.key_cells(cells, strongest, positions), tf.float32)
        # The middle of the positions that a key is pooled of.
        pool = tf.constant(self.block.key_pool, tf.float32)
        return {
            constants.QUERIES: self._centres(tf.cast(cells, tf.float32), axes),
            constants.POSITIONS: self._centres(key_cells * pool + (pool - 1) / 2, axes),
            constants.WEIGHTS: tf.cast(tf.gather(attention, strongest, batch_dims=2), tf.float32),
        }

    def _as_taken(self, inputs):
        graph = functional.graph(self.model)
        alone = graph is not None and not isinstance(inputs, Mapping | list | tuple)
        return tf.nest.pack_sequence_as(graph.input, [inputs]) if alone else inputs

    def _checked(self, queries, batch):
        queries = tf.ensure_shape(queries, [None, None, self.block.rank])
        examples, count, _ = dims(queries)
        same = tf.equal(examples, batch)
        checks = [
            tf.raw_ops.Assert(condition=same, data=["`queries` must be of as many examples as the inputs:", examples]),
            tf.raw_ops.Assert(
                condition=tf.less_equal(count, MAX_QUERIES),
                data=[f"`queries` must be at most {MAX_QUERIES} for each example:", count],
            ),
        ]
        with tf.control_dependencies(checks):
            return tf.identity(queries)

    def _by_axis(self, queries, axes, positions):
        for number, (axis, size) in enumerate(zip(axes, positions, strict=True)):
            yield queries[..., number] - self._origins[number], axis, size

    def _centres(self, indices, axes):
        """The coordinates of positions of these, also broken, indices: (..., R) -> (..., R)."""
        each = zip(self._origins, axes, tf.unstack(indices, axis=-1), strict=True)
        return tf.stack([origin + axis.centre(index) for origin, axis, index in each], axis=-1)


def _nearest(place, axis, size):
    """The index of the position whose centre is nearest to a place in the input, int32."""
    index = tf.round((place - axis.centre(0)) / axis.stride)
    last = tf.cast(size - 1, tf.float32)
    # A NaN passes tf.clip_by_value, and is any number as an integer.
    return tf.cast(tf.where(tf.math.is_nan(index), 0.0, tf.clip_by_value(index, 0.0, last)), tf.int32)
