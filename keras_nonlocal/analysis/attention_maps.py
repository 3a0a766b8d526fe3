"""Attention rows out of a model, and the paper's Fig. 3: arrows in space-time from a query to its strongest keys."""

import dataclasses

import numpy as np

from keras_nonlocal.layers import non_local


@dataclasses.dataclass
class AttentionMap:
    """The attention of one non-local block on one clip.

    Args:
      weights: (N, M) float, a row for each query.
      query_grid: (T, H, W), whose product is N.
      key_grid: (T, H, W) of the pooled keys, whose product is M.
    """

    weights: np.ndarray
    query_grid: tuple
    key_grid: tuple

    def row(self, t, y, x):
        """The weights of the keys for the query at (t, y, x), shaped as the key grid."""
        return self.weights[np.ravel_multi_index((t, y, x), self.query_grid)].reshape(self.key_grid)

    def strongest(self, t, y, x, count=20):
        """The keys a query attends to most, strongest first: a list of ((t, y, x), weight)."""
        row = self.row(t, y, x)
        order = np.argsort(row, axis=None)[::-1][:count]
        return [(tuple(int(i) for i in np.unravel_index(index, row.shape)), float(row.flat[index])) for index in order]


def find_blocks(model):
    """The names of a functional model's 3D non-local blocks, from input to output."""
    return [layer.name for layer in model.layers if _is_block(layer)]


def attention_map(model, block, clip):
    """The attention of a non-local block while the model looks at a clip.

    Args:
      model: a functional model of either Keras with a NonLocal3D of extent "spacetime".
      block: the name of that layer; see find_blocks.
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
    blocks = find_blocks(model)
    if block not in blocks:
        raise ValueError(f"`block` must be a 3D non-local block of the model: {blocks}. Received: block={block!r}")
    layer = model.get_layer(block)
    features = type(model.get_layer(block))._keras.Model(model.input, layer.input)(clip[None])
    _, attention = layer(features, training=False, return_attention_scores=True)
    if len(attention.shape) != 3:
        raise ValueError(f"{block} has extent {layer.extent!r} or groups, so that no query sees the whole clip.")
    return AttentionMap(
        np.asarray(attention[0]), tuple(features.shape[1:-1]), layer.key_grid(tuple(features.shape[1:-1]))
    )


def draw_arrows(frames, attention, query, count=20):
    """Draws the paper's Fig. 3: the frames side by side, and an arrow from the query to each of its strongest keys.

    Args:
      frames: (T, H, W, 3) uint8, one frame for each step of the block's time axis.
      attention: an AttentionMap.
      query: (t, y, x) on the query grid.
      count: how many keys. Default 20, as the paper.

    Returns:
      A matplotlib Figure.
    """
    from matplotlib import pyplot
    from matplotlib.patches import ConnectionPatch

    steps, height, width, _ = frames.shape
    figure, axes = pyplot.subplots(1, steps, figsize=(3 * steps, 3.5), squeeze=False)
    axes = axes[0]
    for t, (axis, frame) in enumerate(zip(axes, frames, strict=True)):
        axis.imshow(frame)
        axis.set_title(f"t = {t}", fontsize=10)
        axis.set_axis_off()
    start = _centre(query[1:], attention.query_grid[1:], (height, width))
    keys = attention.strongest(*query, count)
    for (t, y, x), weight in keys:
        strength = (weight / keys[0][1]) ** 0.5  # one strong key must not make the others invisible
        arrow = ConnectionPatch(
            xyA=start,
            coordsA=axes[query[0]].transData,
            xyB=_centre((y, x), attention.key_grid[1:], (height, width)),
            coordsB=axes[t].transData,
            arrowstyle="-|>",
            mutation_scale=12,
            color="orange",
            linewidth=0.8 + 2 * strength,
            alpha=0.5 + 0.5 * strength,
        )
        figure.add_artist(arrow)
    axes[query[0]].plot(*start, "o", color="red", markersize=9)
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.02, top=0.82, wspace=0.03)
    return figure


def _centre(cell, grid, size):
    """The middle of a grid cell in pixels, as (x, y)."""
    y, x = ((index + 0.5) * pixels / cells for index, cells, pixels in zip(cell, grid, size, strict=True))
    return x, y


def _is_block(layer):
    return isinstance(layer, non_local.NonLocalMixin) and layer.rank == 3
