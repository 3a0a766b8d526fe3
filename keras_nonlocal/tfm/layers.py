"""Non-local blocks, and the batch norm and convolution beside them, for tf_keras, which tf-models-official is built on.

The arguments are those of keras_nonlocal.NonLocal3D, whose docstring describes them.
"""

import tensorflow as tf
import tf_keras

from keras_nonlocal.layers.batch_norm import FusedBatchNormMixin
from keras_nonlocal.layers.convolutions import FrameConvolutionMixin, FramePoolingMixin
from keras_nonlocal.layers.non_local import NonLocal3DMixin, NonLocalMixin
from keras_nonlocal.surgery.masked import masked_layer

masked_layer(tf_keras)  # which files of masked models name


@tf_keras.utils.register_keras_serializable("keras_nonlocal")
class BatchNormalization(FusedBatchNormMixin, tf_keras.layers.BatchNormalization):
    """tf_keras.layers.BatchNormalization for any rank by the fused kernel; see keras_nonlocal.BatchNormalization."""

    _keras = tf_keras

    def _batch_training(self, training):
        value = tf.get_static_value(self._get_training_value(training))
        return None if value is None else bool(value)

    def _own_options(self):
        return self.synchronized or self.renorm or self.virtual_batch_size is not None or self.adjustment is not None

    def _bessel(self):
        return bool(self.fused)  # tf_keras runs the kernel for ranks 4 and 5, and takes its variance as it comes

    def _move(self, variable, value):
        def update():
            return variable.assign_sub((variable - value) * (1.0 - self.momentum))

        self.add_update(update)


@tf_keras.utils.register_keras_serializable("keras_nonlocal")
class Conv3D(FrameConvolutionMixin, tf_keras.layers.Conv3D):
    """tf_keras.layers.Conv3D by 2D kernels where TensorFlow's oneDNN is off; see keras_nonlocal.layers.Conv3D."""

    _keras = tf_keras


@tf_keras.utils.register_keras_serializable("keras_nonlocal")
class MaxPooling3D(FramePoolingMixin, tf_keras.layers.MaxPooling3D):
    """tf_keras.layers.MaxPooling3D by 2D kernels where oneDNN is off; see keras_nonlocal.layers.MaxPooling3D."""

    _keras = tf_keras


class _TfKerasNonLocal(NonLocalMixin):
    """What tf_keras asks of a layer beyond the mixin."""

    _keras = tf_keras
    _batch_norm = BatchNormalization

    def _build_sublayer(self, layer, input_shape):
        # Without a scope of their own the kernels of all projections would bear one name, which HDF5 refuses.
        with tf.name_scope(layer.name):
            layer.build(input_shape)

    def compute_output_shape(self, input_shape):
        return tf.TensorShape(input_shape)

    def compute_mask(self, inputs, mask=None):
        # In a graph tf_keras cannot pass on a NumPy array.
        return None if mask is None else tf.convert_to_tensor(mask)


@tf_keras.utils.register_keras_serializable("keras_nonlocal")
class NonLocal1D(_TfKerasNonLocal, tf_keras.layers.Layer):
    """Non-local block over a sequence, (batch, T, channels); see keras_nonlocal.NonLocal1D."""

    rank = 1


@tf_keras.utils.register_keras_serializable("keras_nonlocal")
class NonLocal2D(_TfKerasNonLocal, tf_keras.layers.Layer):
    """Non-local block over an image, (batch, H, W, channels); see keras_nonlocal.NonLocal2D."""

    rank = 2


@tf_keras.utils.register_keras_serializable("keras_nonlocal")
class NonLocal3D(_TfKerasNonLocal, NonLocal3DMixin, tf_keras.layers.Layer):
    """Non-local block over a clip, (batch, T, H, W, channels); see keras_nonlocal.NonLocal3D."""
