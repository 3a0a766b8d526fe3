"""Which of the networks a checkpoint belongs to: told by its tensors and its configuration, or known of its source."""

import json
import re

from keras_nonlocal import errors
from keras_nonlocal.models import video_resnet
from keras_nonlocal.weights import reading
from keras_nonlocal.weights.values import CheckpointError

# What a file does not tell and its source's code and released models settle, unless the caller says otherwise. None
# where a source has both.
CONVENTIONS = {
    "official": dict(
        stem="official", temporal_stride=None, pairwise="embedded_gaussian", pool_before_projection=True, scale=True
    ),
    "slowfast": dict(stem="slowfast", temporal_stride=2, pairwise=None, pool_before_projection=True, scale=True),
    "mmaction2": dict(stem="mmaction2", temporal_stride=8, pairwise=None, pool_before_projection=False, scale=False),
}
# Frames that the official code's affine models let res3 see at a time.
AFFINE_GROUP_FRAMES = {"res3": 4}
OPTIONS = ("stem", "temporal_stride", "pairwise", "pool_size", "pool_before_projection", "scale", "group_frames")
BLOCK_OPTIONS = ("pairwise", "pool_size", "pool_before_projection", "scale", "use_bias", "use_out_bias", "norm")


def arguments(checkpoint, targets, told=None):
    """The arguments of models.video_resnet.video_resnet, and `classes`, that a checkpoint was trained with.

    Args:
      checkpoint: a reading.Checkpoint.
      targets: {(layer, weight): (name, array)} of its tensors.
      told: {option: value} of OPTIONS for what the file does not tell or the source's own models have otherwise.

    Returns:
      A dict. Its temporal_stride is None where nothing tells it, and pairwise where theta and phi are all that does.

    Raises:
      CheckpointError: for a checkpoint that is none of these networks, or an option that there is not.
    """
    told = told or {}
    for name in told:
        errors.check_choice("options", name, OPTIONS)
    if checkpoint.source == reading.OURS:
        return _saved(checkpoint)
    counts, placement = structure({layer for layer, _ in targets})
    if 0 in counts or ("conv1", "kernel") not in targets:
        raise CheckpointError(f"{checkpoint.path}: it has no residual network of four stages and a conv1.")
    kernels = {layer: array for (layer, weight), (_, array) in targets.items() if weight == "kernel"}
    affine = ("conv1_bn", "moving_variance") not in targets
    found = {
        "block_counts": counts,
        "width": len(targets["conv1", "kernel"][1]),
        "inflate": inflation({layer: k.shape[2] for layer, k in kernels.items() if k.ndim == 5}),
        "non_local": placement,
        "norm_frozen": affine,
        "group_frames": dict(AFFINE_GROUP_FRAMES) if affine and checkpoint.source == "official" else {},
        **{name: CONVENTIONS[checkpoint.source][name] for name in ("stem", "temporal_stride")},
    }
    if not found["inflate"] and checkpoint.source == "mmaction2":
        found |= {"stem": "official", "temporal_stride": 2}  # its C2D class is the official "new" network
    if (classifier := targets.get(("pred", "kernel"))) is not None:
        found["classes"] = len(classifier[1])
    found |= {name: told[name] for name in ("stem", "temporal_stride", "group_frames") if name in told}
    found["group_frames"] = {stage: n for stage, n in (found["group_frames"] or {}).items() if stage in placement}
    found["non_local_block"] = _block(checkpoint, targets, placement, told) if placement else {}
    return found


def _saved(checkpoint):
    """The arguments that saving.save has put into a safetensors file of our own."""
    try:
        found = json.loads(checkpoint.config or "")
        found["block_counts"] = tuple(found["block_counts"])
        if "pool_size" in found["non_local_block"]:
            found["non_local_block"]["pool_size"] = tuple(found["non_local_block"]["pool_size"])
        missing = {"width", "inflate", "non_local", "norm_frozen", "group_frames", "stem", "temporal_stride"} - set(
            found
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        missing = True
    if missing:
        raise CheckpointError(f"{checkpoint.path}: it does not say what network it is of, as ours do.")
    return found


def structure(layers):
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


def _block(checkpoint, targets, placement, told):
    """Arguments of the non-local blocks, which are all alike."""
    stage, indices = next(iter(placement.items()))
    layer = f"{stage}_{indices[0]}_nonlocal"

    def has(weight):
        return (layer, weight) in targets

    config = _configured(checkpoint.config)
    if has("w_f"):
        pairwise = "concatenation"
    elif not has("theta/kernel"):
        pairwise = "gaussian"
    else:
        pairwise = config.get("pairwise", CONVENTIONS[checkpoint.source]["pairwise"])
    pooled = True
    if checkpoint.source == "mmaction2":
        pooled = any(re.search(r"non_local_block\.g\.0\.", name) for name, _ in targets.values())
    conventions = CONVENTIONS[checkpoint.source]
    found = {
        "pairwise": pairwise,
        "pool_size": (1, 2, 2) if pooled else (1, 1, 1),
        "pool_before_projection": conventions["pool_before_projection"],
        "scale": conventions["scale"],
        "use_bias": has("g/bias"),
        "use_out_bias": has("out/bias"),
        "norm": "batch_norm" if has("norm/gamma") else None,
    }
    return found | {name: told[name] for name in BLOCK_OPTIONS if name in told}


def _configured(text):
    """What SlowFast's configuration, a YAML text, says of the blocks, in our words."""
    found = {}
    section = re.search(r"^NONLOCAL:\n((?:[ -].*\n?)*)", text or "", re.M)
    if not section:
        return found
    instantiation = re.search(r"^\s+INSTANTIATION:\s*(\w+)", section[1], re.M)
    forms = {"softmax": "embedded_gaussian", "dot_product": "dot_product"}
    if instantiation and instantiation[1] in forms:
        found["pairwise"] = forms[instantiation[1]]
    return found


def differences(expected, layers):
    """Sentences on what a model has otherwise than a checkpoint needs it.

    Args:
      expected: what `arguments` returned.
      layers: {name: layer} of the model.

    Returns:
      A list of "`option` is a and must be b".
    """
    found = []

    def compare(option, has, must, where=""):
        if must is not None and has != must:
            found.append(f"`{option}` is {has!r} and must be {must!r}{where}")

    pool1, conv1 = layers["pool1"], layers["conv1"]
    compare("temporal_stride", 8 if conv1.strides[0] == 2 else 2, expected["temporal_stride"])
    if ("pool1_pad" in layers, pool1.pool_size[0]) != _stem(expected["stem"], pool1.strides[0] == 2):
        has = next(
            stem for stem in video_resnet.STEMS
            if _stem(stem, pool1.strides[0] == 2) == ("pool1_pad" in layers, pool1.pool_size[0])
        )  # fmt: skip
        found.append(f"`stem` is {has!r} and must be {expected['stem']!r}")
    for name, layer in layers.items():
        if not hasattr(layer, "pool_before_projection"):
            continue
        must = {**expected["non_local_block"], "group_frames": expected["group_frames"].get(name[:4])}
        if must.get("pairwise") is None and layer.pairwise not in ("embedded_gaussian", "dot_product"):
            must["pairwise"] = "embedded_gaussian"
        pools = must.get("pool_size") not in (None, (1, 1, 1))
        for option in ("pairwise", "pool_size", *(["pool_before_projection"] if pools else [])):
            compare(option, getattr(layer, option), must.get(option), f" in {name}")
        if layer.pairwise == "embedded_gaussian":
            compare("scale", layer.scale, must.get("scale"), f" in {name}")
        if layer.group_frames != must["group_frames"]:
            found.append(f"`group_frames` is {layer.group_frames} and must be {must['group_frames']} in {name}")
    return found


def _stem(name, strides):
    """Whether a stem pads pool1, and pool1's kernel over time."""
    kernel, _, pad_space = video_resnet.STEMS[name]
    return bool(pad_space), kernel if strides else 1
