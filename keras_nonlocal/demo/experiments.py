"""The demo's experiments; importing this registers them, as `--register=keras_nonlocal.demo.experiments` does."""

from official.core import exp_factory

from keras_nonlocal.tfm import trainer
from keras_nonlocal.tfm.backbones import configs
from keras_nonlocal.tfm.experiments import kinetics, trainers


def _demo(non_local):
    """A narrow shallow C2D for clips of 8 frames of 40 x 40, two classes; see keras_nonlocal/configs/demo_*.yaml."""
    backbone = configs.VideoResNet(
        block_counts=(1, 2, 1, 1),
        width=16,
        non_local=configs.Placement(**non_local),
        # The maps are 5 x 5 and smaller: there is nothing to save by pooling the keys.
        non_local_block=configs.NonLocalBlock(pool_size=(1, 1, 1), kernel_initializer="he_normal"),
    )
    experiment = kinetics.classification(2, backbone, (8, 40, 40, 3), temporal_stride=2)
    experiment.task.model.dropout_rate = 0.0
    for data in (experiment.task.train_data, experiment.task.validation_data):
        data.min_image_size, data.max_image_size = 40, 43
        data.random_flip = False
    experiment.trainer = trainer.TrainerConfig(
        steps_per_loop=50, summary_interval=50, validation_steps=-1, optimizer_config=trainers.sgd({"type": "cosine"})
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
