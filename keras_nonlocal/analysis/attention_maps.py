"""What the queries of non-local blocks attend to while a model looks at something; `plot` draws it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_nonlocal import errors
from keras_nonlocal.analysis import attended, blocks, tracing
from keras_nonlocal.surgery import functional

# Of queries that are chosen by themselves: as many rows of weights are small, whatever the block.
EVEN_QUERIES = 64


@dataclasses.dataclass(frozen=True)
class BlockAttention:
    """What Q queries of one non-local block attend to, for each of B examples.

    Coordinates are of the model's input: (frame, y, x), (y, x) or (step,). The centre of the first pixel is 0.5; the
    first frame and the first step are 0.

    Args:
      block: its path in the model.
      pairwise: the name of its pairwise form.
      shares: whether weights are shares of 1, as by a softmax. By the other forms they may have any sign and size.
      keys: M, how many keys each query meets.
      key_size: the distance from one key to the next along each axis, in frames and pixels of the input.
      queries: (B, Q, R), the centres of the positions that were taken.
      positions: (B, Q, K, R), the centres of keys: the strongest first, or all M in their order.
      weights: (B, Q, K), theirs.
    """

    block: str
    pairwise: str
    shares: bool
    keys: int
    key_size: tuple[int, ...]
    queries: np.ndarray
    positions: np.ndarray
    weights: np.ndarray

    @property
    def rank(self) -> int:
        """How many axes positions have."""
        return self.queries.shape[-1]

    @property
    def whole(self) -> bool:
        """Whether these are the weights of all keys."""
        return self.weights.shape[-1] == self.keys


def attention_maps(
    model: Any,
    x: Any,
    block: str | Sequence[str] | None = None,
    queries: npt.ArrayLike | None = None,
    top_k: int | None = 20,
) -> dict[str, BlockAttention]:
    """What queries of the non-local blocks in a model attend to, at places in the model's input.

    The model stays as it is, and the N x M attention is not built: each query takes a row of M weights.

    Args:
      model: of either Keras with non-local blocks: functional, sequential or subclassed, also inside others.
      x: a batch as the model takes it, an array or a structure of arrays. Masks that the model makes, or takes, count.
      block: the path or name of a block, or several of them; see analysis.blocks. Default all.
      queries: (Q, R) or (B, Q, R), at most 1024: coordinates in the model's input, see BlockAttention; each goes to the
        nearest position of the block. Default up to 64 positions, spread evenly over those of the block.
      top_k: how many keys of each query, the strongest first. None gives all, in the order of the block's key axes.
        Default 20, as the paper's Fig. 3.

    Returns:
      {path: BlockAttention}, in the model's order.

    Raises:
      ValueError: if the model has no such block, the queries have another number of coordinates, or it is not known
        where in the input the positions of the block are.

    Example:

    >>> model = keras_nonlocal.models.C2D(50, (4, 64, 64, 3), width=4, non_local={"res3": [1], "res4": [0]})
    >>> clip = np.zeros([1, 4, 64, 64, 3], "float32")
    >>> found = keras_nonlocal.attention_maps(model, clip, queries=[[2, 30.0, 61.0]], top_k=3)
    >>> {path: each.queries.tolist() for path, each in found.items()}
    {'res3_1_nonlocal': [[[2.5, 26.5, 58.5]]], 'res4_0_nonlocal': [[[2.5, 34.5, 50.5]]]}
    >>> found["res3_1_nonlocal"].weights.shape
    (1, 1, 3)
    """
    known = {id(layer): path for path, layer in blocks.paths(model).items()}
    wanted = [block] if block is None or isinstance(block, str) else list(block)
    layers = [blocks.find(model, name) for name in wanted]  # which says what is wrong where there is none
    if block is None:
        layers = list(blocks.paths(model).values())
    if top_k is not None:
        errors.check_positive_int("top_k", top_k)
    x = _as_tensors(model, x)
    return {known[id(layer)]: _of_block(model, known[id(layer)], layer, x, queries, top_k) for layer in layers}


def even_cells(sizes: Sequence[int], count: int = EVEN_QUERIES) -> np.ndarray:
    """The indices of at most `count` positions that are spread evenly over a grid, (Q, rank) int32.

    Example:

    >>> attention_maps.even_cells((6, 1), count=2).tolist()
    [[1, 0], [4, 0]]
    """
    steps = list(sizes)
    while np.prod(steps) > count:
        steps[int(np.argmax(steps))] -= 1
    axes = [((np.arange(n) + 0.5) * size / n).astype(np.int32) for n, size in zip(steps, sizes, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))  # (Q, rank)


def _as_tensors(model, x):
    """What a model takes, of the types of its inputs where it tells them."""
    graph = functional.graph(model)
    x = attended.as_taken(model, x)
    wanted = [] if graph is None else [tf.as_dtype(each.dtype) for each in tf.nest.flatten(graph.input)]
    given = [tf.convert_to_tensor(each) for each in tf.nest.flatten(x)]
    if len(wanted) != len(given):
        wanted = [tf.float32 if each.dtype.is_floating else each.dtype for each in given]
    return tf.nest.pack_sequence_as(x, [tf.cast(each, dtype) for each, dtype in zip(given, wanted, strict=True)])


def _of_block(model, path, layer, x, queries, top_k):
    if queries is not None:
        queries = np.asarray(queries, np.float32)
        if queries.ndim not in (2, 3) or queries.shape[-1] != layer.rank or queries.shape[-2] > attended.MAX_QUERIES:
            raise ValueError(
                f"`queries` must be (Q, {layer.rank}) or (B, Q, {layer.rank}) for the block {path!r}, at most "
                f"{attended.MAX_QUERIES} of them: choose blocks by `block`. Received: queries.shape={queries.shape}"
            )
        batch = tf.nest.flatten(x)[0].shape[0]
        if queries.ndim == 3 and len(queries) != batch:
            raise ValueError(f"`queries` must be of {batch} examples, as x. Received: queries.shape={queries.shape}")

    def look(*inputs):
        trace = tracing.trace_to(model, layer, tf.nest.pack_sequence_as(x, inputs))
        places = attended.Places(trace)
        if queries is None:
            cells = tf.numpy_function(lambda sizes: even_cells(sizes.tolist()), [tf.stack(places.sizes)], tf.int32)
            cells = tf.ensure_shape(cells, [None, layer.rank])
        else:
            cells = places.nearest(tf.constant(queries))
        cells = tf.broadcast_to(cells, [places.batch, tf.shape(cells)[-2], layer.rank])
        strides.append(places.stride)
        found = attended.attended(trace, places, cells, top_k)
        keys = layer.sets(places.sizes)[2]
        return found.queries, found.positions, found.weights, keys

    strides = []
    inputs = tf.nest.flatten(x)
    specs = [tf.TensorSpec(each.shape, each.dtype) for each in inputs]
    # As a function of its own for each block: to call `look` would warn of that.
    *arrays, keys = tf.function(look, autograph=False).get_concrete_function(*specs)(*inputs)
    key_size = tuple(stride * pool for stride, pool in zip(strides[-1], layer.key_pool, strict=True))
    shares = layer.form.normalization == "softmax"
    return BlockAttention(path, layer.pairwise, shares, int(keys), key_size, *(each.numpy() for each in arrays))
