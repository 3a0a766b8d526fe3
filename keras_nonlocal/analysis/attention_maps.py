"""What the queries of a non-local block attend to while a model looks at a clip; `plot` draws it."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from keras_nonlocal.analysis import blocks, tracing

Cell = tuple[int, int, int]  # (t, y, x) on a grid


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
