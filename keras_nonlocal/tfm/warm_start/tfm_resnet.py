"""tfm's ResNet of images, from its checkpoints."""

from official.vision.modeling.backbones import resnet

from keras_nonlocal import errors
from keras_nonlocal.tfm.warm_start import checkpoints, image_resnets

EPSILON_UNKNOWN = "a checkpoint does not say the epsilon of its batch norms: that of the configuration is used"


def read(path, block_counts):
    """Reads a checkpoint of tfm's ResNet.

    Args:
      path: prefix of the checkpoint, of a training run or with the `backbone` alone.
      block_counts: residual blocks in each stage, which say the depth.

    Returns:
      {name of a convolution of models.video_resnet: image_resnets.Unit}, for pixels as clips have them.

    Raises:
      UserError: if tfm has no ResNet of this depth, or the checkpoint is of another network.
    """
    trunk = resnet.ResNet(_model_id(block_counts))
    checkpoints.read_backbone(trunk, path)
    names = {id(variable): name.rpartition("/")[0] for name, _, variable in checkpoints.named_variables(trunk)}
    units = {
        name: image_resnets.unit(conv, norm, (names[id(conv.kernel)], names[id(norm.gamma)]))
        for name, (conv, norm) in image_resnets.targets(trunk, block_counts).items()
    }
    units["conv1"] = image_resnets.for_pixels(units["conv1"], image_resnets.IMAGE_PIXELS, image_resnets.CLIP_PIXELS)
    return units


def _model_id(block_counts):
    for model_id, stages in resnet.RESNET_SPECS.items():
        if stages[0][0] == "bottleneck" and [count for _, _, count in stages] == list(block_counts):
            return model_id
    raise errors.UserError(f"tfm has no ResNet of bottleneck blocks with block_counts {list(block_counts)}")
