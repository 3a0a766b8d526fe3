"""The Keras 3 network that a checkpoint belongs to, built and loaded."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from keras_nonlocal import errors
from keras_nonlocal.models import c2d
from keras_nonlocal.weights import loading, reading, shapes
from keras_nonlocal.weights.formats.values import CheckpointError, of_file
from keras_nonlocal.weights.options import checked
from keras_nonlocal.weights.report import Report
from keras_nonlocal.weights.sources import SOURCES

if TYPE_CHECKING:
    import keras

# Options that files of some sources do not tell.
OPEN_OPTIONS = {
    "temporal_stride": "8 for the 32x2 and 128x1 networks, 2 for 8x8 and 32x4",
    "pairwise": "'embedded_gaussian' or 'dot_product', whose weights look alike",
}


def build(
    path: str | os.PathLike,
    source: str = "auto",
    input_shape: tuple[int | None, int | None, int | None, int] = (None, None, None, 3),
    window: tuple[int, int, int] | None = None,
    **options,
) -> tuple[keras.Model, Report]:
    """The C2D or I3D that a peer's checkpoint was trained as, with its weights.

    Depth, width, classes, inflation, the places of the non-local blocks, their form, norm and biases come from the
    file, what its source always does from keras_nonlocal.weights.sources, and the rest from `options`.

    Args:
      path: of the checkpoint; see keras_nonlocal.weights.read.
      source: "auto", or whose names or stem it has; see keras_nonlocal.weights.read.
      input_shape: (T, H, W, 3) of a clip. Default all three unknown.
      window: see keras_nonlocal.models.C2D. Default None.
      **options: what the file does not tell; see keras_nonlocal.weights.load. An official checkpoint needs
        `temporal_stride`, an mmaction2 one with theta and phi `pairwise`.

    Returns:
      A keras.Model and the Report, as keras_nonlocal.weights.load returns it.

    Raises:
      CheckpointError: for a file that cannot be read, whose tensors are not those of one network, or that needs an
        option that was not given. Nothing of the network's size is made before its shapes are those of the file.
      UserError: for an option that there is not, or that cannot have this value.

    Example:

    >>> model, report = keras_nonlocal.weights.build("i3d_nonlocal_8x8.pkl", temporal_stride=2)  # doctest: +SKIP
    """
    options = checked(options)
    checkpoint = reading.read(path, source)
    arguments = plan(checkpoint, options)
    if window is not None:
        with of_file(path):
            SOURCES[checkpoint.source].check_softmax(checkpoint)
    top = "classes" in arguments
    try:
        model = c2d.c2d_or_i3d(input_shape=input_shape, window=window, include_top=top, **arguments)
    except ValueError as e:
        raise CheckpointError(f"{path}: its network cannot be built: {errors.first_line(e)}") from e
    return model, loading.fill(model, checkpoint, options)


def plan(checkpoint, options):
    """The arguments of a checkpoint's network, after all its tensors were found to be of their shapes.

    So a network is never larger than the file that claims it. Raises CheckpointError for one that is not to be built.
    """
    source = SOURCES[checkpoint.source]
    with of_file(checkpoint.path):
        targets, unknown = loading.targets_of(checkpoint)
        loading.check_known(checkpoint, unknown)
        arguments = source.arguments(checkpoint, targets, options)
        found = {**arguments["non_local_block"], "temporal_stride": arguments["temporal_stride"]}
        open_options = [name for name in OPEN_OPTIONS if name in found and found[name] is None]
        if open_options:
            needed = "; ".join(f"`{name}`, {OPEN_OPTIONS[name]}" for name in open_options)
            raise CheckpointError(f"the file does not tell everything: give {needed}.")
        shapes.check(source, targets, arguments)
    return arguments
