"""Where the tensors of each source go: its names, as layers and weights of models.video_resnet.

A target is (layer, weight), such as ("res3_1_nonlocal", "theta/kernel") or ("conv1_bn", "gamma").
"""

import re

CLASSIFIER = "pred"
_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
# The official code's riv is the running variance, for all its name.
_OFFICIAL_NORM = {"s": "gamma", "b": "beta", "rm": "moving_mean", "riv": "moving_variance"}
_DENSE = {"w": "kernel", "weight": "kernel", "b": "bias", "bias": "bias"}
_BRANCHES = {"conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c", "downsample": "branch1"}

_SOURCES = {
    "official": [
        (r"conv1_w", lambda: ("conv1", "kernel")),
        (r"res_conv1_bn_(s|b|rm|riv)", lambda w: ("conv1_bn", _OFFICIAL_NORM[w])),
        (r"(res[2-5]_\d+_branch(?:1|2a|2b|2c))_w", lambda layer: (layer, "kernel")),
        (r"(res[2-5]_\d+_branch(?:1|2a|2b|2c)_bn)_(s|b|rm|riv)", lambda layer, w: (layer, _OFFICIAL_NORM[w])),
        (r"nonlocal_conv([2-5])_(\d+)_(theta|phi|g|out)_(w|b)", lambda s, i, part, w: _block(s, i, part, _DENSE[w])),
        (r"nonlocal_conv([2-5])_(\d+)_bn_(s|b|rm|riv)", lambda s, i, w: _block(s, i, "norm", _OFFICIAL_NORM[w])),
        (r"pred_(w|b)", lambda w: (CLASSIFIER, _DENSE[w])),
    ],
    "slowfast": [
        (r"s1\.pathway0_stem\.conv\.weight", lambda: ("conv1", "kernel")),
        (r"s1\.pathway0_stem\.bn\.(\w+)", lambda w: ("conv1_bn", _NORM[w])),
        (r"s([2-5])\.pathway0_res(\d+)\.branch1\.weight", lambda s, i: _residual(s, i, "branch1", "kernel")),
        (r"s([2-5])\.pathway0_res(\d+)\.branch1_bn\.(\w+)", lambda s, i, w: _residual(s, i, "branch1_bn", _NORM[w])),
        (
            r"s([2-5])\.pathway0_res(\d+)\.branch2\.([abc])\.weight",
            lambda s, i, letter: _residual(s, i, f"branch2{letter}", "kernel"),
        ),
        (
            r"s([2-5])\.pathway0_res(\d+)\.branch2\.([abc])_bn\.(\w+)",
            lambda s, i, letter, w: _residual(s, i, f"branch2{letter}_bn", _NORM[w]),
        ),
        (
            r"s([2-5])\.pathway0_nonlocal(\d+)\.conv_(theta|phi|g|out)\.(weight|bias)",
            lambda s, i, part, w: _block(s, i, part, _DENSE[w]),
        ),
        (r"s([2-5])\.pathway0_nonlocal(\d+)\.bn\.(\w+)", lambda s, i, w: _block(s, i, "norm", _NORM[w])),
        (r"head\.projection\.(weight|bias)", lambda w: (CLASSIFIER, _DENSE[w])),
    ],
    "mmaction2": [
        (r"backbone\.conv1\.conv\.weight", lambda: ("conv1", "kernel")),
        (r"backbone\.conv1\.bn\.(\w+)", lambda w: ("conv1_bn", _NORM[w])),
        (
            r"backbone\.layer([1-4])\.(\d+)\.(conv[123]|downsample)\.conv\.weight",
            lambda n, i, part: _residual(int(n) + 1, i, _BRANCHES[part], "kernel"),
        ),
        (
            r"backbone\.layer([1-4])\.(\d+)\.(conv[123]|downsample)\.bn\.(\w+)",
            lambda n, i, part, w: _residual(int(n) + 1, i, f"{_BRANCHES[part]}_bn", _NORM[w]),
        ),
        # The .0 is there where a pooling follows.
        (
            r"backbone\.layer([1-4])\.(\d+)\.non_local_block\.(theta|phi|g)(?:\.0)?\.conv\.(weight|bias)",
            lambda n, i, part, w: _block(int(n) + 1, i, part, _DENSE[w]),
        ),
        (
            r"backbone\.layer([1-4])\.(\d+)\.non_local_block\.conv_out\.conv\.(weight|bias)",
            lambda n, i, w: _block(int(n) + 1, i, "out", _DENSE[w]),
        ),
        (
            r"backbone\.layer([1-4])\.(\d+)\.non_local_block\.conv_out\.bn\.(\w+)",
            lambda n, i, w: _block(int(n) + 1, i, "norm", _NORM[w]),
        ),
        (
            r"backbone\.layer([1-4])\.(\d+)\.non_local_block\.concat_project(?:\.0)?\.conv\.weight",
            lambda n, i: (f"res{int(n) + 1}_{i}_nonlocal", "w_f"),
        ),
        (r"cls_head\.fc_cls\.(weight|bias)", lambda w: (CLASSIFIER, _DENSE[w])),
    ],
}


def target(source, name):
    """(layer, weight) of a source's tensor, or None for a name that the source's networks do not have."""
    for pattern, found in _SOURCES[source]:
        match = re.fullmatch(pattern, name)
        if match:
            try:
                return found(*match.groups())
            except KeyError:  # a weight that no norm has
                return None
    return None


def _residual(stage, index, layer, weight):
    return f"res{stage}_{index}_{layer}", weight


def _block(stage, index, part, weight):
    return f"res{stage}_{index}_nonlocal", f"{part}/{weight}"
