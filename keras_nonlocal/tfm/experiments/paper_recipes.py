"""The recipes of the paper's experiments: from a run to an experiment, and to what its configuration file says."""

import dataclasses
from collections.abc import Callable

from official.vision.configs import maskrcnn

from keras_nonlocal import paper
from keras_nonlocal.models import presets, video_resnet
from keras_nonlocal.tfm import configs, experiments
from keras_nonlocal.tfm.tasks import multi_label


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a data set is trained on.

    Args:
      experiment: from a Run to its ExperimentConfig.
      schedule: from a Run to a sentence about machine and schedule.
      start: from a Run to (task.init_checkpoint, task.init_checkpoint_modules, a sentence); None twice if it has to be
        given by hand.
    """

    experiment: Callable
    schedule: Callable
    start: Callable


def video_backbone(run):
    """The configs.VideoResNet of a run on clips."""
    network = paper.arguments(run)
    return configs.VideoResNet(
        block_counts=video_resnet.BLOCK_COUNTS[presets.find(run.preset).depth],
        inflate=network["inflate"],
        temporal_stride=network["temporal_stride"],
        non_local=configs.Placement(**network["non_local"]),
        non_local_block=configs.NonLocalBlock(**network["non_local_block"]),
        group_frames=configs.GroupFrames(**network.get("group_frames", {})),
        norm_frozen=network.get("norm_frozen", False),
    )


def kinetics(run):
    """8 GPUs of 8 clips of 32 frames, or of 2 clips of 128 frames with batch norm frozen (section 4.1)."""
    batch_size, learning_rate = (16, 0.0025) if run.frozen else (64, 0.01)
    return experiments.kinetics(video_backbone(run), run.frames, run.stride, batch_size, learning_rate)


def _kinetics_schedule(run):
    clips, rate = (2, "0.0025") if run.frozen else (8, "0.01")
    return (
        f"Hardware: 8 GPUs of {clips} clips. Schedule: 400,000 steps, learning rate {rate}, a tenth of it from step "
        "150,000 and a hundredth from step 300,000. Test: training/evaluate.py with --clips=10 --crops=3."
    )


def _kinetics_start(run):
    if not run.frozen:
        return (
            None,
            None,
            (
                "The paper starts from ImageNet weights, inflated in I3D: training/warm_start.py makes a checkpoint of "
                "such for task.init_checkpoint, with init_checkpoint_modules: backbone."
            ),
        )
    plain = _without_blocks(presets.find(run.preset))
    modules = "backbone" if plain == run.preset else "trunk"
    sentence = "Starts from the 32-frame network without non-local blocks, as the official code does."
    return f"runs/{paper.Run(plain).name}", modules, sentence


def _without_blocks(preset):
    """The name of the same network without non-local blocks."""
    return next(
        other.name
        for other in presets.PRESETS.values()
        if not other.non_local and (other.depth, other.inflate) == (preset.depth, preset.inflate)
    )


def charades(run):
    """8 GPUs of a clip each, at 288 x 288 from Kinetics' network (section 5.2); 157 classes, any number to a clip.

    The paper gives neither weight decay nor dropout: those of Kinetics.
    """
    experiment = experiments.video_classification(157, video_backbone(run), (run.frames, 288, 288, 3), run.stride, 8)
    experiment.task = multi_label.MultiLabelTask(
        model=experiment.task.model,
        train_data=experiment.task.train_data,
        validation_data=experiment.task.validation_data,
    )
    experiment.task.losses.l2_weight_decay = 1e-4
    train, validation = experiment.task.train_data, experiment.task.validation_data
    train.is_multilabel = validation.is_multilabel = True
    # The crop is where that of Kinetics would be, seen larger: short sides are 288 / 224 times 256 to 320.
    train.min_image_size, train.max_image_size = 329, 411
    validation.feature_shape, validation.min_image_size = (run.frames, 320, 320, 3), 320
    experiment.trainer = experiments.trainer(200_000, (75_000, 150_000), 0.00125)
    return experiment


def _charades_schedule(run):
    return (
        "Hardware: 8 GPUs of a clip. Schedule: 200,000 steps, learning rate 0.00125, a tenth of it from step 75,000 "
        "and a hundredth from step 150,000. The records need several labels a video: "
        "training/prepare_videos.py does not write such yet."
    )


def _charades_start(run):
    start = paper.Run(run.preset, frames=128, stride=1)
    return f"runs/{start.name}", "backbone", "Starts from the same network trained on Kinetics-400, as in the paper."


@dataclasses.dataclass(frozen=True)
class Detector:
    """Backbone and schedule of a Mask R-CNN; the schedules are Detectron's 1x, the paper does not say its own.

    Args:
      model_id: depth.
      last_but_one: index of the residual block of res4 that the non-local block comes after.
      groups: of the 3x3 convolutions, of 8 channels each in the first stage; 1 for a plain ResNet.
      batch_size: images a step, of all replicas together.
      learning_rate: to begin with.
      steps: in all, and where the learning rate falls to a tenth.
    """

    model_id: int
    last_but_one: int
    groups: int = 1
    batch_size: int = 16
    learning_rate: float = 0.02
    steps: tuple = (90_000, (60_000, 80_000))


DETECTORS = {
    "mask_rcnn_r50": Detector(50, 4),
    "mask_rcnn_r101": Detector(101, 21),
    "mask_rcnn_x152": Detector(152, 34, 32, 8, 0.01, (260_000, (200_000, 240_000))),
}


def _detector(run):
    """The Detector of a run, and whether it has a non-local block."""
    name = run.preset.removeprefix("nl_").removesuffix("_1")
    return DETECTORS[name], run.preset.startswith("nl_")


def coco(run):
    """tfm's Mask R-CNN with frozen batch norm and one non-local block in res4 (section 5.3).

    What differs from the paper's Detectron: tfm's FPN and heads have batch norm, and it fits images into 1024 x 1024
    where Detectron scales their short side to 800.
    """
    detector, non_local = _detector(run)
    experiment = maskrcnn.maskrcnn_resnetfpn_coco()
    experiment.runtime.mixed_precision_dtype = None
    task = experiment.task
    task.init_checkpoint = None
    task.model.backbone = configs.Backbone(
        non_local_resnet=configs.NonLocalResNet(
            model_id=detector.model_id,
            groups=detector.groups,
            width_per_group=8 if detector.groups > 1 else 64,
            bn_trainable=False,
            non_local=configs.Placement(res4=(detector.last_but_one,) if non_local else ()),
        )
    )
    task.losses.l2_weight_decay = 1e-4
    task.train_data.global_batch_size = detector.batch_size
    experiment.trainer = experiments.trainer(*detector.steps, detector.learning_rate)
    experiment.trainer.validation_steps = 5000 // task.validation_data.global_batch_size
    return experiment


def _coco_schedule(run):
    detector, _ = _detector(run)
    steps, falls = detector.steps
    return (
        f"Hardware: 8 GPUs, {detector.batch_size} images a step. Schedule: {steps:,} steps, "
        f"learning rate {detector.learning_rate}, a tenth of it from step {falls[0]:,} and a hundredth from step "
        f"{falls[1]:,}: Detectron's 1x, the paper does not say. Batch norm of the backbone is frozen."
    )


def _coco_start(run):
    return (
        None,
        None,
        (
            "The paper starts from ImageNet weights: set task.init_checkpoint, of a network with non-local blocks "
            "to what training/warm_start.py makes."
        ),
    )


# A run on a data set that is not here is not built yet.
RECIPES = {
    "kinetics400": Recipe(kinetics, _kinetics_schedule, _kinetics_start),
    "charades": Recipe(charades, _charades_schedule, _charades_start),
    "coco": Recipe(coco, _coco_schedule, _coco_start),
}
