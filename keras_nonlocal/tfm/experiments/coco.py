"""How the paper trained detectors on COCO: tfm's Mask R-CNN over a ResNet with a non-local block."""

from official.core import config_definitions as cfg
from official.vision.configs import maskrcnn

from keras_nonlocal import paper
from keras_nonlocal.tfm.backbones import configs
from keras_nonlocal.tfm.experiments import trainers


def of_paper(detector: paper.Detector, recipe: paper.Recipe) -> cfg.ExperimentConfig:
    """A detector of Table 5 (section 5.3).

    What differs from the paper's Detectron: tfm's FPN and heads have batch norm, and it fits images into 1024 x 1024
    where Detectron scales their short side to 800.
    """
    experiment = maskrcnn.maskrcnn_resnetfpn_coco()
    experiment.runtime.mixed_precision_dtype = None
    task = experiment.task
    task.init_checkpoint = None
    task.model.backbone = configs.Backbone(
        non_local_resnet=configs.NonLocalResNet(
            model_id=detector.depth,
            groups=detector.groups,
            width_per_group=8 if detector.groups > 1 else 64,
            bn_trainable=not recipe.norm_frozen,
            non_local=configs.Placement(**detector.non_local),
        )
    )
    task.losses.l2_weight_decay = 1e-4
    task.train_data.global_batch_size = recipe.batch_size
    experiment.trainer = trainers.of_paper(recipe)
    experiment.trainer.validation_steps = 5000 // task.validation_data.global_batch_size
    return experiment
