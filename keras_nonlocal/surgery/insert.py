"""Puts non-local blocks into trained functional models, of either Keras, which stay as they are until they learn."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from keras_nonlocal.surgery import copying, functional, places


def insert(model: Any, after: str | Callable | Sequence, **block: Any) -> Any:
    """Copies a model with non-local blocks behind some of its layers.

    All weights are kept, and so is every output, to the last bit, until the blocks learn: a block starts as the
    identity. (A graph that TensorFlow optimises as a whole, as in `predict`, may fuse other operations than before,
    and round otherwise.) The blocks are NonLocal1D, 2D or 3D of the same Keras, by what the layer gives, in the dtype
    policy of the layer, and bear its name with `_nonlocal` behind it. A layer that is called several times has one
    block that is called as often.

    The copy is not compiled: the blocks have weights that no optimizer knows yet. What was frozen is frozen in the
    copy; the blocks are not. It saves and loads as any model with our layers. A file of weights that were saved of
    `model` alone is to be loaded into `model`, before.

    Args:
      model: a functional or sequential model of Keras 3 or tf_keras, also one of several inputs and outputs, with such
        models inside, or of a subclass that does not override `call`.
      after: the layer that a block is to follow, by name ("conv4_block5_out"), or by path in a model inside
        ("backbone/conv4_block5_out"); a pattern of fnmatch for either ("conv4_block[135]_out"); a function of a layer
        that is true for those meant; or a list of these. `keras_nonlocal.advise(model)` has some for you.
      **block: arguments of the blocks, as `pairwise` or `pool_size`; see NonLocal3D.

    Returns:
      A functional model of the same Keras, with the same names of layers and inputs. `model` is not changed, and shares
      no weights with it. An output that a block now makes is called by the block's name.

    Raises:
      TypeError: if `model` is no model of either Keras, or `after` none of the above.
      ValueError: if the model is not functional, `after` names no layer of it, a layer gives anything but one tensor
        (batch, positions..., channels) of one to three position axes and known channels, `pool_size` or `group_frames`
        cannot cut its sizes, or a layer cannot be copied.

    Example:

    >>> trained = keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3))
    >>> model = keras_nonlocal.insert(trained, after="conv4_block5_out")
    >>> image = np.random.default_rng(0).normal(size=[1, 64, 64, 3]).astype("float32")
    >>> bool(np.array_equal(model(image), trained(image)))
    True

    Wang et al., "Non-local Neural Networks", CVPR 2018, section 3.3.
    """
    keras = functional.flavour(model)
    known = places.find(model)
    if "name" in block:
        raise ValueError(f"`name` is made of the layer's, and cannot be given. Received: name={block['name']!r}")
    return _Insertion(keras, places.choose(known, after), **block).copy(model)


class _Insertion(copying.ModelCopy):
    """The copy with the blocks."""

    def __init__(self, keras, chosen, **block):
        super().__init__(keras)
        self._blocks = {id(place.layer): _checked_block(keras, place, **block) for place in chosen}

    def outputs(self, call, outputs):
        block = self._blocks.get(id(call.layer))
        return outputs if block is None else tf.nest.map_structure(block, outputs)


def _checked_block(keras, place, **block):
    """As places.new_block. Raises ValueError if none can stand there."""
    why = place.why_not()
    if why is None:
        made = places.new_block(keras, place, **block)
        found = (places.uncut(made, tuple(call.outputs[0].shape)[1:-1]) for call in place.calls)
        why = next(filter(None, found), None)
    if why is not None:
        raise ValueError(
            "`after` must choose layers that a non-local block can follow. "
            f"Received: {place.path!r} ({type(place.layer).__name__}), which {why}"
        )
    return made
