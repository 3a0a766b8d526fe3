"""Starts a whole detector with non-local blocks from one without: backbone, decoder and heads."""

import tensorflow as tf

from keras_nonlocal import errors
from keras_nonlocal.tfm.warm_start import checkpoints
from keras_nonlocal.weights.report import Report, Row

SETTINGS_UNKNOWN = (
    "a checkpoint does not say what its detector is configured with besides: for the same detections give the "
    "experiment the same norm_activation, anchors, sizes and thresholds"
)


def warm_start(model, path, argument="the checkpoint"):
    """Gives a detector all weights that one without its non-local blocks has; the blocks keep what they start with.

    As they start as the identity, its detections are then those of the other one, to the last bit. A checkpoint that
    has some of the blocks gives these too.

    Args:
      model: a model of tfm's whose `checkpoint_items` are all of it: RetinaNet, Mask R-CNN, or one derived from these.
      path: a tfm checkpoint of such a detector, as prefix or folder. What it has besides, as the mask head for a
        detector of boxes, is skipped.
      argument: what errors call the path.

    Returns:
      A keras_nonlocal.weights.report.Report, whose rows have the names in the checkpoint.

    Raises:
      UserError: if there is nothing at `path`, it is of another detector, or the model has no non-local blocks. The
        model is then as it was.
    """
    blocks = checkpoints.blocks(model)
    if not blocks:
        raise errors.UserError(
            "the experiment has no non-local blocks to insert: let tfm read the checkpoint itself, by "
            "task.init_checkpoint"
        )
    prefix = checkpoints.prefix(path, argument)
    parts, items = checkpoints.saved_parts(prefix), model.checkpoint_items
    saved = {name: shape for item in items for name, shape in parts.get(item, {}).items()}
    layers, wanted = {}, {}
    for item, part in items.items():
        for name, layer, variable in checkpoints.named_variables(part, item):
            layers[name], wanted[name] = layer, variable
    new = _new(blocks, wanted, saved)
    if difference := _difference(items, parts, saved, wanted, new):
        raise errors.UserError(
            f"{argument} {path} is of another detector than the experiment: {difference}; --backbone_only takes its "
            "backbone alone"
        )
    for name, value in checkpoints.values(prefix, wanted.keys() - new):
        wanted[name].assign(value)
    rows = [
        Row.of(name, None if name in new else name, tf.convert_to_tensor(variable).numpy(), layers[name])
        for name, variable in wanted.items()
    ]
    skipped = {part: "the experiment has no such part" for part in sorted(parts.keys() - items.keys())}
    return Report(prefix, rows, skipped, [SETTINGS_UNKNOWN])


def _new(blocks, wanted, saved):
    """The names of the variables of those blocks that the checkpoint has nothing of."""
    names = {id(variable): name for name, variable in wanted.items()}
    found = [{names[id(weight)] for weight in block.weights} for block in blocks]
    return set().union(*(block for block in found if not block & saved.keys()))


def _difference(items, parts, saved, wanted, new):
    """How a checkpoint is not of the model, in words, or None."""
    if lacking := [item for item in items if item not in parts]:
        return f"it has {_listed(parts)}, and no {_listed(lacking)}"
    if missing := wanted.keys() - new - saved.keys():
        return f"it lacks {_listed(sorted(missing))}"
    if surplus := saved.keys() - wanted.keys():
        return f"it also has {_listed(sorted(surplus))}"
    for name, shape in sorted(saved.items()):
        if shape != tuple(wanted[name].shape):
            return f"{name} is {shape} there and {tuple(wanted[name].shape)} here"
    return None


def _listed(names):
    """The first of some names."""
    first, more = list(names)[:3], len(names) - 3
    return ", ".join(first) + (f" and {more} more" if more > 0 else "")
