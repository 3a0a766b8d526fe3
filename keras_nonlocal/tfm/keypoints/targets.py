"""What the keypoint head is trained on: which regions, which cell of the heat map of each keypoint, and the loss.

Pure functions of tensors. Points and boxes are in pixels of the network's input, continuous: the middle of the first
pixel is (0.5, 0.5). They are computed with in float32, whatever they come in.
"""

import tensorflow as tf

from keras_nonlocal.ops.positions import dims


def heat_map_labels(
    keypoints: tf.Tensor, visibility: tf.Tensor, boxes: tf.Tensor, size: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """The cell of each keypoint in the heat map of its region.

    The region is divided into size x size cells, its width and height each by itself. A keypoint on the right or the
    bottom border is in the last cell.

    Args:
      keypoints: (..., K, 2) of (y, x).
      visibility: (..., K) integers as COCO's: 0 not marked, 1 marked and hidden, 2 seen. All above 0 are trained on.
      boxes: (..., 4), the regions, (y1, x1, y2, x2).
      size: cells along each side, 56.

    Returns:
      labels: (..., K) int32, y * size + x of the cell; 0 where there is none.
      weights: (..., K) float32, 1 for a keypoint that is visible and inside of its region, 0 for others. In a region
        without width or height all are 0.

    Example:

    >>> points = [[10.0, 10.0], [66.0, 66.0], [9.9, 30.0]]
    >>> labels, weights = heat_map_labels([points], [[2, 1, 2]], [[10, 10, 66, 66]], 56)
    >>> labels.numpy().tolist(), weights.numpy().tolist()
    ([[0, 3135, 0]], [[1.0, 1.0, 0.0]])

    He et al., "Mask R-CNN", ICCV 2017, section 5; Detectron, utils/keypoints.py, keypoints_to_heatmap_labels.
    """
    near, far = _corners(boxes)
    extent = far - near
    valid = _visible_inside(keypoints, visibility, boxes) & tf.reduce_all(extent > 0, axis=-1)
    cells = tf.floor(tf.math.divide_no_nan(size * (tf.cast(keypoints, tf.float32) - near), extent))
    # Those on the last border, and those before it by less than a float32 tells, come out as `size`.
    cells = tf.cast(tf.minimum(tf.where(valid[..., None], cells, 0.0), size - 1.0), tf.int32)
    return cells[..., 0] * size + cells[..., 1], tf.cast(valid, tf.float32)


def sample(
    rois: tf.Tensor, classes: tf.Tensor, keypoints: tf.Tensor, visibility: tf.Tensor, count: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The regions of each image that the keypoint head is trained on.

    These are the first `count` that match an object and have at least one visible keypoint of it inside, borders
    included. Where there are fewer, others fill up, with all keypoints invisible.

    Args:
      rois: (B, R, 4), the sampled proposals, (y1, x1, y2, x2).
      classes: (B, R) of the matched objects, 0 for background.
      keypoints: (B, R, K, 2) of the matched objects, (y, x).
      visibility: (B, R, K) integers; above 0 is visible.
      count: regions of each image.

    Returns:
      Of those regions: rois (B, count, 4), keypoints (B, count, K, 2) and visibility (B, count, K).

    Example:

    >>> rois = tf.constant([[[0.0, 0.0, 9.0, 9.0], [0.0, 0.0, 4.0, 4.0]]])
    >>> points = tf.constant([[[[8.0, 8.0]], [[4.0, 4.0]]]])
    >>> sample(rois, [[0, 1]], points, [[[2], [2]]], 1)[0].numpy().tolist()
    [[[0.0, 0.0, 4.0, 4.0]]]

    Detectron2, modeling/roi_heads/roi_heads.py, select_proposals_with_visible_keypoints.
    """
    visibility = tf.convert_to_tensor(visibility)
    chosen = tf.reduce_any(_visible_inside(keypoints, visibility, rois), axis=-1) & (tf.convert_to_tensor(classes) > 0)
    # Among equals top_k takes the first. The zeros behind are for images of fewer than `count` regions.
    _, indices = tf.math.top_k(tf.cast(_padded(chosen, count), tf.int32), k=count)
    visibility *= tf.cast(chosen[..., None], visibility.dtype)
    return tuple(tf.gather(_padded(x, count), indices, batch_dims=1) for x in (rois, keypoints, visibility))


def loss(logits: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """The cross-entropy of each keypoint's cell over all positions of its heat map, on average over valid keypoints.

    The average is over the keypoints of all replicas: the mean of the losses that the replicas return is the loss of
    one device with all of their examples. To be called by a replica, as a task's train_step does.

    Args:
      logits: (B, N, S, S, K) of any float dtype.
      labels: (B, N, K) int32, y * S + x of a cell.
      weights: (B, N, K), 1 for keypoints that count and 0 for others.

    Returns:
      A scalar, float32. Without any keypoint that counts it is 0, and so are its gradients.

    Example:

    >>> f"{loss(tf.zeros([1, 2, 56, 56, 17]), tf.zeros([1, 2, 17], tf.int32), tf.ones([1, 2, 17])):.2f}"
    '8.05'

    He et al., "Mask R-CNN", ICCV 2017, section 5; Detectron, modeling/keypoint_rcnn_heads.py.
    """
    batch, count, height, width, keypoints = dims(logits)
    logits = tf.transpose(tf.cast(logits, tf.float32), [0, 1, 4, 2, 3])
    logits = tf.reshape(logits, [batch, count, keypoints, height * width])  # (B, N, K, S, S) -> (B, N, K, S*S)
    weights = tf.cast(weights, tf.float32)
    entropies = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    valid = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, tf.reduce_sum(weights))
    return tf.math.divide_no_nan(tf.reduce_sum(entropies * weights), valid)


def _corners(boxes):
    """The upper left and the lower right one, (..., 4) -> (..., 1, 2) each."""
    boxes = tf.cast(boxes, tf.float32)[..., None, :]
    return boxes[..., :2], boxes[..., 2:]


def _visible_inside(keypoints, visibility, boxes):
    keypoints = tf.cast(keypoints, tf.float32)
    near, far = _corners(boxes)
    inside = tf.reduce_all((keypoints >= near) & (keypoints <= far), axis=-1)
    return inside & (tf.convert_to_tensor(visibility) > 0)


def _padded(tensor, count):
    """(B, R, ...) -> (B, R + count, ...)."""
    return tf.pad(tensor, [[0, 0], [0, count]] + [[0, 0]] * (len(tensor.shape) - 2))
