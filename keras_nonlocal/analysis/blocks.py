"""The non-local blocks in a model of either Keras, however deep, and the names that they are asked for by."""

from typing import Any

from keras_nonlocal.layers.non_local import NonLocalMixin
from keras_nonlocal.surgery import functional


def paths(model: Any) -> dict[str, NonLocalMixin]:
    """The blocks of a model, in its order, by the names of the layers that lead to them, as "backbone/res3_1_nonlocal".

    Args:
      model: of either Keras, also one with others inside, or subclassed.

    Returns:
      {path: block}; a block that is in several places has the first of them.

    Example:

    >>> model = keras_nonlocal.models.C2D(50, (4, 64, 64, 3), width=4, non_local={"res3": [1], "res4": [0]})
    >>> list(blocks.paths(model))
    ['res3_1_nonlocal', 'res4_0_nonlocal']
    """
    found = {}
    for path, layer in _inside(model, ""):
        if isinstance(layer, NonLocalMixin) and all(layer is not other for other in found.values()):
            found[path] = layer
    return found


def find(model: Any, block: str | None = None) -> NonLocalMixin:
    """One block of a model.

    Args:
      model: as in `paths`.
      block: its path, or as much of the end of it as no other has: most often the name of the layer. Default the last.

    Raises:
      ValueError: if the model has no such block, or several; the message lists those that it has.
    """
    known = paths(model)
    if block is None and known:
        return list(known.values())[-1]
    fits = [path for path in known if path == block] or [path for path in known if path.endswith(f"/{block}")]
    if len(fits) != 1:
        raise ValueError(
            f"`block` must name one non-local block of the model: {list(known)}. Received: block={block!r}"
        )
    return known[fits[0]]


def _inside(layer, path):
    for part in functional.sublayers(layer):
        name = f"{path}{part.name}"
        yield name, part
        if not isinstance(part, NonLocalMixin):
            yield from _inside(part, f"{name}/")
