"""Copies of functional models, of either Keras, layer by layer, with all weights and what of them is frozen."""

from typing import Any

from keras_nonlocal.surgery import functional


class ModelCopy:
    """A copy of a model with the models inside it; what is to be another in the copy, a subclass says.

    Args:
      keras: the flavour of the model.
    """

    def __init__(self, keras: Any) -> None:
        self._keras = keras
        self._copies = {}  # id of a layer: its copy
        self._pairs = []  # layers, their copies, and whether a model around them is frozen

    def copy(self, model: Any) -> Any:
        """The copy of a functional model, and of a layer that several models share one."""
        copy = self._copy_model(model, frozen=False)
        for layer, new, frozen in self._pairs:
            self.take_weights(layer, new)
            if frozen and hasattr(new, "trainable"):
                new.trainable = False
        return copy

    def make(self, call: functional.Call) -> Any:
        """The copy of the layer (or operation) of a call, not called yet."""
        return copy_layer(call.layer)

    def outputs(self, call: functional.Call, outputs: Any) -> Any:
        """What takes the place of the outputs of a call in the copy."""
        return outputs

    def input(self, layer: Any) -> Any:
        """The tensor of a new input layer for an old one."""
        return type(layer).from_config(layer.get_config()).output

    def take_weights(self, layer: Any, copy: Any) -> None:
        """Gives a copied layer its weights."""
        take_weights(layer, copy)

    def _copy_model(self, model, frozen):
        frozen = frozen or not model.trainable  # not set for the copy, where it would freeze what is new in it

        def call(call, args, kwargs):
            return self.outputs(call, self._copy_of(call, frozen)(*args, **kwargs))

        return functional.rebuild(self._keras, functional.graph(model), model.name, call, self.input)

    def _copy_of(self, call, frozen):
        layer = call.layer
        if id(layer) not in self._copies:
            if isinstance(layer, self._keras.Model) and functional.graph(layer) is not None:
                self._copies[id(layer)] = self._copy_model(layer, frozen)
            else:
                self._copies[id(layer)] = self.make(call)
                self._pairs.append((layer, self._copies[id(layer)], frozen))
        return self._copies[id(layer)]


def copy_layer(layer: Any) -> Any:
    """A layer (or operation) of the same arguments, not called yet.

    Raises:
      ValueError: if its configuration does not make one.
    """
    if type(layer).__name__ == "Lambda":
        return layer  # Keras does not make one of its configuration; it has no weights, and may be in two models
    try:
        return type(layer).from_config(layer.get_config())
    except Exception as error:  # noqa: BLE001, a layer's own code may raise anything
        raise ValueError(
            f"`model` must be of layers that their `get_config` makes again, and {layer.name!r} is not: give "
            f"{type(layer).__name__} a `get_config` of all its arguments. Received: {type(error).__name__}: {error}"
        ) from error


def take_weights(layer: Any, copy: Any, weights: list | None = None) -> None:
    """Gives a called copy the weights of its original, and what in it is frozen.

    Args:
      layer: the original.
      copy: its copy.
      weights: arrays in the place of the original's weights.

    Raises:
      ValueError: if the copy has other weights.
    """
    if copy is layer or not hasattr(layer, "weights"):
        return  # an operation of Keras 3
    _freeze_as(layer, copy)  # before the weights, which tf_keras lists by what is frozen
    weights = layer.get_weights() if weights is None else weights
    if [weight.shape for weight in weights] != [tuple(weight.shape) for weight in copy.weights]:
        raise ValueError(
            f"`model` has a layer, {layer.name!r}, with other weights than its configuration says, as Keras makes them "
            f"by quantization or LoRA of layers inside: do that afterwards. Received: {len(weights)} weights, for a "
            f"copy of {len(copy.weights)}"
        )
    copy.set_weights(weights)
    if hasattr(copy, "finalize_state"):  # of layers that adapt to data, which compute with what they make of it
        copy.finalize_state()


def _freeze_as(layer, copy):
    """Layers inside may be frozen one by one, which the configuration of the outer one does not say."""
    if copy.trainable != layer.trainable:
        copy.trainable = layer.trainable
    inside = functional.sublayers(layer), functional.sublayers(copy)
    for part, part_copy in zip(*inside, strict=False):  # other ones have other weights, which is found next
        _freeze_as(part, part_copy)
