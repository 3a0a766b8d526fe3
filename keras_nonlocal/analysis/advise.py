"""Where in a network non-local blocks are worth their cost, of either Keras: what the paper found, for any model.

The paper's Table 2b puts one block into each stage of a ResNet-50: res2, res3 and res4 gain about the same, res5 a
little less, whose maps of 7 x 7 leave little to say about places. Its one block stands before the last residual block
of res4; its five blocks (Table 2c) stand behind every other residual block, two in res3 and three in res4. Stages are
told here by the sizes of their maps: the last is taken for res5, those before it for res4 and res3.
"""

import collections
import dataclasses
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from keras_nonlocal.analysis import cost, tracing
from keras_nonlocal.surgery import functional, places

RUNS = 5  # of which the median is the measured time
# What belongs to the layer before it, so that a block stands behind both.
_FOLLOWING = {
    *("Activation", "ReLU", "Relu", "LeakyReLU", "PReLU", "ELU", "Softmax", "Dropout"),
    *("BatchNormalization", "LayerNormalization", "GroupNormalization", "UnitNormalization", "SyncBatchNormalization"),
    *(f"SpatialDropout{rank}D" for rank in places.RANKS),
}
_PADDINGS = {f"ZeroPadding{rank}D" for rank in places.RANKS}


@dataclasses.dataclass(frozen=True)
class Spot:
    """A layer that a block can follow.

    Args:
      path: its name, and those of the models that it is in: what `insert` takes as `after`.
      shape: what it gives, without the batch.
      added: what the block costs for one example; its activation_bytes are those alive while the block runs.
      seconds: how long the block takes for one example here, or None if that was not measured.
    """

    path: str
    shape: tuple[int, ...]
    added: cost.Cost
    seconds: float | None = None


@dataclasses.dataclass(frozen=True)
class Advice:
    """Where blocks can stand in a model, and where they should; as text a table.

    Args:
      spots: all layers between whose blocks everything passes, in the order of the network.
      one: the path of the layer that a single block should follow.
      five: those for five blocks, or fewer where the network has no more places.
      why: the reasons, for people.
      model: what the model costs without blocks.
    """

    spots: tuple[Spot, ...]
    one: str
    five: tuple[str, ...]
    why: str
    model: cost.Cost

    def __str__(self):
        measured = self.spots[0].seconds is not None
        header = ["", "after", "gives", "parameters", "multiply-adds", "activations"] + ["time"] * measured
        rows = [header]
        for spot in self.spots:
            marks = ["1"] * (spot.path == self.one) + ["5"] * (spot.path in self.five)
            row = [" ".join(marks), spot.path, " x ".join(map(str, spot.shape)), *_costs(spot.added)]
            rows.append(row + [f"{1000 * (spot.seconds or 0):.1f} ms"] * measured)
        for name, paths in (("with one", [self.one]), (f"with {len(self.five)}", self.five)):
            rows.append(["", name, "", self._more("parameters", paths), self._more("multiply_adds", paths), ""])
            rows[-1] += [""] * measured
        widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
        lines = [
            "  ".join(
                cell.ljust(width) if column < 3 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        return "\n".join([*lines, "", self.why])

    def _more(self, key, paths):
        added = sum(getattr(spot.added, key) for spot in self.spots if spot.path in paths)
        return f"+ {100 * added / max(getattr(self.model, key), 1):.0f} %"


def advise(model: Any, input_shape: Sequence | Mapping | None = None, measure: bool = False, **block: Any) -> Advice:
    """Says where non-local blocks can stand in a network, what each costs, and where they should stand.

    Listed are the layers through which everything passes, at the ends of residual and other blocks and behind their
    activations. `insert` takes other layers too.

    Args:
      model: a functional or sequential model of Keras 3 or tf_keras, also one with such models inside.
      input_shape: of one example without the batch, such as (224, 224, 3); for a model of several inputs a structure of
        them. Default: what the model was made for.
      measure: whether to also run each block, a few times, on this machine.
      **block: arguments of the blocks, as `insert` takes them.

    Returns:
      An Advice. Print it, and give its `one` or its `five` to `insert`.

    Raises:
      TypeError: if `model` is no model of either Keras.
      ValueError: if the model is not functional, a size of its inputs is not known, or no block can stand in it.

    Example:

    >>> model = keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3))
    >>> advice = keras_nonlocal.advise(model)
    >>> advice.one
    'conv4_block5_out'
    >>> advice.five
    ('conv3_block2_out', 'conv3_block4_out', 'conv4_block2_out', 'conv4_block4_out', 'conv4_block6_out')

    Wang et al., "Non-local Neural Networks", CVPR 2018, section 5.1, Tables 2b and 2c.
    """
    keras = functional.flavour(model)
    graph = functional.required_graph(model)
    shapes = _shapes(keras, graph, tracing.input_specs(model, input_shape))
    known = {id(place.layer): place for place in places.find(model).values()}
    spots = []
    for layer in _passages(keras, graph):
        place = known[id(layer)]
        if place.why_not() is None:
            made = places.new_block(keras, place, **block)
            if all(places.uncut(made, shape[:-1]) is None for shape in shapes[id(layer)]):
                spots.append(_spot(place.path, made, shapes[id(layer)], measure))
    if not spots:
        raise ValueError(
            "`model` must have layers that everything passes through and that give positions, (batch, positions..., "
            f"channels), for a block to follow. Received: model {model.name!r}, which has none"
        )
    one, five, why = _choice(spots)
    return Advice(tuple(spots), one, five, why, cost.cost(model, input_shape))


def _shapes(keras, graph, specs):
    """{id of a layer: the shapes that its calls give, without the batch}."""
    found = collections.defaultdict(list)

    def note(call, args, kwargs):
        inside = _graph_inside(keras, call.layer)
        if inside is None:
            outputs = call.layer(*args, **kwargs)
        else:
            outputs = functional.run(inside, tf.nest.flatten(args[0]), note)
        found[id(call.layer)].append(tuple(tf.nest.flatten(outputs)[0].shape)[1:])
        return outputs

    run = tf.function(lambda *inputs: functional.run(graph, inputs, note), autograph=False)
    run.get_concrete_function(*tf.nest.flatten(specs))
    return found


def _graph_inside(keras, layer):
    return functional.graph(layer) if isinstance(layer, keras.Model) else None


def _passages(keras, graph):
    """The layers of a graph behind which one tensor carries all that is known, and no norm or activation follows."""
    calls = functional.calls(graph)
    users = collections.defaultdict(list)
    for step, call in enumerate(calls):
        for x in call.inputs:
            users[id(x)].append(step)
    # What nobody uses is an output, and kept to the end.
    until = {id(x): max(users[id(x)], default=len(calls)) for call in calls for x in call.outputs}
    until.update({id(x): max(users[id(x)], default=0) for x in tf.nest.flatten(graph.input)})
    alive = [x for x in tf.nest.flatten(graph.input) if _has_positions(x)]
    learned = False
    for step, call in enumerate(calls):
        layer = call.layer
        alive = [x for x in alive if until[id(x)] > step]
        learned = learned or _learns(layer)
        if not alive and len(call.outputs) == 1:
            inside = _graph_inside(keras, layer)
            within = [] if inside is None else list(_passages(keras, inside))
            following = [type(calls[user].layer).__name__ for user in users[id(call.outputs[0])]]
            belongs = len(following) == 1 and following[0] in _FOLLOWING
            if within:
                yield from within
            elif learned and not belongs and type(layer).__name__ not in _PADDINGS and _has_positions(call.outputs[0]):
                yield layer
        alive += [x for x in call.outputs if until[id(x)] > step and _has_positions(x)]


def _learns(layer):
    """Whether a layer has weights, other than those that scale the inputs."""
    return bool(getattr(layer, "weights", None)) and not hasattr(layer, "adapt")


def _has_positions(x):
    shape = tf.TensorShape(x.shape)
    return tf.as_dtype(x.dtype).is_floating and shape.rank is not None and shape.rank - 2 in places.RANKS


def _spot(path, block, shapes, measure):
    costs = [cost.cost(block, shape) for shape in shapes]
    added = dataclasses.replace(
        costs[0],
        multiply_adds=sum(each.multiply_adds for each in costs),
        operations=sum(each.operations for each in costs),
        activation_bytes=max(each.activation_bytes for each in costs),
    )
    seconds = sum(_seconds(block, shape) for shape in shapes) if measure else None
    return Spot(path, shapes[0], added, seconds)


def _seconds(block, shape):
    run, x = tf.function(block), tf.random.stateless_normal((1, *shape), (0, 0))
    x = tf.cast(x, block.compute_dtype)
    run(x)  # which makes the graph
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        run(x).numpy()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _choice(spots):
    """The place for one block, those for five, and why."""
    stages = collections.defaultdict(list)
    for spot in spots:
        stages[spot.shape[:-1][-2:]].append(spot)  # sizes in space; of sequences, in time
    sizes = list(stages)
    late = stages[sizes[-2] if len(sizes) > 1 else sizes[-1]]
    middle = stages[sizes[-3]] if len(sizes) > 2 else []
    one = late[-2:][0].path
    five = tuple(spot.path for spot in [*_every(middle, 2), *_every(late, 3)])
    maps = " x ".join(map(str, sizes[-1]))
    if len(sizes) == 1:
        why = (
            f"All maps have one size, {maps}, so the place matters little: one block stands before the last layer of it"
        )
    else:
        here = " x ".join(map(str, late[0].shape[:-1][-2:]))
        why = (
            f"The paper gained more in its last stage but one (res4, here that of {here}) than in the last (res5, here "
            f"that of {maps}), whose maps are too small to say much about places. One block (1) goes before the last "
            "block of that stage"
        )
    why += f"; {len(five)} blocks (5) gain more, behind every other block of it"
    why += " and of the stage before (res3), where they cost more as there are more positions." if middle else "."
    return one, five, why


def _every(stage, count):
    """So many spots of a stage, every other or as far apart as they can be."""
    step = max(2, len(stage) // count)
    return stage[step - 1 :: step][:count] or stage[-1:]


def _costs(added):
    return f"{added.parameters:,}", f"{added.multiply_adds / 1e6:,.1f} M", f"{added.activation_bytes / 2**20:.1f} MiB"
