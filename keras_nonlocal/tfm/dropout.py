"""Dropout whose mask is a function of a seed and the step, so that a run that goes on draws what it would have drawn.

tf_keras' own Dropout keeps the state of a generator, which is in no checkpoint.
"""

import contextlib
import threading
from collections.abc import Iterator

import tensorflow as tf
import tf_keras

from keras_nonlocal import errors

NO_STEP = (
    "a Dropout of keras_nonlocal.tfm.dropout was called to train without a step: call the model within "
    "`dropout.at(seed, step)`, as the task's train_step does"
)
_NOW = threading.local()  # MirroredStrategy traces each replica in a thread of its own
_STREAM = 1  # folded into the seed: what else is drawn from (seed, number) is drawn from other numbers


@contextlib.contextmanager
def at(seed: int, step: tf.Tensor | int) -> Iterator[None]:
    """Within, the masks of every Dropout are those of this seed and step.

    Args:
      seed: of the run.
      step: an integer or an integer tensor or variable.
    """
    before = getattr(_NOW, "key", None)
    _NOW.key = seed, step
    try:
        yield
    finally:
        _NOW.key = before


@tf_keras.utils.register_keras_serializable("keras_nonlocal")
class Dropout(tf_keras.layers.Layer):
    """Dropout without state: the mask is a function of the seed and step of `at`, and of nothing else.

    It is drawn for the batch of all replicas together, of which each takes its rows, so that any number of replicas
    drops what one does. Two layers of one network drop the same features: use one.

    Args:
      rate: the part that is dropped, from 0 to below 1; the rest is scaled up to make up for it.

    Call arguments: `inputs`, (B, ...), on all replicas of the same B; `training`. Returns the same shape.

    Raises:
      ValueError: for a rate out of range.
      tf.errors.InvalidArgumentError: when called to train outside of `at`.
    """

    def __init__(self, rate: float, **kwargs) -> None:
        super().__init__(**kwargs)
        self.rate = errors.check_number("rate", rate, 0, 1)
        if rate == 1:
            raise ValueError(f"`rate` must be below 1. Received: rate={rate}")

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        if not training or not self.rate:
            return inputs
        key = getattr(_NOW, "key", None)
        if key is None:
            # As an operation: tf_keras traces a call with training=True, which never runs, when it saves a model.
            with tf.control_dependencies([tf.debugging.Assert(tf.constant(False), [NO_STEP])]):
                return tf.identity(inputs)
        kept = _bits(key, tf.shape(inputs)) >= tf.constant(int(self.rate * 2**32), tf.uint32)
        return tf.where(kept, inputs / tf.cast(1 - self.rate, inputs.dtype), tf.zeros([], inputs.dtype))

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}


def _bits(key, shape):
    """This replica's rows of random 32-bit integers. XLA makes other floats of the same ones."""
    replica = tf.distribute.get_replica_context()
    seed = tf.random.experimental.stateless_fold_in(tf.stack([tf.cast(each, tf.int64) for each in key]), _STREAM)
    rows, rest = shape[:1], shape[1:]
    # The algorithm that is the same on every device.
    everyone = tf.random.stateless_uniform(
        tf.concat([rows * replica.num_replicas_in_sync, rest], 0), seed, None, None, tf.uint32, alg="philox"
    )
    first = tf.concat([rows * replica.replica_id_in_sync_group, tf.zeros_like(rest)], 0)
    return tf.slice(everyone, first, shape)
