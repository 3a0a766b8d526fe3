"""Pictures of what the blocks of a model attend to in one clip or photo, in a folder."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_nonlocal import errors
from keras_nonlocal.analysis import attention_numbers, plot
from keras_nonlocal.analysis.attention_maps import attention_maps
from keras_nonlocal.serving import file_inputs
from keras_nonlocal.surgery import functional


def input_sizes(model: Any) -> tuple[int | None, ...]:
    """The sizes of what a model takes, without batch and channels: (T, H, W) of clips, (H, W) of photos.

    Raises:
      UserError: for a model of several inputs, or of one that is neither a clip nor a photo, of three channels.
    """
    graph = functional.graph(model)
    shapes = [] if graph is None else [tuple(each.shape) for each in tf.nest.flatten(graph.input)]
    if len(shapes) != 1 or len(shapes[0]) not in (4, 5) or shapes[0][-1] != 3:
        raise errors.UserError(
            "a file can fill one input, (batch, frames, height, width, 3) or (batch, height, width, 3). The model "
            f"takes {shapes or 'what only its own code says'}: call keras_nonlocal.attention_maps on what it takes"
        )
    return shapes[0][1:-1]


def read(path: str | os.PathLike[str], sizes: Sequence[int | None], stride: int | None = None) -> np.ndarray:
    """A video or photo scaled and cut to the sizes that a model takes.

    Args:
      path: video, JPEG or PNG file.
      sizes: (T, H, W) for a clip of a video, (H, W) for a photo; None leaves one open: 32 frames of 224 x 224 pixels of
        a video, and a photo as large as it is.
      stride: distance of the frames, see clip_inputs.sample_clip.

    Returns:
      (T, H, W, 3) or (H, W, 3) uint8.

    Raises:
      UserError: the file cannot be read, or the model takes the other kind.
    """
    is_photo = file_inputs.is_photo(path)
    if is_photo != (len(sizes) == 2):
        kinds = ("a photo", "videos") if is_photo else ("a video", "photos")
        raise errors.UserError(f"{path} is {kinds[0]}, and the model takes {kinds[1]}: give one of them")
    from keras_nonlocal.serving import clip_inputs  # which needs OpenCV

    if not is_photo:
        return clip_inputs.sample_clip(path, *(size or -1 for size in sizes), stride)
    photo = file_inputs.read_pixels(path)
    wanted = [size or own for size, own in zip(sizes, photo.shape, strict=False)]
    return clip_inputs.resize_and_crop(photo, *wanted)


def draw(
    model: Any,
    seen: np.ndarray,
    prepare: Callable[[np.ndarray], Any],
    folder: str | os.PathLike[str],
    block: str | None = None,
    query: Sequence[float] | None = None,
    count: int = 20,
) -> str:
    """Draws what a model's blocks attend to: overview.png of all, and of one query arrows.png, heatmap.png, film.gif.

    Args:
      model: of either Keras.
      seen: (T, H, W, 3) or (H, W, 3) uint8.
      prepare: from a batch of these to what the model takes.
      folder: where the pictures go; it is made.
      block: the path or name of the one to draw. Default by attention_numbers.most_telling.
      query: (frame, y, x) or (y, x). Default by the same rule, of up to 64 positions.
      count: how many arrows, at most.

    Returns:
      What is drawn, as text: the numbers of every block, and which query was taken.

    Raises:
      UserError: the model has no such block, or the query does not fit it.
    """
    try:
        x = prepare(seen[np.newaxis])
        maps = attention_maps(model, x, top_k=None)
        asked = maps
        if block is not None or query is not None:
            asked = attention_maps(model, x, block, None if query is None else [query], top_k=None)
    except ValueError as error:
        raise errors.UserError(str(error)) from error
    asked = {path: found for path, found in asked.items() if found.rank == seen.ndim - 1}
    if not asked:
        raise errors.UserError(f"no block has {seen.ndim - 1} axes, as what was given: its attention cannot be drawn")
    path, example, number = attention_numbers.most_telling(asked)
    found = asked[path]
    os.makedirs(folder, exist_ok=True)
    figures = {
        "overview.png": plot.overview(maps),
        "arrows.png": plot.arrows(seen, found, example, number, count),
        "heatmap.png": plot.heatmap(seen, found, example, number),
    }
    if found.rank == 3:
        figures["film.gif"] = plot.film(seen, found, example, number)
    for name, figure in figures.items():
        plot.save(figure, os.path.join(folder, name))
    place = ", ".join(f"{each:g}" for each in found.queries[example, number])
    how = "given" if query is not None else "by the rule"
    return f"{_table(maps)}\n\nblock {path}, query {place} ({how}); drawn: {', '.join(figures)} in {folder}"


def _table(maps):
    """The numbers of every block, and in brackets what attention spread evenly would have."""
    names = ("elsewhere", "entropy", "frames", "pixels", "difference")
    width = max(len(path) for path in maps)
    lines = [f"{'block':{width}}" + "".join(f"  {name:>16}" for name in names)]
    for path, found in maps.items():
        pair = attention_numbers.numbers(found), attention_numbers.even_numbers(found)
        cells = ["{:.3g} ({:.3g})".format(*(getattr(each, name) for each in pair)) for name in names]
        lines.append(f"{path:{width}}" + "".join(f"  {cell:>16}" for cell in cells))
    return "\n".join(lines)
