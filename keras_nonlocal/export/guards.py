"""Refuses what a request must not ask for, with a sentence, before anything is made of it."""

import dataclasses
from contextlib import AbstractContextManager

import tensorflow as tf

from keras_nonlocal.export.signatures import Signature
from keras_nonlocal.ops import rules as ground

# What one request may make of its inputs.
MAX_REQUEST_BYTES = 256 * 2**20


def only_if(what: str, *rules: tuple) -> AbstractContextManager:
    """ops.rules.only_if of one thing.

    Args:
      what: it is that is held to the rules, in words.
      *rules: (whether it keeps the rule, what it does wrong in words, what is printed after that...).
    """
    return ground.only_if(*((kept, f"{what} {text}", *it) for kept, text, *it in rules))


def not_empty(name: str, value: tf.Tensor) -> AbstractContextManager:
    """A context for what is made of the argument of this name, of which no size may be 0: kernels abort at some."""
    shape = tf.shape(value, tf.int64)
    text = "holds nothing: every size must be at least 1, its shape is"
    return only_if(f"`{name}`", (tf.reduce_all(shape > 0), text, shape))


def not_too_large(name: str, value: tf.Tensor, least: int) -> AbstractContextManager:
    """A context for what is made of the argument of this name, of no more than MAX_REQUEST_BYTES.

    Args:
      name: of the argument.
      value: what was sent.
      least: bytes that are taken in any case.
    """
    most = max(MAX_REQUEST_BYTES, least)
    # The product of sides may be more than an integer holds.
    count = tf.reduce_prod(tf.cast(tf.shape(value, tf.int64), tf.float64)) * value.dtype.size
    text = f"is too large: a request may have at most {most:,} bytes, the others go into further requests; it has"
    return only_if(f"`{name}`", (count <= most, text, count))


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
