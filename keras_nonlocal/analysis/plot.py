"""Pictures of attention, and the figures that they are drawn into: all there is of matplotlib in the package."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_nonlocal import errors
from keras_nonlocal.analysis.attention_maps import AttentionMap, Cell


def new_figure(columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    """An empty matplotlib Figure, which needs no screen and no closing, and its axes side by side.

    Args:
      columns: how many axes.
      size: (width, height) in inches.

    Returns:
      The Figure, and an array of `columns` axes.
    """
    figure = _matplotlib().figure.Figure(figsize=size)
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def draw_attention(frames: np.ndarray, attention: AttentionMap, query: Cell, count: int = 20) -> Any:
    """Draws what a query attends to: a heat map over the frames, and as in the paper's Fig. 3 arrows to its keys.

    The frames stand side by side, each with its share of the query's attention. The query is a red dot, red arrows go
    from it to the strongest keys, and the more orange a cell the more of the attention it has.

    Args:
      frames: (T, H, W, 3) uint8, one frame for each step of the block's time axis.
      attention: an AttentionMap whose keys have the same steps.
      query: (t, y, x) on the query grid.
      count: how many arrows. Default 20, as the paper.

    Returns:
      A matplotlib Figure.

    Example:

    >>> from keras_nonlocal.analysis import attention_maps, plot
    >>> uniform = attention_maps.AttentionMap(np.full([2 * 4 * 4, 2 * 2 * 2], 1 / 8), (2, 4, 4), (2, 2, 2))
    >>> figure = plot.draw_attention(np.zeros([2, 40, 40, 3], "uint8"), uniform, query=(1, 3, 0))
    >>> [axis.get_title() for axis in figure.axes]
    ['t = 0: 50 % of the attention', 't = 1: 50 % of the attention']
    """
    steps, height, width, _ = frames.shape
    figure, axes = new_figure(steps, (3 * steps, 3.6))
    heat = np.abs(attention.row(*query))
    shares = heat.sum(axis=(1, 2)) / max(heat.sum(), np.finfo(float).tiny)
    for t, (axis, frame, cells) in enumerate(zip(axes, frames, heat, strict=True)):
        where = dict(extent=(0, width, height, 0), interpolation="nearest")
        axis.imshow(frame, **where)
        orange = np.broadcast_to([1.0, 0.55, 0.0], (*cells.shape, 3))
        alpha = 0.8 * cells / max(heat.max(), np.finfo(float).tiny)
        axis.imshow(np.dstack([orange, alpha]), **where)
        axis.set_title(f"t = {t}: {100 * shares[t]:.0f} % of the attention", fontsize=11)
        axis.set_axis_off()
    _draw_arrows(figure, axes, attention, query, count, (height, width))
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.02, top=0.78, wspace=0.03)
    return figure


def draw_confusion(counts: np.ndarray, names: Sequence[str], title: str) -> Any:
    """Draws how often each class was taken for each: the darker, the larger its share of the row.

    Args:
      counts: (classes, classes) int, true classes in rows, predicted ones in columns.
      names: of the classes.
      title: of the picture.

    Returns:
      A matplotlib Figure.

    Example:

    >>> from keras_nonlocal.analysis import plot
    >>> figure = plot.draw_confusion(np.array([[3, 1], [0, 4]]), ["sitting", "standing"], "test")
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['3', '1', '4']
    """
    counts = np.asarray(counts)
    side = 2.5 + 0.34 * len(names)
    figure, (axis,) = new_figure(1, (side + 1.5, side + 1))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(counts), strict=True):
        color = "white" if shares[row, column] > 0.5 else "black"
        text = str(counts[row, column])
        axis.text(column, row, text, ha="center", va="center", color=color, fontsize=7)
    # A dollar would begin a formula.
    shown = [name.replace("$", r"\$")[:32] for name in names]
    axis.set_xticks(range(len(names)), shown, rotation=90, fontsize=8)
    axis.set_yticks(range(len(names)), shown, fontsize=8)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    axis.set_title(title, fontsize=9)
    figure.tight_layout()
    return figure


def outline(axis: Any, centre: tuple[int, int], side: int) -> None:
    """Draws a dashed square, `side` pixels wide around the pixel (y, x), into a frame of `draw_attention`."""
    corner = [pixel - side // 2 for pixel in reversed(centre)]
    square = _matplotlib().patches.Rectangle(corner, side, side, fill=False, edgecolor="white", linestyle="--")
    axis.add_patch(square)


def _matplotlib():
    """The package, which is imported when the first picture is drawn."""
    with errors.needs_extra("plot"):
        import matplotlib.figure
        import matplotlib.patches

    return matplotlib


def _draw_arrows(figure, axes, attention, query, count, size):
    start = _centre(query[1:], attention.query_grid[1:], size)
    keys = attention.strongest(*query, count)
    for (t, y, x), weight in keys:
        strength = (weight / keys[0][1]) ** 0.5  # one strong key must not make the others invisible
        arrow = _matplotlib().patches.ConnectionPatch(
            xyA=start,
            coordsA=axes[query[0]].transData,
            xyB=_centre((y, x), attention.key_grid[1:], size),
            coordsB=axes[t].transData,
            arrowstyle="-|>",
            mutation_scale=12,
            color="red",
            linewidth=0.8 + 2 * strength,
            alpha=0.1 + 0.9 * strength,
        )
        figure.add_artist(arrow)
    axes[query[0]].plot(*start, "o", color="red", markersize=9)


def _centre(cell, grid, size):
    """The middle of a grid cell in pixels, as (x, y)."""
    y, x = ((index + 0.5) * pixels / cells for index, cells, pixels in zip(cell, grid, size, strict=True))
    return x, y
