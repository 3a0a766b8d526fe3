"""A task that takes seconds to train: the sum of three numbers. Its data are a function of the step alone."""

import dataclasses
import time

import tensorflow as tf
import tf_keras
from official.core import base_task, exp_factory, task_factory
from official.core import config_definitions as cfg
from official.modeling import optimization
from tensorflow.python.framework import config

from keras_nonlocal.tfm.tasks import answers


@dataclasses.dataclass
class SumsConfig(cfg.TaskConfig):
    """Learns the sum of three random numbers.

    Args:
      seconds: that a training batch takes to be read.
      bad_step: the step whose numbers are not finite.
      explosion: what they are multiplied by instead, if it is not 0.
    """

    seconds: float = 0.0
    bad_step: int = -1
    explosion: float = 0.0


@task_factory.register_task_cls(SumsConfig)
class SumsTask(base_task.Task):
    first_step = 0

    def build_model(self):
        print("deterministic:", config.is_op_determinism_enabled(), flush=True)
        x = tf_keras.Input((3,))
        return tf_keras.Model(x, tf_keras.layers.Dense(1)(tf_keras.layers.Dense(8, "tanh")(x)))

    def build_inputs(self, params, input_context=None):
        settings = self.task_config

        def batch(step):
            x = tf.random.stateless_normal([params.global_batch_size, 3], [params.seed or 0, step])
            if params.is_training:
                x *= tf.where(step == settings.bad_step - 1, settings.explosion or float("nan"), 1.0)
            return x, tf.reduce_sum(x, -1, keepdims=True)

        def slow(step):
            time.sleep(settings.seconds)
            return step

        if not params.is_training:
            return tf.data.Dataset.range(4).map(batch)
        steps = tf.data.Dataset.range(self.first_step, tf.int64.max)
        if settings.seconds:
            steps = steps.map(lambda step: tf.ensure_shape(tf.py_function(slow, [step], tf.int64), []))
        return steps.map(batch)

    def build_losses(self, labels, model_outputs, aux_losses=None):
        return tf.reduce_mean((labels - model_outputs) ** 2)

    def validation_step(self, inputs, model, metrics=None):
        if self.task_config.seconds:
            tf.py_function(lambda: time.sleep(self.task_config.seconds), [], [])
        return super().validation_step(inputs, model, metrics)

    def build_metrics(self, training=True):
        return []


@answers.ANSWERS.register(SumsConfig)
class SumsAnswers(answers.Answers):
    best_metric = ("loss", "lower")

    def input_shape(self, data):
        return (3,)


@exp_factory.register_config_factory("sums")
def sums():
    optimizer = {
        "optimizer": {"type": "sgd", "sgd": {"momentum": 0.9}},
        "learning_rate": {"type": "constant", "constant": {"learning_rate": 0.05}},
    }
    # Any file will do as records: none is read.
    return cfg.ExperimentConfig(
        task=SumsConfig(
            train_data=cfg.DataConfig(is_training=True, global_batch_size=8, input_path=__file__),
            validation_data=cfg.DataConfig(is_training=False, global_batch_size=8, input_path=__file__),
        ),
        trainer=cfg.TrainerConfig(
            train_steps=20, steps_per_loop=5, summary_interval=5, checkpoint_interval=5, validation_interval=10,
            validation_steps=-1, optimizer_config=optimization.OptimizationConfig(optimizer),
        ),
    )  # fmt: skip
