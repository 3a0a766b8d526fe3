"""tfm's ResNet of clips with non-local blocks, the backbone `non_local_resnet_3d`."""

import tf_keras
from official.vision.modeling.backbones import factory, resnet_3d

from keras_nonlocal.tfm.backbones import placing


@tf_keras.utils.register_keras_serializable("keras_nonlocal")
class NonLocalResNet3D(placing.PlacingMixin, resnet_3d.ResNet3D):
    """tfm's ResNet3D whose chosen residual blocks end in a non-local block; without any, it is tfm's ResNet3D.

    A checkpoint of tfm's ResNet3D restores all it holds, and the network then computes what tfm's does, to the last
    bit. The paper's own video networks, which have a pooling that tfm's lacks, are models.video_resnet.

    Args:
      model_id: depth, a key of official.vision.modeling.backbones.resnet_3d.RESNET_SPECS: 50 to 350.
      temporal_strides: of the first block of each stage, four integers.
      temporal_kernel_sizes: of every block, four tuples.
      input_specs: InputSpec of the clips, (B, T, H, W, 3), any of the first four None. Default all four None.
      non_local: where the non-local blocks go, as {"res3": [1, 3], "res4": [1, 3, 5]}: into the residual blocks of
        these indices, counted from 0, behind their last activation. Default nowhere.
      non_local_block: arguments of keras_nonlocal.tfm.layers.NonLocal3D. Default none. Batch norm and weight decay are
        the network's.
      **kwargs: those of tfm's ResNet3D.

    Call arguments: `inputs`, (B, T, H, W, 3), normalised; `training`. Returns {"2": res2's output, ..., "5": res5's},
    each (B, T', H', W', channels).

    Raises:
      ValueError: for a depth, a placement or an argument of the blocks out of range, naming it.

    Example:

    >>> kernels = [(3, 3, 3), (3, 1, 3, 1), (3, 1, 3, 1, 3, 1), (1, 3, 1)]
    >>> model = NonLocalResNet3D(50, [1, 1, 1, 1], kernels, non_local={"res3": [1, 3], "res4": [1, 3, 5]})
    >>> model(tf.zeros([1, 8, 64, 64, 3]))["4"].shape
    TensorShape([1, 2, 4, 4, 1024])

    Wang et al., "Non-local Neural Networks", CVPR 2018.
    """

    def __init__(
        self,
        model_id,
        temporal_strides,
        temporal_kernel_sizes,
        input_specs=tf_keras.layers.InputSpec(shape=[None, None, None, None, 3]),  # noqa: B008, never changed
        non_local=None,
        non_local_block=None,
        **kwargs,
    ):
        self._place(model_id, resnet_3d.RESNET_SPECS, non_local, non_local_block)
        super().__init__(model_id, temporal_strides, temporal_kernel_sizes, input_specs=input_specs, **kwargs)


@factory.register_backbone_builder("non_local_resnet_3d")
def build_non_local_resnet_3d(input_specs, backbone_config, norm_activation_config, l2_regularizer=None):
    """Builds a NonLocalResNet3D from a configs.Backbone3D; the arguments are those of tfm's builders."""
    arguments = backbone_config.get().as_dict()
    stages = arguments.pop("block_specs")
    return NonLocalResNet3D(
        temporal_strides=[stage["temporal_strides"] for stage in stages],
        temporal_kernel_sizes=[stage["temporal_kernel_sizes"] for stage in stages],
        use_self_gating=[stage["use_self_gating"] for stage in stages],
        **placing.shared_arguments(input_specs, arguments, norm_activation_config, l2_regularizer),
    )
