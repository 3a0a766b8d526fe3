"""Files of images, as records hold them: the bytes themselves, wherever TensorFlow reads these."""

import contextlib
import dataclasses
import io
import warnings

import tensorflow as tf

from keras_nonlocal import errors

with errors.needs_extra("coco"):
    import PIL.Image

# What begins so, TensorFlow decodes as its pixels are stored, without a look at EXIF's orientation.
_STORED = {b"\xff\xd8\xff": "jpeg", b"\x89PNG\r\n\x1a\n": "png"}
# Of 8 bits a channel: Pillow has no rule for what else would become of more.
_EIGHT_BITS = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")
_ORIENTATION = 0x112


class BadPicture(Exception):
    """An image that cannot be used.

    Args:
      reason: what is wrong with it and the cure.
    """

    def __init__(self, reason):
        super().__init__(reason)
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image that TensorFlow decodes.

    Args:
      encoded: JPEG or PNG.
      format: "jpeg" or "png".
      height: of the stored pixels.
      width: of the stored pixels.
      was: the format of the file where the bytes are not its own, else None.
      orientation: EXIF's: 1, or what a viewer would do with the stored pixels.
    """

    encoded: bytes
    format: str
    height: int
    width: int
    was: str | None
    orientation: int


def read(path: str) -> Picture:
    """Reads a file and makes sure that all of it decodes.

    JPEG and PNG stay as they are, gray, CMYK and 16 bits included: of the latter TensorFlow takes the high bytes. The
    first image of what else Pillow reads becomes a PNG, which loses nothing; so does CMYK without Adobe's marker,
    which TensorFlow alone takes for inverted.

    Args:
      path: the file.

    Raises:
      BadPicture: no such file, or it is no whole image.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError as error:
        raise BadPicture("no such file; download it, or correct --images") from error
    except OSError as error:
        raise BadPicture(f"cannot be read ({error.strerror}); download it again") from error
    image = _opened(data)
    kind = next((kind for start, kind in _STORED.items() if data.startswith(start)), None)
    is_odd_cmyk = image.mode == "CMYK" and kind == "jpeg" and "adobe" not in image.info
    was = f"{image.format} of CMYK" if is_odd_cmyk else None if kind else image.format
    encoded = _png(image) if was else data
    height, width = _decoded_size(encoded)
    return Picture(encoded, "png" if was else kind, height, width, was, _orientation(image))


def _opened(data):
    """The header only, by which nothing is allocated for what it merely claims."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
            return PIL.Image.open(io.BytesIO(data))
    except (PIL.Image.DecompressionBombWarning, PIL.Image.DecompressionBombError) as error:
        raise BadPicture(
            f"has more than {PIL.Image.MAX_IMAGE_PIXELS:,} pixels; shrink it and its annotations"
        ) from error
    except Exception as error:  # Pillow's plugins raise whatever they trip over.
        raise BadPicture(f"is no image ({len(data):,} bytes); download it again") from error


def _png(image):
    if image.mode not in _EIGHT_BITS:
        raise BadPicture(f"is {image.format} of mode {image.mode}; write it as JPEG or PNG")
    file = io.BytesIO()
    try:
        image.convert("RGB").save(file, "PNG")
    except Exception as error:
        raise BadPicture(f"is no whole {image.format}; download it again") from error
    return file.getvalue()


def _decoded_size(encoded):
    # Not by Pillow, which takes a JPEG whose lost half became zeros for a gray one.
    try:
        height, width, _ = tf.io.decode_image(encoded, channels=3).shape
    except tf.errors.InvalidArgumentError as error:
        raise BadPicture(
            f"is no whole image, or one that TensorFlow cannot decode ({len(encoded):,} bytes); download it again"
        ) from error
    return height, width


def _orientation(image):
    with contextlib.suppress(Exception):  # A broken EXIF block says nothing, and harms no pixel.
        return image.getexif().get(_ORIENTATION, 1)
    return 1
