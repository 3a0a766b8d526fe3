"""Starts a network with non-local blocks from the weights of one without: what `keras-nonlocal warm_start` calls."""

import copy
import os

import tensorflow as tf
import tf_keras
from official.core import config_definitions as cfg
from official.core import task_factory
from official.vision.configs import backbones_3d
from official.vision.modeling.backbones import factory, resnet, resnet_3d

from keras_nonlocal import errors, files
from keras_nonlocal.layers.non_local import NonLocalMixin
from keras_nonlocal.surgery.inflate import inflated_kernel
from keras_nonlocal.tfm.backbones import configs, video_resnet
from keras_nonlocal.tfm.warm_start import checkpoints, detectors, image_resnets, keras_applications, tfm_resnet
from keras_nonlocal.weights.report import Report, Row

PADDING_DIFFERS = (
    "tfm pads strided convolutions at the end (SAME), video_resnet and keras.applications on both sides: at even sizes "
    "their maps are shifted by up to a pixel"
)
POOLING_DIFFERS = "pool1 of the image networks is padded, that of stem: official is not; stem: slowfast is as theirs"
PIXELS = "conv1 takes pixels as {} scale them; at the borders it sees another grey than before"
GATES = "self gating and squeeze and excitation are new, and not the identity: the network has to be trained with them"


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
      path: a tfm checkpoint, as prefix or folder, of the same network without non-local blocks; or a file of
        keras.applications' ResNet50, ResNet101 or ResNet152 (.h5, .weights.h5, .keras); or, for a network of clips, a
        tfm checkpoint of the ResNet of images of the same depth. Kernels of images are repeated over time and divided
        by its size.
      argument: what errors call the path.

    Returns:
      A keras_nonlocal.weights.report.Report, whose rows have the names in the checkpoint.

    Raises:
      UserError: if there is nothing at `path`, or it is of another network. The backbone is then as it was.
    """
    network = model_config.backbone.get()
    if not hasattr(network, "non_local"):
        raise errors.UserError(
            f"backbone.type {model_config.backbone.type} has no non-local blocks: choose non_local_resnet, "
            "non_local_resnet_3d or video_resnet, or let tfm read the checkpoint itself"
        )
    is_3d = isinstance(model_config.backbone, backbones_3d.Backbone3D)
    if path.endswith(keras_applications.FILES):
        if not tf.io.gfile.exists(path):
            raise errors.UserError(f"{argument} {path} does not exist.")
        pixels = image_resnets.CLIP_PIXELS if is_3d else image_resnets.IMAGE_PIXELS
        epsilon = model_config.norm_activation.norm_epsilon
        units = keras_applications.read(path, _block_counts(network), epsilon, pixels)
        notes = [keras_applications.STRIDES_DIFFER, *([] if _is_video_resnet(backbone) else [PADDING_DIFFERS])]
        return _from_images(backbone, network, path, units, notes)
    prefix = checkpoints.prefix(path, argument)
    if is_3d and checkpoints.is_of_images(prefix):
        units = tfm_resnet.read(prefix, _block_counts(network))
        notes = [tfm_resnet.EPSILON_UNKNOWN, *([PADDING_DIFFERS] if _is_video_resnet(backbone) else [])]
        return _from_images(backbone, network, path, units, notes)
    return _from_trunk(backbone, model_config, prefix)


def restore(backbone, model_config, path, argument="the checkpoint"):
    """Gives a backbone the weights of another one of the same network, all of them.

    Where this one's non-local blocks have no norm, being of the recipe for long clips, and the other's have, the norm
    becomes part of W_z: the paper starts its long clips from the same network for short ones.

    Args:
      backbone: of this configuration.
      model_config: configuration of the model, with `backbone` and `norm_activation`.
      path: a tfm checkpoint, as prefix or folder.
      argument: what errors call the path.

    Raises:
      UserError: if there is nothing at `path`, it is of another network, or W_z has no bias to take the norm.
    """
    prefix = checkpoints.prefix(path, argument)
    blocks = checkpoints.blocks(backbone)
    if not blocks or any(block.folds_norm() for block in blocks) or not checkpoints.norms_blocks(prefix):
        checkpoints.read_backbone(backbone, prefix)
        return
    if not all(block.use_out_bias for block in blocks):
        raise errors.UserError(
            f"{argument} {path} has norms in its non-local blocks, for which the blocks here have neither norm nor a "
            "bias of W_z: set backbone.*.non_local_block.use_out_bias: true"
        )
    normed = copy.deepcopy(model_config)
    network = normed.backbone.get()
    frozen = {"norm_frozen": False} if hasattr(network, "norm_frozen") else {"bn_trainable": True}
    network.override({"non_local_block": {"norm": "batch_norm"}, **frozen})
    other = build_backbone(normed)
    checkpoints.read_backbone(other, prefix)
    checkpoints.read_backbone(backbone, prefix)
    for block, with_norm in zip(blocks, checkpoints.blocks(other), strict=True):
        block.take_folded(with_norm)


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
    _check_free(out)
    backbone = build_backbone(model_config)
    report = warm_start(backbone, model_config, path)
    _save(out, report, backbone=backbone)
    return report


def write_task(task: cfg.TaskConfig, path: str, out: str, backbone_only: bool = False) -> tuple[Report, str]:
    """Writes a checkpoint that a task starts from: of all its model where there is a detector at `path`.

    Args:
      task: configuration of a task of tfm, or derived from one, with non-local blocks in its model.
      path: a tfm checkpoint of a detector, of the task's kind, that lacks these blocks or some of them; or what
        warm_start takes, of which the backbone alone is written.
      out: as of write.
      backbone_only: take no more than the backbone of a detector's checkpoint. Default False.

    Returns:
      The Report, and what the task has to be told as `init_checkpoint_modules`: "all" or "backbone".

    Raises:
      UserError: if `out` exists or cannot be written, or the checkpoint is of another detector or network.
    """
    _check_free(out)
    others = set()
    if not backbone_only and not path.endswith(keras_applications.FILES):
        others = checkpoints.saved_parts(checkpoints.prefix(path)).keys() - {"backbone"}
    model = task_factory.get_task(task).build_model() if others else None
    if not others & set(getattr(model, "checkpoint_items", ())):  # of a classifier, or for one
        return write(task.model, path, out), "backbone"
    report = detectors.warm_start(model, path)
    _save(out, report, model=model, **model.checkpoint_items)
    return report, "all"


def _save(out, report, **items):
    """Writes the folder of a checkpoint and its report."""
    out = os.path.abspath(out)
    try:
        with files.whole_folder(out) as temporary:
            tf.train.Checkpoint(**items).save(os.path.join(temporary, "ckpt"))
            files.write_text(os.path.join(temporary, "warm_start.txt"), f"{report}\n")
            _check_free(out)
    except (OSError, tf.errors.OpError) as error:
        raise errors.UserError(f"--out {out} cannot be written ({errors.first_line(error)}); nothing was") from error


def _from_trunk(backbone, model_config, prefix):
    # A non-local block between two layers shifts the numbers that a checkpoint gives them. So it is read into the
    # network it was written from, and carried over layer by layer.
    plain = copy.deepcopy(model_config)
    plain.backbone.get().override({"non_local": configs.Placement().as_dict()})
    trunk = build_backbone(plain)
    checkpoints.read_backbone(trunk, prefix)
    new = [layer for layer in checkpoints.weighted_layers(backbone) if not isinstance(layer, NonLocalMixin)]
    names = {id(variable): name for name, _, variable in checkpoints.named_variables(trunk)}
    sources = {}
    for old, layer in zip(checkpoints.weighted_layers(trunk), new, strict=True):
        variables = checkpoints.variables(layer)
        for name, variable in checkpoints.variables(old).items():
            variables[name].assign(tf.convert_to_tensor(variable))
            sources[id(variables[name])] = names[id(variable)]
    return Report(prefix, _rows(backbone, sources, _new_variables(backbone)))


def _from_images(backbone, network, path, units, notes):
    targets = image_resnets.targets(backbone, _block_counts(network))
    gates = image_resnets.gates(backbone)
    new = _new_variables(backbone, gates)
    _check_fits(backbone, targets, new, units, path)
    sources = {}
    for name, unit in units.items():
        conv, norm = targets[name]
        frames = conv.kernel.shape[0] if len(conv.kernel.shape) == 5 else None
        kernel = inflated_kernel(unit.kernel, frames) if frames else unit.kernel
        values = {
            "kernel": (conv.kernel, kernel, unit.sources[0]),
            "gamma": (norm.gamma, unit.gamma, unit.sources[1]),
            "beta": (norm.beta, unit.beta, unit.sources[1]),
            "moving_mean": (norm.moving_mean, unit.mean, unit.sources[1]),
            "moving_variance": (norm.moving_variance, unit.variance, unit.sources[1]),
        }
        for key, (variable, value, source) in values.items():
            variable.assign(value)
            inflated = f", / {frames} over {frames} frames" if key == "kernel" and (frames or 1) > 1 else ""
            sources[id(variable)] = f"{source}/{key}{inflated}"
    notes = [*notes, PIXELS.format("the video experiments" if frames else "tfm's image experiments")]
    if _is_video_resnet(backbone) and network.stem == "official":
        notes.append(POOLING_DIFFERS)
    if gates:
        notes.append(GATES)
    return Report(path, _rows(backbone, sources, new), notes=notes)


def _check_fits(backbone, targets, new, units, path):
    """Raises UserError unless the units are what the backbone has besides new variables, of which `new` are the ids."""
    taken = {id(variable) for pair in targets.values() for layer in pair for variable in layer.weights}
    surplus = [variable.name for variable in backbone.weights if id(variable) not in taken | new]
    lacking = sorted(targets.keys() ^ units.keys())
    if surplus or lacking:
        raise errors.UserError(
            f"{path} holds a plain ResNet of images of bottleneck blocks, and {type(backbone).__name__} as configured "
            f"is another network: they differ in {', '.join((surplus or lacking)[:3])}"
        )
    for name, unit in units.items():
        shape = tuple(targets[name][0].kernel.shape)[-4:]
        if unit.kernel.shape != shape:
            raise errors.UserError(
                f"{path} holds a network of width {image_resnets.WIDTH}, and the backbone as configured is of another: "
                f"{name} has a kernel of {unit.kernel.shape} there and of {shape} here"
            )


def _new_variables(backbone, gates=()):
    """The ids of the variables of non-local blocks and gates, which no network without them has."""
    return {id(variable) for layer in [*checkpoints.blocks(backbone), *gates] for variable in layer.weights}


def _block_counts(network):
    """Residual blocks in each stage of a backbone's configuration."""
    if isinstance(network, configs.VideoResNet):
        return tuple(network.block_counts)
    specs = resnet_3d.RESNET_SPECS if isinstance(network, configs.NonLocalResNet3D) else resnet.RESNET_SPECS
    return tuple(count for _, _, count in specs[network.model_id])


def _is_video_resnet(backbone):
    return isinstance(backbone, video_resnet.VideoResNet)


def _rows(backbone, sources, new):
    """A Row for every variable.

    Args:
      backbone: after it has its weights.
      sources: {id of a variable: where its values come from}.
      new: ids of the variables that may be in no source.
    """
    rows = []
    for name, layer, variable in checkpoints.named_variables(backbone):
        source = sources.get(id(variable))
        if source is None and id(variable) not in new:
            raise AssertionError(f"{variable.name} is in no non-local block, and was not read")
        rows.append(Row.of(name, source, tf.convert_to_tensor(variable).numpy(), layer))
    return rows


def _check_free(out):
    out = os.path.abspath(out)
    if os.path.lexists(out):
        raise errors.UserError(f"--out {out} exists already and is never overwritten: give another folder, or move it")
