"""tfm's trainer with what the official recipes need besides."""

import dataclasses

import tensorflow as tf
import tf_keras
from official.core import base_task
from official.core import config_definitions as cfg

from keras_nonlocal import errors
from keras_nonlocal.tfm import optimizers
from keras_nonlocal.tfm.precise_norm import PreciseNorm
from keras_nonlocal.tfm.runs import loop, stopping

# The fields of tfm's schedules that are learning rates; those of a warm-up start from where they say.
_RATES = {
    "constant": ("learning_rate",),
    "stepwise": ("values",),
    "cosine": ("initial_learning_rate",),
    "exponential": ("initial_learning_rate",),
    "polynomial": ("initial_learning_rate", "end_learning_rate"),
}


@dataclasses.dataclass
class TrainerConfig(cfg.TrainerConfig):
    """tfm's trainer configuration, and ours.

    Args:
      precise_norm_steps: training batches over which the statistics of batch norm are computed anew for evaluations,
        the best checkpoint and the last one; 0 for none, which keeps moving averages. The official code has 200.
      auto_scale_lr: multiply the learning rate by what the batch is of `base_batch_size`.
      base_batch_size: the batch that the learning rate is for.
    """

    optimizer_config: optimizers.OptimizationConfig = dataclasses.field(default_factory=optimizers.OptimizationConfig)
    precise_norm_steps: int = 0
    auto_scale_lr: bool = False
    base_batch_size: int | None = None


class Trainer(loop.Trainer):
    """The trainer of every run: a loop that can be left, precise batch norm, the gradients' norm, XLA on a CPU too.

    An evaluation while training sees the precise statistics, and so does the best checkpoint; then the moving averages
    are put back, and training goes on as if nothing had been evaluated. After the last step the precise ones stay, for
    what the last checkpoint is evaluated or exported for.

    Args:
      config, task, model, optimizer, train: those of tfm's Trainer.
      **kwargs: the others of it, and those of loop.Trainer.

    Raises:
      UserError: for precise statistics in a task that has none, or XLA where it cannot be.
    """

    def __init__(
        self,
        config: cfg.ExperimentConfig,
        task: base_task.Task,
        model: tf_keras.Model,
        optimizer: tf_keras.optimizers.Optimizer,
        train: bool = True,
        **kwargs,
    ) -> None:
        super().__init__(config, task, model, optimizer, train=train, **kwargs)
        self._precise_norm = self._build_precise_norm() if train else None
        self._gradient_norm = tf_keras.metrics.Mean("gradient_norm", dtype=tf.float32)
        if train:
            self._make_slots()
            self._look_at_gradients()
        if train and config.runtime.enable_xla:
            self._compile_on_cpu()

    def train_loop_end(self):
        logs = super().train_loop_end()
        if float(self._gradient_norm.count.numpy()):
            logs["gradient_norm"] = self._gradient_norm.result()
            self._gradient_norm.reset_state()
        if self._precise_norm and self._is_finished():
            self._precise_norm.put_in(int(self.global_step.numpy()))
        return logs

    def eval_begin(self):
        super().eval_begin()
        if self._precise_norm:
            self._precise_norm.put_in(int(self.global_step.numpy()))

    def eval_end(self, aggregated_logs=None):
        logs = super().eval_end(aggregated_logs)
        if self._precise_norm and not self._is_finished():
            self._precise_norm.put_back()
        return logs

    def evaluate(self, num_steps):
        try:
            return super().evaluate(num_steps)
        except stopping.Interrupted:
            if self._precise_norm and not self._is_finished():
                self._precise_norm.put_back()
            raise

    def _is_finished(self):
        return int(self.global_step.numpy()) >= self.config.trainer.train_steps

    def _build_precise_norm(self):
        steps = getattr(self.config.trainer, "precise_norm_steps", 0)
        if not steps:
            return None
        if not hasattr(self.task, "norm_step"):
            raise errors.UserError(
                f"trainer.precise_norm_steps is {steps}, and {type(self.task).__name__} cannot compute statistics of "
                "batch norm: set it to 0."
            )
        return PreciseNorm(self.strategy, self.task, self.model, self.config.task.train_data, steps)

    def _make_slots(self):
        """Makes the optimizer's variables.

        Made while the step is traced they would have TensorFlow trace it twice, which fails on several CPUs (You must
        feed a value for placeholder tensor).
        """
        optimizer = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        if isinstance(optimizer, tf_keras.optimizers.legacy.Optimizer):
            optimizer._create_all_weights(self.model.trainable_variables)

    def _look_at_gradients(self):
        """Has the optimizer note the norm of each step's gradients: of all replicas together, before any clipping."""
        optimizer = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        aggregate = getattr(optimizer, "gradient_aggregator", None)
        if aggregate is None:  # not one of tfm's
            return

        def noted(gradients_and_variables):
            found = aggregate(gradients_and_variables)
            gradients = [tf.cast(each, tf.float32) for each, _ in found if each is not None]
            self._gradient_norm.update_state(tf.linalg.global_norm(gradients))
            return found

        optimizer.gradient_aggregator = noted

    def _compile_on_cpu(self):
        """Compiles the step where tfm does not: it asks for GPUs. On a TPU all is compiled."""
        if self.config.runtime.num_gpus or isinstance(self.strategy, tf.distribute.TPUStrategy):
            return
        if self.strategy.num_replicas_in_sync > 1:
            raise errors.UserError(
                "runtime.enable_xla compiles the step of several replicas on GPUs and TPUs only. Received: "
                f"{self.strategy.num_replicas_in_sync} replicas without: leave it out, or train on one."
            )
        self.task.train_step = tf.function(self.task.train_step, jit_compile=True)


def with_scaled_rate(params: cfg.ExperimentConfig) -> cfg.ExperimentConfig:
    """The configuration with the learning rate scaled to its batch where it asks for that, saying so.

    Args:
      params: with `trainer.auto_scale_lr`, or of tfm's own trainer, which has no such field.

    Returns:
      The same if there is nothing to scale, otherwise a copy.

    Raises:
      UserError: if it does not say what batch its rate is for, or has a schedule whose rates are not known here.

    Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour", 2017, section 2.1.
    """
    trainer = params.trainer
    if not getattr(trainer, "auto_scale_lr", False):
        return params
    base, batch = trainer.base_batch_size, params.task.train_data.global_batch_size
    if not errors.is_positive_int(base):
        raise errors.UserError(
            "trainer.auto_scale_lr needs trainer.base_batch_size, the batch that the learning rate is for, a positive "
            f"integer. Received: {base}"
        )
    schedule = trainer.optimizer_config.learning_rate
    if schedule.type not in _RATES:
        raise errors.UserError(
            f"trainer.auto_scale_lr scales the learning rates {', '.join(_RATES)}. Received: {schedule.type}"
        )
    old = {name: getattr(schedule.get(), name) for name in _RATES[schedule.type]}
    new = {name: _times(value, batch / base) for name, value in old.items()}
    print(f"learning rate scaled by {batch} / {base} to the batch: {_shown(old)} -> {_shown(new)}", flush=True)
    scaled = {"optimizer_config": {"learning_rate": {schedule.type: new}}}
    return params.replace(trainer=trainer.replace(**scaled))


def _times(value, factor):
    return [each * factor for each in value] if isinstance(value, list | tuple) else value * factor


def _shown(rates):
    return ", ".join(f"{name} {value}" for name, value in rates.items())
