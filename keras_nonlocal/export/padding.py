"""The signature for inputs of several sizes in one batch, padded by the client or by the server's batching."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_nonlocal import errors, surgery
from keras_nonlocal.export import guards
from keras_nonlocal.export.signatures import Signature
from keras_nonlocal.ops.positions import dims
from keras_nonlocal.serving import constants
from keras_nonlocal.surgery.padding import Boxes

# How many positions an example may have, in those of the network's own inputs: attention costs their square.
MAX_GROWTH = 16


def padded_signature(
    model: Any,
    name: str,
    example: np.ndarray,
    prepare: Callable[[tf.Tensor], tf.Tensor],
    answer: Callable[[Any], Mapping[str, tf.Tensor]],
) -> Signature:
    """A signature of inputs and their sizes, which answers each input as alone, whatever it is padded with.

    Sizes, and no mask: TensorFlow Serving's pad_variable_length_inputs fills each input of a request with the request's
    own first value, so that it would make a mask True in the padding. Sizes have one shape, and are never padded.

    Args:
      model: a functional model of either Keras of one input, for surgery.masked.
      name: of the inputs.
      example: (rows, *positions, C) of the network's own size and of the served dtype.
      prepare: from inputs as they are served to what the model takes.
      answer: from the outputs of the model to {name: tensor}.

    Returns:
      A Signature of `name`, (B, *positions, C) of any sizes, and `sizes`, int32 (B, axes), the valid part of each
      position axis, which is at its start.

    Raises:
      UserError: if the model has a layer that cannot be told of padding.
    """
    try:
        masked = surgery.masked(model)
    except ValueError as error:
        raise errors.UserError(f"the network cannot serve padded inputs: {error}; leave out --padded") from error
    rank, channels = example.ndim - 2, example.shape[-1]
    specs = {
        name: tf.TensorSpec([None] * (rank + 1) + [channels], example.dtype),
        constants.SIZES: tf.TensorSpec([None, rank], tf.int32),
    }
    most = MAX_GROWTH * math.prod(example.shape[1:-1])

    @tf.function
    def serve(**named):
        # A kernel that gets another rank may end the server.
        inputs, sizes = (tf.ensure_shape(named[each], specs[each].shape) for each in (name, constants.SIZES))
        shape = tf.shape(inputs, tf.int64)
        positions = tf.cast(shape[1:-1], tf.int32)
        # The product of sides may be more than an integer holds.
        count = tf.reduce_prod(tf.cast(shape[1:-1], tf.float64))
        rules = (
            (
                tf.shape(sizes, tf.int64)[0] == shape[0],
                f"must have a row for each example of `{name}`; their shapes are",
                tf.shape(sizes),
                shape,
            ),
            (
                tf.reduce_all((sizes >= 1) & (sizes <= positions)),
                f"must be from 1 to the padded size along every axis of `{name}`; they are, and its shape is",
                sizes,
                shape,
            ),
        )
        large = f"is too large: an example may have at most {most:,} positions, padding included, its shape is"
        with (
            guards.not_empty(name, inputs),
            guards.not_too_large(name, inputs, example.nbytes),
            guards.only_if(f"`{name}`", (count <= most, large, shape)),
            guards.only_if(f"`{constants.SIZES}`", *rules),
        ):
            inputs, sizes = tf.identity(inputs), tf.identity(sizes)
        mask = Boxes(tuple(tf.unstack(sizes, axis=1)), tuple(dims(inputs)[1:-1])).mask
        return answer(masked([prepare(inputs), mask], training=False))

    whole = np.array([example.shape[1:-1]] * len(example), np.int32)  # (rows, R)
    return Signature(serve, specs, {name: example, constants.SIZES: whole})
