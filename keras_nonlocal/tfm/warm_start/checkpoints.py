"""Checkpoints of backbones and detectors: read whole or not at all, and the names of the variables in them."""

import collections

import tensorflow as tf
import tf_keras

from keras_nonlocal import errors
from keras_nonlocal.layers.non_local import NonLocalMixin

_VALUE, _SLOT = "/.ATTRIBUTES/VARIABLE_VALUE", "/.OPTIMIZER_SLOT/"
# What a run saves beside the parts of its model.
_OF_RUNS = {"model", "optimizer", "global_step", "save_counter", "_CHECKPOINTABLE_OBJECT_GRAPH"}


def prefix(path, argument="the checkpoint"):
    """The prefix of the checkpoint at a path: a prefix, or a folder, whose newest is meant.

    Raises:
      UserError: if there is none.
    """
    found = tf.train.latest_checkpoint(path) if tf.io.gfile.isdir(path) else path
    if not found or not tf.io.gfile.exists(f"{found}.index"):
        raise errors.UserError(
            f"{argument} {path} is no checkpoint: give the folder or the prefix of one, without .index or .data-*."
        )
    return found


def is_of_images(path):
    """Whether no kernel in a checkpoint, given by its prefix, goes over time."""
    shapes = tf.train.load_checkpoint(path).get_variable_to_shape_map()
    return all(len(shape) < 5 for shape in shapes.values())


def norms_blocks(path):
    """Whether the non-local blocks of the backbone in a checkpoint, given by its prefix, have norms."""
    names = tf.train.load_checkpoint(path).get_variable_to_shape_map()
    return any(name.startswith("backbone/") and "/norm/gamma/" in name for name in names)


def saved_parts(path):
    """What the model in a checkpoint, given by its prefix, consists of, without what an optimizer keeps of it.

    Returns:
      {part: {name of a variable, which begins with the part's: its shape}}, as {"backbone": ..., "decoder": ...}.
    """
    parts = collections.defaultdict(dict)
    for key, shape in tf.train.load_checkpoint(path).get_variable_to_shape_map().items():
        part = key.partition("/")[0]
        if part not in _OF_RUNS and _SLOT not in key:
            parts[part][key.removesuffix(_VALUE)] = tuple(shape)
    return dict(parts)


def values(path, names):
    """(name, array) for variables of a checkpoint that is given by its prefix."""
    reader = tf.train.load_checkpoint(path)
    for name in names:
        yield name, reader.get_tensor(f"{name}{_VALUE}")


def read_backbone(backbone, path):
    """Reads the `backbone` of a checkpoint, given by its prefix, into one of the same network.

    Raises:
      UserError: if the checkpoint lacks a variable of it, or has one of another shape.
    """
    try:
        tf.train.Checkpoint(backbone=backbone).read(path).expect_partial().assert_existing_objects_matched()
    except (AssertionError, ValueError, tf.errors.OpError) as error:
        raise errors.UserError(
            f"{path} is of another network than the configuration, or holds no backbone: {errors.first_line(error)}"
        ) from error


def weighted_layers(part):
    """The layers that a checkpoint calls layer_with_weights-0, -1, ...: of a functional model, otherwise none."""
    return [layer for layer in part.layers if layer.weights] if isinstance(part, tf_keras.Model) else []


def variables(layer):
    """The variables of a layer by the names that a checkpoint gives them, as {"_conv1/kernel": variable}."""
    view, named, seen = tf.train.TrackableView(layer), {}, {id(layer)}
    # Breadth first, as TensorFlow does it: something that is reached in two ways bears its shortest name.
    waiting = collections.deque([(layer, ())])
    while waiting:
        trackable, names = waiting.popleft()
        if isinstance(trackable, tf.Variable):
            named["/".join(names)] = trackable
            continue
        for name, child in view.children(trackable).items():
            if id(child) not in seen:
                seen.add(id(child))
                waiting.append((child, (*names, name)))
    return named


def named_variables(part, item="backbone"):
    """(name in its checkpoint, name of its layer or None, variable) for every variable of a part of a model.

    Args:
      part: a functional model; or a layer, or a list of layers, of whose variables no layer is named.
      item: what the checkpoint calls it.
    """
    layers = {f"layer_with_weights-{index}": layer for index, layer in enumerate(weighted_layers(part))}
    if not layers:
        yield from ((f"{item}/{name}", None, variable) for name, variable in variables(part).items())
    for key, layer in layers.items():
        for name, variable in variables(layer).items():
            yield f"{item}/{key}/{name}", layer.name, variable


def blocks(model):
    """The non-local blocks of a model or a layer, in order."""
    return [layer for layer in model._flatten_layers() if isinstance(layer, NonLocalMixin)]
