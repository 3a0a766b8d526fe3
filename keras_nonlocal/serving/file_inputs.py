"""Turns a video or photo on disk into what a served signature takes, a batch of one."""

import os
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from keras_nonlocal import errors

_PHOTOS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")


def is_photo(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as a JPEG or PNG does; raises UserError where it cannot be read."""
    return _read(path, 8).startswith(_PHOTOS)


def from_file(
    path: str | os.PathLike[str], alias: str, info: meta_graph_pb2.TensorInfo, stride: int | None = None
) -> dict[str, np.ndarray]:
    """Makes a batch of one video or photo, scaled and cut to the size that the signature asks for.

    Args:
      path: video, JPEG or PNG file.
      alias: of the input to fill.
      info: what the signature says of it: of a video uint8 frames [batch, T, H, W, 3], JPEG frames [batch, N] or
        serialized SequenceExamples [batch], of a photo uint8 pixels [batch, H, W, 3] or files [batch]; T, H, W may be
        open.
      stride: distance of the frames of a clip, see clip_inputs.sample_clip.

    Returns:
      {alias: value}.

    Raises:
      UserError: the file cannot be read, or the signature takes something else.
    """
    if not is_photo(path):
        return _clip_inputs().from_video(path, alias, info, stride)
    inputs = from_photo(path, alias, info)
    if inputs[alias].ndim == 4:
        height, width = (dim.size for dim in info.tensor_shape.dim[1:3])
        pixels = inputs[alias][0]
        height, width = (
            size if wanted < 1 else wanted for size, wanted in zip(pixels.shape, (height, width), strict=False)
        )
        if pixels.shape[:2] != (height, width):
            inputs[alias] = _clip_inputs().resize_and_crop(pixels, height, width)[np.newaxis]
    return inputs


def from_photo(path: str | os.PathLike[str], alias: str, info: meta_graph_pb2.TensorInfo) -> dict[str, np.ndarray]:
    """Makes a batch of one photo as it is; arguments and errors as from_file."""
    rank = len(info.tensor_shape.dim)
    if info.dtype == types_pb2.DT_STRING and rank == 1:
        return {alias: np.array([_read(path)], dtype=object)}
    if info.dtype == types_pb2.DT_UINT8 and rank == 4:
        return {alias: read_pixels(path)[np.newaxis]}
    raise errors.UserError(
        f"input {alias!r} is {tf.as_dtype(info.dtype).name} of rank {rank}; a photo can fill uint8 pixels "
        "[batch, H, W, 3] or the bytes of files [batch]"
    )


def single_input(signature: meta_graph_pb2.SignatureDef) -> tuple[str, meta_graph_pb2.TensorInfo]:
    """The alias of the one input of a signature, and what is said of it; raises UserError if there are others."""
    if len(signature.inputs) != 1:
        raise errors.UserError(f"the signature takes {sorted(signature.inputs)}; a file can fill one input")
    return next(iter(signature.inputs.items()))


def read_pixels(path: str | os.PathLike[str]) -> np.ndarray:
    """A photo's pixels as a server decodes them: as they are stored, whatever its EXIF data says.

    Args:
      path: JPEG or PNG file.

    Returns:
      RGB uint8 [H, W, 3].

    Raises:
      UserError: the file cannot be read, or is no image.
    """
    try:
        return tf.io.decode_image(_read(path), channels=3, expand_animations=False).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise errors.UserError(f"{path} is not a whole JPEG or PNG image; give another file") from error


def _clip_inputs():
    """The module, which needs OpenCV: photos do without, unless they are to be scaled."""
    from keras_nonlocal.serving import clip_inputs

    return clip_inputs


def _read(path, size=-1):
    try:
        with Path(path).open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise errors.UserError(f"{path} cannot be read ({errors.first_line(error)}); give another file") from error
