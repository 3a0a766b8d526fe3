"""Peers' weights into our networks, every tensor exactly once, or not at all."""

import dataclasses

import numpy as np

from keras_nonlocal.models import video_resnet
from keras_nonlocal.weights import affine, names, reading, shapes, variants
from keras_nonlocal.weights.formats.values import CheckpointError

PARTS = ("theta", "phi", "g", "out", "norm")
WEIGHTS = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")
# What is shown of a long list in an error.
SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Row:
    """One variable of the model: its path, where its values come from, its shape and its norm."""

    variable: str
    tensor: str
    shape: tuple
    norm: float


@dataclasses.dataclass(frozen=True)
class Report:
    """What went where.

    Args:
      checkpoint: the reading.Checkpoint.
      rows: a Row for every variable of the model.
      skipped: {tensor: why it is not in the model}.
      arguments: of the network; see variants.arguments.
    """

    checkpoint: reading.Checkpoint
    rows: list
    skipped: dict
    arguments: dict

    def __str__(self):
        lines = [
            f"{self.checkpoint.path}",
            f"  SHA-256 {self.checkpoint.sha256}",
            f"  names of {self.checkpoint.source}; licence: {self.checkpoint.licence}",
            f"  {len(self.rows)} variables, {len(self.skipped)} tensors skipped",
        ]
        said = variants.configured(self.checkpoint)
        if said and said.pixels:
            lines.append(f"  frames as its configuration has them: {said.pixels}")
        width = max(len(row.variable) for row in self.rows)
        source = max(len(row.tensor) for row in self.rows)
        for row in self.rows:
            shape = "x".join(map(str, row.shape)) or "scalar"
            lines.append(f"  {row.variable:<{width}}  {row.tensor:<{source}}  {shape:>18}  norm {row.norm:.6g}")
        lines += [f"  skipped {name}: {why}" for name, why in self.skipped.items()]
        return "\n".join(lines)


def load(model, path, source="auto", **options):
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

    Example:

    >>> model = keras_nonlocal.models.I3D(50, non_local={"res3": [1, 3], "res4": [1, 3, 5]})
    >>> print(keras_nonlocal.weights.load(model, "i3d_nonlocal_8x8.pkl"))  # doctest: +SKIP
    """
    return fill(model, reading.read(path, source), options)


def fill(model, checkpoint, options):
    """What `load` does, with a checkpoint that has been read."""
    path = checkpoint.path
    targets, unknown = targets_of(checkpoint)
    skipped = dict(checkpoint.skipped)
    layers = _layers(model)
    variables = _variables(model, layers)
    if not any(layer == names.CLASSIFIER for layer, _ in variables):
        for target in [target for target in targets if target[0] == names.CLASSIFIER]:
            skipped[targets.pop(target)[0]] = "the model has no classifier"
    check_known(checkpoint, unknown)
    if "places" in layers:  # the end of a model with `window`
        variants.check_activation(checkpoint)
    expected = variants.arguments(checkpoint, targets, options)
    problems = _placement_differences(expected, variables) + _size_differences(expected, layers, variables)
    problems = problems or variants.differences(expected, layers)
    if problems:
        raise CheckpointError(f"{path}: the model cannot compute what the checkpoint does: {_list(problems, '; ')}.")
    values, rows = {}, []
    for target, variable in variables.items():
        if target in targets:
            name, array = targets.pop(target)
            ours = checkpoint.source == reading.OURS
            values[target] = _converted(path, name, array, target, variable, ours)
        else:
            name, values[target] = _of_affine(path, target, variable, layers, expected)
        norm = float(np.linalg.norm(np.asarray(values[target], np.float64)))
        rows.append(Row("/".join(target), name, tuple(variable.shape), norm))
    if targets:
        surplus = [name for name, _ in targets.values()]
        raise CheckpointError(f"{path}: the model has nowhere to put {_list(surplus)}.")
    for target, value in values.items():
        variables[target].assign(value)
    return Report(checkpoint, rows, skipped, variants.completed(expected, layers))


def targets_of(checkpoint):
    """{(layer, weight): (name, array)} of a checkpoint's tensors, and the names that have no such place."""
    targets, unknown = {}, []
    for name, array in checkpoint.tensors.items():
        if checkpoint.source == reading.OURS:
            target = tuple(name.partition("/")[::2])
        else:
            target = names.target(checkpoint.source, name)
        if target is None and checkpoint.source == "slowfast":
            target = names.target("official", name)
        if target is None:
            unknown.append(name)
        elif target in targets:
            raise CheckpointError(f"{checkpoint.path}: {targets[target][0]} and {name} are the same weight.")
        else:
            targets[target] = name, array
    return affine.fold_blocks(targets), unknown


def check_known(checkpoint, unknown):
    """Raises CheckpointError if there are tensors whose names no network of the source has."""
    if unknown:
        raise CheckpointError(f"{checkpoint.path}: {_list(unknown)} belong to no network of {checkpoint.source}.")


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
        found[names.CLASSIFIER] = found.pop(dense[0])
    return found


def _variables(model, layers):
    """{(layer, weight): variable} of the model."""
    variables = {}
    for name, layer in layers.items():
        parts = {"": layer}
        if hasattr(layer, "pool_before_projection"):
            parts = {f"{part}/": getattr(layer, part) for part in PARTS if getattr(layer, part) is not None}
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


def _placement_differences(expected, variables):
    """What differs in the numbers of residual and non-local blocks."""
    found = []
    counts, placement = variants.structure({layer for layer, _ in variables})
    for stage, ours, count in zip(video_resnet.STAGES, counts, expected["block_counts"], strict=True):
        if ours != count:
            found.append(f"`block_counts` has {ours} for {stage} and must have {count}")
        placed, must = placement.get(stage, []), expected["non_local"].get(stage, [])
        if placed != must:
            found.append(f"`non_local` has {stage}: {placed} and must have {stage}: {must}")
    return found


def _size_differences(expected, layers, variables):
    """What differs in which weights there are and how large they are, by the name of the option."""
    found = []

    def compare(option, has, must):
        if has != must:
            found.append(f"`{option}` is {has!r} and must be {must!r}")

    kernel = variables["conv1", "kernel"].shape
    compare("width", kernel[-1], expected["width"])
    frames = {layer: variable.shape[0] for (layer, weight), variable in variables.items() if weight == "kernel"}
    compare("inflate", variants.inflation(frames), expected["inflate"])
    if (names.CLASSIFIER, "kernel") in variables:
        compare("classes", variables[names.CLASSIFIER, "kernel"].shape[-1], expected.get("classes"))
    for layer in layers.values():
        if hasattr(layer, "pool_before_projection"):
            block = expected["non_local_block"]
            compare("norm", "batch_norm" if layer.norm is not None else None, block.get("norm"))
            compare("use_bias", layer.use_bias, block.get("use_bias"))
            compare("use_out_bias", layer.use_out_bias, block.get("use_out_bias"))
    return list(dict.fromkeys(found))


def _converted(path, name, array, target, variable, ours):
    """A tensor in our layout, which must be the variable's."""
    value = array if ours else shapes.in_our_layout(array, target, len(variable.shape))
    if value.shape != tuple(variable.shape):
        raise CheckpointError(
            f"{path}: {name} has the shape {array.shape}, {value.shape} in our layout, and {'/'.join(target)} of the "
            f"model {tuple(variable.shape)}."
        )
    with np.errstate(over="ignore"):
        value = np.asarray(value, np.float32)
    if not np.isfinite(value).all():
        raise CheckpointError(f"{path}: {name} has numbers that float32 does not hold.")
    return value


def _of_affine(path, target, variable, layers, expected):
    """The statistics that make a batch norm the scale and shift which an affine checkpoint has instead of them."""
    layer, weight = target
    if expected["norm_frozen"] and weight in affine.STATISTICS:
        return affine.statistic(weight, variable.shape, layers[layer].epsilon)
    raise CheckpointError(f"{path}: it has nothing for {layer}/{weight} of the model.")


def _list(texts, separator=", "):
    more = f"{separator}and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return separator.join(text[:150] for text in texts[:SHOWN]) + more
