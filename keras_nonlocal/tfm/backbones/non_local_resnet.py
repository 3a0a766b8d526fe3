"""tfm's ResNet of images with non-local blocks and grouped convolutions, the backbone `non_local_resnet`."""

import tf_keras
from official.vision.modeling.backbones import factory, resnet
from official.vision.modeling.layers import nn_blocks

from keras_nonlocal import errors
from keras_nonlocal.tfm.backbones import blocks, placing


@tf_keras.utils.register_keras_serializable("keras_nonlocal")
class NonLocalResNet(placing.PlacingMixin, resnet.ResNet):
    """tfm's ResNet whose chosen residual blocks end in a non-local block; without any, it is tfm's ResNet.

    A checkpoint of tfm's ResNet restores all it holds, and the network then computes what tfm's does, to the last bit.

    Args:
      model_id: depth, a key of official.vision.modeling.backbones.resnet.RESNET_SPECS: 10 to 420.
      input_specs: InputSpec of the images, (B, H, W, 3), any of the first three None. Default all three None.
      groups: of the 3x3 convolutions. Default 1.
      width_per_group: their channels a group in res2, twice as many in each stage after it; see
        blocks.GroupedBottleneckBlock. Default 64. ResNeXt's 32x8d is groups=32, width_per_group=8.
      non_local: where the non-local blocks go, as {"res4": [4]}: into the residual blocks of these indices, counted
        from 0, behind their last activation. Default nowhere.
      non_local_block: arguments of keras_nonlocal.tfm.layers.NonLocal2D. Default none. Batch norm and weight decay are
        the network's; where `bn_trainable` is False there is no norm in them, and W_z starts at zero.
      **kwargs: those of tfm's ResNet.

    Call arguments: `inputs`, (B, H, W, 3), normalised; `training`. Returns {"2": res2's output, ..., "5": res5's}, each
    (B, H', W', channels), at strides of 4, 8, 16 and 32.

    Raises:
      ValueError: for a depth, a placement or an argument of the blocks out of range, naming it.

    Example:

    >>> model = NonLocalResNet(50, non_local={"res4": [4]})
    >>> model(tf.zeros([1, 64, 64, 3]))["4"].shape
    TensorShape([1, 4, 4, 1024])

    Wang et al., "Non-local Neural Networks", CVPR 2018, section 5 (COCO).
    """

    def __init__(
        self,
        model_id,
        input_specs=tf_keras.layers.InputSpec(shape=[None, None, None, 3]),  # noqa: B008, never changed
        groups=1,
        width_per_group=blocks.BASE_WIDTH,
        non_local=None,
        non_local_block=None,
        **kwargs,
    ):
        self._place(model_id, resnet.RESNET_SPECS, non_local, non_local_block)
        self._groups = errors.check_positive_int("groups", groups)
        self._width_per_group = errors.check_positive_int("width_per_group", width_per_group)
        super().__init__(model_id, input_specs, **kwargs)

    def _make_block(self, block_fn, with_non_local, options):
        if (self._groups, self._width_per_group) != (1, blocks.BASE_WIDTH):
            if block_fn is not nn_blocks.BottleneckBlock:
                raise ValueError(
                    "`groups` and `width_per_group` are for networks of bottleneck blocks, from depth 50 on. Received: "
                    f"groups={self._groups}, width_per_group={self._width_per_group}, model_id={self._model_id}"
                )
            block_fn = blocks.GroupedBottleneckBlock
            options = {**options, "groups": self._groups, "width_per_group": self._width_per_group}
        return super()._make_block(block_fn, with_non_local, options)

    def get_config(self):
        return {**super().get_config(), "groups": self._groups, "width_per_group": self._width_per_group}


@factory.register_backbone_builder("non_local_resnet")
def build_non_local_resnet(input_specs, backbone_config, norm_activation_config, l2_regularizer=None):
    """Builds a NonLocalResNet from a configs.Backbone; the arguments are those of tfm's builders."""
    arguments = backbone_config.get().as_dict()
    return NonLocalResNet(**placing.shared_arguments(input_specs, arguments, norm_activation_config, l2_regularizer))
