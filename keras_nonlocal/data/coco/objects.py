"""One annotation, looked into: what a record holds of an object, or why it holds nothing."""

import dataclasses

import numpy as np

from keras_nonlocal import errors
from keras_nonlocal.data.coco import masks

# What annotation tools make of a box at the border of an image when they round.
ROUNDING_PIXELS = 1
# Objects that hold nothing, and are nobody's fault.
HARMLESS = "zero_size"


class BadObject(Exception):
    """An annotation that cannot be used.

    Args:
      kind: one word for counts.
      reason: what is wrong with it and the cure.
    """

    def __init__(self, kind, reason):
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


@dataclasses.dataclass(frozen=True, eq=False)
class Object:
    """What a record holds of an object.

    Args:
      category: its id.
      box: x1, y1, x2, y2 within the image, pixels.
      sticks_out: by how many pixels the annotated box left the image; 0 where it did not.
      area: square pixels.
      is_crowd: whether it is a group that nobody counted.
      mask: (H, W) uint8, or None where masks are not asked for.
      keypoints: (K, 3) float, x and y in indices of pixels, and 0 (not labelled), 1 (hidden) or 2 (visible).
      outside: how many labelled keypoints are outside the image: they count as not labelled.
    """

    category: int
    box: tuple[float, float, float, float]
    sticks_out: float
    area: float
    is_crowd: bool
    mask: np.ndarray | None
    keypoints: np.ndarray
    outside: int


def read(annotation: dict, height: int, width: int, with_masks: bool, num_keypoints: int) -> Object:
    """The object of an annotation.

    Args:
      annotation: of COCO's format.
      height: of the image, pixels.
      width: of the image, pixels.
      with_masks: whether it needs a mask.
      num_keypoints: K; 0 leaves keypoints alone.

    Raises:
      BadObject: it cannot be used.

    Example:

    >>> read({"category_id": 3, "bbox": [-0.5, 2, 4, 4], "area": 14.0}, 10, 20, False, 0).box
    (0, 2, 3.5, 6)
    """
    box, sticks_out = _box(annotation, height, width)
    if annotation.get("iscrowd", 0) not in (0, 1):
        raise BadObject("bad_crowd", f"has iscrowd {annotation['iscrowd']!r}; it must be 0 or 1")
    area = annotation.get("area") or 0
    if not errors.is_finite_number(area) or area < 0:
        raise BadObject("bad_area", f"has area {area!r}; write square pixels, or leave it out")
    mask = _mask(annotation, height, width) if with_masks or (not area and annotation.get("segmentation")) else None
    # Some tools write none: then that of the mask, and of the box where there is none or it is empty.
    area = area or (mask is not None and int(mask.sum())) or (box[2] - box[0]) * (box[3] - box[1])
    keypoints, outside = _keypoints(annotation, height, width, num_keypoints)
    return Object(
        annotation["category_id"],
        box,
        sticks_out,
        area,
        bool(annotation.get("iscrowd", 0)),
        mask if with_masks else None,
        keypoints,
        outside,
    )


def _box(annotation, height, width):
    """The part of the box within the image, and how far the rest goes."""
    box = annotation.get("bbox")
    if box is None:
        what = "keypoints but no bbox" if annotation.get("keypoints") else "no bbox"
        raise BadObject("no_box", f"has {what}; annotate one")
    if not isinstance(box, list) or len(box) != 4 or not all(map(errors.is_finite_number, box)) or min(box[2:]) < 0:
        raise BadObject("bad_box", f"has bbox {box!r}; it must be x, y, width and height in pixels")
    x1, y1, x2, y2 = box[0], box[1], box[0] + box[2], box[1] + box[3]
    inside = max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)
    if _is_empty((x1, y1, x2, y2), height, width):
        raise BadObject(HARMLESS, f"has bbox {box!r}, which holds nothing")
    if _is_empty(inside, height, width):
        raise BadObject("box_outside", f"has bbox {box!r} outside its image of {width}x{height} pixels; correct it")
    return inside, max(0, -x1, -y1, x2 - width, y2 - height)


def _is_empty(box, height, width):
    """As float32, which records hold."""
    x1, y1, x2, y2 = np.divide(box, [width, height, width, height]).astype(np.float32)
    return x2 <= x1 or y2 <= y1


def _mask(annotation, height, width):
    try:
        return masks.decode(annotation.get("segmentation"), height, width)
    except masks.BadMask as error:
        raise BadObject(error.kind, error.reason) from error


def _keypoints(annotation, height, width, count):
    """As (K, 3), and how many labelled ones are outside the image."""
    values = annotation.get("keypoints")
    if not values or not count:
        return np.zeros((count, 3)), 0
    if not isinstance(values, list) or len(values) != 3 * count:
        found = len(values) if isinstance(values, list) else repr(values)[:80]
        raise BadObject(
            "keypoints_number", f"has {found} numbers as keypoints and must have 3 for each of {count}; correct it"
        )
    if not all(map(errors.is_finite_number, values)) or not set(values[2::3]) <= {0, 1, 2}:
        raise BadObject("bad_keypoints", "has keypoints that are not x, y and 0, 1 or 2 each; correct it")
    keypoints = np.array(values, np.float64).reshape(count, 3)
    # The indices of pixels: their centres are half a pixel further, and may be on the border.
    inside = (keypoints[:, :2] + 0.5 >= 0).all(1) & (keypoints[:, :2] + 0.5 <= [width, height]).all(1)
    labelled = keypoints[:, 2] > 0
    return keypoints * (labelled & inside)[:, None], int(np.sum(labelled & ~inside))
