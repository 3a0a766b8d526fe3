"""The pixels of an object: COCO's polygons and run lengths."""

import itertools

import numpy as np

from keras_nonlocal import errors

with errors.needs_extra("coco"):
    from pycocotools import mask as pycocotools_mask


class BadMask(Exception):
    """A segmentation that cannot be used.

    Args:
      kind: "no_mask", "mask_size" or "bad_mask".
      reason: what is wrong with it and the cure.
    """

    def __init__(self, kind, reason):
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


def decode(segmentation: list | dict, height: int, width: int) -> np.ndarray:
    """The mask of an object, as pycocotools rasterises it.

    Args:
      segmentation: a list of polygons [x1, y1, x2, y2, ...] in pixels; or {"size": [height, width], "counts": ...} with
        run lengths, down the columns, as a list or as COCO's text.
      height: of the image, pixels.
      width: of the image, pixels.

    Returns:
      (height, width) uint8, 1 where the object is. Polygons of fewer than three points hold no pixel.

    Raises:
      BadMask: no polygon, a point far outside, run lengths of another size, or another format.

    Example:

    >>> decode([[1, 0, 3, 0, 3, 2, 1, 2]], 2, 4)
    array([[0, 1, 1, 0],
           [0, 1, 1, 0]], dtype=uint8)
    >>> decode({"size": [2, 4], "counts": [2, 4, 2]}, 2, 4)
    array([[0, 1, 1, 0],
           [0, 1, 1, 0]], dtype=uint8)
    """
    if isinstance(segmentation, dict):
        return _of_runs(segmentation, height, width)
    if not segmentation:
        raise BadMask("no_mask", "has no segmentation; annotate one, or leave --masks out")
    return _of_polygons(segmentation, height, width)


def _of_polygons(polygons, height, width):
    if not isinstance(polygons, list) or not all(isinstance(polygon, list) for polygon in polygons):
        raise BadMask("bad_mask", "has a segmentation that is neither a list of polygons nor run lengths; correct it")
    for value in itertools.chain(*polygons):
        if not errors.is_finite_number(value):
            raise BadMask("bad_mask", f"has a polygon with {str(value)[:40]} for a number; correct it")
    if any(len(polygon) % 2 for polygon in polygons):
        raise BadMask("bad_mask", "has a polygon with an odd number of coordinates; correct it")
    areas = [polygon for polygon in polygons if len(polygon) >= 6]
    if not areas:
        raise BadMask("no_mask", "has a polygon of fewer than three points only; annotate one, or leave --masks out")
    # pycocotools walks along every edge: one that ends a billion pixels away takes all memory.
    for polygon in areas:
        for start, size in ((0, width), (1, height)):
            if min(polygon[start::2]) < -size or max(polygon[start::2]) > 2 * size:
                raise BadMask(
                    "bad_mask", "has a polygon that leaves its image by more than the image's size; correct it"
                )
    runs = pycocotools_mask.merge(pycocotools_mask.frPyObjects(areas, height, width))
    return pycocotools_mask.decode(runs)


def _of_runs(runs, height, width):
    """By NumPy: pycocotools believes run lengths that do not add up, and shows what memory holds."""
    size, counts = runs.get("size"), runs.get("counts")
    if size != [height, width]:
        raise BadMask("mask_size", f"has run lengths of size {size!r} in an image of {[height, width]}; correct either")
    counts = _counts(counts) if isinstance(counts, str) else counts
    if not isinstance(counts, list) or not all(type(count) is int and count >= 0 for count in counts):
        raise BadMask("bad_mask", "has run lengths that are neither a list of counts nor COCO's text; correct it")
    if sum(counts) != height * width:
        raise BadMask(
            "mask_size", f"has run lengths of {sum(counts)} pixels in an image of {height * width}; correct either"
        )
    values = np.arange(len(counts), dtype=np.uint8) % 2
    return np.repeat(values, counts).reshape(width, height).T  # (W, H) -> (H, W)


def _counts(text):
    """The run lengths that COCO's text holds; None if it is none.

    A number is 5 bits a character, the lowest first; bit 5 says that more follow, and the last one's bit 4 is the
    sign. From the fourth number on each is the difference from the one two before.
    """
    counts, number, shift = [], 0, 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 40:
            return None
        number |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            number -= (bits & 16) << (shift - 4) if bits & 16 else 0
            counts.append(number + (counts[-2] if len(counts) > 2 else 0))
            number, shift = 0, 0
    return counts if not shift else None
