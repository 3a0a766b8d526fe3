"""From heat maps to points, in the graph."""

import tensorflow as tf

from keras_nonlocal.ops.positions import dims


def quadratic(logits: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """The peak of each heat map, between cells: of the parabola through it and its two neighbours along each axis.

    Of equal cells the first is the peak, row by row. A peak on a border has no neighbour there and stays in the middle
    of its cell along that axis, as one in a flat map does.

    Detectron enlarges each map to the size of its region, bicubically, and takes the largest pixel. Here all regions
    are of one static size, which a served graph and XLA want; the points differ by 0.2 cells on average.

    Args:
      logits: (B, N, S, S, K) of any float dtype.
      boxes: (B, N, 4), the regions, (y1, x1, y2, x2) in pixels.

    Returns:
      (B, N, K, 3) float32: y and x in pixels, continuous, so (0.5, 0.5) is the middle of the first pixel; and the
      score, the part of the map's softmax that is in the peak's cell.

    Example:

    >>> logits = tf.reshape(tf.one_hot([3 * 56 + 5], 56 * 56, 30.0), [1, 1, 56, 56, 1])
    >>> quadratic(logits, tf.constant([[[0.0, 0.0, 56.0, 112.0]]])).numpy().round(3).tolist()
    [[[[3.5, 11.0, 1.0]]]]
    """
    batch, count, height, width, keypoints = dims(logits)
    maps = tf.transpose(tf.cast(logits, tf.float32), [0, 1, 4, 2, 3])
    maps = tf.reshape(maps, [batch, count, keypoints, height * width])  # (B, N, K, S, S) -> (B, N, K, S*S)
    peaks = tf.argmax(maps, axis=-1, output_type=tf.int32)
    y, x = peaks // width, peaks % width
    cells = tf.stack([_refined(maps, peaks, y, height, width), _refined(maps, peaks, x, width, 1)], axis=-1)
    boxes = tf.cast(boxes, tf.float32)[:, :, None]  # -> (B, N, 1, 4)
    size = tf.cast([height, width], tf.float32)
    points = boxes[..., :2] + cells * (boxes[..., 2:] - boxes[..., :2]) / size
    scores = 1 / tf.reduce_sum(tf.exp(maps - _at(maps, peaks)[..., None]), axis=-1)
    return tf.concat([points, scores[..., None]], axis=-1)


def _refined(maps, peaks, index, size, step):
    """Where the parabola through the peaks is largest along one axis, in cells from the map's border.

    Args:
      maps: (B, N, K, S*S).
      peaks: (B, N, K), the peaks' positions.
      index: (B, N, K), the same along the axis only.
      size: cells along the axis.
      step: from a position to the next one along the axis.
    """
    inside = (index > 0) & (index < size - 1)
    step = tf.where(inside, step, 0)
    peak = _at(maps, peaks)
    before, after = peak - _at(maps, peaks - step), peak - _at(maps, peaks + step)  # both at least 0
    offset = tf.math.divide_no_nan(before - after, 2 * (before + after))  # from -0.5 to 0.5
    return tf.cast(index, tf.float32) + 0.5 + offset


def _at(maps, positions):
    return tf.gather(maps, positions, batch_dims=3)
