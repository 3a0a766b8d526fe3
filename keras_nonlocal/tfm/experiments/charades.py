"""How the paper trained on Charades: 157 classes, any number to a clip, from a network trained on Kinetics-400."""

from official.core import config_definitions as cfg

from keras_nonlocal import paper
from keras_nonlocal.tfm.experiments import kinetics, trainers
from keras_nonlocal.tfm.tasks import multi_label


def of_paper(network: paper.Network, recipe: paper.Recipe) -> cfg.ExperimentConfig:
    """A network of Table 4, at 288 x 288 (section 5.2).

    The paper gives neither weight decay nor dropout: those of Kinetics. Nor does it say what a clip shows of a video
    that is too short: SlowFast's clips of Charades stand still there.
    """
    backbone, shape = kinetics.backbone_of_paper(network, recipe), (recipe.frames, 288, 288, 3)
    experiment = kinetics.classification(
        157, backbone, shape, recipe.stride, recipe.batch_size, multi_label.MultiLabelConfig
    )
    train, validation = experiment.task.train_data, experiment.task.validation_data
    train.is_multilabel = validation.is_multilabel = True
    train.outside_frames = "clamp"
    # The crop is where that of Kinetics would be, seen larger: short sides are 288 / 224 times 256 to 320.
    train.min_image_size, train.max_image_size = 329, 411
    validation.feature_shape, validation.min_image_size = (recipe.frames, 320, 320, 3), 320
    experiment.trainer = trainers.of_paper(recipe)
    return experiment
