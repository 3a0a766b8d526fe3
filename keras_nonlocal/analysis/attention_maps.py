"""What the queries of non-local blocks attend to while a model looks at something; `plot` draws it.

`attention_maps` is for any model and block, of chosen queries; the other functions build the whole N x M attention of
one block on clips.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_nonlocal import errors
from keras_nonlocal.analysis import attended, blocks, tracing
from keras_nonlocal.surgery import functional

Cell = tuple[int, int, int]  # (t, y, x) on a grid
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


@dataclasses.dataclass
class AttentionMap:
    """The attention of one non-local block on one clip.

    Args:
      weights: (N, M) float, a row for each query.
      query_grid: (T, H, W), whose product is N.
      key_grid: (T, H, W) of the pooled keys, whose product is M.
    """

    weights: np.ndarray
    query_grid: Cell
    key_grid: Cell

    def row(self, t: int, y: int, x: int) -> np.ndarray:
        """The weights of the keys for the query at (t, y, x), shaped as the key grid."""
        return self.weights[np.ravel_multi_index((t, y, x), self.query_grid)].reshape(self.key_grid)

    def strongest(self, t: int, y: int, x: int, count: int = 20) -> list[tuple[Cell, float]]:
        """The keys a query attends to most, strongest first: a list of ((t, y, x), weight)."""
        row = self.row(t, y, x)
        order = np.argsort(row, axis=None)[::-1][:count]
        return [(tuple(int(i) for i in np.unravel_index(index, row.shape)), float(row.flat[index])) for index in order]

    def share(self, keys: np.ndarray) -> np.ndarray:
        """How much of every query's attention lies on some of the keys.

        Args:
          keys: shaped as the key grid, how much of each counts: booleans, or numbers from 0 to 1.

        Returns:
          Shaped as the query grid, from 0 to 1: the absolute weights on these keys, of those on all. A query without
          any weight has 0.
        """
        sizes = np.abs(self.weights)
        total = sizes.sum(axis=1)
        counted = sizes @ np.asarray(keys, sizes.dtype).reshape(-1)
        return np.divide(counted, total, out=np.zeros_like(total), where=total > 0).reshape(self.query_grid)

    def share_of_other_frames(self) -> np.ndarray:
        """How much of every query's attention lies in other frames than its own, as `share` counts it."""
        shares = np.empty(self.query_grid)
        key_frames, height, width = self.key_grid
        for t in range(self.query_grid[0]):
            others = np.arange(key_frames) != t * key_frames // self.query_grid[0]
            shares[t] = self.share(np.broadcast_to(others[:, None, None], (key_frames, height, width)))[t]
        return shares


def find_blocks(model: Any) -> list[str]:
    """The paths of a model's 3D non-local blocks, in its order; see `blocks`."""
    return [path for path, layer in blocks.paths(model).items() if layer.rank == 3]


def attention_map(model: Any, block: str, clip: np.ndarray) -> AttentionMap:
    """The attention of a non-local block while the model looks at a clip.

    Args:
      model: of either Keras with a NonLocal3D of extent "spacetime" anywhere inside; it takes clips alone.
      block: the path of that layer; see find_blocks.
      clip: (T, H, W, 3), what the model takes.

    Returns:
      An AttentionMap.

    Raises:
      ValueError: if the model has no such block, or its positions fall into several sets.

    Example:

    >>> model = keras_nonlocal.models.C2D(50, (4, 64, 64, 3), width=8, non_local={"res3": [1]})
    >>> clip = np.random.default_rng(0).normal(size=[4, 64, 64, 3]).astype("float32")
    >>> len(attention_maps.attention_map(model, "res3_1_nonlocal", clip).strongest(t=1, y=4, x=4, count=20))
    20
    """
    return of_batch(model, block, np.asarray(clip)[None])[0]


def of_batch(model: Any, block: str, clips: np.ndarray) -> list[AttentionMap]:
    """The attention of a non-local block on each of several clips, (B, T, H, W, 3); otherwise as attention_map."""
    if block not in find_blocks(model):
        known = find_blocks(model)
        raise ValueError(f"`block` must be a 3D non-local block of the model: {known}. Received: block={block!r}")
    layer = blocks.find(model, block)

    def look(clips):
        trace = tracing.trace_to(model, layer, clips)
        grid = tuple(trace.features.shape[1:-1])
        if layer.sets(grid)[0] > 1:
            raise ValueError(
                "`block` must be one whose queries see the whole clip, of extent 'spacetime' and without "
                f"`group_frames`. Received: block={block!r} of extent {layer.extent!r}, "
                f"group_frames={layer.group_frames}"
            )
        grids.append(grid)
        return layer(trace.features, mask=trace.mask, training=False, return_attention_scores=True)[1]

    grids = []
    attention = tf.function(look, autograph=False)(tf.constant(clips))
    return [AttentionMap(weights, grids[-1], layer.key_grid(grids[-1])) for weights in attention.numpy()]


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
