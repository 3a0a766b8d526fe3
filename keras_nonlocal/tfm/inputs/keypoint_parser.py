"""Images and labels of keypoint detection: tfm's of Mask R-CNN, with keypoints that go where the image goes."""

from collections.abc import Sequence

import tensorflow as tf
from official.vision.dataloaders import maskrcnn_input
from official.vision.ops import box_ops, preprocess_ops

_OF_OBJECTS = ("boxes", "classes", "is_crowd", "area", "instance_masks", "keypoints", "visibility")


def mirror(
    keypoints: tf.Tensor, visibility: tf.Tensor, mirrored: Sequence[int], width: float = 1.0
) -> tuple[tf.Tensor, tf.Tensor]:
    """Keypoints in a mirror, where left is right: x' = W - x, and those of a pair change places.

    Args:
      keypoints: float (..., K, 2), y and x as continuous coordinates.
      visibility: int (..., K), 0 for a keypoint that is not there, which stays (0, 0).
      mirrored: for each keypoint the number of the one that takes its place; see Skeleton.mirrored.
      width: W of the image, in the unit of x. Default 1, for coordinates from 0 to 1.

    Returns:
      Both, in the mirror.

    Example:

    >>> keypoints, _ = mirror([[[0.5, 0.125], [0.5, 0.75]]], [[2, 2]], mirrored=(1, 0))
    >>> keypoints.numpy().tolist()
    [[[0.5, 0.25], [0.5, 0.875]]]

    detectron2, `data/detection_utils.py`, transform_keypoint_annotations.
    """
    y, x = tf.unstack(tf.gather(keypoints, mirrored, axis=-2), axis=-1)
    visibility = tf.gather(visibility, mirrored, axis=-1)
    return tf.where(visibility[..., tf.newaxis] > 0, tf.stack([y, width - x], axis=-1), 0.0), visibility


def crop(
    keypoints: tf.Tensor, visibility: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, size: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Keypoints in a window of the scaled image. One outside is not there any more; one on the border is inside.

    Args:
      keypoints: float (..., K, 2), y and x in pixels of the image, continuous.
      visibility: int (..., K), 0 for a keypoint that is not there, which stays (0, 0).
      scale: float (2,), by which the image's height and width are multiplied.
      offset: float (2,), the window's top and left in the scaled image, in pixels.
      size: float (2,), its height and width, in pixels.

    Returns:
      Both, in pixels of the window.

    Example:

    >>> keypoints, visibility = crop([[[10.0, 4.0], [10.0, 6.5]]], [[2, 1]], [2.0, 2.0], [0.0, 8.0], [20.0, 4.0])
    >>> keypoints.numpy().tolist(), visibility.numpy().tolist()
    ([[[20.0, 0.0], [0.0, 0.0]]], [[2, 0]])

    detectron2, `data/detection_utils.py`, transform_keypoint_annotations.
    """
    keypoints = keypoints * tf.convert_to_tensor(scale) - offset
    inside = tf.reduce_all((keypoints >= 0) & (keypoints <= size), axis=-1)
    visibility = tf.where(inside, visibility, 0)
    return tf.where(visibility[..., tf.newaxis] > 0, keypoints, 0.0), visibility


class Parser(maskrcnn_input.Parser):
    """tfm's parser of Mask R-CNN with keypoints.

    tfm's draws whether an image is mirrored and tells nobody. So crowds are dropped and images mirrored here, by the
    same rules, before it sees them.

    Args:
      mirrored: for each keypoint the number of the one that takes its place in a mirror.
      aug_rand_hflip: whether half of the training images are mirrored.
      **kwargs: those of tfm's parser.
    """

    def __init__(self, mirrored: Sequence[int], aug_rand_hflip: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        self._mirrored = list(mirrored)
        self._mirrors = aug_rand_hflip

    def _parse_train_data(self, data):
        """tfm's, with `gt_keypoints` (M, K, 2), y and x in pixels of the input, and `gt_visibility` int32 (M, K)."""
        if self._skip_crowd_during_training:
            data = _chosen(data, tf.where(~data["groundtruth_is_crowd"])[:, 0])
        if self._mirrors:
            data = tf.cond(tf.random.uniform([]) < 0.5, lambda: self._in_the_mirror(data), lambda: data)
        image, labels = super()._parse_train_data(data)
        size, output_size, scale, offset = tf.unstack(labels["image_info"])
        boxes = box_ops.denormalize_boxes(data["groundtruth_boxes"], size)
        boxes = preprocess_ops.resize_and_crop_boxes(boxes, scale, output_size, offset)
        kept = box_ops.get_non_empty_box_indices(boxes)  # those that tfm keeps
        keypoints, visibility = crop(
            tf.gather(data["groundtruth_keypoints"], kept) * size,
            tf.gather(data["groundtruth_visibility"], kept),
            *(scale, offset, output_size),
        )
        labels["gt_keypoints"], labels["gt_visibility"] = self._padded(keypoints), self._padded(visibility)
        return image, labels

    def _parse_eval_data(self, data):
        """tfm's, whose ground truths have `keypoints` (M, K, 2), y and x in the image's pixels, and `visibility`."""
        image, labels = super()._parse_eval_data(data)
        labels["groundtruths"]["keypoints"] = self._padded(data["groundtruth_keypoints"] * labels["image_info"][0])
        labels["groundtruths"]["visibility"] = self._padded(data["groundtruth_visibility"])
        return image, labels

    def _in_the_mirror(self, data):
        keypoints, visibility = mirror(data["groundtruth_keypoints"], data["groundtruth_visibility"], self._mirrored)
        changed = {
            "image": tf.image.flip_left_right(data["image"]),
            "groundtruth_boxes": preprocess_ops.horizontal_flip_boxes(data["groundtruth_boxes"]),
            "groundtruth_keypoints": keypoints,
            "groundtruth_visibility": visibility,
        }
        if self._include_mask:
            changed["groundtruth_instance_masks"] = tf.reverse(data["groundtruth_instance_masks"], [2])
        return {**data, **changed}

    def _padded(self, values):
        padded = preprocess_ops.clip_or_pad_to_fixed_size(values, self._max_num_instances, 0)
        return tf.ensure_shape(padded, [self._max_num_instances, *values.shape[1:]])


def _chosen(data, indices):
    keys = [f"groundtruth_{name}" for name in _OF_OBJECTS if f"groundtruth_{name}" in data]
    return {**data, **{key: tf.gather(data[key], indices) for key in keys}}
