"""Reads the graph of a functional model, of either Keras, and builds it again with other layers.

Neither Keras shows its graph in public. This is the one module that knows what they call it inside.
"""

import dataclasses

import tensorflow as tf

from keras_nonlocal.layers.flavour import FLAVOURS, imported


@dataclasses.dataclass(frozen=True)
class Call:
    """A layer (or operation) called on symbolic tensors.

    Args:
      layer: what was called.
      args: its positional arguments, structures of tensors and other things.
      kwargs: its keyword arguments.
      outputs: the tensors that came out, as a flat list.
    """

    layer: object
    args: tuple
    kwargs: dict
    outputs: list

    @property
    def inputs(self):
        """The tensors that went in, as a flat list."""
        return [x for x in tf.nest.flatten((self.args, self.kwargs)) if is_symbolic(x)]


def flavour(model):
    """The Keras package that a model belongs to, keras or tf_keras.

    Raises:
      TypeError: for anything that is no model of either.
    """
    for keras in imported():
        if isinstance(model, keras.Model):
            return keras
    raise TypeError(f"`model` must be a model of keras or tf_keras. Received: model={model!r}")


def graph(model):
    """The part of a functional or built sequential model that holds its graph; None if it has none, or its own call."""
    if type(model).call.__module__.split(".")[0] not in FLAVOURS:
        return None
    holder = getattr(model, "_functional", None) or model  # Keras 3 keeps a sequential model's graph apart
    return holder if getattr(holder, "_nodes_by_depth", None) else None


def sublayers(layer):
    """The layers right inside a layer, of either Keras."""
    return list(layer._flatten_layers(include_self=False, recursive=False))


def calls(graph):
    """The calls a graph consists of, from inputs to outputs, without those of input layers."""
    nodes = [node for depth in sorted(graph._nodes_by_depth, reverse=True) for node in graph._nodes_by_depth[depth]]
    return [_call(node) for node in nodes if not node.is_input]


def is_symbolic(x):
    """Whether x is a tensor of some functional model."""
    return hasattr(x, "_keras_history")


def required_graph(model):
    """As graph.

    Raises:
      ValueError: for a model without one.
    """
    found = graph(model)
    if found is None:
        raise ValueError(
            "`model` must be a functional model, or a built sequential one, that does not override `call`: only of "
            f"those it is known what follows what. Received: model of class {type(model).__name__}"
        )
    return found


def trains(call):
    """Whether a call sets `training` so that batch norms in it use the batch, whatever the model is called with."""
    training = call.kwargs.get("training")
    given = any(isinstance(value, (bool, int)) and bool(value) for value in [training, *call.args[1:]])
    return given or is_symbolic(training)  # a model may take `training` as an input


def input_name(x):
    """The name of the input layer that a symbolic tensor is of."""
    return x._keras_history[0].name


def run(graph, inputs, call):
    """Goes through a graph with other things in place of its tensors.

    Args:
      graph: from `graph`.
      inputs: one for each input, as a flat list.
      call: function of (Call, args, kwargs) that takes what stands for its tensors, and returns what stands for its
        outputs.

    Returns:
      What stands for the outputs, in their structure.
    """
    found = dict(zip(map(id, tf.nest.flatten(graph.input)), inputs, strict=True))

    def translate(structure):
        return tf.nest.map_structure(lambda x: found[id(x)] if is_symbolic(x) else x, structure)

    for each in calls(graph):
        outputs = call(each, translate(each.args), translate(each.kwargs))
        found.update(zip(map(id, each.outputs), tf.nest.flatten(outputs), strict=True))
    return translate(graph.output)


def rebuild(keras, graph, name, call, new_input=None):
    """Builds a graph again.

    Args:
      keras: the flavour of the graph.
      graph: from `graph`.
      name: of the new model.
      call: function of (Call, args, kwargs) that calls the layer's counterpart on new tensors and returns its outputs.
      new_input: function of an input layer that gives the tensor of a new one. Default: of the same configuration.

    Returns:
      A functional model with new input layers, of the same names and structure of inputs and outputs.
    """
    layers = [x._keras_history[0] for x in tf.nest.flatten(graph.input)]
    new_input = new_input or (lambda layer: type(layer).from_config(layer.get_config()).output)
    inputs = [new_input(layer) for layer in layers]
    outputs = run(graph, inputs, call)
    return keras.Model(tf.nest.pack_sequence_as(graph.input, inputs), outputs, name=name)


def _call(node):
    if hasattr(node, "arguments"):  # Keras 3
        return Call(node.operation, node.arguments.args, node.arguments.kwargs, node.outputs)
    return Call(node.layer, node.call_args, node.call_kwargs, tf.nest.flatten(node.outputs))
