"""What a query attends to, few numbers that a server can send: the strongest keys, as places in the model's input."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from keras_nonlocal import errors
from keras_nonlocal.analysis import attended, blocks, tracing
from keras_nonlocal.analysis.attended import MAX_QUERIES
from keras_nonlocal.ops.positions import dims
from keras_nonlocal.ops.rules import only_if
from keras_nonlocal.serving import constants


class Explain(tf.Module):
    """What chosen queries of a non-local block attend to, for a batch that the model looks at.

    The N x M attention is never built, and nothing of the model behind the block is run. What is added to the graph of
    the model are plain operations. A position of the block is in the input where the centre of its receptive field is,
    exactly through strides, pooling and padding; see analysis.receptive_field.

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
      A dict of three, all float32. "queries", (B, Q, R), are the centres of the positions that were taken. "positions",
      (B, Q, K, R), are the centres of the keys that have most of the attention, the strongest first; the centre of a
      pooled key is that of its window; K is top_k, or the number of keys where there are fewer. "weights", (B, Q, K),
      are theirs: by a softmax shares of 1; by the other forms of any sign and size, and the strongest is the largest
      without its sign.

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
        self._compiled = tf.function(self._explain, autograph=False)

    def __call__(self, inputs: Any, queries: tf.Tensor) -> Mapping[str, tf.Tensor]:
        return (self._compiled if tf.executing_eagerly() else self._explain)(inputs, queries)

    def _explain(self, inputs, queries):
        trace = tracing.trace_to(self.model, self.block, attended.as_taken(self.model, inputs))
        places = attended.Places(trace)
        queries = self._checked(tf.cast(queries, tf.float32), places.batch)
        found = attended.attended(trace, places, places.nearest(queries), self.top_k)
        return {
            constants.QUERIES: found.queries,
            constants.POSITIONS: found.positions,
            constants.WEIGHTS: found.weights,
        }

    def _checked(self, queries, batch):
        queries = tf.ensure_shape(queries, [None, None, self.block.rank])
        examples, count, _ = dims(queries)
        with only_if(
            (tf.equal(examples, batch), "`queries` must be of as many examples as the inputs:", examples),
            (tf.less_equal(count, MAX_QUERIES), f"`queries` must be at most {MAX_QUERIES} for each example:", count),
        ):
            return tf.identity(queries)
