"""C2D and I3D, the paper's video networks (section 4, Table 1), as one functional graph for either Keras.

A residual network of bottleneck blocks whose convolutions are 1 x k x k (C2D) or partly inflated over time (I3D), with
non-local blocks put after chosen residual blocks. Strided convolutions are padded symmetrically, as in the official
code: TensorFlow's SAME would shift every feature map by a pixel.
"""

import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from keras_nonlocal import errors

STAGES = ("res2", "res3", "res4", "res5")
INFLATIONS = (None, "3x1x1", "3x3x3")
BLOCK_COUNTS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
# stem: (kernel of pool1 over time where it strides over time, its padding over time, its padding over space).
STEMS = {
    "official": (2, 0, 0),  # 224 -> 112 -> 55
    "slowfast": (2, 0, 1),  # 224 -> 112 -> 56
    "paper": (3, 1, 1),  # Table 1's 3 x 3 x 3
    "mmaction2": (1, 0, 1),  # drops every second frame
}


def video_resnet(
    keras: Any,
    ours: Any,
    inputs: Any,
    block_counts: Sequence[int] = BLOCK_COUNTS[50],
    width: int = 64,
    inflate: Literal["3x1x1", "3x3x3"] | None = None,
    temporal_stride: Literal[2, 8] = 2,
    stem: Literal["official", "slowfast", "paper", "mmaction2"] = "official",
    non_local: Mapping[str, Iterable[int]] | None = None,
    non_local_block: Mapping[str, Any] | None = None,
    group_frames: Mapping[str, int | None] | None = None,
    norm_momentum: float = 0.9,
    norm_epsilon: float = 1e-5,
    norm_synchronized: bool = False,
    norm_frozen: bool = False,
    kernel_regularizer: Any = None,
) -> dict[str, Any]:
    """Builds the graph from a clip to the last feature map.

    Args:
      keras: the package to build with, keras or tf_keras.
      ours: our layers for that package, the module keras_nonlocal.layers or keras_nonlocal.tfm.layers.
      inputs: symbolic (B, T, H, W, 3), normalised; T, H and W may be unknown.
      block_counts: residual blocks in res2, res3, res4 and res5. Default R50.
      width: channels of the stem; stage s has width * 2**s inner and four times as many outer channels. Default 64.
      inflate: None for C2D; "3x1x1" or "3x3x3" for I3D, the kernel put into every second residual block.
      temporal_stride: of the whole network, 2 (the 8x8 and 32x4 models: one pooling, after res2) or 8 (the 32x2 and
        128x1 models of Table 1: also in conv1 and pool1). Default 2.
      stem: whose pool1: "official" (default), "slowfast", "paper" or "mmaction2".
      non_local: where the non-local blocks go, as {"res3": [1, 3], "res4": [1, 3, 5]}: after the residual blocks of
        these indices, counted from 0. Default nowhere.
      non_local_block: arguments of NonLocal3D. Default none, the official code's block.
      group_frames: frames that the non-local blocks of a stage see at a time, as {"res3": 4}: the official code's
        long-clip models. Default all frames, everywhere.
      norm_momentum: of every batch norm, here and in the non-local blocks.
      norm_epsilon: of every batch norm.
      norm_synchronized: batch statistics over all replicas.
      norm_frozen: the affine form of the long-clip and detection recipes: every batch norm keeps the statistics, gamma
        and beta that it is loaded with, and the non-local blocks have none.
      kernel_regularizer: of every kernel.

    Returns:
      {"2": res2's output, ..., "5": res5's}, each (B, T', H', W', channels).

    Raises:
      ValueError: for an argument out of range, naming it.
    """
    _check(block_counts, inflate, temporal_stride, stem)
    placement = checked_placement(non_local, block_counts)
    group_frames = _checked_group_frames(group_frames)
    non_local_block = _checked_mapping("non_local_block", non_local_block, "arguments of NonLocal3D")
    layers = keras.layers
    norm = dict(momentum=norm_momentum, epsilon=norm_epsilon, synchronized=norm_synchronized, trainable=not norm_frozen)

    def conv(x, filters, kernel, name, strides=(1, 1, 1), last_of_block=False, activate=True):
        if any(s > 1 for s in strides) and any(k > 1 for k in kernel):
            pad, padding = tuple(k // 2 for k in kernel), "valid"
            x = layers.ZeroPadding3D(pad, name=f"{name}_pad")(x)
        else:
            padding = "same"  # the same thing where nothing strides
        x = ours.Conv3D(
            filters,
            kernel,
            strides,
            padding,
            use_bias=False,
            # MSRA over the fan out, untruncated: what Caffe2 calls MSRAFill.
            kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
            kernel_regularizer=kernel_regularizer,
            name=name,
        )(x)
        gamma = "zeros" if last_of_block else "ones"
        x = ours.BatchNormalization(gamma_initializer=gamma, name=f"{name}_bn", **norm)(x)
        return layers.ReLU(name=f"{name}_relu")(x) if activate else x

    def block(x, filters, stride, kernels, name):
        """Bottleneck: 1x1x1 (or 3x1x1), 1x3x3 (or 3x3x3), 1x1x1, with the stride on the second."""
        shortcut = x
        if stride > 1 or x.shape[-1] != 4 * filters:
            shortcut = conv(x, 4 * filters, (1, 1, 1), f"{name}_branch1", (1, stride, stride), activate=False)
        x = conv(x, filters, (kernels[0], 1, 1), f"{name}_branch2a")
        x = conv(x, filters, (kernels[1], 3, 3), f"{name}_branch2b", (1, stride, stride))
        x = conv(x, 4 * filters, (1, 1, 1), f"{name}_branch2c", last_of_block=True, activate=False)
        return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_sum")([shortcut, x]))

    strides_early = temporal_stride == 8
    x = conv(inputs, width, (5 if inflate else 1, 7, 7), "conv1", (2 if strides_early else 1, 2, 2))
    kernel, pad_time, pad_space = STEMS[stem]
    if pad_space:
        # Zeros are as good as the minus infinity of max-pool padding: nothing is below them after a ReLU.
        x = layers.ZeroPadding3D((pad_time if strides_early else 0, pad_space, pad_space), name="pool1_pad")(x)
    pool1 = (kernel, 2) if strides_early else (1, 1)
    x = ours.MaxPooling3D((pool1[0], 3, 3), (pool1[1], 2, 2), name="pool1")(x)
    endpoints = {}
    for index, (stage, count) in enumerate(zip(STAGES, block_counts, strict=True)):
        for i in range(count):
            stride = 2 if i == 0 and index > 0 else 1
            x = block(x, width * 2**index, stride, _temporal_kernels(inflate, stage, i), f"{stage}_{i}")
            if i in placement[stage]:
                options = dict(
                    norm_momentum=norm_momentum,
                    norm_epsilon=norm_epsilon,
                    norm_synchronized=norm_synchronized,
                    kernel_regularizer=kernel_regularizer,
                    bias_regularizer=kernel_regularizer,
                )
                options |= non_local_block
                if stage in group_frames:
                    options["group_frames"] = group_frames[stage]
                if norm_frozen:
                    # A frozen gamma of 0 would keep the block the identity for ever; without norm W_z starts at 0.
                    options["norm"] = None
                x = ours.NonLocal3D(**options, name=f"{stage}_{i}_nonlocal")(x)
        endpoints[stage[-1]] = x
        if stage == "res2":
            x = ours.MaxPooling3D((2, 1, 1), name="pool2")(x)
    return endpoints


def checked_placement(non_local, block_counts):
    """The non-local placement with every stage in it.

    Args:
      non_local: {"res3": [1, 3], ...}, or None.
      block_counts: residual blocks in each stage.

    Returns:
      {"res2": (...), ..., "res5": (...)}.

    Raises:
      ValueError: for a stage or an index that does not exist, or anything but a dictionary of lists of integers.
    """
    placement = {stage: () for stage in STAGES}
    for stage, indices in _checked_mapping("non_local", non_local, 'lists, as {"res3": [1, 3]}').items():
        errors.check_choice("non_local", stage, STAGES)
        count = block_counts[STAGES.index(stage)]
        listed = isinstance(indices, Iterable) and not isinstance(indices, Mapping)
        given = list(indices) if listed and not isinstance(indices, str | bytes) else None
        if given is None or not all(_is_index(i, count) for i in given) or len(set(given)) < len(given):
            raise ValueError(
                f"`non_local` lists residual blocks of {stage} to put a non-local block after, each once, from 0 to "
                f"{count - 1}. Received: {stage}: {indices if given is None else given}"
            )
        placement[stage] = tuple(map(int, given))
    return placement


def _checked_group_frames(group_frames):
    """{stage: frames} of the stages that are cut."""
    checked = {}
    for stage, frames in _checked_mapping("group_frames", group_frames, 'frames, as {"res3": 4}').items():
        errors.check_choice("group_frames", stage, STAGES)
        if frames is not None:
            checked[stage] = errors.check_positive_int(f"group_frames[{stage!r}]", frames)
    return checked


def _checked_mapping(argument, value, what):
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(f"`{argument}` must be a dictionary of {what}, or None. Received: {argument}={value!r}")
    return dict(value)


def _is_index(i, count):
    return isinstance(i, numbers.Integral) and not isinstance(i, bool) and 0 <= i < count


def _temporal_kernels(inflate, stage, index):
    """Temporal sizes of a block's first two convolutions: every second block is inflated, and all of res2."""
    inflated = inflate and (stage == "res2" or index % 2 == (1 if stage == "res5" else 0))
    return (3 if inflated and inflate == "3x1x1" else 1, 3 if inflated and inflate == "3x3x3" else 1)


def _check(block_counts, inflate, temporal_stride, stem):
    is_list = isinstance(block_counts, Sequence)
    if not is_list or len(block_counts) != len(STAGES) or not all(map(errors.is_positive_int, block_counts)):
        raise ValueError(f"`block_counts` must be {len(STAGES)} positive integers. Received: {block_counts!r}")
    if inflate not in INFLATIONS:
        raise ValueError(f"`inflate` must be None, '3x1x1' or '3x3x3'. Received: inflate={inflate!r}")
    if temporal_stride not in (2, 8):
        raise ValueError(f"`temporal_stride` must be 2 or 8. Received: temporal_stride={temporal_stride!r}")
    errors.check_choice("stem", stem, STEMS)
