"""What layers make of examples that are padded at their ends: each the same as of the example without its padding."""

import dataclasses
import functools
import inspect
import math
from collections.abc import Iterable

import tensorflow as tf

from keras_nonlocal.layers.batch_norm import FusedBatchNormMixin
from keras_nonlocal.layers.convolutions import FrameConvolutionMixin, FramePoolingMixin
from keras_nonlocal.layers.non_local import GROUP_RULE, NonLocalMixin
from keras_nonlocal.ops.positions import AXES, dims
from keras_nonlocal.ops.rules import only_if
from keras_nonlocal.surgery import functional


@dataclasses.dataclass(frozen=True)
class Boxes:
    """Where the examples of a batch are valid: each in a box at the start of every position axis.

    Args:
      sizes: of the boxes, a (B,) int32 for each position axis.
      lengths: of the axes, padding included: ints or scalar tensors.
    """

    sizes: tuple[tf.Tensor, ...]
    lengths: tuple

    @functools.cached_property
    def mask(self):
        """(B, *positions) boolean, True in the boxes."""
        mask = tf.constant(True)
        for axis, (size, length) in enumerate(zip(self.sizes, self.lengths, strict=True)):
            line = tf.sequence_mask(size, length)  # (B, length)
            for other in range(len(self.sizes)):
                line = line if other == axis else tf.expand_dims(line, other + 1)
            mask &= line
        return mask


@dataclasses.dataclass(frozen=True)
class Padded:
    """Examples that are valid in boxes; what stands beyond them may be anything, NaN too.

    Args:
      value: (B, *positions, C).
      boxes: of these positions.
    """

    value: tf.Tensor
    boxes: Boxes

    @property
    def sizes(self):
        return self.boxes.sizes

    @property
    def mask(self):
        return self.boxes.mask

    def with_value(self, value, sizes=None):
        """Another value in boxes of these sizes, by default the same."""
        if sizes is None or all(size is own for size, own in zip(sizes, self.sizes, strict=True)):
            return Padded(value, self.boxes)
        return Padded(value, Boxes(tuple(sizes), tuple(dims(value)[1:-1])))

    def filled(self, number):
        """The same with this number in the padding. Chosen, not multiplied: NaN times zero is NaN."""
        return self.with_value(tf.where(self.mask[..., None], self.value, number))

    def only_if(self, *rules):
        """The same, for the run to go on with only where all `rules` are kept; see rules.only_if."""
        if not rules:
            return self
        with only_if(*rules):
            return self.with_value(tf.identity(self.value))


def refusal(keras, call, padded):
    """Why the rules here do not hold for a call, as a sentence that names the layer; None where they do.

    Args:
      keras: the flavour of the layer.
      call: a functional.Call.
      padded: for each of its inputs whether it is Padded.
    """
    layer, rank = call.layer, len(call.inputs[0].shape)
    name = _name(keras, layer)
    if functional.trains(call):
        why = "which is called with training=True: its norms then look at all examples together"
    elif name not in _RULES:
        why = (
            "which may bring positions together, padding and all: put a global pooling before it, or use convolutions, "
            "poolings, zero paddings, merges, pointwise layers and non-local blocks of channels last"
        )
    elif getattr(layer, "data_format", "channels_last") != "channels_last":
        why = "of channels first: only channels last are taken"
    elif name in _OF_ONE_AXIS and _axis(layer) not in (-1, rank - 1):
        why = f"over axis {layer.axis}, which brings positions together: only the last axis, channels, is taken"
    elif not _is_plain(call) or (name not in _MERGES and len(call.inputs) > 1):
        why = "called with more than its inputs: only calls without further arguments are taken"
    elif name in _MERGES and not _merges(call, padded, rank):
        why = "which puts padded inputs together with others of positions: only inputs padded alike are taken"
    else:
        return None
    return f"layer {layer.name!r} of class {type(layer).__name__}, {why}"


def is_padded_after(keras, call):
    """Whether what a call makes of Padded inputs is Padded too: not so after global poolings."""
    return _RULES[_name(keras, call.layer)] not in (_global_average, _global_max)


def apply(keras, layer, inputs):
    """What a layer makes of its inputs, one or a list, some of them Padded: Padded, or a tensor without padding."""
    return _RULES[_name(keras, layer)](layer, inputs)


def run(layer, *args, **kwargs):
    """Calls a layer or an operation for inference, whatever the model around it is called with."""
    called = getattr(layer, "call", layer)
    if "training" in inspect.signature(called).parameters:
        kwargs = {**kwargs, "training": False}
    return layer(*args, **kwargs)


@dataclasses.dataclass(frozen=True)
class _Window:
    """How a convolution or a pooling slides over positions: a number for each axis.

    Args:
      layer: the name of the layer.
      extents: positions from the first to the last that the window looks at, dilation included.
      strides: from window to window.
      padding: "valid", "same" or "causal".
    """

    layer: str
    extents: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str

    @classmethod
    def of(cls, layer, rank):
        kernel = _per_axis(getattr(layer, "kernel_size", None) or layer.pool_size, rank)
        dilations = _per_axis(getattr(layer, "dilation_rate", 1), rank)
        extents = tuple((size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True))
        return cls(layer.name, extents, _per_axis(layer.strides, rank), layer.padding)

    @property
    def looks_beyond(self):
        """Whether windows reach over the end of the input."""
        return self.padding == "same" and math.prod(self.extents) > 1

    def places(self, sizes):
        """How many windows inputs of these sizes have, along each axis."""
        return tuple(map(self._places, sizes, self.extents, self.strides))

    def _places(self, size, extent, stride):
        if stride == 1 and (extent == 1 or self.padding != "valid"):
            return size
        return (size - extent) // stride + 1 if self.padding == "valid" else -(-size // stride)

    def checked(self, x):
        """x, if the windows of every example are where they are without its padding."""
        rules = []
        each = zip(AXES[len(x.sizes)], x.sizes, x.boxes.lengths, self.extents, self.strides, strict=True)
        for axis, size, length, extent, stride in each:
            if self.padding == "valid" and extent > 1:
                text = f"`mask`: layer {self.layer} needs {axis} of at least {extent}: send larger inputs; it gets"
                rules.append((size >= extent, text, size))
            begins = {_begin(remainder, extent, stride) for remainder in range(stride)}
            if self.padding == "same" and len(begins) > 1:
                text = (
                    f"`mask`: layer {self.layer}, with padding=same and stride {stride}, begins elsewhere in {axis} of "
                    "another remainder by its stride: pad to a size of the same remainder as the valid one, or build "
                    "the model with zero padding before padding=valid; the sizes and the padded one are"
                )
                kept = tf.equal(_begin(size, extent, stride), _begin(length, extent, stride))
                rules.append((kept, text, size, length))
        return x.only_if(*rules)


def _begin(size, extent, stride):
    """How many positions before the first one SAME begins in inputs of this size, an int or a tensor."""
    total = extent - stride + (-size) % stride
    return (max(total, 0) if isinstance(total, int) else tf.maximum(total, 0)) // 2


def _pointwise(layer, x):
    return x.with_value(run(layer, x.value))


def _convolution(layer, x):
    window = _Window.of(layer, len(x.sizes))
    x = window.checked(x)
    if window.looks_beyond:
        x = x.filled(0)  # what its own padding would be
    return x.with_value(run(layer, x.value), window.places(x.sizes))


def _max_pooling(layer, x):
    window = _Window.of(layer, len(x.sizes))
    x = window.checked(x)
    if window.looks_beyond:
        x = x.filled(x.value.dtype.min)
    return x.with_value(run(layer, x.value), window.places(x.sizes))


def _average_pooling(layer, x):
    window = _Window.of(layer, len(x.sizes))
    x = window.checked(x)
    if not window.looks_beyond:
        return x.with_value(run(layer, x.value), window.places(x.sizes))
    # Its own padding does not count in the average of a window, and so must none.
    valid = run(layer, tf.cast(x.mask[..., None], x.value.dtype))
    value = tf.math.divide_no_nan(run(layer, x.filled(0).value), valid)
    return x.with_value(value, window.places(x.sizes))


def _zero_padding(layer, x):
    rank = len(x.sizes)
    pairs = [layer.padding] if rank == 1 else layer.padding
    sizes = tuple(size + sum(pair) for size, pair in zip(x.sizes, pairs, strict=True))
    return x.with_value(run(layer, x.filled(0).value), sizes)


def _global_average(layer, x):
    dtype = tf.as_dtype(layer.compute_dtype)
    wide = dtype if dtype.size >= 4 else tf.float32  # 16 bits do not hold a sum
    axes = list(range(1, len(x.sizes) + 1))
    total = tf.reduce_sum(tf.cast(x.filled(0).value, wide), axes, layer.keepdims)
    count = tf.cast(math.prod(x.sizes[1:], start=x.sizes[0]), wide)
    return tf.cast(total / tf.reshape(count, [-1] + [1] * (len(total.shape) - 1)), dtype)


def _global_max(layer, x):
    axes = list(range(1, len(x.sizes) + 1))
    value = tf.cast(x.value, layer.compute_dtype)
    return tf.reduce_max(x.with_value(value).filled(value.dtype.min).value, axes, layer.keepdims)


def _merge(layer, xs):
    padded = [x for x in xs if isinstance(x, Padded)]
    first = padded[0]
    rules = [
        (tf.equal(size, other), f"`mask`: layer {layer.name} gets inputs of different sizes: send others;", size, other)
        for x in padded[1:]
        for size, other in zip(x.sizes, first.sizes, strict=True)
        if size is not other
    ]
    values = [x.value if isinstance(x, Padded) else x for x in xs]
    return first.with_value(run(layer, values)).only_if(*rules)


def _non_local(layer, x):
    rules = []
    for axis, size, keys in zip(AXES[len(x.sizes)], x.sizes, layer.key_grid(x.sizes), strict=True):
        text = f"`mask`: layer {layer.name}, with pool_size={layer.pool_size}, has no key along {axis}: send more than"
        rules.append((keys > 0, text, size))
    if layer.group_frames:
        text = f"`mask`: {GROUP_RULE} Layer {layer.name}, with group_frames={layer.group_frames}, gets"
        rules.append((tf.equal(x.sizes[0] % layer.group_frames, 0), text, x.sizes[0]))
    x = x.only_if(*rules)
    value = run(layer, x.value, mask=x.mask, whole_windows=True)
    # Either Keras hangs the mask on what comes out, and would hand it on to layers that take it for something else.
    return x.with_value(tf.identity(value))


_POINTWISE = (
    "Activation", "ActivityRegularization", "BatchNormalization", "Dense", "Dropout", "ELU", "GaussianDropout",
    "GaussianNoise", "Identity", "LayerNormalization", "LeakyReLU", "ReLU", "Rescaling", "Softmax", "SpatialDropout1D",
    "SpatialDropout2D", "SpatialDropout3D",
)  # fmt: skip
_CONVOLUTIONS = (
    "Conv1D", "Conv2D", "Conv3D", "DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D",
)  # fmt: skip
_MERGES = ("Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract")
_OF_ONE_AXIS = ("BatchNormalization", "Concatenate", "LayerNormalization", "Softmax")
# {name of a class of either Keras: what it makes of Padded}
_RULES = {
    **dict.fromkeys(_POINTWISE, _pointwise),
    **dict.fromkeys(_CONVOLUTIONS, _convolution),
    **dict.fromkeys(_MERGES, _merge),
    **{f"MaxPooling{rank}D": _max_pooling for rank in AXES},
    **{f"AveragePooling{rank}D": _average_pooling for rank in AXES},
    **{f"ZeroPadding{rank}D": _zero_padding for rank in AXES},
    **{f"GlobalAveragePooling{rank}D": _global_average for rank in AXES},
    **{f"GlobalMaxPooling{rank}D": _global_max for rank in AXES},
    **{f"NonLocal{rank}D": _non_local for rank in AXES},
}


def _name(keras, layer):
    """The name of a layer's class, if it is Keras' own or ours for it: a subclass may do anything. Otherwise None."""
    kind = type(layer)
    if kind is getattr(keras.layers, kind.__name__, None):
        return kind.__name__
    bases = (FusedBatchNormMixin, FrameConvolutionMixin, FramePoolingMixin)
    ours = any(base in kind.__bases__ for base in bases) or isinstance(layer, NonLocalMixin)
    return kind.__name__ if ours and kind.__module__.startswith("keras_nonlocal.") else None


def _is_plain(call):
    """Whether a call passes no more than its inputs, as the first argument, and perhaps `training`."""
    more = [*call.args[1:], *(value for key, value in call.kwargs.items() if key != "training")]
    return len(call.args) > 0 and all(value is None for value in more)


def _axis(layer):
    axes = layer.axis if isinstance(layer.axis, Iterable) else [layer.axis]
    return axes[0] if len(axes) == 1 else None


def _merges(call, padded, rank):
    """Whether all inputs of a merge are padded, or have one position only, that goes with all of the others'."""
    each = zip(call.inputs, padded, strict=True)
    return all(len(x.shape) == rank and (is_padded or set(x.shape[1:-1]) == {1}) for x, is_padded in each)


def _per_axis(value, rank):
    return tuple(value) if isinstance(value, Iterable) else (value,) * rank
