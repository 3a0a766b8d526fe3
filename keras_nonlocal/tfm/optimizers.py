"""SGD whose momentum keeps its scale when the learning rate changes, registered with tfm as `corrected_sgd`."""

import dataclasses

import tensorflow as tf
import tf_keras
from official.modeling import optimization
from official.modeling.optimization import optimizer_factory
from official.modeling.optimization.configs import optimization_config, optimizer_config


class CorrectedSGD(tf_keras.optimizers.legacy.SGD):
    """tf_keras' SGD with momentum correction, as the official code has it.

    Caffe2 and Keras hold the learning rate inside the momentum, v = momentum * v + rate * gradient: after the rate
    falls to a tenth the old gradients would count ten times as much as new ones. So v is first multiplied by the new
    rate over the old one, at every change. The old rate is that of the schedule at the step before: nothing has to be
    kept, and checkpoints are those of SGD. After a rate of zero v stays as it is, and where loss scaling skips the very
    step of a change too.

    Args:
      *args: those of tf_keras.optimizers.legacy.SGD.
      **kwargs: those of tf_keras.optimizers.legacy.SGD.

    Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour", 2017, section 3.
    """

    def _prepare_local(self, var_device, var_dtype, apply_state):
        super()._prepare_local(var_device, var_dtype, apply_state)
        coefficients = apply_state[(var_device, var_dtype)]
        coefficients["correction"] = self._correction(coefficients["lr_t"])

    def _correction(self, rate):
        schedule = self._get_hyper("learning_rate")
        if not isinstance(schedule, tf_keras.optimizers.schedules.LearningRateSchedule):
            return tf.ones([], rate.dtype)
        before = tf.cast(schedule(tf.cast(tf.maximum(self.iterations - 1, 0), rate.dtype)), rate.dtype)
        return tf.where(before > 0, tf.math.divide_no_nan(rate, before), 1)

    def _resource_apply_dense(self, grad, var, apply_state=None):
        self._correct(var, apply_state)
        return super()._resource_apply_dense(grad, var, apply_state)

    def _resource_apply_sparse(self, grad, var, indices, apply_state=None):
        self._correct(var, apply_state)
        return super()._resource_apply_sparse(grad, var, indices, apply_state)

    def _correct(self, var, apply_state):
        if self._momentum:
            key = var.device, var.dtype.base_dtype
            coefficients = (apply_state or {}).get(key) or self._fallback_apply_state(*key)
            momentum = self.get_slot(var, "momentum")
            momentum.assign(momentum * coefficients["correction"])  # times 1 is exact, and cheaper than to ask


@dataclasses.dataclass
class CorrectedSGDConfig(optimizer_config.BaseOptimizerConfig):
    """Arguments of CorrectedSGD, with the official code's momentum."""

    name: str = "SGD"
    momentum: float = 0.9
    nesterov: bool = True


@dataclasses.dataclass
class OptimizerConfig(optimization_config.OptimizerConfig):
    """tfm's optimizers and ours."""

    type: str | None = "corrected_sgd"
    corrected_sgd: CorrectedSGDConfig = dataclasses.field(default_factory=CorrectedSGDConfig)


@dataclasses.dataclass
class OptimizationConfig(optimization.OptimizationConfig):
    """tfm's optimizers and ours, with tfm's learning rates."""

    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)


optimizer_factory.register_optimizer_cls("corrected_sgd", CorrectedSGD)
