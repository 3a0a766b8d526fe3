"""What a model computes otherwise than a checkpoint's network, by the names of the options."""

from keras_nonlocal.models import video_resnet
from keras_nonlocal.weights import structure
from keras_nonlocal.weights.sources.source import CLASSIFIER


def differences(expected, layers, variables):
    """What a model has otherwise than a checkpoint needs it.

    Args:
      expected: arguments of the checkpoint's network, as Source.arguments returns them.
      layers: {name: layer} of the model.
      variables: {(layer, weight): variable} of the model.

    Returns:
      A list of "`option` is a and must be b". What the layers compute is compared where their weights do not differ.
    """
    found = _placement_differences(expected, variables) + _size_differences(expected, layers, variables)
    return found or _function_differences(expected, layers)


def completed(expected, layers):
    """Arguments of a checkpoint's network, with what no file tells as the model has it that was loaded.

    Args:
      expected: arguments, as Source.arguments returns them.
      layers: {name: layer} of the model.
    """
    blocks = [layer for layer in layers.values() if hasattr(layer, "pool_before_projection")]
    found = {**expected, "non_local_block": dict(expected["non_local_block"])}
    if found["temporal_stride"] is None:
        found["temporal_stride"] = _temporal_stride(layers)
    if blocks and found["non_local_block"].get("pairwise") is None:
        found["non_local_block"]["pairwise"] = blocks[0].pairwise
    return found


def _placement_differences(expected, variables):
    """What differs in the numbers of residual and non-local blocks."""
    found = []
    counts, placement = structure.blocks({layer for layer, _ in variables})
    for stage, ours, count in zip(video_resnet.STAGES, counts, expected["block_counts"], strict=True):
        if ours != count:
            found.append(f"`block_counts` has {ours} for {stage} and must have {count}")
        placed, must = placement.get(stage, []), expected["non_local"].get(stage, [])
        if placed != must:
            found.append(f"`non_local` has {stage}: {placed} and must have {stage}: {must}")
    return found


def _size_differences(expected, layers, variables):
    """What differs in which weights there are and how large they are, by the name of the option."""
    found = []

    def compare(option, has, must):
        if has != must:
            found.append(f"`{option}` is {has!r} and must be {must!r}")

    kernel = variables["conv1", "kernel"].shape
    compare("width", kernel[-1], expected["width"])
    frames = {layer: variable.shape[0] for (layer, weight), variable in variables.items() if weight == "kernel"}
    compare("inflate", structure.inflation(frames), expected["inflate"])
    if (CLASSIFIER, "kernel") in variables:
        compare("classes", variables[CLASSIFIER, "kernel"].shape[-1], expected.get("classes"))
    for layer in layers.values():
        if hasattr(layer, "pool_before_projection"):
            block = expected["non_local_block"]
            compare("norm", "batch_norm" if layer.norm is not None else None, block.get("norm"))
            compare("use_bias", layer.use_bias, block.get("use_bias"))
            compare("use_out_bias", layer.use_out_bias, block.get("use_out_bias"))
    return list(dict.fromkeys(found))


def _function_differences(expected, layers):
    """What differs in what the layers compute with the same weights."""
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


def _temporal_stride(layers):
    return 8 if layers["conv1"].strides[0] == 2 else 2


def _stem(name, strides):
    """Whether a stem pads pool1, and pool1's kernel over time."""
    kernel, _, pad_space = video_resnet.STEMS[name]
    return bool(pad_space), kernel if strides else 1
