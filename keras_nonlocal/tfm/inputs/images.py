"""Encoded images: what they say of themselves, and the refusal of what would cost too much before it is decoded."""

import tensorflow as tf

from keras_nonlocal.data.video import frame_limits
from keras_nonlocal.export.guards import only_if

JPEG_MAGIC = b"\xff\xd8\xff"
START_OF_SCAN = b"\xff\xda"
# Of a progressive JPEG. Each is a pass over all pixels, whatever its length; encoders write about ten.
MAX_SCANS = 32
# A PNG begins with its magic and the head of its first chunk, which holds width and height, each of 4 bytes.
PNG_START = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR"
PNG_HEAD = len(PNG_START) + 8
# Of one image; 4096 x 4096 pixels of 3 bytes, not compressed at all, are 48 MB.
MAX_PHOTO_BYTES = 64 * 2**20
PHOTO_ERROR = "an image"


def decode_jpeg(encoded, what):
    """A JPEG to pixels.

    Args:
      encoded: () string.
      what: it is called in errors.

    Returns:
      (H, W, 3) uint8.

    Raises:
      tf.errors.InvalidArgumentError: for what is no whole JPEG, has more than MAX_PHOTO_BYTES bytes, MAX_SOURCE_PIXELS
        pixels or MAX_SCANS scans.
    """
    with only_if(what, (_starts_with(encoded, JPEG_MAGIC), "is not a JPEG image"), _few_bytes(encoded)):
        size, scans = _jpeg_size(encoded), _scans(encoded)
    with only_if(what, few_pixels(size), _few_scans(scans)):
        return tf.io.decode_jpeg(encoded, channels=3)


def jpeg_size(encoded, what):
    """The height and width of a JPEG, (2,) int64; arguments and refusals as those of decode_jpeg, nothing decoded."""
    with only_if(what, (_starts_with(encoded, JPEG_MAGIC), "is not a JPEG image"), _few_bytes(encoded)):
        return _jpeg_size(encoded)


def decode_photo(encoded, max_aspect, decode=None):
    """A JPEG or PNG to pixels, as tfm's decoder of records decodes it: as it is stored, whatever its EXIF data says.

    One value for grey becomes three, an alpha channel is dropped, of 16 bits the high 8 are kept.

    Args:
      encoded: () string.
      max_aspect: the long side over the short one, at most.
      decode: another way to decode what may be, of (encoded, is_png, size). Default all of it, as it is.

    Returns:
      (H, W, 3) uint8.

    Raises:
      tf.errors.InvalidArgumentError: for what is neither, is not whole, has more than MAX_PHOTO_BYTES bytes, no pixel,
        more than MAX_SOURCE_PIXELS pixels or MAX_SCANS scans, or is too thin.
    """
    is_png = _starts_with(encoded, PNG_START)
    is_known = is_png | _starts_with(encoded, JPEG_MAGIC)
    with only_if(PHOTO_ERROR, (is_known, "is neither a JPEG nor a PNG image"), _few_bytes(encoded)):
        size, scans = tf.cond(is_png, lambda: (_png_size(encoded), 0), lambda: (_jpeg_size(encoded), _scans(encoded)))
    with only_if(PHOTO_ERROR, *photo_rules(size, max_aspect), _few_scans(scans)):
        if decode is not None:
            return decode(encoded, is_png, size)
        return tf.io.decode_image(encoded, channels=3, expand_animations=False)


def photo_rules(size, max_aspect):
    """Rules for only_if that a photo keeps.

    Args:
      size: (2,) int64, height and width.
      max_aspect: the long side over the short one, at most.
    """
    long, short = tf.reduce_max(size), tf.reduce_min(size)
    return (
        (short > 0, "has no pixels: its height and width are", size),
        few_pixels(size),
        (
            long <= max_aspect * short,
            f"is too thin: the long side may be at most {max_aspect} times the short one, its height and width are",
            size,
        ),
    )


def few_pixels(size):
    """The rule for only_if on how many pixels an image of this size, (2,) int64, has."""
    most = frame_limits.MAX_SOURCE_PIXELS
    text = f"has too many pixels: at most {most:,} are taken, its height and width are"
    # The product of two sides as a PNG may claim them is more than an integer holds.
    return tf.reduce_prod(tf.minimum(size, most + 1)) <= most, text, size


def _few_bytes(encoded):
    length = tf.strings.length(encoded)
    return length <= MAX_PHOTO_BYTES, f"has too many bytes: at most {MAX_PHOTO_BYTES:,} are taken, it has", length


def _few_scans(scans):
    return scans <= MAX_SCANS, f"is a JPEG image of too many scans: at most {MAX_SCANS} are taken, it has", scans


def _starts_with(encoded, start):
    return tf.equal(tf.strings.substr(encoded, 0, len(start)), start)


def _scans(encoded):
    return tf.size(tf.strings.split(encoded, START_OF_SCAN, maxsplit=MAX_SCANS + 1)) - 1


def _jpeg_size(encoded):
    """(2,) int64, height and width."""
    return tf.cast(tf.io.extract_jpeg_shape(encoded)[:2], tf.int64)


def _png_size(encoded):
    """(2,) int64, height and width; of a PNG that ends before them, 0."""
    head = tf.strings.substr(tf.strings.join([tf.strings.substr(encoded, 0, PNG_HEAD), b"\0" * 8]), 0, PNG_HEAD)
    sides = tf.io.decode_raw(tf.strings.substr(head, len(PNG_START), 8), tf.uint8)
    # Bytes of width and height, highest first: (8,) -> (2, 4) -> (2,).
    return tf.reduce_sum(tf.cast(tf.reshape(sides, [2, 4]), tf.int64) * [2**24, 2**16, 2**8, 1], -1)[::-1]
