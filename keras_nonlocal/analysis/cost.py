"""What a layer, a block or a model costs: parameters, multiply-adds and memory of activations, for either Keras.

    print(cost.cost(models.C2D(50)))

Costs are of one example (one clip, one image) at inference. There are two conventions:

- the paper's (Table 2e): `weights`, the kernels of convolutions and fully connected layers and nothing else, and
  `multiply_adds`, those of convolutions, fully connected layers and products of matrices;
- in full: `parameters`, everything that is learned, and `operations`, which adds to the multiply-adds one for each
  number that a bias, batch norm, activation, pooling or sum takes or gives, whichever are more.

A non-local block counts by its definition, whatever its `implementation`: theta, phi and g where they are applied, that
is to the pooled keys or to all positions, theta phi^T for every query and key that meet, their weights times g, and
W_z. The concatenation form multiplies each half of w_f by theta and by phi, once for each position.

Only layers count. Operations between them (`x + y` on tensors) are left out, and a layer with weights or products that
is not known here is named in `not_counted`: its parameters count, its multiply-adds do not. So are recurrent and
attention layers, and a layer that another one calls in a loop of TensorFlow's, nobody knows how often. TimeDistributed
costs what its layer does, once for every step.
"""

import contextlib
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from keras_nonlocal.analysis import tracing
from keras_nonlocal.layers.flavour import FLAVOURS
from keras_nonlocal.layers.non_local import NonLocalMixin
from keras_nonlocal.ops import limits
from keras_nonlocal.surgery import functional

# Layers whose kernels are multiplied once for each position of what they give, or of what they take.
_BY_OUTPUT = {
    *(f"{kind}{rank}D" for kind in ("Conv", "DepthwiseConv", "SeparableConv") for rank in (1, 2, 3)),
    *("Dense", "Convolution2D"),
}
_BY_INPUT = {f"Conv{rank}DTranspose" for rank in (1, 2, 3)}
_KERNELS = ("kernel", "depthwise_kernel", "pointwise_kernel")
# Layers that move numbers and compute none, at inference.
_MOVING = {
    *(f"{kind}{rank}D" for kind in ("ZeroPadding", "Cropping", "SpatialDropout") for rank in (1, 2, 3)),
    *("InputLayer", "Dropout", "GaussianNoise", "GaussianDropout", "AlphaDropout", "ActivityRegularization"),
    *("Reshape", "Flatten", "Permute", "Identity", "Concatenate", "RepeatVector"),
}
# Layers that call those inside them as often as they like, or multiply what these give them.
_CLOSED = {"RNN", "MultiHeadAttention", "GroupQueryAttention", "GroupedQueryAttention"}
_PRODUCTS = {
    *("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum", "XlaDotV2"),
    *("Conv2D", "Conv3D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "Conv3DBackpropInputV2"),
}


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one example costs; see the module.

    Args:
      parameters: all that is learned: kernels, biases, gammas and betas, frozen or not; no moving statistics.
      weights: kernels of convolutions and fully connected layers only, the paper's count.
      multiply_adds: of convolutions, fully connected layers and products of matrices, the paper's count.
      operations: multiply-adds, and one for each number that biases, norms, activations, pooling and sums take or give.
      activation_bytes: the most that is held at once at inference of the tensors that layers hand to each other, each
        from the layer that makes it to the last one that uses it, none written over another; within a non-local block
        also theta, phi, g, y and what is built of the attention. Parameters and what kernels of TensorFlow use inside
        come on top.
      not_counted: classes of layers with weights or products whose multiply-adds are not known here.
    """

    parameters: int
    weights: int
    multiply_adds: int
    operations: int
    activation_bytes: int
    not_counted: tuple = ()

    def __str__(self):
        text = (
            f"{self.parameters:,} parameters ({self.weights:,} weights), {_si(self.multiply_adds)}MACs "
            f"({_si(self.operations)} operations in full), {self.activation_bytes / 2**20:.1f} MiB of activations"
        )
        return text + (f"; not counted: {', '.join(self.not_counted)}" if self.not_counted else "")


def cost(target: Any, input_shape: Sequence | Mapping | None = None) -> Cost:
    """Counts parameters, multiply-adds and memory of activations.

    Args:
      target: a layer, a block or a model, also a nested one, of Keras 3 or tf_keras. What is not built yet is built.
      input_shape: of one example without the batch, such as (8, 224, 224, 3); for a model of several inputs a
        structure of them. Default: what a functional model was made for.

    Returns:
      A Cost.

    Raises:
      TypeError: if `target` is no layer of either Keras.
      ValueError: if a size of the inputs is not known.

    Example:

    >>> cost.cost(keras_nonlocal.NonLocal3D(), (4, 14, 14, 1024)).parameters
    2101760

    Wang et al., "Non-local Neural Networks", CVPR 2018, Table 2e.
    """
    calls, outputs = _calls(target, input_shape)
    parts = _layer_costs(calls)
    return Cost(
        parameters=_parameters(target),
        weights=sum(part.weights for part in parts.values()),
        multiply_adds=sum(part.multiply_adds for part in parts.values()),
        operations=sum(part.operations for part in parts.values()),
        activation_bytes=_most_held(calls, outputs),
        not_counted=tuple(
            sorted(
                {
                    *(name for part in parts.values() for name in part.not_counted),
                    *(type(layer).__name__ for layer in _with_weights_of_their_own(target)),
                }
            )
        ),
    )


def by_layer(target: Any, input_shape: Sequence | Mapping | None = None) -> dict[str, Cost]:
    """The costs of the layers that a target consists of, in the order they are called in.

    Args:
      target: as in `cost`.
      input_shape: as in `cost`.

    Returns:
      {name of the layer: Cost}. A layer that is called several times has the multiply-adds of all its calls. Two layers
      of the same name, of different nested models, are one entry.

    Raises:
      TypeError: if `target` is no layer of either Keras.
      ValueError: if a size of the inputs is not known.

    Example:

    >>> cost.by_layer(keras_nonlocal.models.C2D(50))["conv1"].weights
    9408
    """
    calls, _ = _calls(target, input_shape)
    named = {}
    for layer, part in _layer_costs(calls).items():
        name = layer.name
        named[name] = _sum(named[name], part) if name in named else part
    return named


@dataclasses.dataclass(frozen=True)
class _Call:
    """A layer called while the target was traced.

    Args:
      layer: what was called.
      inputs: the tensors in.
      outputs: the tensors out.
      repeated: whether it was called in a loop, where one call of the trace is any number of calls.
      multiplies: whether it computes products of matrices, or convolves.
      steps: of TimeDistributed, how often it calls the layer in it; otherwise 0.
      inside: of TimeDistributed, the calls of one step.
    """

    layer: object
    inputs: list
    outputs: list
    repeated: bool
    multiplies: bool
    steps: int = 0
    inside: tuple = ()


def _calls(target, input_shape):
    """What calls of layers a target consists of, and its outputs."""
    if not _is_layer(target):
        raise TypeError(f"`target` must be a layer or a model of keras or tf_keras. Received: target={target!r}")
    specs = tracing.input_specs(target, input_shape)
    if not all(leaf.built for leaf in _leaves(target)):
        _trace(target, specs)  # which makes layers that are not there before
    calls = []
    with contextlib.ExitStack() as stack:
        for leaf in _leaves(target):
            stack.enter_context(_watched(leaf, calls))
        outputs = _trace(target, specs, calls)
    return [_with_steps(call) for call in calls], tf.nest.flatten(outputs)


def _with_steps(call):
    """A call of TimeDistributed with those of the layer in it."""
    if "TimeDistributed" not in _bases(call.layer):
        return call
    # It may run that layer in a loop, or on all steps as one batch: what one step costs is counted apart.
    batch, time, *shape = call.inputs[0].shape
    inside, _ = _calls(call.layer.layer, tuple(shape))
    return dataclasses.replace(call, steps=batch * time, inside=tuple(inside))


def _trace(target, specs, calls=None):
    """Runs a target on symbolic tensors; returns what comes out."""
    result = []

    def run(inputs):
        if calls is not None:
            calls.clear()  # a function that makes variables is traced twice
        result[:] = [target(inputs)]

    tf.function(run, autograph=False).get_concrete_function(specs)
    return result[0]


@contextlib.contextmanager
def _watched(layer, calls):
    """Notes the calls of a layer. Its attributes are as before afterwards."""
    call = layer.call

    def watched(*args, **kwargs):
        graph = tf.compat.v1.get_default_graph()
        before = len(graph.get_operations())
        outputs = call(*args, **kwargs)
        multiplies = _multiply(graph, graph.get_operations()[before:])
        calls.append(_Call(layer, _tensors((args, kwargs)), _tensors(outputs), _is_loop(graph), multiplies))
        return outputs

    with tracing.replaced_call(layer, watched):
        yield


def _is_loop(graph):
    """Whether this is the graph of a loop's body, or in one."""
    while graph is not None:
        if type(graph).__name__.startswith("While"):
            return True
        graph = getattr(graph, "outer_graph", None)
    return False


def _multiply(graph, operations):
    """Whether one of these operations, or of those in the functions that they call, is a product."""
    if any(op.type in _PRODUCTS for op in operations):
        return True
    wanted = {name for op in operations for name in _functions(op.node_def)}
    if not wanted:
        return False
    library = {function.signature.name: function.node_def for function in graph.as_graph_def().library.function}
    seen = set()
    while wanted:
        name = wanted.pop()
        seen.add(name)
        for node in library.get(name, ()):
            if node.op in _PRODUCTS:
                return True
            wanted |= {*_functions(node)} - seen
    return False


def _functions(node):
    """The names of the functions that a node calls."""
    for value in node.attr.values():
        functions = [value.func, *value.list.func]
        yield from (function.name for function in functions if function.name)


def _leaves(layer):
    """The layers that do the work: those without layers inside, and those that are looked at as a whole."""
    leaves = {}
    whole = isinstance(layer, NonLocalMixin) or _bases(layer) & {*_CLOSED, "TimeDistributed"}
    for part in [] if whole else functional.sublayers(layer):
        leaves.update((id(leaf), leaf) for leaf in _leaves(part))
    return list(leaves.values()) or [layer]


def _flat(layer):
    """A layer and all that are inside it."""
    yield layer
    for part in functional.sublayers(layer):
        yield from _flat(part)


def _with_weights_of_their_own(layer):
    """The layers, from this one down to its leaves, that have both layers inside and weights beside theirs."""
    if _leaves(layer) == [layer]:
        return
    inside = functional.sublayers(layer)
    known = {id(weight) for part in inside for weight in part.weights}
    if any(id(weight) not in known for weight in layer.weights):
        yield layer
    for part in inside:
        yield from _with_weights_of_their_own(part)


def _layer_costs(calls):
    """{layer: Cost}, all calls of a layer together; its memory is that of its largest call."""
    costs = {}
    for call in calls:
        parts = {call.layer: _call_cost(call)}
        for layer, part in _layer_costs(call.inside).items():
            parts[layer] = dataclasses.replace(
                part,
                multiply_adds=part.multiply_adds * call.steps,
                operations=part.operations * call.steps,
                activation_bytes=part.activation_bytes * call.steps,
            )
        for layer, part in parts.items():
            costs[layer] = _sum(costs[layer], part, again=True) if layer in costs else part
    return costs


def _sum(a, b, again=False):
    """Two calls together; `again` for two of the same layer, which has its parameters once."""
    return Cost(
        parameters=a.parameters + (0 if again else b.parameters),
        weights=a.weights + (0 if again else b.weights),
        multiply_adds=a.multiply_adds + b.multiply_adds,
        operations=a.operations + b.operations,
        activation_bytes=max(a.activation_bytes, b.activation_bytes),
        not_counted=tuple(sorted({*a.not_counted, *b.not_counted})),
    )


def _call_cost(call):
    layer = call.layer
    taken, given = (sum(_size(x) for x in tensors) for tensors in (call.inputs, call.outputs))
    held = sum(_bytes(x) for x in _unique([*call.inputs, *call.outputs])) + _inside(call)
    if call.steps:
        return Cost(0, 0, 0, 0, held)
    multiply_adds = more = 0
    kind = _kind(layer)
    known = isinstance(layer, NonLocalMixin) or kind or hasattr(layer, "moving_variance")
    not_counted = call.repeated and call.multiplies or not known and (layer.weights or call.multiplies)
    if isinstance(layer, NonLocalMixin):
        multiply_adds, more = _non_local(layer, call.inputs[0].shape)
    elif kind:
        multiply_adds = _rows(call, kind) * _kernel_size(layer)
        activates = getattr(layer.activation, "__name__", "linear") != "linear"
        more = given * (bool(layer.use_bias) + activates)
    elif layer.weights or not _bases(layer) & _MOVING:
        more = max(taken, given)
    if call.repeated:
        multiply_adds = 0
    parameters, weights = _parameters(layer), _kernel_size(layer) if kind else _non_local_weights(layer)
    names = (type(layer).__name__,) if not_counted else ()
    return Cost(parameters, weights, multiply_adds, multiply_adds + more, held, names)


def _kind(layer):
    """The known class that a layer with kernels is of, or None."""
    return next((name for name in _bases(layer) if name in _BY_OUTPUT | _BY_INPUT), None)


def _rows(call, kind):
    """How often the kernels are multiplied by a vector: positions, or rows of a matrix."""
    (x,) = call.inputs if kind in _BY_INPUT else call.outputs
    return math.prod(x.shape[:-1])


def _kernel_size(layer):
    kernels = (getattr(layer, name, None) for name in _KERNELS)
    return sum(math.prod(kernel.shape) for kernel in kernels if kernel is not None)


def _non_local_weights(layer):
    if not isinstance(layer, NonLocalMixin):
        return 0
    projections = [part for part in (layer.theta, layer.phi, layer.g, layer.out) if part is not None]
    return sum(map(_kernel_size, projections)) + (0 if layer.w_f is None else math.prod(layer.w_f.shape))


@dataclasses.dataclass(frozen=True)
class _Pairs:
    """How many positions a non-local block has: queries and keys in all, sets of those that meet, and their pairs."""

    queries: int
    keys: int
    sets: int
    pairs: int

    @classmethod
    def of(cls, layer, shape):
        batch, *positions, _ = shape
        sets, queries, keys = layer.sets(positions)
        sets *= batch
        return cls(sets * queries, sets * keys, sets, sets * queries * keys)


def _non_local(layer, shape):
    """Multiply-adds of a non-local block, and what comes on top in full."""
    channels, inner, form, n = shape[-1], layer.g.units, layer.form, _Pairs.of(layer, shape)
    projected = n.keys if layer.pool_before_projection else n.queries
    multiply_adds = (projected + n.queries) * channels * inner  # g and W_z
    if form.embeds:
        multiply_adds += (n.queries + projected) * channels * inner  # theta and phi
    if form.owns_w_f:
        multiply_adds += (n.queries + n.keys) * inner
    else:
        multiply_adds += n.pairs * (inner if form.embeds else channels)  # theta phi^T
    multiply_adds += n.pairs * inner  # the attention times g
    pooled = n.queries * channels if n.keys < n.queries else 0
    biases = (projected * (1 + form.embeds) + n.queries * form.embeds) * inner * layer.use_bias
    norm = n.queries * channels * (layer.use_out_bias + (layer.norm is not None))
    residual = n.queries * channels
    return multiply_adds, pooled + biases + n.pairs + norm + residual


def _inside(call):
    """Bytes held inside a layer besides its inputs and outputs, at the moment that counts."""
    layer = call.layer
    if call.steps:  # all steps at once, over what comes in and goes out
        taken_and_given = sum(_bytes(x) for x in _unique([*call.inputs, *call.outputs]))
        return max(0, call.steps * _most_held(call.inside, call.inside[-1].outputs) - taken_and_given)
    if not isinstance(layer, NonLocalMixin):
        return 0
    x = call.inputs[0]
    channels, inner, n, size = x.shape[-1], layer.g.units, _Pairs.of(layer, x.shape), x.dtype.size
    width = inner if layer.form.embeds else 0  # without an embedding theta and phi are x
    embedded = (n.queries + n.keys) * (1 if layer.form.owns_w_f else width) * size
    y = n.queries * inner * size
    attending = embedded + n.keys * inner * size + _attention_bytes(layer, n, width or channels) + y
    projecting = y + _bytes(x)  # W_z y, before it is added to x
    return max(attending - _bytes(x), projecting)  # z, a tensor like x, comes last


def _attention_bytes(layer, n, width):
    """What is built of the attention, in float32; an upper bound where "auto" decides."""
    matrix = 4 * n.pairs
    if layer.implementation in ("dense", "one_piece"):
        return matrix
    if layer.form.associates:
        return min(matrix, 4 * n.sets * width * layer.g.units)
    return min(matrix, limits.BY_DEVICE["CPU"].matrix_bytes)


def _most_held(calls, outputs):
    """The largest sum of bytes of tensors alive at once, calls in their order."""
    tensors, born, dies = {}, {}, {}
    for step, call in enumerate(calls):
        for x in [*call.inputs, *call.outputs]:
            tensors[id(x)] = x
            born.setdefault(id(x), step)
            dies[id(x)] = step
    dies.update((id(x), len(calls)) for x in outputs if id(x) in tensors)
    change = [0] * (len(calls) + 2)
    for key, x in tensors.items():
        change[born[key]] += _bytes(x)
        change[dies[key] + 1] -= _bytes(x)
    most = held = 0
    for step, call in enumerate(calls):
        held += change[step]
        most = max(most, held + _inside(call))
    return most


def _parameters(layer):
    """Everything learned in a layer: its weights but the moving statistics of norms."""
    statistics = {
        id(getattr(part, name))
        for part in _flat(layer)
        for name in ("moving_mean", "moving_variance")
        if getattr(part, name, None) is not None
    }
    return sum(math.prod(w.shape) for w in layer.weights if id(w) not in statistics)


def _is_layer(target):
    bases = {(base.__module__.split(".")[0], base.__name__) for base in type(target).__mro__}
    return any((root, "Layer") in bases for root in FLAVOURS)


def _bases(layer):
    """The names of the classes of Keras, or of ours, that a layer is of or is derived from, the nearest first."""
    own = (base for base in type(layer).__mro__ if base.__module__.split(".")[0] in (*FLAVOURS, "keras_nonlocal"))
    return dict.fromkeys(base.__name__ for base in own).keys()


def _tensors(structure):
    return _unique(x for x in tf.nest.flatten(structure) if isinstance(x, tf.Tensor))


def _unique(tensors):
    return list({id(x): x for x in tensors}.values())


def _size(x):
    return math.prod(size or 1 for size in x.shape)


def _bytes(x):
    return _size(x) * x.dtype.size


def _si(number):
    """1.5 M, 35.1 G."""
    for scale, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= scale:
            return f"{number / scale:.4g} {letter}"
    return f"{number} "
