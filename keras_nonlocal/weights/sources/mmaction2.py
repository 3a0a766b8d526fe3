"""OpenMMLab's code in PyTorch: open-mmlab/mmaction2, whose non-local blocks are mmcv's."""

import re

from keras_nonlocal.weights.sources.source import (
    CLASSIFIER,
    LINEAR,
    PYTORCH_NORM,
    PYTORCH_STATE,
    Source,
    non_local,
    residual,
)

BRANCHES = {"conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c", "downsample": "branch1"}


def stage(layer):
    """The number of our stage: layer1 is res2."""
    return int(layer) + 1


NAMES = (
    (r"backbone\.conv1\.conv\.weight", lambda: ("conv1", "kernel")),
    (r"backbone\.conv1\.bn\.(\w+)", lambda w: ("conv1_bn", PYTORCH_NORM[w])),
    (
        r"backbone\.layer([1-4])\.(\d+)\.(conv[123]|downsample)\.conv\.weight",
        lambda n, i, part: residual(stage(n), i, BRANCHES[part], "kernel"),
    ),
    (
        r"backbone\.layer([1-4])\.(\d+)\.(conv[123]|downsample)\.bn\.(\w+)",
        lambda n, i, part, w: residual(stage(n), i, f"{BRANCHES[part]}_bn", PYTORCH_NORM[w]),
    ),
    # The .0 is there where a pooling follows.
    (
        r"backbone\.layer([1-4])\.(\d+)\.non_local_block\.(theta|phi|g)(?:\.0)?\.conv\.(weight|bias)",
        lambda n, i, part, w: non_local(stage(n), i, part, LINEAR[w]),
    ),
    (
        r"backbone\.layer([1-4])\.(\d+)\.non_local_block\.conv_out\.conv\.(weight|bias)",
        lambda n, i, w: non_local(stage(n), i, "out", LINEAR[w]),
    ),
    (
        r"backbone\.layer([1-4])\.(\d+)\.non_local_block\.conv_out\.bn\.(\w+)",
        lambda n, i, w: non_local(stage(n), i, "norm", PYTORCH_NORM[w]),
    ),
    (
        r"backbone\.layer([1-4])\.(\d+)\.non_local_block\.concat_project(?:\.0)?\.conv\.weight",
        lambda n, i: (f"res{stage(n)}_{i}_nonlocal", "w_f"),
    ),
    (r"cls_head\.fc_cls\.(weight|bias)", lambda w: (CLASSIFIER, LINEAR[w])),
)


class MMAction2(Source):
    name = "mmaction2"
    title = "mmaction2"
    files = ".pth"
    licence = "Apache-2.0 (open-mmlab/mmaction2)"
    pixels = "RGB, ImageNet's mean and deviation of each channel"
    state_key = "state_dict"
    training_state = PYTORCH_STATE
    names = NAMES
    conventions = dict(
        stem="mmaction2",
        temporal_stride=8,
        pairwise=None,
        pool_size=(1, 2, 2),
        pool_before_projection=False,
        scale=False,
    )

    def recognises(self, tensors):
        return any(name.startswith(("backbone.conv1.", "backbone.layer")) for name in tensors)

    def settle(self, network, checkpoint, targets, options):
        if not network["inflate"]:
            network = {**network, "stem": "official", "temporal_stride": 2}  # its C2D is the official "new" network
        if network["non_local"] and not any(
            re.search(r"non_local_block\.g\.0\.", name) for name, _ in targets.values()
        ):
            network = {**network, "non_local_block": {**network["non_local_block"], "pool_size": (1, 1, 1)}}
        return network
