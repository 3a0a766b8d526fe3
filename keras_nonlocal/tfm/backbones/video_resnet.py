"""C2D and I3D as a tfm backbone, `video_resnet`."""

import tf_keras
from official.vision.modeling.backbones import factory

from keras_nonlocal import errors
from keras_nonlocal.models import video_resnet
from keras_nonlocal.tfm import layers
from keras_nonlocal.tfm.backbones import placing


@tf_keras.utils.register_keras_serializable("keras_nonlocal")
class VideoResNet(tf_keras.Model):
    """C2D or I3D from clips to tfm's endpoints {"2": res2, ..., "5": res5}.

    Args:
      input_shape: (T, H, W, 3), any of the first three None. Default all three None.
      **arguments: those of keras_nonlocal.models.video_resnet.video_resnet.
    """

    def __init__(self, input_shape=(None, None, None, 3), name="video_resnet", **arguments):
        inputs = tf_keras.Input(tuple(input_shape), name="clip")
        endpoints = video_resnet.video_resnet(tf_keras, layers, inputs, **arguments)
        super().__init__(inputs=inputs, outputs=endpoints, name=name)
        self._arguments = {"input_shape": tuple(input_shape), "name": name, **arguments}

    @property
    def output_specs(self):
        """The endpoints' shapes, as tfm wants them."""
        return {level: endpoint.shape for level, endpoint in self.output.items()}

    def get_config(self):
        regularizer = self._arguments.get("kernel_regularizer")
        serialized = tf_keras.regularizers.serialize(regularizer)
        return {**self._arguments, "kernel_regularizer": serialized, "trainable": self.trainable}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        regularizer = tf_keras.regularizers.get(config.get("kernel_regularizer"))
        return placing.from_config(cls, {**config, "kernel_regularizer": regularizer})


@factory.register_backbone_builder("video_resnet")
def build_video_resnet(input_specs, backbone_config, norm_activation_config, l2_regularizer=None):
    """Builds a VideoResNet from a configs.Backbone3D."""
    errors.check_choice("norm_activation.activation", norm_activation_config.activation, ("relu",))
    arguments = backbone_config.get().as_dict()
    return VideoResNet(
        input_shape=input_specs.shape[1:],
        norm_momentum=norm_activation_config.norm_momentum,
        norm_epsilon=norm_activation_config.norm_epsilon,
        norm_synchronized=norm_activation_config.use_sync_bn,
        kernel_regularizer=l2_regularizer,
        **arguments,
    )
