"""Checkpoints of backbones: read whole or not at all, and the names of the variables in them."""

import collections

import tensorflow as tf

from keras_nonlocal import errors


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


def weighted_layers(backbone):
    """The layers of a functional model that its checkpoint calls layer_with_weights-0, -1, ..."""
    return [layer for layer in backbone.layers if layer.weights]


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


def named_variables(backbone):
    """(name in its checkpoint, layer, variable) for every variable of a functional model."""
    for index, layer in enumerate(weighted_layers(backbone)):
        for name, variable in variables(layer).items():
            yield f"backbone/layer_with_weights-{index}/{name}", layer, variable
