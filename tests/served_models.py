"""Tiny models of each task, as they are served."""

import numpy as np
from official.core import config_definitions as cfg
from official.core import exp_factory, task_factory
from official.vision.configs import image_classification

from keras_nonlocal.tfm import export
from keras_nonlocal.tfm.backbones import configs

CLIP = (4, 32, 32, 3)
IMAGE = (32, 32, 3)
CLASSES = 3


def module_of(params):
    """(module of the signatures, network) of a task, with weights by which answers differ and norms do something."""
    network = task_factory.get_task(params.task).build_model()
    generator = np.random.default_rng(0)
    for variable in network.variables:
        shift = generator.normal(0, 0.1, variable.shape)
        variable.assign_add(abs(shift) if "moving_variance" in variable.name else shift)
    return export.signatures.MODULES.find(params.task)(params, network), network


def video_params(name="c2d_kinetics400", **settings):
    """A C2D of 4 frames with one non-local block."""
    params = exp_factory.get_exp_config(name)
    data = {"feature_shape": list(CLIP), "temporal_stride": 2, "min_image_size": 36, "num_classes": CLASSES, **settings}
    backbone = {"block_counts": [1, 1, 1, 1], "width": 4, "non_local": {"res3": [0]}}
    params.override({"task": {
        "model": {"backbone": {"video_resnet": backbone}}, "train_data": data, "validation_data": data,
    }})  # fmt: skip
    return params


def image_params(is_multilabel=False, **data):
    """A ResNet of images with one non-local block."""
    network = configs.NonLocalResNet(model_id=10, depth_multiplier=0.125, non_local=configs.Placement(res4=(0,)))
    task = image_classification.ImageClassificationTask()
    task.model.backbone = configs.Backbone(non_local_resnet=network)
    task.model.num_classes, task.model.input_size = CLASSES, list(IMAGE)
    data = {"is_multilabel": is_multilabel, "global_batch_size": 1, **data}
    task.override({"train_data": data, "validation_data": data})
    return cfg.ExperimentConfig(task=task)
