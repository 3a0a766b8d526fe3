"""The keypoint R-CNN: which regions and levels its head sees, in training and of detections, beside tfm's masks."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.vision.modeling.layers import detection_generator

from keras_nonlocal.tfm.keypoints import config, decoding, targets
from keras_nonlocal.tfm.keypoints import model as keypoint_model

SIZE, KEYPOINTS, SAMPLED, DETECTIONS = 64, 3, 4, 5
# Ground truth that is outside of the image for the most part, so that no proposal matches it; of the first level of the
# pyramid and of the last. Divided into 14, the first one's width is no number of bfloat16.
SMALL, LARGE = [33.0, 35.0, 89.0, 115.0], [0.0, 0.0, 1000.0, 1000.0]
NONE = [-1.0] * 4


def tiny():
    """A configuration of ResNet-10 and everything narrow, for images of 64 pixels."""
    params = config.KeypointRCNN(input_size=[SIZE, SIZE, 3], num_keypoints=KEYPOINTS, include_mask=True)
    params.override({
        "backbone": {"non_local_resnet": {"model_id": 10, "depth_multiplier": 0.25}},
        "decoder": {"fpn": {"num_filters": 8}},
        "rpn_head": {"num_filters": 8},
        "detection_head": {"num_convs": 1, "num_filters": 8, "fc_dims": 16},
        "mask_head": {"num_convs": 1, "num_filters": 8},
        "mask_sampler": {"num_sampled_masks": 4},
        "roi_generator": {
            "num_proposals": 16, "test_num_proposals": 16, "pre_nms_top_k": 32, "test_pre_nms_top_k": 32,
        },
        "roi_sampler": {"num_sampled_rois": 8},
        "detection_generator": {"max_num_detections": DETECTIONS, "pre_nms_top_k": 16},
        "keypoint_head": {"num_convs": 2, "num_filters": 8, "non_local": (0, 1)},
        "keypoint_sampler": {"num_sampled_keypoints": SAMPLED},
    })  # fmt: skip
    return params


def build():
    """As tfm's tasks do: by a call on symbolic images."""
    tf_keras.utils.set_random_seed(1)
    specs = tf_keras.layers.InputSpec(shape=[None, SIZE, SIZE, 3])
    model = keypoint_model.build(specs, tiny(), tf_keras.regularizers.l2(1e-4))
    model(tf_keras.Input([SIZE, SIZE, 3]), image_shape=tf_keras.Input([2]), training=False)
    return model


@pytest.fixture(scope="module")
def model():
    return build()


def changed(model, **parts):
    """The same layers with others in their place."""
    return type(model).from_config({**model.get_config(), **parts})


def images():
    return {
        "images": np.random.default_rng(0).normal(size=(2, SIZE, SIZE, 3)).astype("float32"),
        "image_shape": np.full((2, 2), SIZE, "float32"),
    }


def labels():
    """Two objects an image, and padding; in the second image nothing of the small one is visible."""
    of_small = [[33.0, 35.0], [89.0, 65.5], [90.0, 100.0]]  # the last one is outside
    of_large = [[500.0, 250.0], [999.0, 0.0], [300.0, 300.0]]
    nothing = [[0.0, 0.0]] * KEYPOINTS
    return {
        "gt_boxes": np.float32([[SMALL, LARGE, NONE]] * 2),
        "gt_classes": np.int32([[1, 1, -1]] * 2),
        "gt_masks": np.ones([2, 3, 56, 56], "float32"),
        "gt_keypoints": np.float32([[of_small, of_large, nothing]] * 2),
        "gt_visibility": np.int32([[[2, 1, 2], [2, 2, 0], [0, 0, 0]], [[0, 0, 0], [2, 2, 2], [0, 0, 0]]]),
    }


def loss_of(outputs):
    return targets.loss(*(outputs[f"keypoint_{name}"] for name in ("outputs", "labels", "weights")))


def crops(model, features, boxes):
    """The head on regions of the levels that it may see."""
    features = {level: features[level] for level in "2345"}
    return model.keypoint_head(model.keypoint_roi_aligner(features, tf.constant(boxes)))


def check_training(model):
    outputs = model(**images(), **labels(), training=True)
    of_small, of_large = [0, 55 * 56 + 21, 0], [28 * 56 + 14, 55 * 56, 0]
    assert outputs["keypoint_labels"].numpy()[:, :2].tolist() == [
        [of_small, of_large],
        [[28 * 56 + 14, 55 * 56, 16 * 56 + 16], [0, 0, 0]],
    ]
    none = [0, 0, 0]
    assert outputs["keypoint_weights"].numpy().tolist() == [
        [[1, 1, 0], [1, 1, 0], none, none],
        [[1, 1, 1], none, none, none],
    ]
    logits = outputs["keypoint_outputs"]
    assert logits.shape == (2, SAMPLED, 56, 56, KEYPOINTS) and logits.dtype == loss_of(outputs).dtype == tf.float32
    assert abs(float(loss_of(outputs)) - np.log(3136)) < 1
    expected = crops(model, outputs["decoder_features"], [[SMALL, LARGE]] * 2)
    np.testing.assert_allclose(logits[0, :2], expected[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits[1, 0], expected[1, 1], rtol=1e-4, atol=1e-5)


def test_training_outputs(model):
    check_training(model)
    outputs = model(**images(), **labels(), training=True)
    assert outputs["mask_outputs"].shape == (2, 4, 28, 28) and np.sum(outputs["mask_class_targets"]) == 4
    assert outputs["class_outputs"].shape == (2, 8, 2) and np.sum(outputs["class_targets"]) == 4


@pytest.mark.slow
def test_mixed_precision():
    """Crops are where they are in float32, and the loss is of float32."""
    before = tf_keras.mixed_precision.global_policy()
    tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = build()
        check_training(model)
        outputs = model(**images(), training=False)
    finally:
        tf_keras.mixed_precision.set_global_policy(before)
    assert outputs["decoder_features"]["2"].dtype == tf.bfloat16
    assert outputs["detection_keypoints"].dtype == tf.float32


class Shifted(tf_keras.layers.Layer):
    """The decoder, with another map in one of its levels."""

    def __init__(self, decoder, level):
        super().__init__()
        self.decoder, self.level = decoder, level

    def call(self, inputs):
        features = dict(self.decoder(inputs))
        features[self.level] = features[self.level] + 1
        return features


@pytest.mark.parametrize(
    "level, small_changes, large_changes", [("2", True, False), ("5", False, True), ("6", False, False)]
)
def test_the_head_sees_levels_2_to_5(model, level, small_changes, large_changes):
    expected = model(**images(), **labels(), training=True)["keypoint_outputs"]
    other = changed(model, decoder=Shifted(model.decoder, level))
    found = other(**images(), **labels(), training=True)["keypoint_outputs"]
    for row, changes in enumerate((small_changes, large_changes)):
        assert (np.abs(found[0, row] - expected[0, row]).max() > 1e-2) == changes


def test_gradients_reach_blocks_head_and_backbone(model):
    with tf.GradientTape() as tape:
        loss = loss_of(model(**images(), **labels(), training=True))
    outs = [block.out.kernel for block in model.keypoint_head.blocks.values()]
    backbone = model.backbone.trainable_variables
    head = [model.keypoint_head.convs[0].kernel, model.keypoint_head.deconv.bias]
    gradients = tape.gradient(loss, [*outs, *head, backbone[0], *model.rpn_head.trainable_variables])
    assert len(outs) == 2 and all(np.abs(gradient).max() > 0 for gradient in gradients[:5])
    assert all(gradient is None for gradient in gradients[5:]), "regions are data to the keypoints"


@pytest.mark.parametrize("what", ["invisible", "no objects"])
def test_a_batch_without_visible_keypoints_teaches_nothing(model, what):
    given = labels()
    given["gt_visibility"] *= 0
    if what == "no objects":
        given["gt_boxes"], given["gt_classes"] = given["gt_boxes"] * 0 - 1, given["gt_classes"] * 0 - 1
    with tf.GradientTape() as tape:
        outputs = model(**images(), **given, training=True)
        loss = loss_of(outputs)
    variables = model.keypoint_head.trainable_variables + model.backbone.trainable_variables
    assert float(loss) == 0 and not np.any(outputs["keypoint_weights"])
    assert not any(np.any(gradient) for gradient in tape.gradient(loss, variables)), "zeros, and no NaN"


def test_detections_have_keypoints_and_masks(model):
    outputs = model(**images(), training=False)
    boxes = outputs["detection_boxes"]
    assert np.sum(outputs["num_detections"]) > 2
    expected = crops(model, outputs["decoder_features"], boxes)
    assert expected.shape == (2, DETECTIONS, 56, 56, KEYPOINTS)
    np.testing.assert_allclose(outputs["keypoint_outputs"], expected, rtol=1e-4, atol=1e-5)
    points = decoding.quadratic(expected, boxes)
    assert points.shape == (2, DETECTIONS, KEYPOINTS, 3)
    np.testing.assert_allclose(outputs["detection_keypoints"], points, rtol=1e-4, atol=1e-4)
    assert outputs["detection_masks"].shape == (2, DETECTIONS, 28, 28)


def test_masks_are_a_matter_of_the_configuration(model):
    without = changed(model, mask_head=None, mask_sampler=None, mask_roi_aligner=None)
    expected, found = (either(**images(), training=False) for either in (model, without))
    assert set(expected) - set(found) == {"detection_masks"}
    np.testing.assert_array_equal(found["detection_keypoints"], expected["detection_keypoints"])
    given = labels()
    del given["gt_masks"]
    assert "mask_outputs" not in without(**images(), **given, training=True)
    items = model.checkpoint_items
    assert set(items) == {"backbone", "decoder", "rpn_head", "detection_head", "mask_head", "keypoint_head"}
    assert set(items) - set(without.checkpoint_items) == {"mask_head"}
    assert items["keypoint_head"] is model.keypoint_head


def test_a_model_is_as_its_configuration_says(model):
    head = model.keypoint_head
    assert (head.num_keypoints, head.num_convs, head.num_filters, head.non_local) == (KEYPOINTS, 2, 8, (0, 1))
    assert head.blocks["0"].norm is None and head.kernel_regularizer.l2 == pytest.approx(1e-4)
    assert model.keypoint_roi_aligner.get_config() == {"crop_size": 14, "sample_offset": 0.5}
    params = config.KeypointRCNN()
    assert params.keypoint_head.as_dict()["non_local_block"]["norm"] is None
    assert (params.num_keypoints, params.keypoint_head.num_convs, params.keypoint_head.num_filters) == (17, 8, 512)


def test_what_cannot_be_is_named(model):
    with pytest.raises(ValueError, match="`outer_boxes_scale` must be 1 .*Received: outer_boxes_scale=1.2"):
        changed(model, outer_boxes_scale=1.2)
    with pytest.raises(ValueError, match="apply_nms=True"):
        changed(model, detection_generator=detection_generator.DetectionGenerator(apply_nms=False))
    with pytest.raises(ValueError, match="`num_sampled_keypoints`.*Received: num_sampled_keypoints=0"):
        changed(model, num_sampled_keypoints=0)
    given = labels()
    del given["gt_visibility"]
    with pytest.raises(ValueError, match="`gt_visibility` must be given in training.*Received: gt_visibility=None"):
        model(**images(), **given, training=True)
