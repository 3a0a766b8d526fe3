"""Which network weights are of, as their names and shapes tell."""

import re

from keras_nonlocal.models import video_resnet
from keras_nonlocal.weights import affine
from keras_nonlocal.weights.formats.values import CheckpointError


def network(targets, affine_suffix):
    """The arguments of models.video_resnet.video_resnet, and `classes`, that tensors tell.

    Args:
      targets: {(layer, weight): (name, array)}, arrays with the first size of kernels their outputs, as peers have it.
      affine_suffix: see sources.source.Source.

    Raises:
      CheckpointError: for tensors that are of none of these networks.
    """
    counts, placement = blocks({layer for layer, _ in targets})
    width = _length(targets, ("conv1", "kernel"))
    if 0 in counts or not width:
        raise CheckpointError("it has no residual network of four stages and a conv1.")
    kernels = {layer: array for (layer, weight), (_, array) in targets.items() if weight == "kernel"}
    classes = _length(targets, ("pred", "kernel"))
    return {
        "block_counts": counts,
        "width": width,
        "inflate": inflation({layer: kernel.shape[2] for layer, kernel in kernels.items() if kernel.ndim == 5}),
        "non_local": placement,
        "norm_frozen": affine.is_affine(targets, affine_suffix),
        "non_local_block": _block(targets, placement) if placement else {},
        **({} if classes is None else {"classes": classes}),
    }


def blocks(layers):
    """How many residual blocks each stage has, and where non-local ones are, by the names of the layers.

    Args:
      layers: names, such as "res3_1_branch2a" and "res3_1_nonlocal".

    Returns:
      (blocks in res2, ..., in res5), and {"res3": [1, 3], ...} of the stages with non-local blocks.
    """

    def indices(stage, part):
        return sorted(int(match[1]) for layer in layers if (match := re.fullmatch(rf"{stage}_(\d+)_{part}", layer)))

    counts = tuple(len(indices(stage, "branch2a")) for stage in video_resnet.STAGES)
    placement = {stage: indices(stage, "nonlocal") for stage in video_resnet.STAGES}
    return counts, {stage: found for stage, found in placement.items() if found}


def inflation(frames):
    """The `inflate` of a network whose convolutions span {layer: frames}."""
    for style, branch in (("3x1x1", "branch2a"), ("3x3x3", "branch2b")):
        if any(layer.endswith(branch) and size == 3 for layer, size in frames.items()):
            return style
    return None


def _block(targets, placement):
    """Arguments of the non-local blocks, which are all alike; `pairwise` only where the tensors tell it."""
    stage, indices = next(iter(placement.items()))
    layer = f"{stage}_{indices[0]}_nonlocal"

    def has(weight):
        return (layer, weight) in targets

    pairwise = "concatenation" if has("w_f") else None if has("theta/kernel") else "gaussian"
    return {
        **({"pairwise": pairwise} if pairwise else {}),
        "use_bias": has("g/bias"),
        "use_out_bias": has("out/bias"),
        "norm": "batch_norm" if has("norm/gamma") else None,
    }


def _length(targets, target):
    """The first size of a tensor, or None where there is no such tensor or it has no size."""
    return len(targets[target][1]) if target in targets and targets[target][1].ndim else None
