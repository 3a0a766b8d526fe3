"""Non-local blocks for tf_keras, the Keras that tf-models-official is built on.

The arguments are those of keras_nonlocal.NonLocal3D, whose docstring describes them.
"""

import tensorflow as tf
import tf_keras

from keras_nonlocal._non_local import NonLocalMixin


class _TfKerasNonLocal(NonLocalMixin):
    """What tf_keras asks of a layer beyond the mixin."""

    _keras = tf_keras

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

    def __init__(self, pairwise="embedded_gaussian", inner_channels=None, pool_size=2, **kwargs):
        super().__init__(pairwise, inner_channels, pool_size, **kwargs)


@tf_keras.utils.register_keras_serializable("keras_nonlocal")
class NonLocal2D(_TfKerasNonLocal, tf_keras.layers.Layer):
    """Non-local block over an image, (batch, H, W, channels); see keras_nonlocal.NonLocal2D."""

    rank = 2

    def __init__(self, pairwise="embedded_gaussian", inner_channels=None, pool_size=2, **kwargs):
        super().__init__(pairwise, inner_channels, pool_size, **kwargs)


@tf_keras.utils.register_keras_serializable("keras_nonlocal")
class NonLocal3D(_TfKerasNonLocal, tf_keras.layers.Layer):
    """Non-local block over a clip, (batch, T, H, W, channels); see keras_nonlocal.NonLocal3D."""

    rank = 3

    def __init__(self, pairwise="embedded_gaussian", inner_channels=None, pool_size=(1, 2, 2), **kwargs):
        super().__init__(pairwise, inner_channels, pool_size, **kwargs)
