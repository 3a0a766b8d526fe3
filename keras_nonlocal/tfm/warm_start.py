"""Starts a network with non-local blocks from the weights of one without: what `training/warm_start.py` calls."""

import copy
import dataclasses
import os
import shutil

import tensorflow as tf
import tf_keras
from official.vision.configs import backbones_3d
from official.vision.modeling.backbones import factory

from keras_nonlocal import errors, files
from keras_nonlocal._non_local import NonLocalMixin
from keras_nonlocal.tfm import backbones, checkpoints, configs, image_resnets

STRIDES_DIFFER = (
    "keras.applications strides on the first 1x1 convolution of res3, res4 and res5, the video networks on the 3x3: "
    "from res3 on they compute something else with these weights until they are trained"
)
PADDING_DIFFERS = (
    "tfm pads strided convolutions at the end (SAME), the video networks on both sides: at even sizes their maps are "
    "shifted by up to a pixel"
)
EPSILON_UNKNOWN = "a checkpoint does not say the epsilon of its batch norms: that of the configuration is used"
POOLING_DIFFERS = "pool1 of the image networks is padded, that of stem: official is not; stem: slowfast is as theirs"
PIXELS = "conv1 takes pixels as the video experiments scale them; at the borders it sees another grey than before"


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a variable of the network comes from.

    Args:
      name: of the variable in the checkpoint that is written.
      layer: name of the layer that it is in.
      parameters: how many numbers it holds.
      source: its name where it comes from; None for one that is new.
    """

    name: str
    layer: str
    parameters: int
    source: str | None


@dataclasses.dataclass(frozen=True)
class Report:
    """What came from where.

    Args:
      path: that the weights came from.
      origins: an Origin for every variable of the network.
      notes: sentences about how the two networks differ.
    """

    path: str
    origins: list
    notes: list

    def lines(self):
        """A line for every variable, one for every note, and a summary (list of str)."""
        width = max(len(origin.name) for origin in self.origins)
        lines = [f"{o.name:{width}}  <- {o.source or 'new'}  ({o.layer})" for o in self.origins]
        new = [origin for origin in self.origins if origin.source is None]
        old = [origin for origin in self.origins if origin.source is not None]
        return [
            *lines,
            *(f"note: {note}" for note in self.notes),
            f"{len(old)} variables ({sum(o.parameters for o in old):,} parameters) from {self.path}, "
            f"{len(new)} new ({sum(o.parameters for o in new):,} parameters)",
        ]


def build_backbone(model_config):
    """The backbone of a model's configuration, for inputs of any size."""
    rank = 3 if isinstance(model_config.backbone, backbones_3d.Backbone3D) else 2
    inputs = tf_keras.layers.InputSpec(shape=[None] * (rank + 1) + [3])
    return factory.build_backbone(inputs, model_config.backbone, model_config.norm_activation)


def warm_start(backbone, model_config, path, argument="the checkpoint"):
    """Gives a backbone all weights that one without non-local blocks has; the blocks keep what they start with.

    As they start as the identity, the backbone then computes what the other one does.

    Args:
      backbone: of this configuration.
      model_config: configuration of the model, with `backbone` and `norm_activation`.
      path: a tfm checkpoint, as prefix or folder, of the same network without non-local blocks; or, for a
        `video_resnet`, one of a tfm ResNet of images of the same depth, or a file of keras.applications' ResNet50,
        ResNet101 or ResNet152 (.h5, .weights.h5, .keras), whose kernels are repeated over time and divided by its size.
      argument: what errors call the path.

    Returns:
      A Report.

    Raises:
      UserError: if there is nothing at `path`, or it is of another network. The backbone is then as it was.
    """
    network = model_config.backbone.get()
    if not hasattr(network, "non_local"):
        raise errors.UserError(
            f"backbone.type {model_config.backbone.type} has no non-local blocks: choose non_local_resnet, "
            "non_local_resnet_3d or video_resnet, or let tfm read the checkpoint itself"
        )
    if path.endswith(image_resnets.KERAS_FILES):
        if not tf.io.gfile.exists(path):
            raise errors.UserError(f"{argument} {path} does not exist.")
        _check_inflates(backbone, network, path)
        units = image_resnets.read_keras(path, network.block_counts, model_config.norm_activation.norm_epsilon)
        return _from_images(backbone, network, path, units, [STRIDES_DIFFER])
    prefix = checkpoints.prefix(path, argument)
    is_3d = isinstance(model_config.backbone, backbones_3d.Backbone3D)
    if is_3d and checkpoints.is_of_images(prefix):
        _check_inflates(backbone, network, path)
        units = image_resnets.read_tfm(prefix, network.block_counts)
        return _from_images(backbone, network, path, units, [PADDING_DIFFERS, EPSILON_UNKNOWN])
    return _from_trunk(backbone, model_config, prefix)


def write(model_config, path, out):
    """Writes a checkpoint of a whole backbone, warm-started, that tfm's tasks take as `task.init_checkpoint`.

    Args:
      model_config, path: those of warm_start.
      out: folder to make, which must not exist. It holds the checkpoint, `ckpt-1`, and the report, `warm_start.txt`,
        and appears when both are on disk.

    Returns:
      The Report.

    Raises:
      UserError: if `out` exists or cannot be written, or what warm_start raises.
    """
    out = os.path.abspath(out)
    _check_free(out)
    backbone = build_backbone(model_config)
    report = warm_start(backbone, model_config, path)
    temporary = os.path.join(os.path.dirname(out), f".{os.path.basename(out)}.tmp-{os.getpid()}")
    try:
        os.makedirs(temporary)
        tf.train.Checkpoint(backbone=backbone).save(os.path.join(temporary, "ckpt"))
        with open(os.path.join(temporary, "warm_start.txt"), "w", encoding="utf-8") as file:
            file.write("\n".join(report.lines()) + "\n")
        for name in os.listdir(temporary):
            files.sync(os.path.join(temporary, name))
        files.sync(temporary)
        _check_free(out)
        os.rename(temporary, out)
        files.sync(os.path.dirname(out))
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise errors.UserError(f"--out {out} cannot be written ({reason}); nothing was") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # gone already if it was moved
    return report


def _from_trunk(backbone, model_config, prefix):
    # A non-local block between two layers shifts the numbers that a checkpoint gives them. So it is read into the
    # network it was written from, and carried over layer by layer.
    plain = copy.deepcopy(model_config)
    plain.backbone.get().override({"non_local": configs.Placement().as_dict()})
    trunk = build_backbone(plain)
    checkpoints.read_backbone(trunk, prefix)
    new = [layer for layer in checkpoints.weighted_layers(backbone) if not isinstance(layer, NonLocalMixin)]
    sources = {}
    for index, (old, layer) in enumerate(zip(checkpoints.weighted_layers(trunk), new, strict=True)):
        variables = checkpoints.variables(layer)
        for name, variable in checkpoints.variables(old).items():
            variables[name].assign(tf.convert_to_tensor(variable))
            sources[id(variables[name])] = f"backbone/layer_with_weights-{index}/{name}"
    return Report(prefix, _origins(backbone, sources), [])


def _from_images(backbone, network, path, units, notes):
    sources = {}
    for name, unit in units.items():
        conv, norm = backbone.get_layer(name), backbone.get_layer(f"{name}_bn")
        frames = conv.kernel.shape[0]
        values = {
            "kernel": (conv.kernel, image_resnets.inflate(unit.kernel, frames), unit.sources[0]),
            "gamma": (norm.gamma, unit.gamma, unit.sources[1]),
            "beta": (norm.beta, unit.beta, unit.sources[1]),
            "moving_mean": (norm.moving_mean, unit.mean, unit.sources[1]),
            "moving_variance": (norm.moving_variance, unit.variance, unit.sources[1]),
        }
        for key, (variable, value, source) in values.items():
            variable.assign(value)
            inflated = f", / {frames} over {frames} frames" if key == "kernel" and frames > 1 else ""
            sources[id(variable)] = f"{source}/{key}{inflated}"
    notes = [*notes, PIXELS, *([POOLING_DIFFERS] if network.stem == "official" else [])]
    return Report(path, _origins(backbone, sources), notes)


def _origins(backbone, sources):
    """An Origin for every variable. Only those of non-local blocks may be new."""
    origins = []
    for index, layer in enumerate(checkpoints.weighted_layers(backbone)):
        blocks = [part for part in layer._flatten_layers() if isinstance(part, NonLocalMixin)]
        may_be_new = {id(variable) for block in blocks for variable in block.weights}
        for name, variable in checkpoints.variables(layer).items():
            source = sources.get(id(variable))
            if source is None and id(variable) not in may_be_new:
                raise AssertionError(f"{variable.name} is in no non-local block, and was not read")
            name = f"backbone/layer_with_weights-{index}/{name}"
            origins.append(Origin(name, layer.name, int(tf.size(variable)), source))
    return origins


def _check_inflates(backbone, network, path):
    if not isinstance(backbone, backbones.VideoResNet):
        raise errors.UserError(
            f"{path} holds a network of images in another layout, which can be inflated into a video_resnet only, "
            f"not into {type(backbone).__name__}"
        )
    if network.width != image_resnets.WIDTH:
        raise errors.UserError(
            f"{path} holds a network of width {image_resnets.WIDTH}, and backbone.video_resnet.width is {network.width}"
        )


def _check_free(out):
    if os.path.lexists(out):
        raise errors.UserError(f"--out {out} exists already and is never overwritten: give another folder, or move it")
