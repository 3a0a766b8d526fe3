"""Experiments on Kinetics-400: 8 frames of stride 8, and how the paper trained its networks of clips."""

from official.core import config_definitions as cfg
from official.core import exp_factory

from keras_nonlocal import paper
from keras_nonlocal.models import presets, video_resnet
from keras_nonlocal.tfm.backbones import configs
from keras_nonlocal.tfm.experiments import trainers
from keras_nonlocal.tfm.tasks import video_classification

NAMES = ("c2d_kinetics400", "non_local_c2d_kinetics400", "i3d_kinetics400", "non_local_i3d_kinetics400")
FIVE_BLOCKS = paper.NETWORKS["nl_c2d_r50_5"].non_local


def classification(
    num_classes: int,
    backbone: configs.VideoResNet,
    feature_shape: tuple[int, ...],
    temporal_stride: int,
    batch_size: int = 64,
    task: type[video_classification.VideoClassificationConfig] = video_classification.VideoClassificationConfig,
) -> cfg.ExperimentConfig:
    """An experiment on clips, without a trainer.

    Args:
      num_classes: of the classifier.
      backbone: the network.
      feature_shape: (T, H, W, 3) of a clip.
      temporal_stride: distance between its frames, in frames of the video.
      batch_size: clips a step, of all replicas together. Default 64.
      task: class of the task's configuration. Default one label a clip.

    Returns:
      An ExperimentConfig, with the weight decay of the official code.
    """

    def data(is_training):
        return video_classification.DataConfig(
            is_training=is_training,
            drop_remainder=is_training,
            num_classes=num_classes,
            feature_shape=feature_shape,
            temporal_stride=temporal_stride,
            global_batch_size=batch_size,
        )

    experiment = cfg.ExperimentConfig(
        runtime=cfg.RuntimeConfig(),
        task=task(
            model=video_classification.VideoClassificationModel(backbone=configs.Backbone3D(video_resnet=backbone)),
            train_data=data(True),
            validation_data=data(False),
        ),
        restrictions=["task.train_data.is_training != None", "task.validation_data.is_training != None"],
    )
    experiment.task.losses.l2_weight_decay = 1e-4
    return experiment


def eight_frames(backbone: configs.VideoResNet) -> cfg.ExperimentConfig:
    """The official code's 400k-iteration recipe on 8 GPUs, 8 frames of stride 8."""
    experiment = classification(400, backbone, (8, 224, 224, 3), temporal_stride=8)
    experiment.trainer = trainers.falling(400_000, (150_000, 300_000), 0.01, 64, norm_frozen=False)
    return experiment


@exp_factory.register_config_factory("c2d_kinetics400")
def c2d_kinetics400():
    """C2D R50 on Kinetics-400, 8 frames of stride 8."""
    return eight_frames(configs.VideoResNet())


@exp_factory.register_config_factory("non_local_c2d_kinetics400")
def non_local_c2d_kinetics400():
    """C2D R50 with five non-local blocks on Kinetics-400."""
    return eight_frames(configs.VideoResNet(non_local=configs.Placement(**FIVE_BLOCKS)))


@exp_factory.register_config_factory("i3d_kinetics400")
def i3d_kinetics400():
    """I3D R50 (3x1x1) on Kinetics-400, 8 frames of stride 8."""
    return eight_frames(configs.VideoResNet(inflate="3x1x1"))


@exp_factory.register_config_factory("non_local_i3d_kinetics400")
def non_local_i3d_kinetics400():
    """I3D R50 (3x1x1) with five non-local blocks on Kinetics-400."""
    return eight_frames(configs.VideoResNet(inflate="3x1x1", non_local=configs.Placement(**FIVE_BLOCKS)))


def of_paper(network: paper.Network, recipe: paper.Recipe) -> cfg.ExperimentConfig:
    """A network of the paper's tables, trained on Kinetics-400."""
    shape = (recipe.frames, 224, 224, 3)
    experiment = classification(400, backbone_of_paper(network, recipe), shape, recipe.stride, recipe.batch_size)
    experiment.trainer = trainers.of_paper(recipe)
    return experiment


def backbone_of_paper(network: paper.Network, recipe: paper.Recipe) -> configs.VideoResNet:
    """The configuration of a network of clips.

    Long clips are as in the official code: batch norm is frozen, non-local blocks have none, and those of res3 see four
    positions in time together.
    """
    arguments = presets.arguments(network)
    block = configs.NonLocalBlock(**arguments.pop("non_local_block"))
    placement = configs.Placement(**arguments.pop("non_local"))
    group_frames = configs.GroupFrames()
    if recipe.norm_frozen:
        block.norm = None
        group_frames.res3 = 4 if placement.res3 else None
    return configs.VideoResNet(
        block_counts=video_resnet.BLOCK_COUNTS[network.depth],
        non_local=placement,
        non_local_block=block,
        group_frames=group_frames,
        norm_frozen=recipe.norm_frozen,
        **arguments,
    )
