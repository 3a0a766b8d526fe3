"""Refuses what a request must not ask for, with a sentence, before anything is made of it."""

import dataclasses
from typing import Any

import tensorflow as tf

from keras_nonlocal.export.signatures import Signature

# What one request may make of its inputs.
MAX_REQUEST_BYTES = 256 * 2**20


def only_if(what: str, *rules: tuple) -> Any:
    """A context for what may happen only to those that keep all rules; INVALID_ARGUMENT to the others.

    An assertion does not come before what follows it unless it is told to: the pixels would be decoded all the same.

    Args:
      what: it is that is held to the rules, in words.
      *rules: (whether it keeps the rule, what it does wrong in words, what is printed after that...).
    """
    # tf.debugging.Assert wraps each in a condition, which the optimizer of graphs logs that it cannot optimize.
    checks = [tf.raw_ops.Assert(condition=kept, data=[f"{what} {text}", *it], summarize=5) for kept, text, *it in rules]
    return tf.control_dependencies(checks)


def not_empty(name: str, value: tf.Tensor) -> Any:
    """A context for what is made of the argument of this name, of which no size may be 0: kernels abort at some."""
    shape = tf.shape(value, tf.int64)
    text = "holds nothing: every size must be at least 1, its shape is"
    return only_if(f"`{name}`", (tf.reduce_all(shape > 0), text, shape))


def finite(signature: Signature) -> Signature:
    """The same signature, which refuses to answer with NaN or infinity: over REST they are no valid JSON."""

    @tf.function
    def function(**inputs):
        outputs = signature.function(**inputs)
        rules = [
            (
                tf.reduce_all(tf.math.is_finite(value)),
                f"is not finite: `{name}` holds NaN or infinity, as it does where the request holds such or too large "
                "numbers",
            )
            for name, value in outputs.items()
            if value.dtype.is_floating
        ]
        with only_if("the answer", *rules):
            return {name: tf.identity(value) for name, value in outputs.items()}

    return dataclasses.replace(signature, function=function)
