"""Runs a model of either Keras up to one of its layers, and notes which layers were called on the way.

It is not looked at how a model is put together, but at what it calls: functional, sequential and subclassed models, one
inside the other, and layers inside layers are all the same to it.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf

from keras_nonlocal.surgery import functional


@dataclasses.dataclass(frozen=True)
class Call:
    """A layer that was called.

    Args:
      layer: what was called.
      inputs: the tensors in.
      outputs: the tensors out.
      first: the number of the first operation that it made in the graph.
      last: the number of the first one after it.
    """

    layer: Any
    inputs: list[tf.Tensor]
    outputs: list[tf.Tensor]
    first: int
    last: int


@dataclasses.dataclass(frozen=True)
class Trace:
    """The part of a model before one of its layers, in a graph.

    Args:
      inputs: the model's, as a flat list.
      features: what the layer takes.
      mask: what it was given as `mask`, or None.
      layer: the layer.
      calls: of all layers before it, those inside others before these.
      operations: of the graph, up to the layer.
    """

    inputs: list[tf.Tensor]
    features: tf.Tensor
    mask: tf.Tensor | None
    layer: Any
    calls: list[Call]
    operations: list[tf.Operation]


class _Reached(BaseException):
    """The layer is reached. Either Keras would make another exception of an Exception that passes its layers."""


def trace_to(model: Any, layer: Any, inputs: Any) -> Trace:
    """Runs a model at inference until it first calls a layer, inside a tf.function.

    Args:
      model: of either Keras, with all its weights.
      layer: anywhere inside it.
      inputs: what the model takes, tensors of the graph.

    Returns:
      A Trace.

    Raises:
      ValueError: if the model does not call the layer, or in a loop or branch of TensorFlow's only.
    """
    graph = tf.compat.v1.get_default_graph()
    calls, taken = [], []

    def noted(part, call):
        def call_and_note(*args, **kwargs):
            first = len(graph.get_operations())
            outputs = call(*args, **kwargs)
            calls.append(Call(part, tensors((args, kwargs)), tensors(outputs), first, len(graph.get_operations())))
            return outputs

        return call_and_note

    def stop(features, mask=None, **_):
        taken.append((features, mask))
        raise _Reached

    with contextlib.ExitStack() as stack:
        for part in inside(model):
            stack.enter_context(replaced_call(part, stop if part is layer else noted(part, part.call)))
        stack.enter_context(contextlib.suppress(_Reached))
        model(inputs, training=False)
    if not taken or taken[0][0].graph is not graph:
        raise ValueError(
            f"`model` must call the layer {layer.name!r} when it is called, and not in a loop or branch of "
            f"TensorFlow's. Received: a model of class {type(model).__name__} that does not"
        )
    ((features, mask),) = taken
    return Trace(tensors(inputs), features, mask, layer, calls, graph.get_operations())


def input_specs(target: Any, input_shape: Sequence | Mapping | None = None) -> Any:
    """What goes into a layer or model: tf.TensorSpecs of a batch of one, in their structure.

    Args:
      target: of either Keras.
      input_shape: of one example without the batch; for a model of several inputs a structure of them. Default: what a
        functional model was made for.

    Raises:
      ValueError: if a size is not known.
    """
    graph = functional.graph(target) if hasattr(target, "layers") else None
    if graph is None:
        if input_shape is None:
            raise ValueError(
                f"`input_shape` must be given for {type(target).__name__} {target.name!r}, which says nothing of the "
                "sizes it is made for. Received: input_shape=None"
            )
        return _spec(input_shape, target.compute_dtype or "float32")
    inputs = tf.nest.flatten(graph.input)
    if input_shape is None:
        shapes = [tuple(x.shape)[1:] for x in inputs]
    elif len(inputs) == 1 and not isinstance(input_shape, dict):
        shapes = [input_shape]
    else:
        shapes = list(_shapes_of(graph.input, input_shape))
    specs = [_spec(shape, x.dtype) for shape, x in zip(shapes, inputs, strict=True)]
    return tf.nest.pack_sequence_as(graph.input, specs)


def inside(layer: Any) -> list:
    """All layers inside a layer, however deep, each once, in their order; a layer comes before those in it."""
    found = {}
    for part in functional.sublayers(layer):
        found.update((id(each), each) for each in (part, *inside(part)))
    return list(found.values())


@contextlib.contextmanager
def replaced_call(layer: Any, call: Callable) -> Iterator[None]:
    """Has a layer run another function in the place of its `call`. Its attributes are as before afterwards."""
    own = vars(layer)  # past Keras, which would keep a note of it
    before = {"call": own["call"]} if "call" in own else {}  # tf_keras gives layers of operations one each
    own["call"] = tf.autograph.experimental.do_not_convert(call)
    try:
        yield
    finally:
        del own["call"]
        own.update(before)


def tensors(structure: Any) -> list[tf.Tensor]:
    """The tensors in a structure, each once."""
    return list({id(x): x for x in tf.nest.flatten(structure) if isinstance(x, tf.Tensor)}.values())


def _spec(shape, dtype):
    sizes = tuple(shape)
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        raise ValueError(
            f"`input_shape` must say every size of an example, without the batch, as a positive integer. "
            f"Received: {sizes}"
        )
    return tf.TensorSpec((1, *sizes), tf.as_dtype(dtype))


def _shapes_of(inputs, shapes):
    """A shape for each of the inputs, in the order in which tf.nest takes them."""
    if isinstance(inputs, Mapping):
        for key in sorted(inputs):
            yield from _shapes_of(inputs[key], shapes[key])
    elif isinstance(inputs, list | tuple):
        for x, shape in zip(inputs, shapes, strict=True):
            yield from _shapes_of(x, shape)
    else:
        yield shapes
