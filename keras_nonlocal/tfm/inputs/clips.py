"""Training clips, cut and augmented as in the paper (section 4.1)."""

import tensorflow as tf
from official.vision.ops import preprocess_ops_3d

from keras_nonlocal.tfm.inputs.pixels import decode_frames


def sample_clip(frames, num_frames, stride):
    """A clip from a random place; a video shorter than the clip starts over.

    Args:
      frames: (N, ...) frames of a video, decoded or not.
      num_frames: frames of the clip.
      stride: distance between them, in frames of the video.

    Returns:
      (num_frames, ...).
    """
    length = tf.shape(frames)[0]
    latest = tf.maximum(length - num_frames * stride, 0)
    start = tf.random.uniform([], 0, latest + 1, tf.int32)
    return tf.gather(frames, (start + stride * tf.range(num_frames)) % length)


def augment(encoded, crop_size, min_short_side, max_short_side, random_flip):
    """Scale jitter, random crop and mirroring, the same for all frames of a clip.

    Args:
      encoded: (T,) JPEG images.
      crop_size: (height, width) of the crop.
      min_short_side: the frames are resized to a short side drawn between this
      max_short_side: and this, in pixels.
      random_flip: whether to mirror one half of the clips.

    Returns:
      (T, *crop_size, 3) uint8.
    """
    side = tf.random.uniform([], min_short_side, max_short_side + 1, tf.int32)
    frames = decode_frames(encoded, side)
    frames = preprocess_ops_3d.crop_image(frames, *crop_size, random=True)
    return preprocess_ops_3d.random_flip_left_right(frames) if random_flip else frames
