"""Where in a model's input the positions of a feature map are: the receptive field of each, exactly.

Along each position axis the position of index i sees the indices from `first + i * stride` to `last + i * stride` of
the input, both included: the box around all that can change it. What padding adds, and cropping takes, is counted as if
the input went on, so that the centres of fields have the same distance everywhere; at a border the real field is the
part of that box that is left.

Where paths of different fields meet, as behind a residual block, the box is the one around all of them. Convolutions
padded as "same" with strides are therefore not always centred: of an even size TensorFlow pads them on one side only.

What takes in all positions at once is left out, as it says nothing about where a position is: non-local blocks, and
gates from a global average, count as the position that they are added to or multiplied with.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_nonlocal.analysis import tracing
from keras_nonlocal.layers.flavour import FLAVOURS
from keras_nonlocal.layers.non_local import NonLocalMixin

Size = int | tf.Tensor  # a scalar int32 tensor where only the run knows


@dataclasses.dataclass(frozen=True)
class Axis:
    """What positions see of the input along one axis; see the module.

    Args:
      stride: from one position to the next, in indices of the input.
      first: the first index that the position of index 0 sees; below 0 in padding.
      last: the last one.
    """

    stride: int
    first: Size
    last: Size

    def through(self, before: Size, span: int = 0, stride: int = 1) -> "Axis":
        """The axis behind a window that slides over it.

        Args:
          before: how many indices before 0 its first place begins; negative where it begins behind.
          span: from the first index in it to the last.
          stride: from one place to the next.
        """
        first, last = (edge - self.stride * before for edge in (self.first, self.last))
        return Axis(self.stride * stride, first, last + self.stride * span)

    def centre(self, index: Any) -> Any:
        """The middle of what the positions of these indices see, as an index of the input: float.

        Args:
          index: a number, or a tensor of any shape and number type.
        """
        index = tf.cast(index, tf.float32) if tf.is_tensor(index) else index
        ends = self.first + self.last
        return self.stride * index + (tf.cast(ends, tf.float32) if tf.is_tensor(ends) else ends) / 2


def of(model: Any, layer: Any, inputs: Any) -> tuple[Axis, ...]:
    """What the positions that a layer takes see of the model's input.

    Args:
      model: of either Keras, also one with others inside, or subclassed.
      layer: anywhere inside it, one that takes a single tensor (B, *positions, C).
      inputs: what the model takes, as arrays or tf.TensorSpecs whose sizes are known: where they are even or odd may
        move what positions see.

    Returns:
      An Axis for each position axis of what the layer takes, in ints.

    Raises:
      ValueError: if something between the input and the layer is not known to keep or move positions.

    Example:

    >>> model = keras_nonlocal.models.C2D(50, (4, 64, 64, 3), width=4, non_local={"res3": [1]})
    >>> block = model.get_layer("res3_1_nonlocal")
    >>> [(axis.stride, axis.centre(0)) for axis in receptive_field.of(model, block, model.input)]
    [(2, 0.5), (8, 2.0), (8, 2.0)]
    """
    found = []

    def run(inputs):
        found.append(axes(tracing.trace_to(model, layer, inputs)))

    specs = tf.nest.map_structure(lambda x: tf.TensorSpec([x.shape[0] or 1, *x.shape[1:]], x.dtype), inputs)
    tf.function(run, autograph=False).get_concrete_function(specs)
    return found[-1]


def axes(trace: tracing.Trace) -> tuple[Axis, ...]:
    """What the positions of the features of a trace see; otherwise as `of`. Edges that the run decides are tensors."""
    name, rank = trace.features.name, trace.features.shape.rank
    for source in (x for x in trace.inputs if x.shape.rank == rank or _is_tokens(x, rank)):
        found = _grids(trace, source).get(name)
        if isinstance(found, str):
            raise ValueError(
                f"`model` must keep or move positions up to the layer {trace.layer.name!r} by convolutions, pooling, "
                f"padding, cropping and what works position by position. Received: {found}"
            )
        if found is not None and None not in found:
            return found
    raise ValueError(
        f"`model` must make the positions of the layer {trace.layer.name!r} of those of an input, of rank {rank} or of "
        f"integers that are embedded. Received: inputs of shapes {[tuple(x.shape) for x in trace.inputs]}"
    )


# A grid is an Axis for each position axis, or None for one that was summed over and has a single index left. Instead of
# a grid there is a str, what nothing is known of, in words.


def _grids(trace, source):
    """{name of a tensor: its grid}; of those in which the source has a part."""
    rank = trace.features.shape.rank
    names = _embedded(trace, source) if _is_tokens(source, rank) else [source.name]
    grids = {name: tuple(Axis(1, 0, 0) for _ in range(rank - 2)) for name in names}
    units = _units(trace.calls)
    index = 0
    while index < len(trace.operations):
        call, rule = units.get(index, (None, None))
        if call is None:
            grids.update(_behind_operation(trace, index, grids))
            index += 1
            continue
        grid = grids.get(call.inputs[0].name)
        if grid is not None:
            grid = grid if isinstance(grid, str) or None in grid else rule(grid, call.inputs[0])
            grids.update((x.name, grid) for x in call.outputs)
        index = call.last
    return grids


def _is_tokens(x, rank):
    """Whether x may be integers, (B, *positions), of which an embedding makes what has this rank."""
    return x.dtype.is_integer and x.shape.rank == rank - 1


def _embedded(trace, tokens):
    """The names of what rows of a table were taken for by tokens."""
    same, names = {tokens.name}, []
    for op in trace.operations:
        if op.type in ("GatherV2", "ResourceGather") and op.inputs[1].name in same:
            names += [op.outputs[0].name]
        elif op.type in _ELEMENTWISE and any(x.name in same for x in op.inputs):
            same |= {x.name for x in op.outputs}
    return names


def _units(calls):
    """{first operation: (call, rule)} of the layers that are known as a whole, of those inside each other the outer."""
    units, end = {}, 0
    for call in sorted(calls, key=lambda call: (call.first, -call.last)):
        if end <= call.first < call.last and call.inputs and (rule := _rule(call.layer)):
            units[call.first] = call, rule
            end = call.last
    return units


def _rule(layer) -> Callable | None:
    """What a layer makes of a grid: function of (grid, tensor in). None for one that its operations are asked for."""
    homes = (*FLAVOURS, "keras_nonlocal")
    if type(layer).call.__module__.split(".")[0] not in homes:
        return None  # it may be derived from a layer of Keras, and do anything
    if isinstance(layer, NonLocalMixin):
        return lambda grid, x: grid
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return None
    for base in type(layer).__mro__:
        if base.__module__.split(".")[0] in homes and base.__name__ in _RULES:
            rule = _RULES[base.__name__]
            return rule and rule(layer)
    return None


def _convolution(layer):
    rank = len(layer.kernel_size)
    return _sliding(layer.kernel_size, _each(layer.strides, rank), _each(layer.dilation_rate, rank), layer.padding)


def _pooling(layer):
    rank = int(next(base.__name__[-2] for base in type(layer).__mro__ if base.__name__ in _RULES))
    return _sliding(_each(layer.pool_size, rank), _each(layer.strides, rank), (1,) * rank, layer.padding)


def _sliding(kernel, strides, dilation, padding):
    def rule(grid, x):
        moved = []
        for axis, old in enumerate(grid):
            span, stride = (kernel[axis] - 1) * dilation[axis], strides[axis]
            before = {"valid": 0, "causal": span}.get(padding)
            if before is None:
                before = _same(_size(x, axis + 1) if stride > 1 else None, span, stride)
            moved.append(old.through(before, span, stride))
        return tuple(moved)

    return rule


def _same(size, span, stride):
    """How much TensorFlow pads before an axis so that its size becomes size / stride, rounded up."""
    if stride == 1:
        return span // 2
    total = (-(-size // stride) - 1) * stride + span + 1 - size
    return (tf.maximum(total, 0) if tf.is_tensor(total) else max(total, 0)) // 2


def _padding(layer):
    before = [edge[0] for edge in _edges(layer.padding)]
    return lambda grid, x: tuple(axis.through(pad) for axis, pad in zip(grid, before, strict=True))


def _cropping(layer):
    before = [edge[0] for edge in _edges(layer.cropping)]
    return lambda grid, x: tuple(axis.through(-crop) for axis, crop in zip(grid, before, strict=True))


def _of_frames(layer):
    """Of TimeDistributed: the rule of the layer in it, for all axes but the first."""
    rule = _rule(layer.layer)
    if rule is None:
        return None
    return lambda grid, x: (grid[0], *rule(grid[1:], x[:, 0]))


def _position_by_position(layer):
    return lambda grid, x: grid


_CONVOLUTIONS = ("Conv", "DepthwiseConv", "SeparableConv")
_RULES = {
    **{f"{kind}{rank}D": _convolution for kind in _CONVOLUTIONS for rank in (1, 2, 3)},
    **{f"Conv{rank}DTranspose": None for rank in (1, 2, 3)},  # which tf_keras derives from convolutions
    **{f"{kind}Pooling{rank}D": _pooling for kind in ("Max", "Average") for rank in (1, 2, 3)},
    **{f"ZeroPadding{rank}D": _padding for rank in (1, 2, 3)},
    **{f"Cropping{rank}D": _cropping for rank in (1, 2, 3)},
    **{f"{kind}Normalization": _position_by_position for kind in ("Batch", "Layer", "Group", "Unit", "RMS")},
    "Dense": _position_by_position,
    "TimeDistributed": _of_frames,
}


_ELEMENTWISE = {
    *("Abs", "Add", "AddN", "AddV2", "BiasAdd", "Cast", "CheckNumerics", "EnsureShape", "Elu", "Erf", "Erfc", "Exp"),
    *("FusedBatchNormV3", "Identity", "LeakyRelu", "Log", "Log1p", "Maximum", "Minimum", "Mul", "Neg", "Pow"),
    *("PreventGradient", "RealDiv", "Reciprocal", "Relu", "Relu6", "Rsqrt", "Select", "SelectV2", "Selu", "Sigmoid"),
    *("Sign", "Softmax", "Softplus", "Softsign", "Sqrt", "Square", "SquaredDifference", "StopGradient", "Sub", "Tanh"),
    *("Equal", "Greater", "GreaterEqual", "Less", "LessEqual", "LogicalAnd", "LogicalNot", "LogicalOr", "NotEqual"),
}
_SIZES = {"Shape", "ShapeN", "Size", "Rank"}
_REDUCTIONS = {"Mean", "Sum", "Max", "Min", "Prod", "Any", "All"}


def _behind_operation(trace, index, grids):
    """{name of an output of an operation: its grid}."""
    op = trace.operations[index]
    known = [(x, grids[x.name]) for x in op.inputs if x.name in grids]
    if not known or op.type in _SIZES:
        return {}
    unknown = next((grid for _, grid in known if isinstance(grid, str)), None)
    if op.type == "IdentityN":
        return {y.name: grids[x.name] for x, y in zip(op.inputs, op.outputs, strict=True) if x.name in grids}
    grid = unknown or _moved(op, known)
    if isinstance(grid, str) and not unknown:
        if all(size == 1 for x, _ in known for size in x.shape[1:-1]):
            return {}  # what became of a single position, as of a global average, says nothing about where it is
        inner = min(
            (call for call in trace.calls if call.first <= index < call.last),
            key=lambda call: call.last - call.first,
            default=None,
        )
        where = f" in the layer {inner.layer.name!r} ({type(inner.layer).__name__})" if inner else ""
        grid = f"{grid}{where}"
    return {} if grid is None else {x.name: grid for x in op.outputs}


def _moved(op, known):
    """The grid behind one operation, None where no position is left, or a str."""
    x, grid = known[0]
    rank = x.shape.rank
    if op.type in _ELEMENTWISE or op.type == "ConcatV2" and _constant(op.inputs[-1]) in (-1, rank - 1):
        return _union(op.outputs[0].shape, known)
    if op.type in ("Pad", "PadV2", "MirrorPad") and (pads := _constant(op.inputs[1])) is not None:
        pads = [int(before) for before, _ in pads[1:-1]]
        return tuple(axis and axis.through(before) for axis, before in zip(grid, pads, strict=True))
    if op.type in _REDUCTIONS and (axes := _constant(op.inputs[1])) is not None:
        gone = {int(axis) % rank for axis in axes.reshape(-1)}
        if gone >= set(range(1, rank - 1)):
            return None
        if op.get_attr("keep_dims"):
            return tuple(None if axis in gone else old for axis, old in enumerate(grid, start=1))
    return f"the operation {op.type}"


def _union(shape, known):
    """The boxes around the fields of tensors that meet in one of this shape."""
    rank = shape.rank
    if any(x.shape.rank != rank for x, _ in known):
        return "tensors of different ranks that meet"
    union = []
    for axis in range(rank - 2):
        # What has size 1 where the others have more is the same for all positions.
        met = [grid[axis] for x, grid in known if x.shape[axis + 1] != 1 or shape[axis + 1] == 1]
        met = [each for each in met if each is not None]
        if len({each.stride for each in met}) > 1:
            return f"tensors of the strides {[each.stride for each in met]} that meet"
        union.append(Axis(met[0].stride, _least(met), _most(met)) if met else None)
    return tuple(union)


def _least(met):
    firsts = [each.first for each in met]
    return tf.reduce_min(tf.stack(firsts)) if any(map(tf.is_tensor, firsts)) else min(firsts)


def _most(met):
    lasts = [each.last for each in met]
    return tf.reduce_max(tf.stack(lasts)) if any(map(tf.is_tensor, lasts)) else max(lasts)


def _constant(x):
    return tf.get_static_value(x)


def _size(x, axis):
    return tf.shape(x)[axis] if x.shape[axis] is None else x.shape[axis]


def _each(value, rank):
    """One number for each axis: Keras keeps one or several."""
    return tuple(value) if isinstance(value, tuple | list) else (value,) * rank


def _edges(value):
    """[(before, behind)] of each axis, of what Keras keeps of padding and cropping: for sequences it is one pair."""
    return value if isinstance(value[0], tuple | list) else [value]
