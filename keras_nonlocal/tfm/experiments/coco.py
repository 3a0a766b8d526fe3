"""Detectors on COCO: tfm's RetinaNet and Mask R-CNN over ResNets, with and without a non-local block in res4.

Each is tfm's own experiment, schedule included, with another backbone; `--config_file=coco_1x` and the files beside it
train as Detectron does. What stays different from Detectron: tfm's FPN and heads have batch norm, its box head has four
convolutions and a fully connected layer, its box losses are scaled in another way, and it fits images into a square,
of 1024 x 1024 for Mask R-CNN and 640 x 640 for RetinaNet, where Detectron scales their short side to 800.
"""

import functools

from official.core import config_definitions as cfg
from official.core import exp_factory
from official.vision.configs import maskrcnn
from official.vision.configs import retinanet as tfm_retinanet

from keras_nonlocal import paper
from keras_nonlocal.tfm.backbones import configs
from keras_nonlocal.tfm.experiments import trainers


def retinanet(detector: paper.Detector) -> cfg.ExperimentConfig:
    """tfm's RetinaNet, 72 epochs of 640 x 640, over the backbone of a Mask R-CNN of the paper."""
    return _over(tfm_retinanet.retinanet_resnetfpn_coco(), detector)


def mask_rcnn(detector: paper.Detector) -> cfg.ExperimentConfig:
    """tfm's Mask R-CNN, 12 epochs of 1024 x 1024, over the backbone of one of the paper."""
    return _over(maskrcnn.maskrcnn_resnetfpn_coco(), detector)


def of_paper(detector: paper.Detector, recipe: paper.Recipe) -> cfg.ExperimentConfig:
    """A detector of Table 5 (section 5.3)."""
    experiment = mask_rcnn(detector)
    task = experiment.task
    task.model.backbone.non_local_resnet.bn_trainable = not recipe.norm_frozen
    task.losses.l2_weight_decay = 1e-4
    task.train_data.global_batch_size = recipe.batch_size
    validation_steps = experiment.trainer.validation_steps
    experiment.trainer = trainers.of_paper(recipe)
    experiment.trainer.validation_steps = validation_steps
    return experiment


def backbone(detector: paper.Detector) -> configs.Backbone:
    """The configuration of a detector's backbone."""
    return configs.Backbone(
        non_local_resnet=configs.NonLocalResNet(
            model_id=detector.depth,
            groups=detector.groups,
            width_per_group=8 if detector.groups > 1 else 64,
            non_local=configs.Placement(**detector.non_local),
        )
    )


def _over(experiment, detector):
    """An experiment of tfm's over a backbone of ours: in float32, not compiled, with nothing to start from."""
    experiment.runtime.mixed_precision_dtype = None
    experiment.runtime.enable_xla = False
    task = experiment.task
    task.init_checkpoint = None
    task.model.backbone = backbone(detector)
    task.train_data.dtype = task.validation_data.dtype = "float32"
    experiment.trainer = trainers.of_tfm(experiment.trainer, task.train_data.global_batch_size)
    return experiment


# {name of an experiment: what builds it, name of the Detector of keras_nonlocal.paper that has its backbone}
EXPERIMENTS = {
    "retinanet_r50_coco": (retinanet, "mask_rcnn_r50"),
    "non_local_retinanet_r50_coco": (retinanet, "nl_mask_rcnn_r50_1"),
    "retinanet_r101_coco": (retinanet, "mask_rcnn_r101"),
    "non_local_retinanet_r101_coco": (retinanet, "nl_mask_rcnn_r101_1"),
    "mask_rcnn_r50_coco": (mask_rcnn, "mask_rcnn_r50"),
    "non_local_mask_rcnn_r50_coco": (mask_rcnn, "nl_mask_rcnn_r50_1"),
    "mask_rcnn_r101_coco": (mask_rcnn, "mask_rcnn_r101"),
    "non_local_mask_rcnn_r101_coco": (mask_rcnn, "nl_mask_rcnn_r101_1"),
    "mask_rcnn_x152_coco": (mask_rcnn, "mask_rcnn_x152"),
    "non_local_mask_rcnn_x152_coco": (mask_rcnn, "nl_mask_rcnn_x152_1"),
}
NAMES = tuple(EXPERIMENTS)

for _name, (_build, _detector) in EXPERIMENTS.items():
    exp_factory.register_config_factory(_name)(functools.partial(_build, paper.DETECTORS[_detector]))
