"""What chosen queries of a non-local block attend to, inside a graph: their weights, and where their keys are.

The N x M attention is never built, and nothing of the model behind the block is run. A position of the block is in the
input where the centre of its receptive field is; see receptive_field.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from keras_nonlocal.analysis import receptive_field, tracing
from keras_nonlocal.ops.positions import AXES, dims
from keras_nonlocal.surgery import functional

# The coordinate of the centre of the first index: pixels as in annotated keypoints, frames by their numbers.
ORIGINS = {"T": 0.0, "H": 0.5, "W": 0.5}
# Of an example. Each takes a row of weights as long as there are keys: a request must not take all memory.
MAX_QUERIES = 1024


@dataclasses.dataclass(frozen=True)
class Attended:
    """What queries attend to, as tensors of a graph.

    Args:
      queries: (B, Q, R), the centres of the positions that were taken.
      positions: (B, Q, K, R), the centres of keys; that of a pooled key is the centre of its window.
      weights: (B, Q, K), theirs.
    """

    queries: tf.Tensor
    positions: tf.Tensor
    weights: tf.Tensor


class Places:
    """The positions of a block that a trace leads to, and where they are in the model's input.

    Args:
      trace: of a model up to the block.

    Attributes:
      batch: its size.
      sizes: of the position axes.
      stride: the distance from one position to the next, in frames and pixels of the input, for each axis.

    Raises:
      ValueError: if it is not known where in the input the positions are.
    """

    def __init__(self, trace: tracing.Trace) -> None:
        self.batch, *self.sizes, _ = dims(trace.features)
        self._axes = receptive_field.axes(trace)
        self._origins = [ORIGINS[axis] for axis in AXES[trace.layer.rank]]
        self.stride = tuple(axis.stride for axis in self._axes)

    def nearest(self, coordinates: tf.Tensor) -> tf.Tensor:
        """The indices of the positions nearest to coordinates of the input: (..., R) -> (..., R) int32."""
        each = zip(tf.unstack(coordinates, axis=-1), self._origins, self._axes, self.sizes, strict=True)
        return tf.stack([_nearest(place - origin, axis, size) for place, origin, axis, size in each], axis=-1)

    def centres(self, indices: tf.Tensor) -> tf.Tensor:
        """The coordinates of positions of these, also broken, indices: (..., R) -> (..., R)."""
        each = zip(self._origins, self._axes, tf.unstack(indices, axis=-1), strict=True)
        return tf.stack([origin + axis.centre(index) for origin, axis, index in each], axis=-1)


def attended(trace: tracing.Trace, places: Places, cells: tf.Tensor, top_k: int | None) -> Attended:
    """What positions of a block attend to.

    Args:
      trace: of a model up to the block.
      places: of that trace.
      cells: (B, Q, R) int32, the indices of the positions.
      top_k: how many keys of each, the strongest first; None for all that the query meets, in their order.
    """
    block = trace.layer
    weights = block.attention_of(trace.features, cells, mask=trace.mask)
    keys = weights.shape[-1]
    if top_k is None:
        chosen = tf.broadcast_to(tf.range(tf.shape(weights)[-1]), tf.shape(weights))  # (B, Q, M)
    else:
        count = tf.minimum(top_k, tf.shape(weights)[-1]) if keys is None else min(top_k, keys)
        _, chosen = tf.math.top_k(tf.abs(weights), count)  # (B, Q, K)
        weights = tf.gather(weights, chosen, batch_dims=2)
    key_cells = tf.cast(block.key_cells(cells, chosen, places.sizes), tf.float32)
    # The middle of the positions that a key is pooled of.
    pool = tf.constant(block.key_pool, tf.float32)
    return Attended(
        places.centres(tf.cast(cells, tf.float32)),
        places.centres(key_cells * pool + (pool - 1) / 2),
        tf.cast(weights, tf.float32),
    )


def as_taken(model: Any, inputs: Any) -> Any:
    """Inputs in the structure that a model takes: the tensor alone may stand for a dict or list of one."""
    graph = functional.graph(model)
    alone = graph is not None and not isinstance(inputs, Mapping | list | tuple)
    return tf.nest.pack_sequence_as(graph.input, [inputs]) if alone else inputs


def _nearest(distance, axis, size):
    """The index of the position whose centre is nearest to a distance from the input's first index, int32."""
    index = tf.round((distance - axis.centre(0)) / axis.stride)
    last = tf.cast(size - 1, tf.float32)
    # A NaN passes tf.clip_by_value, and is any number as an integer.
    return tf.cast(tf.where(tf.math.is_nan(index), 0.0, tf.clip_by_value(index, 0.0, last)), tf.int32)
