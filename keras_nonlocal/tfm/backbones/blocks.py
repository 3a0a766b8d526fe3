"""tfm's residual blocks with a non-local block after their last activation, and with grouped convolutions.

A non-local block of its own between two residual blocks would shift the numbers that tfm's checkpoints give to layers.
Inside of one it only adds variables: those of the plain block keep their names, and a plain checkpoint restores them.
"""

import tf_keras
from official.vision.modeling.layers import nn_blocks, nn_blocks_3d

from keras_nonlocal import errors
from keras_nonlocal.layers.flavour import FlavourMixin
from keras_nonlocal.tfm import layers

BASE_WIDTH = 64  # channels a group for which a grouped block is as wide as tfm's own


class _WithNonLocal(FlavourMixin):
    """A residual block that ends in a non-local block; put before a block of tfm in a class.

    The non-local block has the batch norm and the weight decay of the residual one, biases included, unless
    `non_local`, its arguments, says otherwise. Where the batch norms are frozen (`bn_trainable=False`) it has none:
    its own would have to learn from the same small batches, and with a frozen gamma of zero it could not learn at all.
    """

    _keras = tf_keras
    _non_local_class = None

    def __init__(self, *args, non_local=None, **kwargs):
        super().__init__(*args, **kwargs)
        inherited = dict(
            norm_momentum=self._norm_momentum,
            norm_epsilon=self._norm_epsilon,
            norm_synchronized=self._use_sync_bn,
            kernel_regularizer=self._kernel_regularizer,
            bias_regularizer=self._kernel_regularizer,
            name="non_local",
        )
        arguments = {**inherited, **(non_local or {})}
        if not getattr(self, "_bn_trainable", True):
            arguments["norm"] = None
        self.non_local = self._non_local_class(**arguments)

    def build(self, input_shape):
        super().build(input_shape)
        self._freeze_sublayers()  # tfm makes its layers there

    def call(self, inputs, training=None):
        return self.non_local(super().call(inputs, training=training), training=training)

    def without_norm(self):
        """A block of the same arguments, not built, whose non-local block has no norm where that can be folded."""
        block = self.non_local.without_norm() if self.non_local.folds_norm() else self.non_local
        return type(self).from_config({**self.get_config(), "non_local": block.get_config()})

    def get_config(self):
        return {**super().get_config(), "non_local": self.non_local.get_config()}


@tf_keras.utils.register_keras_serializable("keras_nonlocal")
class NonLocalResidualBlock(_WithNonLocal, nn_blocks.ResidualBlock):
    """tfm's ResidualBlock (two 3x3 convolutions), then a non-local block; it starts as the residual block alone.

    Args:
      *args: those of official.vision.modeling.layers.nn_blocks.ResidualBlock.
      non_local: arguments of keras_nonlocal.tfm.layers.NonLocal2D, a dict. Default none.
      **kwargs: those of nn_blocks.ResidualBlock.

    Call arguments: `inputs`, (B, H, W, C); `training`. Returns (B, H / strides, W / strides, filters).

    Raises:
      ValueError: for an argument of NonLocal2D out of range, naming it.

    Example:

    >>> blocks.NonLocalResidualBlock(64, strides=1, non_local={"norm": None})(tf.zeros([1, 8, 8, 64])).shape
    TensorShape([1, 8, 8, 64])

    Wang et al., "Non-local Neural Networks", CVPR 2018, section 3.3.
    """

    _non_local_class = layers.NonLocal2D


@tf_keras.utils.register_keras_serializable("keras_nonlocal")
class NonLocalBottleneckBlock(_WithNonLocal, nn_blocks.BottleneckBlock):
    """tfm's BottleneckBlock, then a non-local block; as NonLocalResidualBlock, with 4 * filters channels out.

    Example:

    >>> block = blocks.NonLocalBottleneckBlock(64, strides=1, use_projection=True)
    >>> block(tf.zeros([1, 8, 8, 64])).shape
    TensorShape([1, 8, 8, 256])
    """

    _non_local_class = layers.NonLocal2D


@tf_keras.utils.register_keras_serializable("keras_nonlocal")
class GroupedBottleneckBlock(FlavourMixin, nn_blocks.BottleneckBlock):
    """tfm's BottleneckBlock with a grouped 3x3 convolution, the block of ResNeXt.

    Args:
      *args: those of official.vision.modeling.layers.nn_blocks.BottleneckBlock.
      groups: of the 3x3 convolution, the cardinality. Default 1.
      width_per_group: channels of each group where filters is 64, that is in the first stage; they grow with filters.
        Default 64, the width of tfm's block. 32 groups of 8 is ResNeXt's 32x8d, 256 channels in the first stage.
      **kwargs: those of nn_blocks.BottleneckBlock.

    Call arguments: `inputs`, (B, H, W, C); `training`. Returns (B, H / strides, W / strides, 4 * filters).

    Raises:
      ValueError: if `groups` or `width_per_group` is no positive integer, or a group would have a part of a channel.

    Example:

    >>> block = blocks.GroupedBottleneckBlock(64, strides=1, use_projection=True, groups=32, width_per_group=8)
    >>> block(tf.zeros([1, 8, 8, 64])).shape
    TensorShape([1, 8, 8, 256])

    Xie et al., "Aggregated Residual Transformations for Deep Neural Networks", CVPR 2017.
    """

    _keras = tf_keras

    def __init__(self, *args, groups=1, width_per_group=BASE_WIDTH, **kwargs):
        super().__init__(*args, **kwargs)
        self._groups = errors.check_positive_int("groups", groups)
        self._width_per_group = errors.check_positive_int("width_per_group", width_per_group)
        if self._filters * self._width_per_group % BASE_WIDTH:
            raise ValueError(
                f"`width_per_group` * filters must be a multiple of {BASE_WIDTH}. "
                f"Received: width_per_group={width_per_group}, filters={self._filters}"
            )

    def build(self, input_shape):
        super().build(input_shape)
        width = self._filters * self._width_per_group // BASE_WIDTH * self._groups
        # tfm's convolutions have no weights yet: they get them when they are called.
        self._conv1 = _changed(self._conv1, filters=width)
        self._conv2 = _changed(self._conv2, filters=width, groups=self._groups)
        self._freeze_sublayers()

    def get_config(self):
        return {**super().get_config(), "groups": self._groups, "width_per_group": self._width_per_group}


@tf_keras.utils.register_keras_serializable("keras_nonlocal")
class NonLocalGroupedBottleneckBlock(_WithNonLocal, GroupedBottleneckBlock):
    """GroupedBottleneckBlock, then a non-local block; as NonLocalBottleneckBlock.

    Example:

    >>> blocks.NonLocalGroupedBottleneckBlock(16, strides=1, groups=4)(tf.zeros([1, 8, 8, 64])).shape
    TensorShape([1, 8, 8, 64])
    """

    _non_local_class = layers.NonLocal2D


@tf_keras.utils.register_keras_serializable("keras_nonlocal")
class NonLocalBottleneckBlock3D(_WithNonLocal, nn_blocks_3d.BottleneckBlock3D):
    """tfm's BottleneckBlock3D, then a non-local block; it starts as the residual block alone.

    Args:
      *args: those of official.vision.modeling.layers.nn_blocks_3d.BottleneckBlock3D.
      non_local: arguments of keras_nonlocal.tfm.layers.NonLocal3D, a dict. Default none.
      **kwargs: those of nn_blocks_3d.BottleneckBlock3D.

    Call arguments: `inputs`, (B, T, H, W, C); `training`. Returns (B, T', H', W', 4 * filters).

    Raises:
      ValueError: for an argument of NonLocal3D out of range, naming it.

    Example:

    >>> block = blocks.NonLocalBottleneckBlock3D(16, temporal_kernel_size=3, temporal_strides=1, spatial_strides=2)
    >>> block(tf.zeros([1, 4, 8, 8, 64])).shape
    TensorShape([1, 4, 4, 4, 64])
    """

    _non_local_class = layers.NonLocal3D


# The residual block with a non-local one in it, for each without.
WITH_NON_LOCAL = {
    nn_blocks.ResidualBlock: NonLocalResidualBlock,
    nn_blocks.BottleneckBlock: NonLocalBottleneckBlock,
    GroupedBottleneckBlock: NonLocalGroupedBottleneckBlock,
    nn_blocks_3d.BottleneckBlock3D: NonLocalBottleneckBlock3D,
}


def _changed(layer, **arguments):
    return type(layer).from_config({**layer.get_config(), **arguments})
