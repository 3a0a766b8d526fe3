"""Pictures to verify and describe exports with: no two alike, so that it is seen when rows or frames change places."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

# An export is verified with two rows, which are also sent alone.
ROWS = 2
_COARSE = 4  # parts along each side: what is smooth is small as a JPEG


def pictures(shape: Sequence[int], rows: int = ROWS) -> np.ndarray:
    """Smooth patches of colour, always the same.

    Args:
      shape: of one example, (..., H, W, 3).
      rows: how many. Default 2.

    Returns:
      uint8 (rows, *shape).

    Example:

    >>> examples.pictures((8, 32, 32, 3)).shape
    (2, 8, 32, 32, 3)
    """
    *sizes, height, width, channels = rows, *shape
    count = int(np.prod(sizes))
    coarse = tf.random.stateless_uniform([count, _COARSE, _COARSE, channels], [0, 0], 0, 255)
    fine = tf.image.resize(coarse, [height, width])  # (rows * ..., 4, 4, 3) -> (rows * ..., H, W, 3)
    return tf.cast(fine, tf.uint8).numpy().reshape([*sizes, height, width, channels])


def jpegs(images: np.ndarray) -> np.ndarray:
    """Images as files.

    Args:
      images: uint8 (..., H, W, 3).

    Returns:
      Strings (...), one for each.
    """
    sizes = images.shape[:-3]
    files = np.empty(sizes, object)
    for index in np.ndindex(*sizes):
        files[index] = tf.io.encode_jpeg(images[index]).numpy()
    return files
