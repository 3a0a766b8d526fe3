"""Encoded frames to pixels, and pixels to what the networks take."""

import tensorflow as tf
from official.vision.ops import preprocess_ops_3d

from keras_nonlocal.data.video import frame_limits

# The official code's mean and standard deviation of a pixel, for every channel.
PIXEL_MEAN, PIXEL_STD = 114.75, 57.375
# How the messages of refused frames begin.
FRAME_ERROR = "a frame of a video"
JPEG_MAGIC = b"\xff\xd8\xff"
START_OF_SCAN = b"\xff\xda"
# Of a progressive JPEG. Each is a pass over all pixels, whatever its length; encoders write about ten.
MAX_SCANS = 32


def normalize(frames):
    """Pixels 0 to 255 to what the networks take, float32."""
    return (tf.cast(frames, tf.float32) - PIXEL_MEAN) / PIXEL_STD


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
    is_jpeg = tf.equal(tf.strings.substr(encoded, 0, len(JPEG_MAGIC)), JPEG_MAGIC)
    # An assertion does not come before what follows it unless it is told to: the pixels would be decoded all the same.
    with tf.control_dependencies([tf.debugging.Assert(is_jpeg, [f"{FRAME_ERROR} is not a JPEG image"])]):
        size = tf.cast(tf.io.extract_jpeg_shape(encoded)[:2], tf.int64)
        scans = tf.size(tf.strings.split(encoded, START_OF_SCAN, maxsplit=MAX_SCANS + 1)) - 1
    rules = [
        (
            tf.reduce_prod(size) <= frame_limits.MAX_SOURCE_PIXELS,
            f"has too many pixels: at most {frame_limits.MAX_SOURCE_PIXELS:,} are taken, its height and width are",
            size,
        ),
        (scans <= MAX_SCANS, f"is a JPEG image of too many scans: at most {MAX_SCANS} are taken, it has", scans),
    ]
    with tf.control_dependencies([tf.debugging.Assert(ok, [f"{FRAME_ERROR} {text}", it]) for ok, text, it in rules]):
        frame = tf.io.decode_jpeg(encoded, channels=3)
    return preprocess_ops_3d.resize_smallest(middle(frame)[tf.newaxis], short_side)[0]


def decode_frames(encoded, short_side):
    """decode_frame for all frames of a clip, (T,) to (T, H, W, 3): no more than a few at a time in their own size.

    Frames that are pixels already, (T, H, W, 3) uint8, are resized.
    """
    if encoded.dtype == tf.uint8:
        return preprocess_ops_3d.resize_smallest(encoded, short_side)
    pixels = tf.TensorSpec([None, None, 3], tf.uint8)
    return tf.map_fn(lambda frame: decode_frame(frame, short_side), encoded, fn_output_signature=pixels)
