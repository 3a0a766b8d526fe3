"""The places in a functional model, of either Keras, where a non-local block can stand: behind which layers."""

import dataclasses
import difflib
import fnmatch
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from keras_nonlocal.layers import flavour
from keras_nonlocal.surgery import functional

RANKS = (1, 2, 3)
NEAR = 3  # names that an error offers


@dataclasses.dataclass(frozen=True)
class Place:
    """The place behind a layer.

    Args:
      path: the names of the layers that lead to it, as "backbone/conv4_block5_out".
      layer: the layer, or operation.
      calls: its calls, in all graphs that it is in.
      names: all names in these graphs.
    """

    path: str
    layer: Any
    calls: list = dataclasses.field(default_factory=list)
    names: set = dataclasses.field(default_factory=set)

    @property
    def rank(self) -> int:
        """Position axes of what the layer gives."""
        return len(self.calls[0].outputs[0].shape) - 2

    @property
    def channels(self) -> int:
        """Channels of what the layer gives."""
        return self.calls[0].outputs[0].shape[-1]

    def why_not(self) -> str | None:
        """What keeps a block from standing here, in words behind the layer's name; None if nothing does."""
        for call in self.calls:
            if len(call.outputs) != 1:
                return f"gives {len(call.outputs)} tensors, not one"
            (x,) = call.outputs
            shape = tf.TensorShape(x.shape)
            if shape.rank is None or shape.rank - 2 not in RANKS:
                return f"gives a tensor of shape {shape}, not (batch, positions..., channels) of one to three positions"
            if not tf.as_dtype(x.dtype).is_floating:
                return f"gives a tensor of dtype {tf.as_dtype(x.dtype).name}, which are no features"
            if getattr(self.layer, "data_format", "channels_last") == "channels_first":
                return "gives its channels first, and a block takes them last"
            if shape[-1] is None:
                return f"gives a tensor of shape {shape}, whose channels are not known"
        kinds = {(len(call.outputs[0].shape), call.outputs[0].shape[-1]) for call in self.calls}
        if len(kinds) > 1:
            return f"is called for tensors of several (rank, channels), {sorted(kinds)}, and one block takes one"
        return None


def find(model: Any) -> dict[str, Place]:
    """All places in a functional model and the models inside it, {path: Place}, from inputs to outputs."""
    keras, found = functional.flavour(model), {}
    _visit(keras, functional.required_graph(model), "", found, {id(model)})
    return {place.path: place for place in found.values()}


def choose(places: dict[str, Place], after: str | Callable | Sequence, argument: str = "after") -> list[Place]:
    """The places that a user means.

    Args:
      places: from `find`.
      after: a path, or as much of the end of it as no other has, most often the name of the layer; a pattern of
        fnmatch for either; a function of the layer; or a list of these.
      argument: what a user calls it.

    Raises:
      TypeError: if it is none of these.
      ValueError: for a name that no layer has, or several, and if no layer fits at all.
    """
    wanted = after if isinstance(after, list | tuple) else [after]
    chosen = {}
    for each in wanted:
        if isinstance(each, str):
            found = _named(places, each, argument)
        elif callable(each):
            found = [place for place in places.values() if each(place.layer)]
        else:
            raise TypeError(
                f"`{argument}` must be the name of a layer, a pattern, a function of a layer, or a list of these. "
                f"Received: {argument}={after!r}"
            )
        chosen.update((place.path, place) for place in found)
    if not chosen:
        raise ValueError(f"`{argument}` must choose at least one layer of the model. Received: {argument}={after!r}")
    return list(chosen.values())


def new_block(keras: Any, place: Place, **block: Any) -> Any:
    """The block, not built, that `insert` puts at a place where one can stand."""
    kind = getattr(flavour.home(keras), f"NonLocal{place.rank}D")
    return kind(**{"name": _free_name(place), "dtype": _policy(place), **block})


def uncut(block: Any, positions: Sequence[int | None]) -> str | None:
    """Which of the sizes of the position axes a block's arguments cannot cut, in words; None if they can.

    Sizes that are not known pass.
    """
    if any(size is not None and size < pool for size, pool in zip(positions, block.key_pool, strict=True)):
        return f"gives positions of sizes {positions}, too small for pool_size={block.pool_size}: use a smaller one"
    if block.group_frames and (positions[0] or 0) % block.group_frames:
        return f"gives {positions[0]} frames, which group_frames={block.group_frames} does not divide"
    return None


def _visit(keras, graph, prefix, found, seen):
    calls = functional.calls(graph)
    names = {call.layer.name for call in calls}
    for call in calls:
        layer = call.layer
        place = found.setdefault(id(layer), Place(f"{prefix}{layer.name}", layer))
        place.calls.append(call)
        place.names.update(names)
        inside = functional.graph(layer) if isinstance(layer, keras.Model) else None
        if inside is not None and id(layer) not in seen:
            seen.add(id(layer))
            _visit(keras, inside, f"{place.path}/", found, seen)


def _named(places, name, argument):
    if name in places:
        return [places[name]]
    ends = [place for path, place in places.items() if path.endswith(f"/{name}")]
    if len(ends) > 1:
        raise ValueError(
            f"`{argument}` must say which of the layers it means: {sorted(place.path for place in ends)}. "
            f"Received: {argument}={name!r}"
        )
    if not ends:
        ends = [
            place
            for path, place in places.items()
            if fnmatch.fnmatchcase(path, name) or fnmatch.fnmatchcase(path, f"*/{name}")
        ]
    if not ends:
        instead = _instead(places, name, argument)
        raise ValueError(f"`{argument}` must name a layer of the model, or be a pattern for some. {instead}")
    return ends


def _instead(places, name, argument):
    """What is there in the place of a layer that is not."""
    for place in places.values():
        if not hasattr(place.layer, "weights"):
            continue  # an operation of Keras 3
        if functional.graph(place.layer) is None and name.split("/")[-1] in _inside(place.layer):
            return (
                f"Received: {argument}={name!r}, a layer inside {place.path!r} ({type(place.layer).__name__}), which "
                "calls it in code of its own: only what follows that layer as a whole can be changed"
            )
    by_name = {place.layer.name: path for path, place in places.items()}
    near = difflib.get_close_matches(name, [*places, *by_name], NEAR)
    near = list(dict.fromkeys(by_name.get(each, each) for each in near))
    return f"Received: {argument}={name!r}" + (f"; names like it: {near}" if near else "")


def _inside(layer):
    """The names of all layers inside one, however deep."""
    parts = functional.sublayers(layer)
    return {part.name for part in parts}.union(*(_inside(part) for part in parts))


def _free_name(place):
    name = f"{place.layer.name}_nonlocal"
    later = (f"{name}_{number}" for number in range(1, len(place.names) + 1))
    return next(each for each in (name, *later) if each not in place.names)


def _policy(place):
    """The dtype policy of a block: the layer's, unless the layer gives something else than it computes in."""
    dtype = tf.as_dtype(place.calls[0].outputs[0].dtype).name
    policy = getattr(place.layer, "dtype_policy", None)
    own = getattr(policy, "compute_dtype", None) == dtype and getattr(policy, "quantization_mode", None) is None
    return policy if own else dtype
