"""The keypoint head of Mask R-CNN, with non-local blocks between its convolutions (section 5.3, Table 6)."""

import types
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from keras_nonlocal import errors
from keras_nonlocal.ops.positions import dims, product
from keras_nonlocal.tfm import layers


@tf_keras.utils.register_keras_serializable("keras_nonlocal")
class KeypointHead(tf_keras.layers.Layer):
    """A heat map of each keypoint for each region: 3x3 convolutions, a deconvolution, and twice the size once more.

    The head with non-local blocks starts as the one without: their W_z are zero. It has no norm, as Detectron's.

    Args:
      num_keypoints: K, heat maps of a region.
      num_convs: 3x3 convolutions, each with a ReLU. Default 8.
      num_filters: their channels. Default 512.
      non_local: convolutions, counted from 0, that are followed by a non-local block; (1, 3, 5, 7) are the paper's
        four blocks. Default none.
      non_local_block: arguments of keras_nonlocal.tfm.layers.NonLocal2D, a dict. Default `{"norm": None}`.
      kernel_regularizer: of all kernels. Default none.

    Call arguments: `features`, (B, N, H, W, C), crops of N regions; `training`. Returns logits in float32,
    (B, N, 4 * H, 4 * W, K), so 56 x 56 of a crop of 14 x 14.

    Raises:
      ValueError: for an argument out of range, naming it.

    Example:

    >>> head = KeypointHead(17, num_filters=16, non_local=(1, 3, 5, 7))
    >>> head(tf.zeros([2, 3, 14, 14, 8])).shape
    TensorShape([2, 3, 56, 56, 17])

    Wang et al., "Non-local Neural Networks", CVPR 2018, section 5.3; He et al., "Mask R-CNN", ICCV 2017, section 5;
    Detectron, modeling/keypoint_rcnn_heads.py.
    """

    def __init__(
        self,
        num_keypoints: int,
        num_convs: int = 8,
        num_filters: int = 512,
        non_local: Sequence[int] = (),
        non_local_block: Mapping[str, Any] | None = None,
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_keypoints = errors.check_positive_int("num_keypoints", num_keypoints)
        self.num_convs = errors.check_positive_int("num_convs", num_convs)
        self.num_filters = errors.check_positive_int("num_filters", num_filters)
        self.non_local = _checked_indices(non_local, self.num_convs)
        self.non_local_block = types.MappingProxyType(
            dict({"norm": None} if non_local_block is None else non_local_block)
        )
        self.kernel_regularizer = tf_keras.regularizers.get(kernel_regularizer)
        self.convs = [
            tf_keras.layers.Conv2D(self.num_filters, 3, activation="relu", name=f"conv_{i}", **self._shared())
            for i in range(self.num_convs)
        ]
        # By the numbers of their convolutions, so that a checkpoint says where each belongs.
        self.blocks = {str(i): self._non_local(i) for i in self.non_local}
        self.deconv = tf_keras.layers.Conv2DTranspose(self.num_keypoints, 4, strides=2, name="deconv", **self._shared())

    def call(self, features: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        batch, count, height, width, channels = dims(features)
        x = tf.reshape(features, [product([batch, count]), height, width, channels])  # -> (B*N, H, W, C)
        for i, conv in enumerate(self.convs):
            x = conv(x)
            if i in self.non_local:
                x = self.blocks[str(i)](x, training=training)
        x = self.deconv(x)  # -> (B*N, 2*H, 2*W, K)
        x = tf.image.resize(x, [4 * height, 4 * width], "bilinear")
        return tf.reshape(x, [batch, count, 4 * height, 4 * width, self.num_keypoints])

    def get_config(self):
        return {
            **super().get_config(),
            "num_keypoints": self.num_keypoints,
            "num_convs": self.num_convs,
            "num_filters": self.num_filters,
            "non_local": list(self.non_local),
            "non_local_block": dict(self.non_local_block),
            "kernel_regularizer": tf_keras.regularizers.serialize(self.kernel_regularizer),
        }

    def _shared(self):
        return {
            "padding": "same",
            "kernel_initializer": tf_keras.initializers.VarianceScaling(2, "fan_out", "untruncated_normal"),
            "kernel_regularizer": self.kernel_regularizer,
            "dtype": self.dtype_policy,
        }

    def _non_local(self, i):
        inherited = {"kernel_regularizer": self.kernel_regularizer, "dtype": self.dtype_policy}
        return layers.NonLocal2D(name=f"non_local_{i}", **{**inherited, **self.non_local_block})


def _checked_indices(non_local, num_convs):
    known = set(range(num_convs))
    given = list(non_local)
    if not known.issuperset(given) or len(set(given)) < len(given):
        raise ValueError(
            "`non_local` lists convolutions to put a non-local block after, each once, from 0 to "
            f"{num_convs - 1}. Received: non_local={given}"
        )
    return tuple(sorted(given))
