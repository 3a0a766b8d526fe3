"""Refuses, with a sentence, what must not be computed."""

from contextlib import AbstractContextManager

import tensorflow as tf

_PRINTED = 16  # numbers of a tensor


def only_if(*rules: tuple) -> AbstractContextManager:
    """A context for what may happen only to those that keep all rules; INVALID_ARGUMENT to the others.

    An assertion does not come before what follows it unless it is told to, and one that nothing depends on may never
    run: pixels would be decoded all the same.

    Args:
      *rules: (what has to be true everywhere, what is wrong otherwise in words, what is printed after that...).
    """
    # tf.debugging.Assert wraps each in a condition, which the optimizer of graphs logs that it cannot optimize.
    checks = [
        tf.raw_ops.Assert(condition=tf.reduce_all(kept), data=[text, *it], summarize=_PRINTED)
        for kept, text, *it in rules
    ]
    return tf.control_dependencies(checks)
