"""Weights of ResNets of images, tfm's and keras.applications', named as in the paper and scaled as ours want them."""

import dataclasses
import warnings
import zipfile

import keras
import numpy as np
from official.vision.modeling.backbones import resnet
from official.vision.ops import preprocess_ops

from keras_nonlocal import errors
from keras_nonlocal.models import video_resnet
from keras_nonlocal.tfm.backbones import video_resnet as video_backbones
from keras_nonlocal.tfm.tasks import video_input
from keras_nonlocal.tfm.warm_start import checkpoints

KERAS_FILES = (".h5", ".hdf5", ".keras")
WIDTH = 64  # of the stem, and what the stages multiply
KERAS_EPSILON = 1.001e-5
KERAS_MODELS = {(3, 4, 6, 3): "ResNet50", (3, 4, 23, 3): "ResNet101", (3, 8, 36, 3): "ResNet152"}
# What keras.applications takes off a pixel of each channel (red, green, blue); it does not scale.
KERAS_MEAN = (123.68, 116.779, 103.939)
# The convolutions of a bottleneck block: our name, tfm's attributes in blocks of images and of clips, that of the norm,
# the number in keras.applications' name.
PARTS = (
    ("branch1", "_shortcut", "_shortcut_conv", "_norm0", 0),
    ("branch2a", "_conv1", "_temporal_conv", "_norm1", 1),
    ("branch2b", "_conv2", "_spatial_conv", "_norm2", 2),
    ("branch2c", "_conv3", "_expand_conv", "_norm3", 3),
)
# What tfm's blocks may have besides, by attribute, which a plain ResNet has no weights for.
GATES = ("_self_gating", "_squeeze_excitation")
# (mean, standard deviation) of red, green and blue, by which pixels are scaled.
CLIP_PIXELS = (video_input.PIXEL_MEAN, video_input.PIXEL_STD)
IMAGE_PIXELS = (preprocess_ops.MEAN_RGB, preprocess_ops.STDDEV_RGB)


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


def targets(backbone, block_counts):
    """The convolutions of a network of bottleneck blocks, each with its norm.

    Args:
      backbone: a video_resnet, non_local_resnet or non_local_resnet_3d.
      block_counts: residual blocks in each of its stages.

    Returns:
      {name of the convolution in models.video_resnet: (convolution, norm)}.
    """
    if isinstance(backbone, video_backbones.VideoResNet):
        convs = [layer for layer in backbone.layers if type(layer).__name__ == "Conv3D"]
        return {conv.name: (conv, backbone.get_layer(f"{conv.name}_bn")) for conv in convs}
    stem, norm, *blocks = [layer for layer in backbone.layers if layer.weights]
    found = {"conv1": (stem, norm)}
    blocks = [block for block in blocks if hasattr(block, "_norm1")]
    for block, name in zip(blocks, _block_names(block_counts), strict=True):
        for part, of_images, of_clips, norm, _ in PARTS:
            conv = getattr(block, of_images, None) or getattr(block, of_clips, None)
            if conv is not None and conv.weights:
                found[f"{name}_{part}"] = conv, getattr(block, norm)
    return found


def gates(backbone):
    """The self gating and squeeze and excitation of tfm's blocks."""
    parts = [getattr(layer, name, None) for layer in backbone.layers for name in GATES]
    return [part for part in parts if part is not None]


def read_tfm(path, block_counts):
    """Reads a checkpoint of tfm's ResNet.

    Args:
      path: prefix of the checkpoint, of a training run or with the `backbone` alone.
      block_counts: residual blocks in each stage, which say the depth.

    Returns:
      {name of a convolution of models.video_resnet: Unit}, for pixels as clips have them.

    Raises:
      UserError: if tfm has no ResNet of this depth, or the checkpoint is of another network.
    """
    trunk = resnet.ResNet(_model_id(block_counts))
    checkpoints.read_backbone(trunk, path)
    names = {id(variable): name.rpartition("/")[0] for name, _, variable in checkpoints.named_variables(trunk)}
    units = {
        name: _unit(conv, norm, (names[id(conv.kernel)], names[id(norm.gamma)]))
        for name, (conv, norm) in targets(trunk, block_counts).items()
    }
    units["conv1"] = _for_pixels(units["conv1"], IMAGE_PIXELS, CLIP_PIXELS)
    return units


def read_keras(path, block_counts, epsilon, pixels):
    """Reads a weights or model file of keras.applications' ResNet50, ResNet101 or ResNet152, with or without top.

    Args:
      path: .h5, .weights.h5 or .keras.
      block_counts: residual blocks in each stage, which say the depth.
      epsilon: of the batch norms that will take the weights.
      pixels: by what those are scaled that the network sees, CLIP_PIXELS or IMAGE_PIXELS.

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
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)  # Keras would drop the imaginary parts
            model.load_weights(path, **({"by_name": True} if _is_legacy(path) else {}))
    except (ValueError, TypeError, KeyError, OSError, zipfile.BadZipFile, np.exceptions.ComplexWarning) as error:
        raise errors.UserError(
            f"{path} is no file of {KERAS_MODELS[block_counts]}: {errors.first_line(error)}"
        ) from error
    missing = sorted({layer.name for layer in model.layers for w in layer.get_weights() if np.isnan(w).any()})
    if missing:
        raise errors.UserError(f"{path} is no file of {KERAS_MODELS[block_counts]}: it lacks {', '.join(missing[:5])}")
    if not all(np.isfinite(weight).all() for weight in model.get_weights()):
        raise errors.UserError(f"{path} has numbers that are not finite.")

    def unit(name):
        conv, norm = model.get_layer(f"{name}_conv"), model.get_layer(f"{name}_bn")
        found = _unit(conv, norm, (conv.name, norm.name))
        variance = np.maximum(found.variance + (KERAS_EPSILON - epsilon), 0)
        # A bias before a batch norm moves the mean, and nothing else.
        return dataclasses.replace(found.with_shift(np.asarray(conv.bias)), variance=variance)

    stem = unit("conv1")
    # These networks take blue, green, red.
    stem = dataclasses.replace(stem, kernel=stem.kernel[:, :, ::-1])
    units = {"conv1": _for_pixels(stem, (KERAS_MEAN, 1.0), pixels)}
    for name in _block_names(block_counts):
        stage, index = name.removeprefix("res").split("_")
        for part, *_, number in PARTS:
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


def _for_pixels(stem, before, after):
    """A first convolution that takes pixels scaled by `before`, (mean, deviation), to one that takes them by `after`.

    Exact but at the borders, where the padding stands for the mean before and after.
    """
    (mean, std), (new_mean, new_std) = [[np.broadcast_to(part, [3]) for part in pixels] for pixels in (before, after)]
    shift = np.einsum("hwio,i->o", stem.kernel, (new_mean - mean) / std)
    scaled = stem.kernel * (new_std / std)[:, None]
    return dataclasses.replace(stem, kernel=scaled.astype("float32")).with_shift(shift.astype("float32"))


def _is_legacy(path):
    return path.endswith((".h5", ".hdf5")) and not path.endswith(".weights.h5")
