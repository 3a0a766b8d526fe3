"""What a test sees of a video: its clips, each in one or three crops, or the whole frames."""

import dataclasses

import tensorflow as tf
from official.vision.ops import preprocess_ops_3d

from keras_nonlocal import errors
from keras_nonlocal.tfm.inputs.pixels import decode_frames

STARTS = ("spread", "wrapped")
COMBINE = {"mean": tf.reduce_mean, "max": tf.reduce_max}


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How a test places its views.

    Args:
      starts: of the clips; see frame_numbers.
      clips: how many, unless the user says.
      crops: of each clip, unless the user says.
      size: of a crop: "square" of the short side of test frames, "frame" for all of it, or as the network was
        "configured" to be validated.
    """

    starts: str
    clips: int
    crops: int
    size: str


PROTOCOLS = {
    # The official code's test of Kinetics.
    "official": Protocol("wrapped", 10, 3, "square"),
    # SlowFast's of Charades.
    "spread": Protocol("spread", 10, 3, "square"),
    # The paper's words: ten clips, the network spatially fully convolutional on the rescaled frames.
    "paper": Protocol("spread", 10, 1, "frame"),
    # What the validations of a training run see.
    "centre": Protocol("spread", 1, 1, "configured"),
}


def frame_numbers(length: tf.Tensor, clips: int, frames: int, stride: int, starts: str) -> tf.Tensor:
    """Which frames of a video its test clips are made of.

    Args:
      length: () int32, frames of the video.
      clips: how many.
      frames: of a clip.
      stride: distance between them, in frames of the video.
      starts: "wrapped", the official code's: clip j starts at int(j * length / clips), and goes on at the first frame
        behind the last. "spread": evenly from the first clip to the last one inside the video, and the last frame
        stands for those behind it; one clip is the middle, and starts over in a video that is too short, as the clip
        that tf-models-official validates and that is served.

    Returns:
      (clips, frames) int32.
    """
    errors.check_choice("test_starts", starts, STARTS)
    clip, offsets = tf.range(clips), stride * tf.range(frames)
    if starts == "wrapped":
        return (clip[:, tf.newaxis] * length // clips + offsets) % length
    if clips == 1:
        return (tf.maximum(length - frames * stride, 0) // 2 + offsets)[tf.newaxis] % length
    latest = tf.maximum(length - (frames - 1) * stride - 1, 0)
    first = tf.cast(tf.round(tf.cast(clip * latest, tf.float64) / (clips - 1)), tf.int32)
    return tf.minimum(first[:, tf.newaxis] + offsets, length - 1)


def three_crops(frames: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Crops at (long side - crop) // 2 * {0, 1, 2} along the longer side, in the middle of the shorter.

    Args:
      frames: (..., H, W, 3), no side smaller than the crop's.
      height: of the crops.
      width: of the crops.

    Returns:
      (3, ..., height, width, 3).
    """
    size = tf.shape(frames)[-3:-1]
    middle = (size - [height, width]) // 2
    along = tf.where(size[0] > size[1], [1, 0], [0, 1])

    def crop(number):
        top, left = tf.unstack(middle * tf.where(along == 1, number, 1))
        return frames[..., top : top + height, left : left + width, :]

    return tf.stack([crop(number) for number in range(3)])


def views(
    encoded: tf.Tensor,
    feature_shape: tuple[int | None, ...],
    stride: int,
    clips: int,
    crops: int,
    starts: str,
    short_side: int,
) -> tf.Tensor:
    """The views of a test, one after the other: clip 0 in its crops, clip 1 in its crops, and so on.

    Args:
      encoded: (N,) JPEG images, the frames of a video.
      feature_shape: (T, height, width, 3) of a view; height and width are None for whole frames.
      stride: distance between the frames of a clip, in frames of the video.
      clips: of the video.
      crops: of each clip: 1, the centre, or 3, along the longer side.
      starts: where the clips start; see frame_numbers.
      short_side: that the frames are resized to, pixels.

    Returns:
      (clips * crops * T, height, width, 3) uint8.
    """
    length, height, width, channels = feature_shape
    numbers = frame_numbers(tf.shape(encoded)[0], clips, length, stride, starts)
    frames = decode_frames(tf.gather(encoded, tf.reshape(numbers, [-1])), short_side)
    if height is not None:
        if crops == 3:
            by_clip = tf.reshape(frames, tf.concat([[clips, length], tf.shape(frames)[1:]], 0))
            shown = tf.stack(tf.unstack(three_crops(by_clip, height, width)), axis=1)
            frames = tf.reshape(shown, [-1, height, width, channels])
        else:
            frames = preprocess_ops_3d.crop_image(frames, height, width)
    return tf.ensure_shape(frames, [clips * crops * length, height, width, channels])
