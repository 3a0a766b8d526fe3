"""Precise batch norm: statistics over many training batches in place of the moving averages.

The moving averages forget all but the last ten batches or so, of 8 clips each, and were taken while the weights moved.
The official code computes the statistics anew, with the weights as they are, before it tests and saves.
"""

import numpy as np
import tensorflow as tf
import tf_keras
from official.core import base_task
from official.core import config_definitions as cfg
from orbit import utils


class PreciseNorm:
    """The statistics of a model's batch norms over the training batches from a step on, and the moving ones.

    The mean is that of the batches' means, the variance that of all of them together: the mean of the batches'
    variances plus the variance of their means. A batch is what a norm sees at once: a replica's clips, or where norms
    are synchronised the clips of all. A batch's variance is what the norm's own moving average takes for it: times
    n / (n - 1) where TensorFlow's fused kernel computes it. Norms that are frozen keep theirs.

    Args:
      strategy: that the model was made under.
      task: with `build_inputs`, whose first batch is that of `first_step`, and `norm_step(inputs, model)`, which runs
        the model on a batch as training does and nothing more.
      model: whose norms it is about.
      data: configuration of the training data.
      steps: how many batches of all replicas.

    Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021, section 3.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        task: base_task.Task,
        model: tf_keras.Model,
        data: cfg.DataConfig,
        steps: int,
    ) -> None:
        self._strategy, self._task, self._model, self._data, self._steps = strategy, task, model, data, steps
        self._norms = [layer for layer in model.submodules if hasattr(layer, "moving_variance") and layer.trainable]
        self._moving = None  # each replica's own moving averages, while the precise statistics are in their place
        self._add_batch = tf.function(self._batch_moments)
        self._read = tf.function(lambda: strategy.run(self._variables_of_replica))
        self._write = tf.function(lambda values: strategy.run(self._assign, args=(values,)))

    def put_in(self, first_step: int) -> None:
        """Puts the statistics of the batches from first_step on into the norms."""
        if self._norms and self._moving is None:
            moving = self._read()
            statistics = self._statistics(first_step)
            self._write([tf.constant(value, tf.float32) for pair in statistics for value in pair])
            self._moving = moving

    def put_back(self) -> None:
        """Puts the moving averages back as they were, to the bit, on every replica."""
        if self._moving is not None:
            self._write(self._moving)
            self._moving = None

    def _statistics(self, first_step):
        """[(mean, variance), ...] of the norms, float64."""
        started = getattr(self._task, "first_step", 0)
        self._task.first_step = first_step
        try:
            dataset = utils.make_distributed_dataset(self._strategy, self._task.build_inputs, self._data)
        finally:
            self._task.first_step = started
        batches, total = iter(dataset), 0.0
        for _ in range(self._steps):
            total += np.concatenate([x.numpy().astype("float64") for x in self._add_batch(next(batches))], axis=1)
        first, second = total / self._steps
        ends = np.cumsum([norm.moving_mean.shape[0] for norm in self._norms])[:-1]
        return list(zip(np.split(first, ends), np.split(second - first**2, ends), strict=True))

    def _batch_moments(self, inputs):
        """The first two moments of every norm in a batch, [(2, channels), ...], averaged over replicas."""
        moments = self._strategy.run(self._moments_of_replica, args=(inputs,))
        return [self._strategy.reduce(tf.distribute.ReduceOp.MEAN, each, axis=None) for each in moments]

    def _moments_of_replica(self, inputs):
        # A moving average that starts from zero becomes 1 - momentum times the statistic of the batch.
        self._assign([tf.zeros_like(tf.convert_to_tensor(variable)) for variable in self._variables()])
        self._task.norm_step(inputs, self._model)
        moments = []
        for norm in self._norms:
            mean, variance = (
                tf.convert_to_tensor(variable) / (1 - norm.momentum)
                for variable in (norm.moving_mean, norm.moving_variance)
            )
            moments.append(tf.stack([mean, variance + mean**2]))
        return moments

    def _variables(self):
        return [variable for norm in self._norms for variable in (norm.moving_mean, norm.moving_variance)]

    def _variables_of_replica(self):
        return [tf.identity(tf.convert_to_tensor(variable)) for variable in self._variables()]

    def _assign(self, values):
        for variable, value in zip(self._variables(), values, strict=True):
            variable.assign(value)
