"""Training clips, cut and augmented as in the paper (section 4.1): all of it a function of seeds."""

from typing import NamedTuple

import tensorflow as tf

from keras_nonlocal.tfm.inputs.pixels import decode_frames

OUTSIDE_FRAMES = ("wrap", "clamp")
SCALE_SAMPLING = ("uniform", "inverse")


class Seeds(NamedTuple):
    """What each random choice about a clip is drawn from, (2,) int64 of its own."""

    start: tf.Tensor
    short_side: tf.Tensor
    crop: tf.Tensor
    flip: tf.Tensor

    @classmethod
    def of(cls, seed: tf.Tensor) -> "Seeds":
        """Independent ones from that of the example, (2,) int64."""
        return cls(*tf.unstack(tf.random.split(seed, len(cls._fields))))


def sample_start(length: tf.Tensor, num_frames: int, stride: int, outside_frames: str, seed: tf.Tensor) -> tf.Tensor:
    """Where in its video a clip starts, every place with the same probability.

    Args:
      length: () int32, frames of the video.
      num_frames: of the clip.
      stride: distance between them, in frames of the video.
      outside_frames: "wrap", as the official code: the start is from 0 to length - num_frames * stride, and 0 in a
        shorter video. "clamp", as SlowFast for Charades: the clip lies inside the video, or the video inside the clip,
        which then starts before it.
      seed: (2,).

    Returns:
      () int32.
    """
    if outside_frames == "wrap":
        first, last = 0, tf.maximum(length - num_frames * stride, 0)
    else:
        room = length - _span(num_frames, stride)
        first, last = tf.minimum(room, 0), tf.maximum(room, 0)
    return tf.random.stateless_uniform([], seed, first, last + 1, tf.int32)


def frame_numbers(start: tf.Tensor, length: tf.Tensor, num_frames: int, stride: int, outside_frames: str) -> tf.Tensor:
    """Which frames of its video a clip is made of.

    Args:
      start: () int32, the first one.
      length: () int32, frames of the video.
      num_frames: of the clip.
      stride: distance between them, in frames of the video.
      outside_frames: a video that ends before the clip does starts over ("wrap"), or its first and last frame stand for
        those outside it ("clamp").

    Returns:
      (num_frames,) int32, 0 to length - 1.
    """
    numbers = start + stride * tf.range(num_frames)
    return numbers % length if outside_frames == "wrap" else tf.clip_by_value(numbers, 0, length - 1)


def spanned(start: tf.Tensor, length: tf.Tensor, num_frames: int, stride: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The first and the last frame of the video among those that a clip spans, whether it shows or skips them.

    A clip that starts over has been through all of the video. Arguments as those of `frame_numbers`.
    """
    last = start + _span(num_frames, stride) - 1
    return tf.maximum(start, 0), tf.minimum(last, length - 1)


def _span(num_frames, stride):
    """Frames from the first to the last one of a clip."""
    return (num_frames - 1) * stride + 1


def sample_short_side(low: int, high: int, scale_sampling: str, seed: tf.Tensor) -> tf.Tensor:
    """The short side that the frames of a clip are resized to, in pixels, from `low` to `high`.

    Args:
      low: the smallest.
      high: the largest.
      scale_sampling: "uniform", as the official code, every one with the same probability; "inverse", as SlowFast,
        1 / side is uniform, so that small ones are frequent.
      seed: (2,).

    Returns:
      () int32.
    """
    if scale_sampling == "uniform":
        return tf.random.stateless_uniform([], seed, low, high + 1, tf.int32)
    return tf.cast(tf.round(1 / tf.random.stateless_uniform([], seed, 1 / high, 1 / low)), tf.int32)


def augment(
    encoded: tf.Tensor,
    crop_size: tuple[int, int],
    short_sides: tuple[int, int],
    scale_sampling: str,
    random_flip: bool,
    seeds: Seeds,
) -> tf.Tensor:
    """Scale jitter, random crop and mirroring, the same for all frames of a clip.

    Args:
      encoded: (T,) JPEG images.
      crop_size: (height, width) of the crop.
      short_sides: least and largest short side that the frames are resized to, in pixels.
      scale_sampling: see `sample_short_side`.
      random_flip: whether to mirror one half of the clips.
      seeds: of the choices.

    Returns:
      (T, *crop_size, 3) uint8.
    """
    frames = decode_frames(encoded, sample_short_side(*short_sides, scale_sampling, seeds.short_side))
    frames = tf.image.stateless_random_crop(frames, [tf.shape(frames)[0], *crop_size, 3], seeds.crop)
    if not random_flip:
        return frames
    mirrored = tf.random.stateless_uniform([], seeds.flip) < 0.5
    return tf.cond(mirrored, lambda: tf.reverse(frames, [2]), lambda: frames)
