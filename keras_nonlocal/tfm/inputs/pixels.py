"""Encoded frames to pixels, and pixels to what the networks take."""

import tensorflow as tf
from official.vision.ops import preprocess_ops_3d

from keras_nonlocal import paper
from keras_nonlocal.data.video import frame_limits
from keras_nonlocal.tfm.inputs import images

# How the messages of refused frames begin.
FRAME_ERROR = "a frame of a video"


def normalize(frames):
    """Pixels 0 to 255 to what the networks take, float32."""
    return (tf.cast(frames, tf.float32) - paper.PIXEL_MEAN) / paper.PIXEL_STD


def at_least_one(frames):
    """A context for the choice among the frames of a video, (N, ...): there have to be some."""
    some = tf.size(frames) > 0
    return tf.control_dependencies([tf.debugging.Assert(some, [f"{FRAME_ERROR} is missing: `image/encoded` is empty"])])


def middle(frame):
    """The middle of a frame, (H, W, 3), that is thinner than MAX_ASPECT, else all of it.

    Resized to a short side of 256, one of 1 x 4000 pixels would take 3 GB, and a crop shows 1 x 1 of them.
    """
    size = tf.shape(frame)[:2]
    limit = frame_limits.MAX_ASPECT * tf.reduce_min(size)
    kept = tf.minimum(size, limit + (size - limit) % 2)  # as much is cut off on either side
    return tf.slice(frame, tf.concat([(size - kept) // 2, [0]], 0), tf.concat([kept, [3]], 0))


def decode_frame(encoded, short_side):
    """A JPEG to pixels, of a size that a crop is cut from: all of the image, or the middle of a very thin one.

    Args:
      encoded: () string.
      short_side: of the result, in pixels; () int32.

    Returns:
      (H, W, 3) uint8.

    Raises:
      tf.errors.InvalidArgumentError: for what is no whole JPEG or costs more than any video's frame: it has more than
        MAX_SOURCE_PIXELS pixels or MAX_SCANS scans.
    """
    frame = images.decode_jpeg(encoded, FRAME_ERROR)
    return preprocess_ops_3d.resize_smallest(middle(frame)[tf.newaxis], short_side)[0]


def decode_frames(encoded, short_side):
    """decode_frame for all frames of a clip, (T,) to (T, H, W, 3): no more than a few at a time in their own size.

    Frames that are pixels already, (T, H, W, 3) uint8, are resized.
    """
    if encoded.dtype == tf.uint8:
        return preprocess_ops_3d.resize_smallest(encoded, short_side)
    pixels = tf.TensorSpec([None, None, 3], tf.uint8)
    return tf.map_fn(lambda frame: decode_frame(frame, short_side), encoded, fn_output_signature=pixels)
