"""Objects drawn into their image: boxes, names, masks and skeletons."""

import colorsys
from collections.abc import Sequence

import numpy as np

from keras_nonlocal import errors

# Consecutive hues are far apart however many there are.
GOLDEN = (5**0.5 - 1) / 2
MASK_OPACITY = 0.45


def draw(
    image: np.ndarray,
    boxes: np.ndarray,
    texts: Sequence[str],
    masks: np.ndarray | None = None,
    keypoints: np.ndarray | None = None,
    edges: Sequence[tuple[int, int]] = (),
) -> np.ndarray:
    """Draws objects into an image, each in a colour of its own.

    Args:
      image: (H, W, 3) uint8 RGB; it is left as it is.
      boxes: (N, 4) y1, x1, y2, x2 in pixels, continuous: the whole image is 0, 0, H, W. What is outside is not drawn.
      texts: N, one for each box, such as names and scores.
      masks: (N, H, W) bool. Default None draws none.
      keypoints: (N, K, 3) y and x in pixels, continuous: the centre of the first pixel is 0.5, 0.5; and what is above 0
        where the keypoint is to be drawn. Default None draws none.
      edges: pairs of keypoints, from 0 on, that a line joins where both are drawn.

    Returns:
      (H, W, 3) uint8 RGB.

    Raises:
      UserError: an array of another shape or type.
      MissingExtra: OpenCV is not installed.

    Example:

    >>> image = np.zeros((4, 6, 3), np.uint8)
    >>> drawn = draw(image, np.array([[0, 1, 4, 5]]), [""])
    >>> (drawn.any(-1) * 1)
    array([[0, 1, 1, 1, 1, 0],
           [0, 1, 0, 0, 1, 0],
           [0, 1, 0, 0, 1, 0],
           [0, 1, 1, 1, 1, 0]])
    """
    _check(image, boxes, texts, masks, keypoints)
    drawn = np.ascontiguousarray(image).copy()
    colours = [_colour(number) for number in range(len(boxes))]
    width = max(1, round(max(image.shape[:2]) / 400))
    for number, colour in enumerate(colours if masks is not None else ()):
        _fill(drawn, masks[number], colour)
    for number, colour in enumerate(colours if keypoints is not None else ()):
        _skeleton(drawn, keypoints[number], edges, colour, width)
    for box, text, colour in zip(boxes, texts, colours, strict=True):
        _box(drawn, box, text, colour, width)
    return drawn


def _check(image, boxes, texts, masks, keypoints):
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise errors.UserError(f"image must be (H, W, 3) uint8. Received: {image.shape} {image.dtype}")
    count = len(texts)
    if boxes.shape != (count, 4):
        raise errors.UserError(f"boxes must be (N, 4), with one for each of {count} texts. Received: {boxes.shape}")
    if masks is not None and masks.shape != (count, *image.shape[:2]):
        expected = (count, *image.shape[:2])
        raise errors.UserError(
            f"masks must be as many as boxes and as large as the image, {expected}. Received: {masks.shape}"
        )
    if keypoints is not None and (keypoints.ndim != 3 or keypoints.shape[::2] != (count, 3)):
        raise errors.UserError(f"keypoints must be ({count}, K, 3). Received: {keypoints.shape}")


def _colour(number):
    return tuple(round(255 * part) for part in colorsys.hsv_to_rgb(number * GOLDEN % 1, 0.85, 1))


def _fill(drawn, mask, colour):
    mask = mask.astype(bool)
    drawn[mask] = np.rint((1 - MASK_OPACITY) * drawn[mask] + MASK_OPACITY * np.array(colour)).astype(np.uint8)


def _skeleton(drawn, keypoints, edges, colour, width):
    cv2 = _cv2()
    shown = {
        number: (_index(x), _index(y))
        for number, (y, x, is_shown) in enumerate(keypoints.tolist())
        if is_shown > 0 and np.isfinite([y, x]).all()
    }
    for one, other in edges:
        if one in shown and other in shown:
            cv2.line(drawn, shown[one], shown[other], colour, width, cv2.LINE_AA)
    for centre in shown.values():
        cv2.circle(drawn, centre, width + 1, (255, 255, 255), -1, cv2.LINE_AA)
        cv2.circle(drawn, centre, width, colour, -1, cv2.LINE_AA)


def _box(drawn, box, text, colour, width):
    """The frame of the pixels that the box touches; lines go inwards."""
    if not np.isfinite(box).all():
        return
    first = np.floor(box[:2])
    end = np.maximum(np.ceil(box[2:]), first + 1)
    (top, left), (bottom, right) = (np.clip(corner, 0, drawn.shape[:2]).astype(int) for corner in (first, end))
    for rows, columns in (
        (slice(top, min(top + width, bottom)), slice(left, right)),
        (slice(max(bottom - width, top), bottom), slice(left, right)),
        (slice(top, bottom), slice(left, min(left + width, right))),
        (slice(top, bottom), slice(max(right - width, left), right)),
    ):
        drawn[rows, columns] = colour
    if text:
        _label(drawn, int(left), int(top), text, colour, width)


def _label(drawn, x, y, text, colour, width):
    """A text on a ground of its colour, over the box's upper left corner or within, and within the image."""
    cv2 = _cv2()
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.4 * width
    (columns, rows), below = cv2.getTextSize(text, font, scale, width)
    rows, below = rows + width, below + width
    left = int(np.clip(x, 0, max(0, drawn.shape[1] - columns)))
    bottom = int(np.clip(y, rows + below, max(rows + below, drawn.shape[0])))
    cv2.rectangle(drawn, (left, bottom - rows - below), (left + columns, bottom), colour, -1)
    ink = (0, 0, 0) if np.dot(colour, [0.299, 0.587, 0.114]) > 128 else (255, 255, 255)
    cv2.putText(drawn, text, (left, bottom - below), font, scale, ink, width, cv2.LINE_AA)


def _index(value):
    """The pixel that holds a coordinate; OpenCV takes 16 bits of it."""
    return int(np.clip(np.floor(value), -(2**15), 2**15 - 1))


def _cv2():
    with errors.needs_extra("video"):
        import cv2
    return cv2
