"""Weights of ResNets of images, tfm's and keras.applications', named and scaled as the video networks want them."""

import dataclasses

import keras
import numpy as np
from official.vision.modeling.backbones import resnet
from official.vision.modeling.layers import nn_blocks
from official.vision.ops import preprocess_ops

from keras_nonlocal import errors
from keras_nonlocal.models import video_resnet
from keras_nonlocal.tfm import checkpoints, video_input

KERAS_FILES = (".h5", ".hdf5", ".keras")
WIDTH = 64  # of the stem, and what the stages multiply
KERAS_EPSILON = 1.001e-5
KERAS_MODELS = {(3, 4, 6, 3): "ResNet50", (3, 4, 23, 3): "ResNet101", (3, 8, 36, 3): "ResNet152"}
# What keras.applications takes off a pixel of each channel (red, green, blue); it does not scale.
KERAS_MEAN = (123.68, 116.779, 103.939)
# The convolutions of a bottleneck block: our name, tfm's attributes, the number in keras.applications' name.
PARTS = (
    ("branch1", "_shortcut", "_norm0", 0),
    ("branch2a", "_conv1", "_norm1", 1),
    ("branch2b", "_conv2", "_norm2", 2),
    ("branch2c", "_conv3", "_norm3", 3),
)


@dataclasses.dataclass(frozen=True)
class Unit:
    """A convolution and the batch norm behind it.

    Args:
      kernel: (k, k, C, C').
      gamma, beta, mean, variance: (C',), of the norm.
      sources: names of the convolution and the norm where they come from.
    """

    kernel: np.ndarray
    gamma: np.ndarray
    beta: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    sources: tuple[str, str]

    def with_shift(self, shift):
        """The unit of a convolution that gives `shift`, (C',), less than this one's."""
        return dataclasses.replace(self, mean=self.mean - shift)


def read_tfm(path, block_counts):
    """Reads a checkpoint of tfm's ResNet.

    Args:
      path: prefix of the checkpoint, of a training run or with the `backbone` alone.
      block_counts: residual blocks in each stage, which say the depth.

    Returns:
      {name of a convolution of models.video_resnet: Unit}.

    Raises:
      UserError: if tfm has no ResNet of this depth, or the checkpoint is of another network.
    """
    trunk = resnet.ResNet(_model_id(block_counts))
    checkpoints.read_backbone(trunk, path)
    stem, norm, *blocks = [layer for layer in trunk.layers if layer.weights]
    assert all(isinstance(block, nn_blocks.BottleneckBlock) for block in blocks)

    def source(index, *names):
        return "/".join(["backbone", f"layer_with_weights-{index}", *names])

    units = {"conv1": _unit(stem, norm, (source(0), source(1)))}
    for index, (block, name) in enumerate(zip(blocks, _block_names(block_counts), strict=True), start=2):
        for part, conv, norm, _ in PARTS:
            if hasattr(block, conv):
                sources = source(index, conv), source(index, norm)
                units[f"{name}_{part}"] = _unit(getattr(block, conv), getattr(block, norm), sources)
    units["conv1"] = _for_our_pixels(units["conv1"], preprocess_ops.MEAN_RGB, preprocess_ops.STDDEV_RGB)
    return units


def read_keras(path, block_counts, epsilon):
    """Reads a weights or model file of keras.applications' ResNet50, ResNet101 or ResNet152, with or without top.

    Args:
      path: .h5, .weights.h5 or .keras.
      block_counts: residual blocks in each stage, which say the depth.
      epsilon: of the batch norms that will take the weights.

    Returns:
      {name of a convolution of models.video_resnet: Unit}. The biases of the convolutions, and the difference of the
      two epsilons, are in the moving statistics.

    Raises:
      UserError: if there is no ResNet of this depth, or the file does not hold all of it.
    """
    block_counts = tuple(block_counts)
    if block_counts not in KERAS_MODELS:
        raise errors.UserError(
            f"keras.applications has no ResNet of block_counts {list(block_counts)}: it has "
            + ", ".join(f"{name} {list(counts)}" for counts, name in KERAS_MODELS.items())
        )
    model = getattr(keras.applications, KERAS_MODELS[block_counts])(weights=None, include_top=False)
    # A file by name fills what it has; what it has not stays recognisable.
    model.set_weights([np.full(weight.shape, np.nan, "float32") for weight in model.get_weights()])
    try:
        model.load_weights(path, **({"by_name": True} if _is_legacy(path) else {}))
    except (ValueError, KeyError, OSError) as error:
        raise errors.UserError(f"{path} is no file of {KERAS_MODELS[block_counts]}: {_first_line(error)}") from error
    missing = sorted({layer.name for layer in model.layers for w in layer.get_weights() if np.isnan(w).any()})
    if missing:
        raise errors.UserError(f"{path} is no file of {KERAS_MODELS[block_counts]}: it lacks {', '.join(missing[:5])}")

    def unit(name):
        conv, norm = model.get_layer(f"{name}_conv"), model.get_layer(f"{name}_bn")
        found = _unit(conv, norm, (conv.name, norm.name))
        variance = np.maximum(found.variance + (KERAS_EPSILON - epsilon), 0)
        # A bias before a batch norm moves the mean, and nothing else.
        return dataclasses.replace(found.with_shift(np.asarray(conv.bias)), variance=variance)

    stem = unit("conv1")
    # These networks take blue, green, red.
    units = {"conv1": _for_our_pixels(dataclasses.replace(stem, kernel=stem.kernel[:, :, ::-1]), KERAS_MEAN, 1.0)}
    for name in _block_names(block_counts):
        stage, index = name.removeprefix("res").split("_")
        for part, _, _, number in PARTS:
            if number or index == "0":
                units[f"{name}_{part}"] = unit(f"conv{stage}_block{int(index) + 1}_{number}")
    return units


def inflate(kernel, frames):
    """A kernel of images over time, repeated and divided by the number of frames.

    Args:
      kernel: (k, k, C, C').
      frames: temporal size.

    Returns:
      (frames, k, k, C, C'); on a clip of one image over and over it gives what `kernel` gives on the image.
    """
    return np.repeat(kernel[None], frames, axis=0) / frames


def _model_id(block_counts):
    for model_id, stages in resnet.RESNET_SPECS.items():
        if stages[0][0] == "bottleneck" and [count for _, _, count in stages] == list(block_counts):
            return model_id
    raise errors.UserError(f"tfm has no ResNet of bottleneck blocks with block_counts {list(block_counts)}")


def _block_names(block_counts):
    stages = zip(video_resnet.STAGES, block_counts, strict=True)
    return [f"{stage}_{index}" for stage, count in stages for index in range(count)]


def _unit(conv, norm, sources):
    values = [norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance]
    return Unit(np.asarray(conv.kernel), *(np.asarray(value) for value in values), sources)


def _for_our_pixels(stem, mean, std):
    """A first convolution that takes (pixel - mean) / std to one that takes pixels as video_input scales them.

    Exact but at the borders, where the padding stands for a grey pixel before and after.
    """
    mean, std = np.broadcast_to(mean, [3]), np.broadcast_to(std, [3])
    shift = np.einsum("hwio,i->o", stem.kernel, (video_input.PIXEL_MEAN - mean) / std)
    scaled = stem.kernel * (video_input.PIXEL_STD / std)[:, None]
    return dataclasses.replace(stem, kernel=scaled.astype("float32")).with_shift(shift.astype("float32"))


def _is_legacy(path):
    return path.endswith((".h5", ".hdf5")) and not path.endswith(".weights.h5")


def _first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0]
