"""What tfm's detectors see an image by as a contestant, and how many multiply-adds the parts of a Mask R-CNN take."""

import frameworks
import network_weights
import numpy as np

tf = frameworks.load_tensorflow()

import tf_keras  # noqa: E402  (imports TensorFlow, whose threads have to be set before)
from official.core import exp_factory  # noqa: E402
from official.vision.modeling import factory  # noqa: E402
from official.vision.modeling.backbones import factory as backbones  # noqa: E402
from official.vision.modeling.decoders import factory as decoders  # noqa: E402
from official.vision.modeling.heads import instance_heads  # noqa: E402

import keras_nonlocal.tfm  # noqa: E402, F401  (registers the experiments)
from keras_nonlocal.analysis import cost  # noqa: E402
from keras_nonlocal.tfm.warm_start import checkpoints  # noqa: E402

EXPERIMENTS = {False: "mask_rcnn_r50_coco", True: "non_local_mask_rcnn_r50_coco"}
# Of an image at a test: regions that go through the box head, and detections that get a mask.
REGIONS, DETECTIONS = 1000, 100


class Features:
    """R50, or R50 with its FPN, called in a tf.function on one image at inference.

    Args:
      height, width: of the image.
      fpn: with FPN.
      block: with the non-local block, which starts as the identity.
    """

    def __init__(self, height, width, fpn, block):
        config = _config(block)
        specs = tf_keras.layers.InputSpec(shape=[None, height, width, 3])
        backbone = backbones.build_backbone(specs, config.backbone, config.norm_activation)
        parts = {"backbone": backbone}
        if fpn:
            parts["decoder"] = decoders.build_decoder(backbone.output_specs, config)
        for name, part in parts.items():
            for path, _, variable in checkpoints.named_variables(part, name):
                if "/non_local/" not in path:
                    variable.assign(network_weights.draw(path, variable.shape))
        self.model = _extended(backbone, parts.get("decoder"))
        self.image = tf.random.stateless_normal([1, height, width, 3], [0, 0])
        self.step = tf.function(lambda image: self.model(image, training=False))

    def run(self):
        return self.step(self.image)

    def results(self):
        """The maps of features by their levels."""
        return {level: np.array(found) for level, found in self.run().items()}


def multiply_adds(height, width):
    """Multiply-adds of the parts of the Mask R-CNN with the block, for one image at a test, and of the block itself.

    Returns:
      {name of the part: count}, without the block's, which is "block".
    """
    config = _config(block=True)
    model = factory.build_maskrcnn(tf_keras.layers.InputSpec(shape=[None, height, width, 3]), config)
    features = _extended(model.backbone, model.decoder)
    levels = {level: tf_keras.Input(x.shape[1:]) for level, x in features.output.items()}
    channels = levels["2"].shape[-1]
    crop = tf_keras.Input((REGIONS, *[config.roi_aligner.crop_size] * 2, channels))
    mask_crop = [tf_keras.Input((DETECTIONS, *[config.mask_roi_aligner.crop_size] * 2, channels))]
    mask_crop += [tf_keras.Input((DETECTIONS,), dtype=tf.int32)]
    detectrons = instance_heads.DetectionHead(config.num_classes, num_convs=0, num_fcs=2)
    (block,) = checkpoints.blocks(model)
    counts = {
        "block": _count(block, (height // 16, width // 16, 1024)),
        "R50": _count(model.backbone),
        "FPN": _count(features),
        "RPN": _count(tf_keras.Model(levels, model.rpn_head(levels))),
        "box head of tfm": _count(tf_keras.Model(crop, model.detection_head[0](crop))),
        "box head of Detectron": _count(tf_keras.Model(crop, detectrons(crop))),
        "mask head": _count(tf_keras.Model(mask_crop, model.mask_head(mask_crop))),
    }
    counts["FPN"] -= counts["R50"]
    counts["R50"] -= counts["block"]
    return counts


def _config(block):
    return exp_factory.get_exp_config(EXPERIMENTS[block]).task.model


def _extended(backbone, decoder):
    """The backbone alone, or with a decoder after it."""
    return tf_keras.Model(backbone.input, decoder(backbone.output)) if decoder else backbone


def _count(target, shape=None):
    found = cost.cost(target, shape)
    assert not found.not_counted, found.not_counted
    return found.multiply_adds
