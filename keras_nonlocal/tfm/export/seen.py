"""What a classifier sees of an example: the features that its last layer is given, and the map that they are of."""

import tensorflow as tf
import tf_keras

from keras_nonlocal.serving import constants
from keras_nonlocal.surgery import functional


def feature_network(model: tf_keras.Model) -> tf_keras.Model | None:
    """The part of a classifier before its last layer.

    The other maps of its backbone are left out: a C2D's of one clip of 32 frames at 224 x 224 are 131 MB, and pooled
    they say little that the last one does not.

    Args:
      model: a functional model of a backbone, what pools its maps, and a last Dense layer.

    Returns:
      A model from the classifier's input to {"pooled": (B, C), "res5": the last map}; None of a classifier that is made
      otherwise.
    """
    graph = functional.graph(model)
    calls = functional.calls(graph) if graph is not None else []
    backbones = [call for call in calls if isinstance(call.layer, tf_keras.Model)]
    if len(backbones) != 1 or not isinstance(calls[-1].layer, tf_keras.layers.Dense):
        return None
    (pooled,), (backbone,) = calls[-1].inputs, backbones
    levels = backbone.layer.output
    if not isinstance(levels, dict):
        return None
    maps = dict(zip(sorted(levels), backbone.outputs, strict=True))  # flat in the order of the keys
    return tf_keras.Model(graph.input, {constants.POOLED: pooled, f"res{max(maps)}": maps[max(maps)]})


def features(network: tf_keras.Model, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
    """What a feature_network makes of a batch, float32: 16-bit outputs cannot be written as JSON."""
    return {name: tf.cast(value, tf.float32) for name, value in network(inputs, training=False).items()}
