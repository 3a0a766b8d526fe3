"""Turns a video file into what a served signature takes: one clip of frames, or all frames as JPEG."""

import os

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from keras_nonlocal import errors, features
from keras_nonlocal.data.video import examples, reader

with errors.needs_extra("video"):
    import cv2

# For signatures that leave the size open: the clip of the paper's best models.
_FREE_FRAMES = 32
_FREE_SIDE = 224


def from_video(
    path: str | os.PathLike[str], alias: str, info: meta_graph_pb2.TensorInfo, stride: int | None = None
) -> dict[str, np.ndarray]:
    """Makes a batch of one video.

    Args:
      path: video file.
      alias: of the input to fill.
      info: what the signature says of it: uint8 frames [batch, T, H, W, 3], JPEG frames [batch, N] or serialized
        SequenceExamples [batch]; T, H, W may be open.
      stride: distance of the frames of a clip, see sample_clip.

    Returns:
      {alias: value}.

    Raises:
      UserError: the video cannot be read, or the signature takes something else.
    """
    sizes = [dim.size for dim in info.tensor_shape.dim]
    if info.dtype == types_pb2.DT_STRING and len(sizes) == 1:
        return {alias: np.array([sequence_example(path)], dtype=object)}
    if info.dtype == types_pb2.DT_STRING and len(sizes) == 2:
        return {alias: np.array([list(_jpeg_frames(path))], dtype=object)}
    if info.dtype == types_pb2.DT_UINT8 and len(sizes) == 5:
        return {alias: sample_clip(path, *sizes[1:4], stride)[np.newaxis]}
    raise errors.UserError(
        f"input {alias!r} is {tf.as_dtype(info.dtype).name} of shape {sizes}; a video can fill uint8 "
        "frames [batch, T, H, W, 3], JPEG frames [batch, N] or serialized examples [batch]"
    )


def sample_clip(
    path: str | os.PathLike[str], frames: int = -1, height: int = -1, width: int = -1, stride: int | None = None
) -> np.ndarray:
    """Samples a clip of a video, in the memory of the clip.

    Args:
      path: video file.
      frames: T; -1 for 32.
      height: pixels; -1 for 224.
      width: pixels; -1 for 224.
      stride: distance of the frames; the clip is the middle of the video, and a video that is too short starts over.
        Default: the centres of T equal parts of the video.

    Returns:
      RGB uint8 [T, H, W, 3].
    """
    frames = _FREE_FRAMES if frames < 1 else frames
    height, width = (_FREE_SIDE if side < 1 else side for side in (height, width))
    count = reader.count_frames(path)
    if stride is None:
        wanted = ((np.arange(frames) + 0.5) * count / frames).astype(int)
    else:
        wanted = (max(0, (count - frames * stride) // 2) + stride * np.arange(frames)) % count
    kept = dict.fromkeys(wanted.tolist())
    with reader.VideoReader(path) as video:
        for index, frame in enumerate(video):
            if index in kept:
                kept[index] = resize_and_crop(frame, height, width)
    return np.stack([kept[index] for index in wanted.tolist()])


def resize_and_crop(frame, height, width):
    """Scales a frame or photo, uint8 [H, W, 3], to just cover height x width pixels and cuts the centre out."""
    scale = max(height / frame.shape[0], width / frame.shape[1])
    rows, columns = (max(round(side * scale), least) for side, least in zip(frame.shape, (height, width), strict=False))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    frame = cv2.resize(frame, (columns, rows), interpolation=method)
    top, left = (rows - height) // 2, (columns - width) // 2
    return frame[top : top + height, left : left + width]


def sequence_example(path: str | os.PathLike[str]) -> bytes:
    """Writes all frames of a video as JPEG into a tf.train.SequenceExample.

    Args:
      path: video file.

    Returns:
      The serialized SequenceExample (bytes), feature list `image/encoded`.
    """
    example = tf.train.SequenceExample()
    feature_list = example.feature_lists.feature_list[features.ENCODED]
    for frame in _jpeg_frames(path):
        feature_list.feature.add().bytes_list.value.append(frame)
    return example.SerializeToString()


def _jpeg_frames(path):
    with reader.VideoReader(path) as video:
        yield from map(examples.encode_jpeg, video)
