"""Batch normalization in the form TensorFlow has a fast kernel for: any rank, any Keras, none of the flavour."""

import math

import tensorflow as tf

from keras_nonlocal.layers.flavour import FlavourMixin
from keras_nonlocal.ops.positions import dims

KERNEL_DTYPES = ("float16", "bfloat16", "float32")  # of the inputs; statistics, gamma and beta are float32


class FusedBatchNormMixin(FlavourMixin):
    """Makes a Keras BatchNormalization run FusedBatchNormV3; put before that layer in a class.

    The layer keeps its arguments, its config and its variables. The kernel takes (N, H, W, C): inputs of any rank with
    channels last are reshaped to that, because its form for (N, T, H, W, C) is slower by a factor of two to three, and
    so is a normalisation put together from reductions. What the kernel does not do, such as statistics under a mask or
    of all replicas, another axis or float64, is left to the layer's own call. An empty batch leaves the moving
    statistics as they are, where either Keras makes them NaN.

    A flavour sets `_keras`, `_batch_training`, `_own_options` and `_move`.
    """

    def call(
        self, inputs: tf.Tensor, training: bool | tf.Tensor | None = None, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        batch_statistics = self._batch_training(training)
        masked = mask is not None and batch_statistics  # moving statistics know of no mask
        if masked or batch_statistics is None or not self._kernel_takes(inputs):
            return super().call(inputs, training=training, mask=mask)
        *positions, channels = dims(inputs)
        gamma = self._parameter(self.gamma, 1.0, channels)
        beta = self._parameter(self.beta, 0.0, channels)
        x = tf.reshape(inputs, [*_three_axes(positions), channels])  # (*positions, C) -> (N, H, W, C)
        if batch_statistics:
            none = tf.zeros([0])  # given moving statistics, the kernel would average them with its own rule
            y, mean, variance = _kernel(x, gamma, beta, none, none, self.epsilon, True)
            self._update(math.prod(positions), mean, variance)
        else:
            mean, variance = (tf.cast(tf.convert_to_tensor(v), tf.float32) for v in self._moving())
            y, _, _ = _kernel(x, gamma, beta, mean, variance, self.epsilon, False)
        return tf.reshape(y, tf.shape(inputs))  # (N, H, W, C) -> (*positions, C)

    def _batch_training(self, training):
        """True to use the statistics of the batch, False the moving ones, None if only the run will tell."""
        raise NotImplementedError

    def _own_options(self):
        """Whether an option is set that only the layer's own call knows."""
        raise NotImplementedError

    def _bessel(self):
        """Whether the layer's own call lets the moving variance follow n / (n - 1) times the variance of the batch."""
        return False

    def _move(self, variable, value):
        """Moves a moving statistic towards its value in the batch."""
        raise NotImplementedError

    def _kernel_takes(self, inputs):
        if not isinstance(inputs, tf.Tensor) or inputs.shape.rank is None or self._own_options():
            return False
        rank = inputs.shape.rank
        # An input that still is to be cast, by a layer that does not cast its inputs, may lose digits in the kernel.
        dtypes_fit = inputs.dtype.name == self.compute_dtype and self.compute_dtype in KERNEL_DTYPES
        return rank >= 2 and self.axis in (-1, rank - 1, [rank - 1]) and dtypes_fit

    def _parameter(self, variable, default, channels):
        if variable is None:
            return tf.fill([channels], default)
        return tf.cast(tf.convert_to_tensor(variable), tf.float32)

    def _moving(self):
        return self.moving_mean, self.moving_variance

    def _update(self, count, mean, variance):
        count = tf.cast(count, tf.float32)
        if not self._bessel():
            # The kernel returns n / (n - 1) times the variance it normalises with.
            variance *= tf.maximum(count - 1, 1) / tf.maximum(count, 1)
        for moving, value in zip(self._moving(), (mean, variance), strict=True):
            self._move(moving, tf.where(count > 0, value, tf.cast(tf.convert_to_tensor(moving), tf.float32)))


def _kernel(x, gamma, beta, mean, variance, epsilon, is_training):
    y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x, scale=gamma, offset=beta, mean=mean, variance=variance, epsilon=epsilon, is_training=is_training
    )
    return y, mean, variance


def _three_axes(positions):
    """Sizes of three axes for those of any number: ones added, or the first ones put together."""
    positions = [*positions, *[1] * (3 - len(positions))]
    return [math.prod(positions[:-2]), *positions[-2:]]
