"""Detectron's own decoding of keypoints' heat maps: for evaluations only, as its sizes differ from region to region."""

import math

import cv2
import numpy as np


def bicubic(logits: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The keypoints of one region: heat maps are resized to the region's size in pixels, and the highest pixel counts.

    As detectron2's structures/keypoints.py, heatmaps_to_keypoints: sides are at least one pixel and rounded up, the
    centre of the highest pixel is scaled back to the true side. The interpolation is cubic with a = -0.75 as PyTorch's
    and OpenCV's, where TensorFlow's has a = -0.5.

    Args:
      logits: (S, S, K), a heat map for each keypoint over the region.
      box: (4,), the region's y1, x1, y2, x2 in pixels.

    Returns:
      (K, 3) float64: y and x, continuous and in the pixels of the box, and the score: the softmax at that place, with
      the normaliser of the heat map before resizing, so that scores of small and large regions compare.

    Example:

    >>> logits = np.zeros([4, 4, 1], np.float32)
    >>> logits[1, 2] = 9  # the centre of this cell is 1.5, 2.5
    >>> bicubic(logits, np.array([10, 20, 14, 24])).round(3)
    array([[11.5  , 22.5  ,  0.998]])
    """
    side, _, count = logits.shape
    top, left, bottom, right = np.asarray(box, np.float64)
    height, width = max(bottom - top, 1.0), max(right - left, 1.0)
    rows, columns = math.ceil(height), math.ceil(width)
    logits = np.ascontiguousarray(logits, np.float32)
    resized = cv2.resize(logits, (columns, rows), interpolation=cv2.INTER_CUBIC)
    resized = resized.reshape(rows * columns, count)  # OpenCV drops the axis of a single keypoint
    best = resized.argmax(axis=0)
    peak = resized[best, np.arange(count)].astype(np.float64)
    score = 1 / np.exp(logits.reshape(side * side, count) - peak).sum(axis=0)
    y, x = np.divmod(best, columns)
    return np.stack([top + (y + 0.5) * height / rows, left + (x + 0.5) * width / columns, score], axis=-1)
