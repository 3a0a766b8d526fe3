"""Models that take a mask, so that inputs of several sizes can be padded into one batch, of either Keras."""

import functools
from typing import Any

import tensorflow as tf

from keras_nonlocal.layers.flavour import FlavourMixin, imported
from keras_nonlocal.ops.positions import dims
from keras_nonlocal.ops.rules import only_if
from keras_nonlocal.surgery import functional, padding


def masked(model: Any) -> Any:
    """A model that answers inputs padded at their ends as `model` answers each of them alone, without the padding.

    All that looks at neighbours or at all positions is told which of them are valid: convolutions and poolings see what
    their own padding would be beyond the end of an example, global poolings and non-local blocks leave the padding out.
    What stands in it counts for nothing, NaN included. Answers differ by rounding only.

    The sizes may be any that `model` takes, were they open in it; those of one batch may differ. Two things no mask can
    mend are refused when the model runs: an example that is smaller than a pooling or a kernel needs, and a strided
    layer of padding="same" whose windows would begin elsewhere in the padded size than in the example's own, as with a
    stride of 2 in an even and an odd one. The networks of keras_nonlocal.models have no such layer, and take any size
    from that on at which their poolings fit and their non-local blocks have a key: with the default stem, pooling and
    temporal stride, T of 2, and H and W of 5, or 9 with a block in res2, 13 in res3, 21 in res4, 37 in res5.

    Args:
      model: a trained functional or sequential model of Keras 3 or tf_keras, also one with such models inside, of one
        input (B, *positions, C), positions being T, (H, W) or (T, H, W): convolutions (not transposed ones), poolings,
        zero paddings, merges, pointwise layers and our non-local blocks of channels last, and behind global poolings
        any layer.

    Returns:
      A functional model of the same Keras of [inputs, mask] with the outputs of `model`, for inference. `mask` is
      boolean (B, *positions), True in a box at the start of every axis. Outputs with positions are zeros beyond their
      end. It holds `model`, and shares all of its weights.

    Raises:
      TypeError: if `model` is no model of either Keras.
      ValueError: if it is not functional, has other inputs, or a layer that may bring padding and valid positions
        together, naming it.

    Call raises:
      tf.errors.InvalidArgumentError: for a mask that is no such box, and for the sizes above.

    Example:

    >>> model = keras_nonlocal.models.C2D(input_shape=(None, None, None, 3), width=8, non_local={"res3": [1]})
    >>> clips = np.random.normal(size=[2, 4, 64, 64, 3]).astype("float32")
    >>> mask = np.ones([2, 4, 64, 64], bool)
    >>> mask[1, :, 48:] = False  # the second clip is 48 pixels high
    >>> answers = keras_nonlocal.surgery.masked(model)([clips, mask])
    >>> bool(np.allclose(answers[1], model(clips[1:, :, :48])[0], atol=1e-5))
    True
    """
    keras = functional.flavour(model)
    graph = functional.required_graph(model)
    inputs = tf.nest.flatten(graph.input)
    if len(inputs) != 1 or len(inputs[0].shape) not in (3, 4, 5):
        raise ValueError(
            "`model` must have one input, (batch, positions..., channels) with one to three position axes. "
            f"Received: model of inputs {[tuple(x.shape) for x in inputs]}"
        )
    _check(keras, graph, [_PADDED])
    rank = len(inputs[0].shape) - 2
    x = keras.Input(
        (None,) * rank + (inputs[0].shape[-1],), dtype=inputs[0].dtype, name=functional.input_name(inputs[0])
    )
    mask = keras.Input((None,) * rank, dtype="bool", name="mask")
    return keras.Model([x, mask], masked_layer(keras)(model, name="masked")([x, mask]), name=model.name)


@functools.cache
def masked_layer(keras: Any) -> type:
    """The layer of this Keras, keras or tf_keras, that a masked model consists of; made, and known to files, once."""
    return keras.saving.register_keras_serializable("keras_nonlocal", "Masked")(
        type("Masked", (_MaskedMixin, keras.layers.Layer), {"_keras": keras, "__module__": __name__})
    )


class _MaskedMixin(FlavourMixin):
    """Runs the graph of a model with the sizes of its examples beside their values; put before a Keras Layer."""

    def __init__(self, model, **kwargs):
        super().__init__(autocast=False, **kwargs)  # the layers inside cast
        self.model = model

    def call(self, inputs):
        x, mask = inputs
        outputs = self._run(functional.graph(self.model), [_padded(x, mask)])
        return tf.nest.map_structure(lambda y: y.filled(0).value if isinstance(y, padding.Padded) else y, outputs)

    def _run(self, graph, inputs):
        def call(call, args, kwargs):
            if not any(isinstance(value, padding.Padded) for value in tf.nest.flatten((args, kwargs))):
                return padding.run(call.layer, *args, **kwargs)
            inside = _graph_inside(self._keras, call.layer)
            if inside is not None:
                return self._run(inside, tf.nest.flatten(args[0]))
            return padding.apply(self._keras, call.layer, args[0])

        return functional.run(graph, inputs, call)

    def get_config(self):
        return {**super().get_config(), "model": self._keras.saving.serialize_keras_object(self.model)}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "model": cls._keras.saving.deserialize_keras_object(config["model"])})


# What stands for tensors where a graph is only looked through.
_PADDED, _PLAIN = object(), object()


def _check(keras, graph, inputs):
    """Raises ValueError unless all layers of a graph can be told of padding.

    Args:
      keras: the flavour.
      graph: of a model.
      inputs: _PADDED or _PLAIN, for each input.

    Returns:
      The same for each output, in the structure of the outputs.
    """

    def call(call, args, kwargs):
        padded = [x is _PADDED for x in tf.nest.flatten((args, kwargs)) if x is _PADDED or x is _PLAIN]
        if not any(padded) and not functional.trains(call):
            return [_PLAIN] * len(call.outputs)
        inside = _graph_inside(keras, call.layer)
        if inside is not None and args and not functional.trains(call):
            return _check(keras, inside, tf.nest.flatten(args[0]))
        why = padding.refusal(keras, call, padded)
        if why is not None:
            raise ValueError(
                f"`model` must be of layers that can be told which positions of an example are padding. Received: {why}"
            )
        return [_PADDED if padding.is_padded_after(keras, call) else _PLAIN] * len(call.outputs)

    return functional.run(graph, inputs, call)


def _graph_inside(keras, layer):
    return functional.graph(layer) if isinstance(layer, keras.Model) else None


def _padded(x, mask):
    """Inputs as Padded, with zeros in the padding, if the mask is a box at the start of every axis."""
    rule = "`mask` must be (batch, positions...) of the sizes of the inputs: the mask and the inputs are"
    with only_if((tf.equal(tf.shape(mask), tf.shape(x)[:-1]), rule, tf.shape(mask), tf.shape(x))):
        mask = tf.identity(mask)
    rank = len(x.shape) - 2
    sizes = tuple(
        tf.reduce_sum(tf.cast(tf.reduce_any(mask, [other + 1 for other in range(rank) if other != axis]), tf.int32), -1)
        for axis in range(rank)
    )
    boxes = padding.Boxes(sizes, tuple(dims(x)[1:-1]))
    some = "`mask` must have a True for every example: an example without valid positions has no answer; sizes are"
    ends = "`mask` must be True in a box at the start of every axis: pad examples at their ends; the largest sizes are"
    rules = (sizes[0] > 0, some, *sizes), (tf.equal(boxes.mask, mask), ends, *sizes)
    return padding.Padded(x, boxes).only_if(*rules).filled(0)


# Files of masked models name the layer. tf_keras may be imported later, and keras_nonlocal.tfm.layers then does this.
for _keras in imported():
    masked_layer(_keras)
