"""Rebuilds trained functional models, of either Keras: batch norms folded into the layers before them."""

import collections
import dataclasses
from typing import Any

import tensorflow as tf

from keras_nonlocal.layers import folding
from keras_nonlocal.layers.batch_norm import FusedBatchNormMixin
from keras_nonlocal.layers.convolutions import FrameConvolutionMixin
from keras_nonlocal.layers.non_local import NonLocalMixin
from keras_nonlocal.surgery import functional

# tfm's residual blocks, by name so that it need not be installed: for each convolution and the norm behind it, their
# attributes. Their sublayers are made, without weights, by build.
_BOTTLENECK_PAIRS = (
    ("_shortcut", "_norm0"),
    ("_shortcut1", "_norm0"),
    ("_conv1", "_norm1"),
    ("_conv2", "_norm2"),
    ("_conv3", "_norm3"),
)
PAIRS = {
    "official.vision.modeling.layers.nn_blocks.ResidualBlock": (
        ("_shortcut", "_norm0"),
        ("_conv1", "_norm1"),
        ("_conv2", "_norm2"),
    ),
    "official.vision.modeling.layers.nn_blocks.BottleneckBlock": _BOTTLENECK_PAIRS,
    "official.vision.modeling.layers.nn_blocks_3d.BottleneckBlock3D": (
        ("_shortcut_conv", "_norm0"),
        ("_temporal_conv", "_norm1"),
        ("_spatial_conv", "_norm2"),
        ("_expand_conv", "_norm3"),
    ),
}


def fold_norms(model: Any) -> Any:
    """Copies a trained model with its batch norms folded into the convolutions before them, for inference.

    At inference a batch norm is `x * scale + shift` with `scale = gamma / sqrt(moving_variance + epsilon)` and
    `shift = beta - moving_mean * scale`. Behind a convolution, a transposed, depthwise or separable one, or a Dense,
    without activation and used by nothing else, it becomes part of that layer's kernel and bias, and an identity takes
    its place under its name. Non-local blocks have theirs folded into W_z, and tfm's residual blocks, and ours
    built on them, all of theirs. The rest stays as it is: a norm behind anything else, behind a layer that is called
    or used twice, or called with training=True. Folded in float64, stored in the dtypes of the variables. The copy has
    no other use than inference: what `training` it is called with is all the same to a folded norm.

    Args:
      model: a functional or sequential model of Keras 3 or tf_keras, also one with such models inside or of a subclass
        that does not override `call`.

    Returns:
      A functional model of the same Keras, with the same names of layers, inputs and outputs. `model` is not changed.

    Raises:
      TypeError: if `model` is no model of either Keras.
      ValueError: if it is not functional, or a layer of it cannot be copied because layers inside it are quantized.

    Example:

    >>> from keras_nonlocal import models, surgery
    >>> folded = surgery.fold_norms(models.C2D(50))
    >>> [layer.name for layer in folded.layers if isinstance(layer, keras.layers.BatchNormalization)]
    []

    Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
    CVPR 2018, section 3.2.
    """
    keras = functional.flavour(model)
    functional.required_graph(model)
    return _Folding(keras, model).copy(model)


@dataclasses.dataclass(frozen=True)
class _Fold:
    """A batch norm and the layer that takes it in."""

    linear: object
    norm: object


class _Folding:
    """What can be folded in a model, and the copies of its layers."""

    def __init__(self, keras, model):
        self._keras = keras
        self._norms = (keras.layers.BatchNormalization, *_synchronized_norms(keras))
        self._graphs = {}  # id of a model: its graph
        self._trained = set()  # ids of models and layers that some call runs with training=True
        self._uses = collections.Counter()  # ids of layers: calls in all graphs together
        self._visit(model, trained=False)
        folds = [fold for graph in self._graphs.values() for fold in self._folds(graph)]
        self._by_norm = {id(fold.norm): fold for fold in folds}
        self._by_linear = {id(fold.linear): fold for fold in folds}
        self._copies = {}  # id of a layer: its copy
        self._pairs = []  # layers with weights and their copies

    def copy(self, model):
        """The model with all that can be folded folded, and the weights in it."""
        copy = self._copy_model(model)
        for layer, new in self._pairs:
            self._set_weights(layer, new)
        return copy

    def _visit(self, model, trained):
        """Finds the graphs in a model and counts what they call."""
        new = id(model) not in self._graphs
        if not new and (not trained or id(model) in self._trained):
            return
        graph = self._graphs.setdefault(id(model), functional.graph(model))
        if trained:
            self._trained.add(id(model))
        for call in functional.calls(graph):
            inside = trained or functional.trains(call)
            self._uses[id(call.layer)] += new
            if self._is_model(call.layer):
                self._visit(call.layer, inside)
            elif inside:
                self._trained.add(id(call.layer))

    def _folds(self, graph):
        """The pairs in a graph of a layer and the batch norm that is all that uses it."""
        calls = functional.calls(graph)
        outputs = tf.nest.flatten(graph.output)
        users = collections.Counter(id(x) for x in [*outputs, *(x for call in calls for x in call.inputs)])
        sources = {id(x): call for call in calls for x in call.outputs}
        for call in calls:
            if not self._is_norm(call.layer) or len(call.args) != 1 or not functional.is_symbolic(call.args[0]):
                continue
            (x,) = call.args
            source = sources.get(id(x))
            if source is None or users[id(x)] > 1 or self._uses[id(source.layer)] > 1:
                continue
            if self._takes_norm(source.layer) and _norm_axis(call.layer, x) == _channel_axis(source.layer, x):
                yield _Fold(source.layer, call.layer)

    def _is_norm(self, layer):
        """Whether this is a batch norm that is one scale and shift of its channels, wherever it is called."""
        return (
            (type(layer) in self._norms or isinstance(layer, FusedBatchNormMixin))
            and self._uses[id(layer)] == 1
            and id(layer) not in self._trained
            and getattr(layer, "virtual_batch_size", None) is None
        )

    def _takes_norm(self, layer):
        """Whether this is Keras' linear layer, or ours for it: a subclass may do anything with its kernel."""
        own = getattr(self._keras.layers, type(layer).__name__, None)
        return folding.takes_norm(layer) and (type(layer) is own or FrameConvolutionMixin in type(layer).__bases__)

    def _is_model(self, layer):
        return isinstance(layer, self._keras.Model) and functional.graph(layer) is not None

    def _folds_itself(self, layer):
        return isinstance(layer, NonLocalMixin) and layer.folds_norm() and id(layer) not in self._trained

    def _parts(self, layer):
        """The attributes of the convolutions and norms of a residual block, [(convolution, norm)]."""
        if id(layer) in self._trained or self._uses[id(layer)] > 1:
            return []
        return [pair for pair in _pairs(type(layer)) if all(_has_weights(layer, name) for name in pair)]

    def _copy_model(self, model):
        def call(call, args, kwargs):
            if id(call.layer) in self._by_norm:
                return self._copy_of(call.layer)(*args)  # the identity takes no `training` or `mask`
            return self._copy_of(call.layer)(*args, **kwargs)

        return functional.rebuild(self._keras, self._graphs[id(model)], model.name, call)

    def _copy_of(self, layer):
        if id(layer) not in self._copies:
            self._copies[id(layer)] = self._copy_model(layer) if self._is_model(layer) else self._copy_layer(layer)
        return self._copies[id(layer)]

    def _copy_layer(self, layer):
        if id(layer) in self._by_norm:
            return self._keras.layers.Activation("linear", dtype=layer.dtype_policy, name=layer.name)
        if id(layer) in self._by_linear:
            copy = type(layer).from_config({**layer.get_config(), "use_bias": True})
        elif self._folds_itself(layer) or (self._parts(layer) and hasattr(layer, "without_norm")):
            copy = layer.without_norm()
        else:
            copy = type(layer).from_config(layer.get_config())
        self._replace_parts(layer, copy)
        if getattr(layer, "weights", None):
            self._pairs.append((layer, copy))
        return copy

    def _replace_parts(self, layer, copy):
        """Gives the copy of a residual block convolutions with biases, and identities for its norms."""
        parts = self._parts(layer)
        if parts:
            copy.build(layer.input_shape)
        for linear, norm in parts:
            config = getattr(copy, linear).get_config()
            setattr(copy, linear, type(getattr(copy, linear)).from_config({**config, "use_bias": True}))
            setattr(copy, norm, self._keras.layers.Activation("linear", dtype=getattr(layer, norm).dtype_policy))

    def _set_parts(self, layer, copy):
        parts = self._parts(layer)
        for linear, norm in parts:
            folding.fold(getattr(layer, linear), getattr(layer, norm), getattr(copy, linear))
        for name in set(vars(layer)) - {name for pair in parts for name in pair}:
            if _has_weights(layer, name):
                self._set_weights(getattr(layer, name), getattr(copy, name))

    def _set_weights(self, layer, copy):
        if self._parts(layer):
            self._set_parts(layer, copy)
        elif id(layer) in self._by_linear:
            folding.fold(layer, self._by_linear[id(layer)].norm, copy)
        elif self._folds_itself(layer):
            copy.take_folded(layer)
        elif len(layer.weights) != len(copy.weights):
            raise ValueError(
                f"`model` has a layer, {layer.name!r}, with other weights than its configuration says, as Keras makes "
                "them by quantization or LoRA of layers inside: fold the norms before that. "
                f"Received: {len(layer.weights)} weights, for a copy of {len(copy.weights)}"
            )
        else:
            copy.set_weights(layer.get_weights())


def _pairs(layer_class):
    """The PAIRS of a class: tfm's own, or one of ours on top of it. Another subclass may do anything with its parts."""
    for base in layer_class.__mro__:
        found = PAIRS.get(f"{base.__module__}.{base.__name__}")
        if found is not None:
            return found
        if not base.__module__.startswith("keras_nonlocal."):
            break
    return ()


def _has_weights(layer, name):
    part = getattr(layer, name, None)
    return hasattr(part, "get_weights") and not isinstance(part, type) and bool(part.get_weights())


def _norm_axis(norm, x):
    axes = norm.axis if isinstance(norm.axis, (list, tuple)) else [norm.axis]
    return axes[0] % len(x.shape) if len(axes) == 1 else None


def _channel_axis(layer, x):
    return 1 if getattr(layer, "data_format", "channels_last") == "channels_first" else len(x.shape) - 1


def _synchronized_norms(keras):
    experimental = getattr(keras.layers, "experimental", None)
    norm = getattr(experimental, "SyncBatchNormalization", None)
    return () if norm is None else (norm,)
