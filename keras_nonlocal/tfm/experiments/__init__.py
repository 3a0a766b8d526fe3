"""Registered experiments: `exp_factory.get_exp_config(name)`, `training/train.py --experiment=name`."""

from official.core import config_definitions as cfg
from official.core import exp_factory
from official.modeling import optimization

from keras_nonlocal.tfm import configs

NAMES = (
    "c2d_kinetics400",
    "non_local_c2d_kinetics400",
    "i3d_kinetics400",
    "non_local_i3d_kinetics400",
    "c2d_demo",
    "non_local_c2d_demo",
)
FIVE_BLOCKS = {"res3": (1, 3), "res4": (1, 3, 5)}  # R50; Table 2c


def video_classification(num_classes, backbone, feature_shape, temporal_stride, batch_size=64):
    """An experiment on clips, without a trainer.

    Args:
      num_classes: of the classifier.
      backbone: a configs.VideoResNet.
      feature_shape: (T, H, W, 3) of a clip.
      temporal_stride: distance between its frames, in frames of the video.
      batch_size: clips a step, of all replicas together. Default 64.

    Returns:
      An ExperimentConfig.
    """

    def data(is_training):
        return configs.DataConfig(
            is_training=is_training,
            drop_remainder=is_training,
            num_classes=num_classes,
            feature_shape=feature_shape,
            temporal_stride=temporal_stride,
            global_batch_size=batch_size,
        )

    return cfg.ExperimentConfig(
        runtime=cfg.RuntimeConfig(),
        task=configs.VideoClassificationTask(
            model=configs.VideoClassificationModel(backbone=configs.Backbone3D(video_resnet=backbone)),
            train_data=data(True),
            validation_data=data(False),
        ),
        restrictions=["task.train_data.is_training != None", "task.validation_data.is_training != None"],
    )


def sgd(learning_rate):
    """Momentum 0.9 with Nesterov, as the official code."""
    return optimization.OptimizationConfig(
        {
            "optimizer": {"type": "sgd", "sgd": {"momentum": 0.9, "nesterov": True}},
            "learning_rate": learning_rate,
        }
    )


def kinetics(backbone, frames=8, temporal_stride=8, batch_size=64, learning_rate=0.01):
    """The official code's 400k-iteration recipe on 8 GPUs.

    Args:
      backbone: a configs.VideoResNet.
      frames: of a clip. Default 8.
      temporal_stride: distance between them. Default 8.
      batch_size: clips a step, of all replicas together. Default 64.
      learning_rate: of the first 150k steps; a tenth of it to 300k, a hundredth after. Default 0.01, for 64 clips.

    Returns:
      An ExperimentConfig.
    """
    experiment = video_classification(400, backbone, (frames, 224, 224, 3), temporal_stride, batch_size)
    experiment.task.losses.l2_weight_decay = 1e-4
    experiment.trainer = trainer(400_000, (150_000, 300_000), learning_rate)
    return experiment


def trainer(train_steps, boundaries, learning_rate):
    """SGD with a learning rate that falls to a tenth at each of the boundaries.

    Args:
      train_steps: in all.
      boundaries: steps at which the rate falls.
      learning_rate: to begin with.

    Returns:
      A TrainerConfig.
    """
    values = [learning_rate / 10**i for i in range(len(boundaries) + 1)]
    return cfg.TrainerConfig(
        train_steps=train_steps,
        steps_per_loop=100,
        summary_interval=100,
        checkpoint_interval=5_000,
        validation_interval=5_000,
        validation_steps=-1,
        optimizer_config=sgd({"type": "stepwise", "stepwise": {"boundaries": list(boundaries), "values": values}}),
    )


@exp_factory.register_config_factory("c2d_kinetics400")
def c2d_kinetics400():
    """C2D R50 on Kinetics-400, 8 frames of stride 8."""
    return kinetics(configs.VideoResNet())


@exp_factory.register_config_factory("non_local_c2d_kinetics400")
def non_local_c2d_kinetics400():
    """C2D R50 with five non-local blocks on Kinetics-400."""
    return kinetics(configs.VideoResNet(non_local=configs.Placement(**FIVE_BLOCKS)))


@exp_factory.register_config_factory("i3d_kinetics400")
def i3d_kinetics400():
    """I3D R50 (3x1x1) on Kinetics-400, 8 frames of stride 8."""
    return kinetics(configs.VideoResNet(inflate="3x1x1"))


@exp_factory.register_config_factory("non_local_i3d_kinetics400")
def non_local_i3d_kinetics400():
    """I3D R50 (3x1x1) with five non-local blocks on Kinetics-400."""
    return kinetics(configs.VideoResNet(inflate="3x1x1", non_local=configs.Placement(**FIVE_BLOCKS)))


def _demo(non_local):
    """A narrow shallow C2D for clips of 8 frames of 40 x 40, two classes; see training/configs/demo_*.yaml."""
    backbone = configs.VideoResNet(
        block_counts=(1, 2, 1, 1),
        width=16,
        non_local=configs.Placement(**non_local),
        # The maps are 5 x 5 and smaller: there is nothing to save by pooling the keys.
        non_local_block=configs.NonLocalBlock(pool_size=(1, 1, 1), kernel_initializer="he_normal"),
    )
    experiment = video_classification(2, backbone, (8, 40, 40, 3), temporal_stride=2)
    experiment.task.model.dropout_rate = 0.0
    experiment.task.losses.l2_weight_decay = 1e-4
    for data in (experiment.task.train_data, experiment.task.validation_data):
        data.min_image_size, data.max_image_size = 40, 43
        data.random_flip = False
    experiment.trainer = cfg.TrainerConfig(
        steps_per_loop=50, summary_interval=50, validation_steps=-1, optimizer_config=sgd({"type": "cosine"})
    )
    return experiment


@exp_factory.register_config_factory("c2d_demo")
def c2d_demo():
    """The demo's baseline: frames meet in average pooling only."""
    return _demo({})


@exp_factory.register_config_factory("non_local_c2d_demo")
def non_local_c2d_demo():
    """The demo's C2D with non-local blocks."""
    return _demo({"res3": (0, 1), "res4": (0,)})
