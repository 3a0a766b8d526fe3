"""Which of the networks a checkpoint belongs to: told by its tensors and its configuration, or known of its source."""

import json
import re

from keras_nonlocal import errors
from keras_nonlocal.models import video_resnet
from keras_nonlocal.weights import affine, reading, slowfast_config
from keras_nonlocal.weights.formats.values import CheckpointError, shown

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
BLOCK_FLAGS = ("pool_before_projection", "scale", "use_bias", "use_out_bias")
# What a file of our own says of its network, besides `classes`, and how much text and how large numbers that may be.
SAVED = {
    *("block_counts", "width", "inflate", "stem", "temporal_stride"),
    *("norm_frozen", "non_local", "group_frames", "non_local_block"),
}
MAX_SAVED = 100_000
MAX_COUNT = 2**20


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
    width = _length(targets, ("conv1", "kernel"))
    if 0 in counts or not width:
        raise CheckpointError(f"{checkpoint.path}: it has no residual network of four stages and a conv1.")
    kernels = {layer: array for (layer, weight), (_, array) in targets.items() if weight == "kernel"}
    is_affine = affine.is_affine(targets)
    found = {
        "block_counts": counts,
        "width": width,
        "inflate": inflation({layer: k.shape[2] for layer, k in kernels.items() if k.ndim == 5}),
        "non_local": placement,
        "norm_frozen": is_affine,
        "group_frames": dict(AFFINE_GROUP_FRAMES) if is_affine and checkpoint.source == "official" else {},
        **{name: CONVENTIONS[checkpoint.source][name] for name in ("stem", "temporal_stride")},
    }
    if not found["inflate"] and checkpoint.source == "mmaction2":
        found |= {"stem": "official", "temporal_stride": 2}  # its C2D class is the official "new" network
    if (classes := _length(targets, ("pred", "kernel"))) is not None:
        found["classes"] = classes
    said = configured(checkpoint)
    try:
        if said and said.detection and classes is not None:
            raise CheckpointError(
                "its configuration has DETECTION.ENABLE, so its classifier looks at boxes; load it into a model "
                "without a classifier."
            )
        if said and "group_frames" not in told:
            found["group_frames"] = slowfast_config.group_frames(said, placement.keys())
        found["non_local_block"] = _block(checkpoint, targets, placement, said, told) if placement else {}
    except CheckpointError as e:
        raise CheckpointError(f"{checkpoint.path}: {e}") from None
    found |= {name: told[name] for name in ("stem", "temporal_stride", "group_frames") if name in told}
    found["group_frames"] = {stage: n for stage, n in (found["group_frames"] or {}).items() if stage in placement}
    return found


def check_activation(checkpoint):
    """Raises CheckpointError if a checkpoint's classifier does not end in a softmax, as a model with `window` does."""
    said = configured(checkpoint)
    if said and said.activation not in (None, "softmax"):
        raise CheckpointError(
            f"{checkpoint.path}: its configuration has MODEL.HEAD_ACT {shown(said.activation)}, and `window` averages "
            "a softmax; leave `window` out to get the logits."
        )


def configured(checkpoint):
    """The Settings of a SlowFast checkpoint's configuration, or None where it has none."""
    if checkpoint.source != "slowfast" or checkpoint.config is None:
        return None
    try:
        return slowfast_config.settings(checkpoint.config)
    except CheckpointError as e:
        raise CheckpointError(f"{checkpoint.path}: {e}") from None


def _length(targets, target):
    """The first size of a tensor, or None where there is no such tensor or it has no size."""
    return len(targets[target][1]) if target in targets and targets[target][1].ndim else None


def _saved(checkpoint):
    """The arguments that saving.save has put into a safetensors file of our own."""
    try:
        if len(checkpoint.config or "") > MAX_SAVED:
            raise ValueError
        found = json.loads(checkpoint.config or "")
        found["block_counts"] = tuple(found["block_counts"])
        if "pool_size" in found["non_local_block"]:
            found["non_local_block"]["pool_size"] = tuple(found["non_local_block"]["pool_size"])
        valid = _are_saved(found)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        valid = False
    if not valid:
        raise CheckpointError(f"{checkpoint.path}: it does not say what network it is of, as ours do.")
    return found


def _are_saved(found):
    """Whether these are all arguments of a network of ours, of the types that they have."""
    stages, counts, block = video_resnet.STAGES, found["block_counts"], found["non_local_block"]

    def is_of_stages(values, is_valid):
        return type(values) is dict and all(stage in stages and is_valid(value) for stage, value in values.items())

    def are_places(indices):
        return type(indices) is list and all(type(i) is int and 0 <= i < max(counts) for i in indices)

    return (
        found.keys() - {"classes"} == SAVED
        and len(counts) == len(stages)
        and all(map(_is_count, (*counts, found["width"], found.get("classes", 1))))
        and found["inflate"] in video_resnet.INFLATIONS
        and found["stem"] in video_resnet.STEMS
        and found["temporal_stride"] in (2, 8)
        and type(found["norm_frozen"]) is bool
        and is_of_stages(found["non_local"], are_places)
        and is_of_stages(found["group_frames"], _is_count)
        and block.keys() <= set(BLOCK_OPTIONS)
        and block.get("norm") in ("batch_norm", None)
        and type(block.get("pairwise", "")) is str
        and all(map(_is_count, block.get("pool_size", ())))
        and all(type(block.get(option, True)) is bool for option in BLOCK_FLAGS)
    )


def _is_count(value):
    return type(value) is int and 0 < value <= MAX_COUNT


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


def _block(checkpoint, targets, placement, said, told):
    """Arguments of the non-local blocks, which are all alike."""
    stage, indices = next(iter(placement.items()))
    layer = f"{stage}_{indices[0]}_nonlocal"

    def has(weight):
        return (layer, weight) in targets

    conventions = CONVENTIONS[checkpoint.source]
    if has("w_f"):
        pairwise = "concatenation"
    elif not has("theta/kernel"):
        pairwise = "gaussian"
    else:
        pairwise = (said and said.pairwise) or conventions["pairwise"]
    pool_size = (1, 2, 2)
    if checkpoint.source == "mmaction2" and not any(
        re.search(r"non_local_block\.g\.0\.", name) for name, _ in targets.values()
    ):
        pool_size = (1, 1, 1)
    if said and said.pool_sizes and "pool_size" not in told:
        sizes = sorted({said.pool_sizes[stage] for stage in placement})
        if len(sizes) > 1:
            raise CheckpointError(
                f"its configuration's NONLOCAL.POOL differ between the stages, {', '.join(map(str, sizes))}; in our "
                "networks they are alike."
            )
        pool_size = sizes[0]
    found = {
        "pairwise": pairwise,
        "pool_size": pool_size,
        "pool_before_projection": conventions["pool_before_projection"],
        "scale": conventions["scale"],
        "use_bias": has("g/bias"),
        "use_out_bias": has("out/bias"),
        "norm": "batch_norm" if has("norm/gamma") else None,
    }
    return found | {name: told[name] for name in BLOCK_OPTIONS if name in told}


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

    pool1 = layers["pool1"]
    compare("temporal_stride", _temporal_stride(layers), expected["temporal_stride"])
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


def completed(expected, layers):
    """What `arguments` returned, with what no file tells as the model has it that was loaded: {name: layer}."""
    blocks = [layer for layer in layers.values() if hasattr(layer, "pool_before_projection")]
    found = {**expected, "non_local_block": dict(expected["non_local_block"])}
    if found["temporal_stride"] is None:
        found["temporal_stride"] = _temporal_stride(layers)
    if blocks and found["non_local_block"].get("pairwise") is None:
        found["non_local_block"]["pairwise"] = blocks[0].pairwise
    return found


def _temporal_stride(layers):
    return 8 if layers["conv1"].strides[0] == 2 else 2


def _stem(name, strides):
    """Whether a stem pads pool1, and pool1's kernel over time."""
    kernel, _, pad_space = video_resnet.STEMS[name]
    return bool(pad_space), kernel if strides else 1
