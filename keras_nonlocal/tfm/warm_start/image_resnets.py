"""ResNets of images, whoever trained them, as the units of convolution and norm that ours consist of."""

import dataclasses

import numpy as np
from official.vision.ops import preprocess_ops

from keras_nonlocal import paper
from keras_nonlocal.models import video_resnet
from keras_nonlocal.tfm.backbones import video_resnet as video_backbones

# Channels of conv1.
WIDTH = 64
# The convolutions of a bottleneck block: our name, tfm's attributes in blocks of images and of clips, that of the norm.
BOTTLENECK_CONVOLUTIONS = (
    ("branch1", "_shortcut", "_shortcut_conv", "_norm0"),
    ("branch2a", "_conv1", "_temporal_conv", "_norm1"),
    ("branch2b", "_conv2", "_spatial_conv", "_norm2"),
    ("branch2c", "_conv3", "_expand_conv", "_norm3"),
)
# What tfm's blocks may have besides, by attribute, which a plain ResNet has no weights for.
GATES = ("_self_gating", "_squeeze_excitation")
# (mean, standard deviation) of red, green and blue, by which pixels are scaled.
CLIP_PIXELS = (paper.PIXEL_MEAN, paper.PIXEL_STD)
IMAGE_PIXELS = (preprocess_ops.MEAN_RGB, preprocess_ops.STDDEV_RGB)


@dataclasses.dataclass(frozen=True)
class Unit:
    """A convolution and the batch norm behind it.

    Args:
      kernel: (k, k, C, C').
      gamma, beta, mean, variance: (C',), of the norm.
      sources: names of the convolution and the norm where they come from.
    """

    kernel: np.ndarray
    gamma: np.ndarray
    beta: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    sources: tuple[str, str]

    def with_shift(self, shift):
        """The unit of a convolution that gives `shift`, (C',), less than this one's."""
        return dataclasses.replace(self, mean=self.mean - shift)


def unit(conv, norm, sources):
    """The Unit of a convolution and a batch norm that have weights, without the convolution's bias."""
    values = [norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance]
    return Unit(np.asarray(conv.kernel), *(np.asarray(value) for value in values), sources)


def targets(backbone, block_counts):
    """The convolutions of a network of bottleneck blocks, each with its norm.

    Args:
      backbone: a video_resnet, non_local_resnet or non_local_resnet_3d.
      block_counts: residual blocks in each of its stages.

    Returns:
      {name of the convolution in models.video_resnet: (convolution, norm)}.
    """
    if isinstance(backbone, video_backbones.VideoResNet):
        convs = [layer for layer in backbone.layers if type(layer).__name__ == "Conv3D"]
        return {conv.name: (conv, backbone.get_layer(f"{conv.name}_bn")) for conv in convs}
    stem, norm, *blocks = [layer for layer in backbone.layers if layer.weights]
    found = {"conv1": (stem, norm)}
    blocks = [block for block in blocks if hasattr(block, "_norm1")]
    for block, name in zip(blocks, block_names(block_counts), strict=True):
        for part, of_images, of_clips, norm in BOTTLENECK_CONVOLUTIONS:
            conv = getattr(block, of_images, None) or getattr(block, of_clips, None)
            if conv is not None and conv.weights:
                found[f"{name}_{part}"] = conv, getattr(block, norm)
    return found


def gates(backbone):
    """The self gating and squeeze and excitation of tfm's blocks."""
    parts = [getattr(layer, name, None) for layer in backbone.layers for name in GATES]
    return [part for part in parts if part is not None]


def block_names(block_counts):
    """The names of the residual blocks of all stages, as "res2_0"."""
    stages = zip(video_resnet.STAGES, block_counts, strict=True)
    return [f"{stage}_{index}" for stage, count in stages for index in range(count)]


def for_pixels(stem, before, after):
    """A first convolution that takes pixels scaled by `before`, (mean, deviation), to one that takes them by `after`.

    Exact but at the borders, where the padding stands for the mean before and after.
    """
    (mean, std), (new_mean, new_std) = [[np.broadcast_to(part, [3]) for part in pixels] for pixels in (before, after)]
    shift = np.einsum("hwio,i->o", stem.kernel, (new_mean - mean) / std)
    scaled = stem.kernel * (new_std / std)[:, None]
    return dataclasses.replace(stem, kernel=scaled.astype("float32")).with_shift(shift.astype("float32"))
