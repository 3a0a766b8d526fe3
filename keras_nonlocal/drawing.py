"""Objects drawn into their image: boxes, names, masks and skeletons; and where a model looks, by arrows."""

import colorsys
from collections.abc import Sequence

import numpy as np

from keras_nonlocal import errors

# Consecutive hues are far apart however many there are.
GOLDEN = (5**0.5 - 1) / 2
MASK_OPACITY = 0.45
# Of a frame that arrows are drawn into, in pixels: on fewer they would hide each other.
LEAST_SIDE = 200


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
    width = _width(image)
    for number, colour in enumerate(colours if masks is not None else ()):
        _fill(drawn, masks[number], colour)
    for number, colour in enumerate(colours if keypoints is not None else ()):
        _skeleton(drawn, keypoints[number], edges, colour)
    for box, text, colour in zip(boxes, texts, colours, strict=True):
        _box(drawn, box, text, colour, width)
    return drawn


def draw_arrows(frames: np.ndarray, queries: np.ndarray, positions: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Draws what positions of a clip look at, as the paper's Fig. 3: arrows from them to others, across frames.

    The frames that hold a query, or a position that one looks at, stand side by side in their order, under their
    numbers; small ones are enlarged by a whole number, so that no side is below 200 pixels. Each query has a colour, a
    dot where it is, and arrows that are the brighter the more weight they have.

    Args:
      frames: (T, H, W, 3) uint8 RGB; a photo is one frame.
      queries: (Q, 3) frame, y and x: the centre of the first pixel is 0.5, 0.5 and of the first frame 0.
      positions: (Q, K, 3), what each query looks at.
      weights: (Q, K).

    Returns:
      (H * n, W * n * frames drawn, 3) uint8 RGB.

    Raises:
      UserError: an array of another shape or type.
      MissingExtra: OpenCV is not installed.

    Example:

    >>> frames = np.zeros((8, 100, 150, 3), np.uint8)
    >>> draw_arrows(frames, np.array([[0, 5, 5]]), np.array([[[0, 15, 15], [6, 5, 25]]]), np.ones((1, 2))).shape
    (200, 600, 3)
    """
    _check_arrows(frames, queries, positions, weights)
    last = len(frames) - 1
    numbers = np.clip(np.rint(np.concatenate([queries[:, None], positions], 1)[..., 0]), 0, last).astype(int)
    shown = sorted(set(numbers.ravel().tolist()))
    zoom = -(-LEAST_SIDE // min(frames.shape[1:3]))
    drawn = np.concatenate(frames[shown].repeat(zoom, 1).repeat(zoom, 2), axis=1)
    size = np.multiply(frames.shape[1:3], zoom)
    width = 2 * _width(drawn[:, : size[1]])
    for column, frame in enumerate(shown if len(frames) > 1 else ()):
        _label(drawn, column * size[1], 0, f"frame {frame}", (255, 255, 255), width)

    def place(number, position):
        y, x = np.clip(np.floor(position[1:] * zoom), 0, size - 1)
        return int(shown.index(number) * size[1] + x), int(y)

    for number, (query, towards, parts) in enumerate(zip(queries, positions, weights, strict=True)):
        start = place(numbers[number, 0], query)
        # One strong position must not make the others invisible, and the strongest lies on top.
        strengths = np.sqrt(np.abs(parts) / max(np.abs(parts).max(initial=0), np.finfo(float).tiny))
        for key in np.argsort(strengths, kind="stable"):
            colour = tuple(round(part * (0.25 + 0.75 * strengths[key])) for part in _colour(number))
            _arrow(drawn, start, place(numbers[number, 1 + key], towards[key]), colour, width)
        _dot(drawn, start, _colour(number), 2 * width)
    return drawn


def _check_arrows(frames, queries, positions, weights):
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise errors.UserError(f"frames must be (T, H, W, 3) uint8. Received: {frames.shape} {frames.dtype}")
    if queries.ndim != 2 or queries.shape[1] != 3:
        raise errors.UserError(f"queries must be (Q, 3), frame, y and x. Received: {queries.shape}")
    if positions.ndim != 3 or positions.shape[::2] != queries.shape:
        raise errors.UserError(f"positions must be ({len(queries)}, K, 3). Received: {positions.shape}")
    if weights.shape != positions.shape[:2]:
        raise errors.UserError(f"weights must be {positions.shape[:2]}, as positions. Received: {weights.shape}")
    if not all(np.isfinite(values).all() for values in (queries, positions, weights)):
        raise errors.UserError("queries, positions and weights must be finite. Received: infinity or NaN")


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


def _width(image):
    """Of a line, in pixels: the same share of a large photo as of a small one."""
    return max(1, round(max(image.shape[:2]) / 400))


def _skeleton(drawn, keypoints, edges, colour):
    cv2 = _cv2()
    radius = max(1, round(max(drawn.shape[:2]) / 160))
    shown = {
        number: (_index(x), _index(y))
        for number, (y, x, is_shown) in enumerate(keypoints.tolist())
        if is_shown > 0 and np.isfinite([y, x]).all()
    }
    for one, other in edges:
        if one in shown and other in shown:
            cv2.line(drawn, shown[one], shown[other], colour, max(1, radius // 2), cv2.LINE_AA)
    for centre in shown.values():
        _dot(drawn, centre, colour, radius)


def _dot(drawn, centre, colour, radius):
    cv2 = _cv2()
    cv2.circle(drawn, centre, radius + max(1, radius // 3), (255, 255, 255), -1, cv2.LINE_AA)
    cv2.circle(drawn, centre, radius, colour, -1, cv2.LINE_AA)


def _arrow(drawn, start, end, colour, width):
    """An arrow whose head is as large however long it is; a ring where it has no length."""
    cv2 = _cv2()
    length = float(np.hypot(end[0] - start[0], end[1] - start[1]))
    if length < 1:
        cv2.circle(drawn, start, 4 * width, colour, width, cv2.LINE_AA)
        return
    cv2.arrowedLine(drawn, start, end, colour, width, cv2.LINE_AA, tipLength=min(0.5, 6 * width / length))


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
    font, scale, weight = cv2.FONT_HERSHEY_SIMPLEX, max(0.4, 0.3 * width), max(1, width - 1)
    (columns, rows), below = cv2.getTextSize(text, font, scale, weight)
    rows, below = rows + width, below + width
    left = int(np.clip(x, 0, max(0, drawn.shape[1] - columns)))
    bottom = int(np.clip(y, rows + below, max(rows + below, drawn.shape[0])))
    cv2.rectangle(drawn, (left, bottom - rows - below), (left + columns, bottom), colour, -1)
    ink = (0, 0, 0) if np.dot(colour, [0.299, 0.587, 0.114]) > 128 else (255, 255, 255)
    cv2.putText(drawn, text, (left, bottom - below), font, scale, ink, weight, cv2.LINE_AA)


def _index(value):
    """The pixel that holds a coordinate; OpenCV takes 16 bits of it."""
    return int(np.clip(np.floor(value), -(2**15), 2**15 - 1))


def _cv2():
    with errors.needs_extra("video"):
        import cv2
    return cv2
