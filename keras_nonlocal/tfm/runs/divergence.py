"""A training that diverges: which step it was, before anything of it is saved."""

import dataclasses
from collections.abc import Callable

import tensorflow as tf
import tf_keras

from keras_nonlocal import errors


@dataclasses.dataclass(frozen=True)
class Divergence:
    """The first step whose loss was no number, or too large.

    Args:
      step: counted from 1.
      loss: its loss.
    """

    step: int
    loss: float


class Loss(tf_keras.metrics.Mean):
    """The mean loss of a loop of steps, and the first of its steps that went wrong, on any device or worker.

    Looking costs a few scalar operations a step. Training is not left at once, which would make an accelerator wait
    for the loss of each step: what follows until the loop ends is thrown away.

    Args:
      bound: a loss above it is too large.
      begin: steps before which only a loss that is no number counts.
      steps_done: gives the count of steps before this one; a variable would be reset with the metric.
    """

    def __init__(self, bound: float, begin: int, steps_done: Callable[[], tf.Tensor]):
        super().__init__("training_loss", dtype=tf.float32)
        self._bound, self._begin, self._steps_done = bound, begin, steps_done
        # Summed over replicas: a loss that is no number makes all of them fail in the same step or the next.
        self._replicas = self.add_weight("diverged_replicas", initializer="zeros", dtype=tf.int64)
        self._steps = self.add_weight("diverged_steps", initializer="zeros", dtype=tf.int64)
        self._losses = self.add_weight("diverged_losses", initializer="zeros")

    def update_state(self, values, sample_weight=None):
        super().update_state(values, sample_weight)
        loss, step = tf.cast(values, tf.float32), tf.cast(self._steps_done(), tf.int64) + 1
        is_wrong = ~tf.math.is_finite(loss) | ((loss > self._bound) & (step > self._begin))
        is_first = is_wrong & (tf.convert_to_tensor(self._replicas) == 0)
        self._replicas.assign_add(tf.cast(is_first, tf.int64))
        self._steps.assign_add(tf.where(is_first, step, 0))
        self._losses.assign_add(tf.where(is_first, loss, 0.0))

    def divergence(self) -> Divergence | None:
        """What went wrong since the last reset."""
        replicas = int(tf.convert_to_tensor(self._replicas))
        if not replicas:
            return None
        step = int(tf.convert_to_tensor(self._steps)) // replicas
        return Divergence(step, float(tf.convert_to_tensor(self._losses)) / replicas)


@tf.function
def _all_finite(tensors):
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(each)) for each in tensors])


def check(found: Divergence | None, model: tf_keras.Model, step: int, checkpoint: str | None) -> None:
    """Looks at the losses of a loop of steps and at the weights it ended with.

    Args:
      found: what a Loss saw.
      model: the model.
      step: the last step of the loop.
      checkpoint: the last good one.

    Raises:
      UserError: if the training has diverged.
    """
    if found:
        what = f"the loss is {found.loss:.4g} at step {found.step}"
    # A finite loss and gradients that are not: the weights are bad one step before the loss shows it.
    elif not _all_finite([tf.convert_to_tensor(each) for each in model.variables if each.dtype.is_floating]):
        what = f"weights are not finite after step {step}"
    else:
        return
    good = f"the last good checkpoint is {checkpoint}" if checkpoint else "no checkpoint had been saved"
    raise errors.UserError(
        f"the training has diverged, {what}; {good}: lower the learning rate of trainer.optimizer_config, lengthen its "
        "warm-up or clip gradients (optimizer global_clipnorm), and run again."
    )
