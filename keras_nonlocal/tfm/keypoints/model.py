"""tfm's Mask R-CNN with a keypoint head."""

from typing import Any

import tensorflow as tf
import tf_keras
from official.vision.modeling import factory, maskrcnn_model
from official.vision.modeling.layers import roi_aligner

from keras_nonlocal import errors
from keras_nonlocal.tfm.heads import keypoint
from keras_nonlocal.tfm.keypoints import config as configs
from keras_nonlocal.tfm.keypoints import decoding, targets

MAX_LEVEL = 5  # coarser maps of the pyramid are for proposals alone, as in Detectron


@tf_keras.utils.register_keras_serializable("keras_nonlocal")
class KeypointRCNNModel(maskrcnn_model.MaskRCNNModel):
    """tfm's MaskRCNNModel, with or without masks, and keypoints of each region.

    Args:
      keypoint_head: from crops (B, N, H, W, C) to logits (B, N, S, S, K).
      keypoint_roi_aligner: makes the crops of the pyramid's levels up to 5, as tfm's MultilevelROIAligner.
      num_sampled_keypoints: regions of each image at most that the keypoint head is trained on. Default 128.
      **kwargs: those of official.vision.modeling.maskrcnn_model.MaskRCNNModel. `outer_boxes_scale` must be 1.

    Call arguments: those of MaskRCNNModel; and in training, of a static batch size,
      gt_keypoints: (B, M, K, 2) of the M ground truth objects, (y, x) in pixels of the input, continuous.
      gt_visibility: (B, M, K) integers; above 0 is visible.

    Returns a dict, of a call. In training it has beside tfm's outputs, of n sampled regions:
      keypoint_outputs: logits, (B, n, S, S, K).
      keypoint_labels, keypoint_weights: (B, n, K), as keypoints.targets.heat_map_labels says.
    Else, of the D detections:
      keypoint_outputs: logits, (B, D, S, S, K).
      detection_keypoints: (B, D, K, 3) of (y, x, score), in pixels of the input, continuous.

    Raises:
      ValueError: for an `outer_boxes_scale` other than 1, or a detection generator that does not suppress; and from a
        call in training without keypoints.

    He et al., "Mask R-CNN", ICCV 2017, section 5.
    """

    def __init__(
        self,
        keypoint_head: tf_keras.layers.Layer,
        keypoint_roi_aligner: tf_keras.layers.Layer,
        num_sampled_keypoints: int = 128,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if self.outer_boxes_scale != 1:
            raise ValueError(
                f"`outer_boxes_scale` must be 1 with keypoints. Received: outer_boxes_scale={self.outer_boxes_scale}"
            )
        if not self.detection_generator.get_config()["apply_nms"]:
            raise ValueError("`detection_generator` must have apply_nms=True: keypoints are found in final boxes only.")
        self.keypoint_head = keypoint_head
        self.keypoint_roi_aligner = keypoint_roi_aligner
        self.num_sampled_keypoints = errors.check_positive_int("num_sampled_keypoints", num_sampled_keypoints)

    def call(
        self,
        images: tf.Tensor,
        image_shape: tf.Tensor,
        anchor_boxes: dict[str, tf.Tensor] | None = None,
        gt_boxes: tf.Tensor | None = None,
        gt_classes: tf.Tensor | None = None,
        gt_masks: tf.Tensor | None = None,
        gt_keypoints: tf.Tensor | None = None,
        gt_visibility: tf.Tensor | None = None,
        training: bool | None = None,
    ) -> dict[str, tf.Tensor]:
        truth = {
            "gt_boxes": gt_boxes,
            "gt_classes": gt_classes,
            "gt_keypoints": gt_keypoints,
            "gt_visibility": gt_visibility,
        }
        if training and (missing := [name for name, value in truth.items() if value is None]):
            raise ValueError(f"`{missing[0]}` must be given in training. Received: {missing[0]}=None")
        outputs, matched = self._call_box_outputs(images, image_shape, anchor_boxes, gt_boxes, gt_classes, training)
        features = outputs["decoder_features"]
        if self._include_mask:
            outputs = self._call_mask_outputs(outputs, features, gt_masks=gt_masks, training=training, **matched)
        features = {level: x for level, x in features.items() if int(level) <= MAX_LEVEL}
        if training:
            keypoints = self._train_keypoints(features, gt_keypoints, gt_visibility, matched)
        else:
            keypoints = self._detect_keypoints(features, outputs["detection_boxes"])
        return {**outputs, **keypoints}

    def _train_keypoints(self, features, gt_keypoints, gt_visibility, matched):
        of_objects = tf.maximum(matched["matched_gt_indices"], 0)  # background has -1, and is not sampled
        rois, keypoints, visibility = targets.sample(
            matched["current_rois"],
            matched["matched_gt_classes"],
            tf.gather(gt_keypoints, of_objects, batch_dims=1),  # (B, M, K, 2) -> (B, R, K, 2)
            tf.gather(gt_visibility, of_objects, batch_dims=1),
            self.num_sampled_keypoints,
        )
        logits = self._keypoint_logits(features, rois)
        labels, weights = targets.heat_map_labels(keypoints, visibility, rois, logits.shape[2])
        return {"keypoint_outputs": logits, "keypoint_labels": labels, "keypoint_weights": weights}

    def _detect_keypoints(self, features, boxes):
        logits = self._keypoint_logits(features, boxes)
        return {"keypoint_outputs": logits, "detection_keypoints": decoding.quadratic(logits, boxes)}

    def _keypoint_logits(self, features, boxes):
        # In mixed precision tfm's sampled regions are of the low one, which is too coarse for positions inside of them.
        return self.keypoint_head(self.keypoint_roi_aligner(features, tf.cast(boxes, tf.float32)))

    @property
    def checkpoint_items(self) -> dict[str, Any]:
        """What tfm keeps in a checkpoint besides the model, each under a name of its own."""
        return {**super().checkpoint_items, "keypoint_head": self.keypoint_head}

    def get_config(self):
        return {
            **super().get_config(),
            "keypoint_head": self.keypoint_head,
            "keypoint_roi_aligner": self.keypoint_roi_aligner,
            "num_sampled_keypoints": self.num_sampled_keypoints,
        }


def build(
    input_specs: tf_keras.layers.InputSpec,
    config: configs.KeypointRCNN,
    l2_regularizer: tf_keras.regularizers.Regularizer | None = None,
) -> KeypointRCNNModel:
    """Builds a keypoint R-CNN; its weights are made by its first call, as those of tfm's Mask R-CNN.

    Args:
      input_specs: of images, (None, height, width, 3).
      config: of the model.
      l2_regularizer: of all kernels. Default none.

    Raises:
      ValueError: for a value of `config` out of range, naming it.
    """
    base = factory.build_maskrcnn(input_specs, config, l2_regularizer)
    head, aligner = config.keypoint_head.as_dict(), config.keypoint_roi_aligner
    return KeypointRCNNModel(
        **base.get_config(),
        keypoint_head=keypoint.KeypointHead(
            config.num_keypoints, **head, kernel_regularizer=l2_regularizer, name="keypoint_head"
        ),
        keypoint_roi_aligner=roi_aligner.MultilevelROIAligner(aligner.crop_size, aligner.sample_offset),
        num_sampled_keypoints=config.keypoint_sampler.num_sampled_keypoints,
    )
