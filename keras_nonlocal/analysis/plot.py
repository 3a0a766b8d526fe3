"""Pictures of attention, and the figures that they are drawn into: all there is of matplotlib in the package.

`arrows`, `heatmap`, `film` and `overview` draw what keras_nonlocal.attention_maps finds; `save` writes figures.
"""

import functools
import io
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_nonlocal import errors, files
from keras_nonlocal.analysis import attention_numbers
from keras_nonlocal.analysis.attention_maps import BlockAttention

# Of weights that may have either sign: above and below 0, the ends of matplotlib's RdBu.
ABOVE, BELOW = "#b2182b", "#2166ac"
# Side by side, so that a frame is still large enough to see something.
COLUMNS = 4
# What `overview` shows of each block: (name in Numbers, title, where it ends, if that is known).
PANELS = (
    ("elsewhere", "weight in\nother frames", 1),
    ("entropy", "how evenly spread\n(entropy)", 1),
    ("frames", "distance\nin frames", None),
    ("pixels", "distance\nin pixels", None),
    ("difference", "difference\nbetween queries", 0.5),
)


def arrows(pictures: np.ndarray, found: BlockAttention, example: int = 0, query: int = 0, count: int = 20) -> Any:
    """Draws arrows from a query to the keys it attends to most, as in the paper's Fig. 3.

    The frames that hold one of them stand side by side. The query is a dot, and an arrow is the thicker the more weight
    it has. Weights that are no shares are red above 0 and blue below.

    Args:
      pictures: (T, H, W, 3) or, of a 2D block, (H, W, 3) uint8: what the model looked at, in the size it saw.
      found: of attention_maps, of a 2D or 3D block.
      example: which of its examples the pictures are.
      query: which of its queries.
      count: how many arrows, at most. Default 20, as the paper.

    Returns:
      A matplotlib Figure.

    Raises:
      ValueError: for a 1D block, which has no pictures, or pictures of another rank than the block.
    """
    frames = _frames(pictures, found)
    weights, start, ends = _one(found, example, query)
    strongest = np.argsort(-np.abs(weights), kind="stable")[:count]
    weights, ends = weights[strongest], ends[strongest]
    numbers = _frame_numbers([start, *ends], len(frames))
    shown = sorted(set(numbers))
    figure, grid = _grid(len(shown), frames.shape)
    axes = dict(zip(shown, grid, strict=True))
    for number, axis in axes.items():
        _show(axis, frames[number], _frame_title(number, found, frames))
    largest = max(np.abs(weights).max(initial=0), np.finfo(float).tiny)
    dot = _place(start)
    for number, end, weight in reversed(list(zip(numbers[1:], ends, weights, strict=True))):
        strength = math.sqrt(abs(weight) / largest)  # one strong key must not make the others invisible
        arrow = _matplotlib().patches.ConnectionPatch(
            xyA=dot,
            coordsA=axes[numbers[0]].transData,
            xyB=_place(end),
            coordsB=axes[number].transData,
            arrowstyle="-|>",
            mutation_scale=12,
            color=BELOW if weight < 0 else ABOVE if not found.shares else "red",
            linewidth=0.8 + 2 * strength,
            alpha=0.15 + 0.85 * strength,
        )
        figure.add_artist(arrow)
    _dot(figure, axes[numbers[0]], start)
    held = np.abs(weights).sum()
    said = f"the {len(weights)} strongest have {100 * held:.0f} % of the attention"
    if not found.shares:
        said = f"the {len(weights)} strongest weights, no shares of 1: red above 0, blue below"
    figure.suptitle(f"{found.block} ({found.pairwise})\n{said}", fontsize=9)
    return figure


def heatmap(pictures: np.ndarray | None, found: BlockAttention, example: int = 0, query: int = 0) -> Any:
    """Draws the attention of a query over all frames: each key is as large as what it is pooled of.

    Shares of 1 are the more orange the larger, and a frame says how much of the attention it has. Weights of other
    forms, which have any sign and size, are red above 0 and blue below. Of the strongest keys alone, the rest is clear.
    For a 1D block it is a bar for each key.

    Args:
      pictures: as for `arrows`; None for a 1D block.
      found: of attention_maps, best with top_k=None.
      example: which of its examples the pictures are.
      query: which of its queries.

    Returns:
      A matplotlib Figure.

    Raises:
      ValueError: for pictures of another rank than the block.
    """
    weights, start, places = _one(found, example, query)
    if found.rank == 1:
        return _bars(found, weights, start, places)
    frames = _frames(pictures, found)
    heat = _heat(found, weights, places, frames.shape[:3])
    figure, grid = _grid(len(frames), frames.shape, bar=True)
    own = _frame_numbers([start], len(frames))[0]
    shares = _frame_shares(found, heat, weights)
    for number, axis in enumerate(grid):
        _show(axis, frames[number], _frame_title(number, found, frames, shares))
        image = _overlay(axis, heat[number], found, weights)
        if number == own:
            _dot(figure, axis, start)
    _colour_bar(figure, image, grid, found)
    figure.suptitle(f"{found.block} ({found.pairwise})", fontsize=10)
    return figure


def film(pictures: np.ndarray, found: BlockAttention, example: int = 0, query: int = 0) -> list[Any]:
    """`heatmap` as one figure for each frame, all of one size, for `save` to animate.

    Args:
      pictures: (T, H, W, 3) uint8.
      found: of attention_maps, of a 3D block.
      example: which of its examples the pictures are.
      query: which of its queries; its dot is in all frames, and filled in its own.

    Returns:
      A list of T matplotlib Figures.
    """
    weights, start, places = _one(found, example, query)
    frames = _frames(pictures, found)
    heat = _heat(found, weights, places, frames.shape[:3])
    own = _frame_numbers([start], len(frames))[0]
    shares = _frame_shares(found, heat, weights)
    figures = []
    for number, frame in enumerate(frames):
        figure, (axis,) = _grid(1, frames.shape, bar=True)
        _show(axis, frame, _frame_title(number, found, frames, shares))
        _colour_bar(figure, _overlay(axis, heat[number], found, weights), [axis], found)
        _dot(figure, axis, start, filled=number == own)
        figure.suptitle(f"{found.block} ({found.pairwise})", fontsize=10)
        figures.append(figure)
    return figures


def overview(maps: Mapping[str, BlockAttention]) -> Any:
    """Draws what kind of attention each block of a model pays: see attention_numbers.Numbers for what is shown.

    A bar is the block's own, and a black line across it is what attention spread evenly over all keys would have. The
    last panel asks "is the attention the same for every query?": it is where the bar is close to 0.

    Args:
      maps: of attention_maps with top_k=None.

    Returns:
      A matplotlib Figure.

    Raises:
      ValueError: if they hold the strongest keys only, or there are none.

    Example:

    >>> model = keras_nonlocal.models.C2D(50, (4, 64, 64, 3), width=4, non_local={"res3": [1], "res4": [0]})
    >>> clip = np.random.default_rng(0).normal(size=[1, 4, 64, 64, 3]).astype("float32")
    >>> figure = plot.overview(keras_nonlocal.attention_maps(model, clip, top_k=None))
    >>> len(figure.axes)
    5
    """
    if not maps:
        raise ValueError("`maps` must be of one block or more. Received: maps={}")
    own = [attention_numbers.numbers(found) for found in maps.values()]
    even = [attention_numbers.even_numbers(found) for found in maps.values()]
    panels = [each for each in PANELS if not all(math.isnan(getattr(numbers, each[0])) for numbers in own)]
    rows = np.arange(len(maps))
    figure, axes = new_figure(len(panels), (2.2 + 1.9 * len(panels), 1.4 + 0.35 * len(maps)))
    signed = not all(found.shares for found in maps.values())
    for axis, (name, title, end) in zip(axes, panels, strict=True):
        values = np.array([getattr(numbers, name) for numbers in own])
        compared = np.array([getattr(numbers, name) for numbers in even])
        axis.barh(rows, np.nan_to_num(values), color="#f58518", height=0.6)
        axis.vlines(compared, rows - 0.4, rows + 0.4, color="black", linewidth=1.5)
        largest = max(np.nan_to_num(values).max(), np.nan_to_num(compared).max())
        end = 1.25 * max(largest, 1e-9) if end is None or largest > end else end
        for row, value in enumerate(values):
            text = "none" if math.isnan(value) else f"{value:.2f}" if value < 10 else f"{value:.0f}"
            axis.text(0.02 * end, row, text, va="center", fontsize=8)
        axis.set_xlim(0, end)
        axis.set_ylim(len(maps) - 0.5, -0.5)
        axis.set_title(title, fontsize=9)
        axis.set_yticks(rows, list(maps) if axis is axes[0] else [""] * len(maps), fontsize=8)
        axis.tick_params(axis="x", labelsize=7)
    note = "black line: attention spread evenly"
    figure.text(0.99, 0.01, note + "; weights of any sign count by their size" * signed, ha="right", fontsize=7)
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    return figure


def save(figures: Any, path: str | os.PathLike[str], seconds: float = 0.5) -> None:
    """Writes a figure as a picture, or several as an animation that repeats; the file appears whole.

    Args:
      figures: a matplotlib Figure, or of an animation a list of them, all of one size.
      path: what it ends in says as what: .png of one figure; .gif (by pillow) or .mp4 (by OpenCV) of one or more.
      seconds: how long each figure is shown.

    Raises:
      ValueError: for another ending, several figures as .png, or none.
      MissingExtra: matplotlib is not installed, or for .mp4 OpenCV.
    """
    figures = list(figures) if isinstance(figures, Sequence) else [figures]
    ending = os.path.splitext(os.fspath(path))[1].lower()
    if ending not in (".png", ".gif", ".mp4") or not figures or (ending == ".png" and len(figures) > 1):
        raise ValueError(
            "`path` must end in .png for one figure, or in .gif or .mp4 for one or more. "
            f"Received: path={os.fspath(path)!r} for {len(figures)} figures"
        )
    errors.check_number("seconds", seconds, 0.01)
    pictures = [pixels(figure) for figure in figures]
    temporary = files.temporary_path(path) + ending  # by which OpenCV knows the format
    with files.whole_file(path, temporary) as temporary:
        if ending == ".mp4":
            _write_mp4(temporary, pictures, seconds)
        else:
            _write_pillow(temporary, pictures, seconds)


def new_figure(columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    """An empty matplotlib Figure, which needs no screen and no closing, and its axes side by side.

    Args:
      columns: how many axes.
      size: (width, height) in inches.

    Returns:
      The Figure, and an array of `columns` axes.
    """
    figure = _figure_class()(figsize=size, dpi=100)
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def pixels(figure: Any) -> np.ndarray:
    """What a matplotlib Figure looks like, (H, W, 3) uint8 RGB, of even sides as videos ask for."""
    canvas = _matplotlib().backends.backend_agg.FigureCanvasAgg(figure)
    canvas.draw()
    drawn = np.asarray(canvas.buffer_rgba())[..., :3]
    return np.ascontiguousarray(drawn[: drawn.shape[0] // 2 * 2, : drawn.shape[1] // 2 * 2])


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


@functools.cache
def _figure_class():
    """A matplotlib Figure that a notebook shows when it ends a cell, as one of pyplot."""

    class Figure(_matplotlib().figure.Figure):
        def _repr_png_(self):
            file = io.BytesIO()
            self.savefig(file, format="png")
            return file.getvalue()

    return Figure


def _matplotlib():
    """The package, which is imported when the first picture is drawn."""
    with errors.needs_extra("plot"):
        import matplotlib.backends.backend_agg
        import matplotlib.cm
        import matplotlib.figure
        import matplotlib.lines
        import matplotlib.patches

    return matplotlib


def _one(found, example, query):
    """The weights of one query, its place, and those of the keys."""
    return found.weights[example, query], found.queries[example, query], found.positions[example, query]


def _frames(pictures, found):
    """(T, H, W, 3) of what a 2D or 3D block's model looked at."""
    rank = np.ndim(pictures)
    if found.rank == 1 or rank != found.rank + 1 or np.shape(pictures)[-1] != 3 or pictures.dtype != np.uint8:
        wanted = {1: "None, and drawn by `heatmap`,", 2: "(H, W, 3) uint8", 3: "(T, H, W, 3) uint8"}[found.rank]
        raise ValueError(
            f"`pictures` must be {wanted} for a {found.rank}D block. "
            f"Received: shape {np.shape(pictures)}, {getattr(pictures, 'dtype', None)}"
        )
    return pictures if rank == 4 else pictures[None]


def _frame_numbers(places, count):
    """The frame that each place is in; 0 of places in a picture."""
    return [int(np.clip(np.rint(place[0]), 0, count - 1)) if len(place) == 3 else 0 for place in places]


def _place(place):
    """(x, y) of a place."""
    return float(place[-1]), float(place[-2])


def _grid(count, shape, bar=False):
    """A figure of `count` axes for frames of this shape, in rows of COLUMNS."""
    columns = min(count, COLUMNS)
    rows = -(-count // columns)
    width = 2.6 if count > 1 else 4.2
    height = width * shape[1] / shape[2]
    # Room for the title above, one line over each frame, and the colours beside it.
    top, right = 0.45, 0.9 if bar else 0.05
    size = (max(columns * width + right, 4.6), rows * (height + 0.28) + top)
    figure = _figure_class()(figsize=size, dpi=100)
    axes = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    for axis in axes:
        axis.set_axis_off()
    edges = dict(left=0.05 / size[0], right=1 - right / size[0], bottom=0.02, top=1 - (top + 0.25) / size[1])
    figure.subplots_adjust(**edges, wspace=0.04, hspace=0.28 / height)
    return figure, axes[:count]


def _show(axis, frame, title):
    axis.imshow(frame, extent=(0, frame.shape[1], frame.shape[0], 0), interpolation="nearest")
    axis.set_title(title, fontsize=9)


def _frame_title(number, found, frames, shares=None):
    if len(frames) == 1:
        return ""
    return f"frame {number}" + ("" if shares is None else f": {100 * shares[number]:.0f} %")


def _frame_shares(found, heat, weights):
    """How much of the attention is in each frame that the clip has; None of weights that are no shares.

    A key that is pooled of several frames, or one frame that stands for several, gives each an equal part.
    """
    if not found.shares:
        return None
    mass = np.nan_to_num(heat).sum(axis=(1, 2))
    return mass / max(mass.sum(), np.finfo(float).tiny) * weights.sum()


def _heat(found, weights, places, shape):
    """The weight of the key at each pixel, (T, H, W); NaN where there is none."""
    heat = np.full(shape, np.nan)
    sides = (1, *found.key_size)[-3:]
    for weight, place in zip(weights, places, strict=True):
        # Along time a frame is its number, and along the others a pixel is from its index to the next.
        centre = (0.0, *place)[-3:]
        slices = [
            slice(max(0, math.ceil(middle - side / 2)), max(0, math.ceil(middle + side / 2)))
            for middle, side in zip(centre, sides, strict=True)
        ]
        heat[tuple(slices)] = weight
    return heat


def _overlay(axis, heat, found, weights):
    """Draws a frame's part of the heat over it; clear where there is little."""
    largest = max(np.abs(weights).max(initial=0), np.finfo(float).tiny)
    heat = np.nan_to_num(heat)
    colours = dict(cmap="Oranges", vmin=0, vmax=largest) if found.shares else dict(
        cmap="RdBu_r", vmin=-largest, vmax=largest
    )  # fmt: skip
    extent = (0, heat.shape[1], heat.shape[0], 0)
    return axis.imshow(heat, alpha=0.7 * np.abs(heat) / largest, extent=extent, interpolation="nearest", **colours)


def _dot(figure, axis, start, filled=True):
    """Where the query is, over all arrows."""
    style = dict(markeredgecolor="white", color="#00a0ff" if filled else "none", markersize=8, zorder=3)
    x, y = _place(start)
    figure.add_artist(_matplotlib().lines.Line2D([x], [y], marker="o", transform=axis.transData, **style))


def _colour_bar(figure, image, axes, found):
    """Beside the axes, without moving them; its colours are those of the heat where it is not clear."""
    box = axes[-1].get_position()
    width, height = figure.get_size_inches()
    side = figure.add_axes((1 - 0.8 / width, box.y0, 0.14 / width, axes[0].get_position().y1 - box.y0))
    colours = figure.colorbar(_matplotlib().cm.ScalarMappable(image.norm, image.cmap), cax=side)
    colours.ax.tick_params(labelsize=7)
    colours.ax.set_title("share" if found.shares else "weight", fontsize=8)


def _bars(found, weights, start, places):
    figure, (axis,) = new_figure(1, (7, 2.6))
    colours = "#f58518" if found.shares else [BELOW if weight < 0 else ABOVE for weight in weights]
    axis.bar(places[:, 0], weights, width=0.9 * found.key_size[0], color=colours)
    axis.axvline(start[0], color="#00a0ff", linestyle="--")
    axis.set_xlabel("step; the dashed line is the query")
    axis.set_ylabel("share of the attention" if found.shares else "weight, no share of 1")
    axis.set_title(f"{found.block} ({found.pairwise})", fontsize=10)
    figure.tight_layout()
    return figure


def _write_pillow(path, pictures, seconds):
    with errors.needs_extra("plot"):
        from PIL import Image
    first, *others = [Image.fromarray(picture) for picture in pictures]
    options = dict(save_all=True, append_images=others, duration=round(1000 * seconds), loop=0) if others else {}
    first.save(path, **options)


def _write_mp4(path, pictures, seconds):
    with errors.needs_extra("video"):
        import cv2
    height, width, _ = pictures[0].shape
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"mp4v"), 1 / seconds, (width, height))
    if not writer.isOpened():
        raise OSError(f"OpenCV cannot write {path} as MP4: save it as .gif")
    for picture in pictures:
        writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    writer.release()
