"""Peers' weights into our networks, every tensor exactly once, or not at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from keras_nonlocal.weights import affine, reading
from keras_nonlocal.weights.differences import completed, differences
from keras_nonlocal.weights.formats.values import CheckpointError, of_file
from keras_nonlocal.weights.options import checked
from keras_nonlocal.weights.report import Report, Row
from keras_nonlocal.weights.sources import SOURCES
from keras_nonlocal.weights.sources.source import CLASSIFIER

if TYPE_CHECKING:
    import keras

# Layers in a non-local block.
BLOCK_LAYERS = ("theta", "phi", "g", "out", "norm")
WEIGHTS = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")
# What is shown of a long list in an error.
SHOWN = 5


def load(model: keras.Model, path: str | os.PathLike, source: str = "auto", **options) -> Report:
    """Loads a peer's checkpoint into a C2D or I3D, of Keras 3 or tf_keras.

    Args:
      model: built by keras_nonlocal.models, or with keras_nonlocal.tfm's video_resnet backbone in it.
      path: of the checkpoint; see keras_nonlocal.weights.read.
      source: "auto", or whose names or stem it has; see keras_nonlocal.weights.read.
      **options: what the checkpoint was trained with, where its file does not tell and it is not what the source's
        released models have: `stem`, `temporal_stride`, `pairwise`, `pool_size`, `pool_before_projection`, `scale` or
        `group_frames`, as models.video_resnet and NonLocal3D call them.

    Returns:
      A Report: for every variable the tensor it came from, its shape and norm; and the tensors skipped, with reasons.

    Raises:
      CheckpointError: for a file that cannot be read, a model that computes something else than the checkpoint's
        network, or tensors that are missing, surplus or of another shape. The model is then as it was.
      UserError: for an option that there is not, or that cannot have this value.

    Example:

    >>> model = keras_nonlocal.models.I3D(50, non_local={"res3": [1, 3], "res4": [1, 3, 5]})
    >>> print(keras_nonlocal.weights.load(model, "i3d_nonlocal_8x8.pkl"))  # doctest: +SKIP
    """
    options = checked(options)
    return fill(model, reading.read(path, source), options)


def fill(model, checkpoint, options):
    """What `load` does, with a checkpoint that has been read and options that are checked."""
    source, layers = SOURCES[checkpoint.source], _layers(model)
    variables = _variables(model, layers)
    with of_file(checkpoint.path):
        targets, unknown = targets_of(checkpoint)
        skipped = dict(checkpoint.skipped)
        if not any(layer == CLASSIFIER for layer, _ in variables):
            for target in [target for target in targets if target[0] == CLASSIFIER]:
                skipped[targets.pop(target)[0]] = "the model has no classifier"
        check_known(checkpoint, unknown)
        if "places" in layers:  # the end of a model with `window`
            source.check_softmax(checkpoint)
        expected = source.arguments(checkpoint, targets, options)
        if problems := differences(expected, layers, variables):
            raise CheckpointError(f"the model cannot compute what the checkpoint does: {_list(problems, '; ')}.")
        values, rows = {}, []
        for target, variable in variables.items():
            if target in targets:
                name, array = targets.pop(target)
                values[target] = _converted(source, name, array, target, variable)
            else:
                name, values[target] = _of_affine(target, variable, layers, expected)
            rows.append(Row.of("/".join(target), name, values[target]))
        if targets:
            surplus = [name for name, _ in targets.values()]
            raise CheckpointError(f"the model has nowhere to put {_list(surplus)}.")
        notes = _notes(checkpoint, source)
    for target, value in values.items():
        variables[target].assign(value)
    return Report(checkpoint.path, rows, skipped, notes, checkpoint, completed(expected, layers))


def targets_of(checkpoint):
    """{(layer, weight): (name, array)} of a checkpoint's tensors, and the names that have no such place."""
    source, targets, unknown = SOURCES[checkpoint.source], {}, []
    for name, array in checkpoint.tensors.items():
        target = source.target(name)
        if target is None:
            unknown.append(name)
        elif target in targets:
            raise CheckpointError(f"{targets[target][0]} and {name} are the same weight.")
        else:
            targets[target] = name, array
    return affine.fold_blocks(targets, source.affine_suffix, source.norm_epsilon), unknown


def check_known(checkpoint, unknown):
    """Raises CheckpointError if there are tensors whose names no network of the source has."""
    if unknown:
        raise CheckpointError(f"{_list(unknown)} belong to no network of {checkpoint.source}.")


def variables_of(model):
    """{(layer, weight): variable} of a model of keras_nonlocal.models."""
    return _variables(model, _layers(model))


def _layers(model):
    """{name: layer} of all layers with or without weights; the classifier is called `pred` whatever its name."""
    found = {}

    def walk(parent):
        for layer in parent.layers:
            if hasattr(layer, "layers"):
                walk(layer)
            else:
                found[layer.name] = layer

    walk(model)
    if "conv1" not in found or "pool1" not in found:
        raise CheckpointError("The model is none of keras_nonlocal.models, nor has one as its backbone.")
    dense = [name for name, layer in found.items() if type(layer).__name__ == "Dense"]
    if len(dense) == 1:
        found[CLASSIFIER] = found.pop(dense[0])
    return found


def _variables(model, layers):
    """{(layer, weight): variable} of the model."""
    variables = {}
    for name, layer in layers.items():
        parts = {"": layer}
        if hasattr(layer, "pool_before_projection"):
            parts = {f"{part}/": getattr(layer, part) for part in BLOCK_LAYERS if getattr(layer, part) is not None}
            if layer.w_f is not None:
                variables[name, "w_f"] = layer.w_f
        for prefix, part in parts.items():
            for weight in WEIGHTS:
                if getattr(part, weight, None) is not None and hasattr(getattr(part, weight), "assign"):
                    variables[name, prefix + weight] = getattr(part, weight)
    if len(variables) != len(model.weights):
        raise CheckpointError(
            f"The model has {len(model.weights)} variables, {len(variables)} of which are those of a video network."
        )
    return variables


def _notes(checkpoint, source):
    """Sentences on where a checkpoint is from, and what its network gets."""
    notes = [f"SHA-256 {checkpoint.sha256}", f"names of {checkpoint.source}; licence: {checkpoint.licence}"]
    pixels = source.pixels_of(checkpoint)
    return [*notes, f"frames: {pixels}"] if pixels else notes


def _converted(source, name, array, target, variable):
    """A tensor in our layout, which must be the variable's."""
    value = source.layout(array, target, len(variable.shape))
    if value.shape != tuple(variable.shape):
        raise CheckpointError(
            f"{name} has the shape {array.shape}, {value.shape} in our layout, and {'/'.join(target)} of the "
            f"model {tuple(variable.shape)}."
        )
    with np.errstate(over="ignore"):
        value = np.asarray(value, np.float32)
    if not np.isfinite(value).all():
        raise CheckpointError(f"{name} has numbers that float32 does not hold.")
    return value


def _of_affine(target, variable, layers, expected):
    """The statistics that make a batch norm the scale and shift which an affine checkpoint has instead of them."""
    layer, weight = target
    if expected["norm_frozen"] and weight in affine.STATISTICS:
        return affine.statistic(weight, variable.shape, layers[layer].epsilon)
    raise CheckpointError(f"it has nothing for {layer}/{weight} of the model.")


def _list(texts, separator=", "):
    more = f"{separator}and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return separator.join(text[:150] for text in texts[:SHOWN]) + more
