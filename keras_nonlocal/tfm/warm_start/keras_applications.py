"""keras.applications' ResNet50, ResNet101 and ResNet152, from files that either Keras has written."""

import dataclasses
import warnings
import zipfile

import keras
import numpy as np

from keras_nonlocal import errors
from keras_nonlocal.tfm.warm_start import image_resnets
from keras_nonlocal.weights.formats import keras_files

FILES = (".h5", ".hdf5", ".keras")
EPSILON = 1.001e-5
MODELS = {(3, 4, 6, 3): "ResNet50", (3, 4, 23, 3): "ResNet101", (3, 8, 36, 3): "ResNet152"}
# What is taken off a pixel of each channel (red, green, blue), and that it is not scaled.
PIXELS = ((123.68, 116.779, 103.939), 1.0)
# The number of a convolution in the name of its layer.
NUMBERS = {"branch1": 0, "branch2a": 1, "branch2b": 2, "branch2c": 3}
STRIDES_DIFFER = (
    "keras.applications strides on the first 1x1 convolution of res3, res4 and res5, this network on the 3x3: from "
    "res3 on it computes something else with these weights until it is trained"
)


def read(path, block_counts, epsilon, pixels):
    """Reads a weights or model file, with or without top. Of a model, nothing but the weights is looked at.

    Args:
      path: .h5, .weights.h5 or .keras.
      block_counts: residual blocks in each stage, which say the depth.
      epsilon: of the batch norms that will take the weights.
      pixels: by what those are scaled that the network sees, image_resnets.CLIP_PIXELS or IMAGE_PIXELS.

    Returns:
      {name of a convolution of models.video_resnet: image_resnets.Unit}. The biases of the convolutions, and the
      difference of the two epsilons, are in the moving statistics.

    Raises:
      UserError: if there is no ResNet of this depth, or the file does not hold all of it.
    """
    block_counts = tuple(block_counts)
    if block_counts not in MODELS:
        raise errors.UserError(
            f"keras.applications has no ResNet of block_counts {list(block_counts)}: it has "
            + ", ".join(f"{name} {list(counts)}" for counts, name in MODELS.items())
        )
    model = _filled(path, MODELS[block_counts])

    def unit(name):
        conv, norm = model.get_layer(f"{name}_conv"), model.get_layer(f"{name}_bn")
        found = image_resnets.unit(conv, norm, (conv.name, norm.name))
        variance = np.maximum(found.variance + (EPSILON - epsilon), 0)
        # A bias before a batch norm moves the mean, and nothing else.
        return dataclasses.replace(found.with_shift(np.asarray(conv.bias)), variance=variance)

    stem = unit("conv1")
    # These networks take blue, green, red.
    stem = dataclasses.replace(stem, kernel=stem.kernel[:, :, ::-1])
    units = {"conv1": image_resnets.for_pixels(stem, PIXELS, pixels)}
    for name in image_resnets.block_names(block_counts):
        stage, index = name.removeprefix("res").split("_")
        for part, number in NUMBERS.items():
            if number or index == "0":
                units[f"{name}_{part}"] = unit(f"conv{stage}_block{int(index) + 1}_{number}")
    return units


def _filled(path, name):
    """keras.applications' model of this name without top, with the weights of a file."""
    model = getattr(keras.applications, name)(weights=None, include_top=False)
    # A file by name fills what it has; what it has not stays recognisable.
    model.set_weights([np.full(weight.shape, np.nan, "float32") for weight in model.get_weights()])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a file of another model Keras lists every layer
            warnings.simplefilter("error", np.exceptions.ComplexWarning)  # Keras would drop the imaginary parts
            model.load_weights(path, **({"by_name": True} if _is_legacy(path) else {}))
    except (OSError, zipfile.BadZipFile) as error:
        raise errors.UserError(f"{path} cannot be read as a file of Keras ({errors.first_line(error)})") from error
    except (ValueError, TypeError, KeyError, np.exceptions.ComplexWarning) as error:
        raise _other(path, name) from error
    weights = model.get_weights()
    if any(np.isnan(weight).any() for weight in weights):
        raise _other(path, name)
    if not all(np.isfinite(weight).all() for weight in weights):
        raise errors.UserError(f"{path} has numbers that are not finite.")
    return model


def _other(path, name):
    return errors.UserError(
        f"{path} does not hold all weights of keras.applications' {name}, which the configuration asks for: it is "
        f"{keras_files.describe(path)}; give a .h5, .weights.h5 or .keras file of {name}, with or without top"
    )


def _is_legacy(path):
    return path.endswith((".h5", ".hdf5")) and not path.endswith(".weights.h5")
