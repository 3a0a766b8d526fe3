"""tfm's trainer with a loop of steps that can be left, and that says how long it waited for data."""

import time

import orbit
import tensorflow as tf
from official.core import base_trainer
from official.modeling import optimization

from keras_nonlocal.tfm.runs import checkpoints, divergence, stopping, workers


def host_seconds() -> tf.Variable:
    """A variable on the host, if it is made outside of a strategy's scope."""
    with tf.device("CPU:0"):
        return tf.Variable(0.0, dtype=tf.float64, trainable=False, name="seconds")


class Trainer(base_trainer.Trainer):
    """tfm's trainer.

    Its logs have two scalars more: `examples_per_second` of the loops of steps, without what is done between them, and
    `waiting_for_data`, the share of their time in which the next batch was asked for and not there yet. The first loop,
    which also builds the graph, has neither.

    Args:
      *args: as tfm's.
      stop: leaves a loop of steps before the next one, and evaluations, when it is asked to stop.
      waited: a host_seconds(), in which the time is counted; None counts none and leaves `waiting_for_data` out, where
        operations have to be deterministic, for TensorFlow then refuses to ask what time it is.
      **kwargs: as tfm's.
    """

    def __init__(self, *args, stop: stopping.Stopping, waited: tf.Variable | None, **kwargs):
        super().__init__(*args, **kwargs)
        self._stop = stop
        # Workers that wait for each other have to leave together: between loops of steps.
        self._may_leave = not workers.are_several(self.strategy)
        self._waited = waited
        self._timed_loops = 0
        self.divergence = None
        trainer = self.config.trainer
        if trainer.recovery_max_trials == 0:
            self._train_loss = divergence.Loss(
                trainer.loss_upper_bound, trainer.recovery_begin_steps, self.global_step.read_value
            )
        self._checkpoint = checkpoints.WholeCheckpoint(
            global_step=self.global_step,
            model=self.model,
            optimizer=self.optimizer,
            **getattr(self.model, "checkpoint_items", {}),
        )

    def create_train_loop_fn(self):
        if not self._may_leave or getattr(self, "_is_async", False):
            return super().create_train_loop_fn()
        settings = self.config.trainer
        is_graph = settings.train_tf_while_loop
        train_step = tf.function(self.train_step) if settings.train_tf_function and not is_graph else self.train_step

        def loop(iterator, num_steps):
            step = tf.constant(0)
            while tf.logical_and(step < num_steps, tf.logical_not(self._stop.flag)):
                # As in orbit's loop: without it, names begin with "while/".
                with tf.name_scope(""):
                    train_step(iterator)
                step += 1

        if is_graph and settings.allow_tpu_summary:
            return orbit.utils.LoopFnWithSummaries(loop)
        return tf.function(loop) if is_graph else loop

    def next_train_inputs(self, iterator):
        if self._waited is None:
            return super().next_train_inputs(iterator)
        with tf.device("CPU:0"):
            asked = tf.timestamp()
        with tf.control_dependencies([asked]):
            inputs = super().next_train_inputs(iterator)
        with tf.control_dependencies(tf.nest.flatten(inputs, expand_composites=True)), tf.device("CPU:0"):
            self._waited.assign_add(tf.timestamp() - asked)
        return inputs

    def train(self, num_steps):
        if self._waited is not None:
            self._waited.assign(0.0)
        self._began = time.monotonic()
        self._first_step = int(self.global_step.numpy())
        return super().train(num_steps)

    def train_loop_end(self):
        if isinstance(self.train_loss, divergence.Loss):
            self.divergence = self.train_loss.divergence()
        logs = super().train_loop_end()
        seconds = time.monotonic() - self._began  # the metrics of the last step have been waited for
        steps = int(self.global_step.numpy()) - self._first_step
        if self._timed_loops and steps:
            logs["examples_per_second"] = steps * self.config.task.train_data.global_batch_size / seconds
            if self._waited is not None:
                logs["waiting_for_data"] = min(float(self._waited.numpy()) / seconds, 1.0)
        self._timed_loops += 1
        return logs

    def create_eval_loop_fn(self, has_state):
        settings = self.config.trainer
        if not self._may_leave or settings.eval_tf_while_loop or getattr(self, "_is_async", False):
            return super().create_eval_loop_fn(has_state)
        eval_step = tf.function(self.eval_step) if settings.eval_tf_function else self.eval_step

        def step_unless_stopped(iterator):
            if self._stop.signal is not None:
                raise stopping.Interrupted
            return eval_step(iterator)

        return orbit.utils.create_loop_fn(step_unless_stopped)

    def evaluate(self, num_steps):
        try:
            return super().evaluate(num_steps)
        except stopping.Interrupted:
            # What eval_begin swapped in would be saved as the weights otherwise.
            if isinstance(self.optimizer, optimization.ExponentialMovingAverage):
                self.optimizer.swap_weights()
            raise


class Controller(orbit.Controller):
    """Orbit's controller, whose loops end at multiples of their length also when a run goes on from a step between."""

    @property
    def steps_per_loop(self):
        length = super().steps_per_loop
        return length - int(self.global_step.numpy()) % length
