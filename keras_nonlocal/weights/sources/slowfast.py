"""SlowFast's code in PyTorch, facebookresearch/SlowFast: .pyth with a configuration, and .pkl under official names."""

from keras_nonlocal.weights.formats.values import CheckpointError, shown
from keras_nonlocal.weights.sources import official, slowfast_config
from keras_nonlocal.weights.sources.source import (
    CLASSIFIER,
    LINEAR,
    PYTORCH_NORM,
    PYTORCH_STATE,
    Source,
    non_local,
    residual,
)

NAMES = (
    (r"s1\.pathway0_stem\.conv\.weight", lambda: ("conv1", "kernel")),
    (r"s1\.pathway0_stem\.bn\.(\w+)", lambda w: ("conv1_bn", PYTORCH_NORM[w])),
    (r"s([2-5])\.pathway0_res(\d+)\.branch1\.weight", lambda s, i: residual(s, i, "branch1", "kernel")),
    (r"s([2-5])\.pathway0_res(\d+)\.branch1_bn\.(\w+)", lambda s, i, w: residual(s, i, "branch1_bn", PYTORCH_NORM[w])),
    (
        r"s([2-5])\.pathway0_res(\d+)\.branch2\.([abc])\.weight",
        lambda s, i, letter: residual(s, i, f"branch2{letter}", "kernel"),
    ),
    (
        r"s([2-5])\.pathway0_res(\d+)\.branch2\.([abc])_bn\.(\w+)",
        lambda s, i, letter, w: residual(s, i, f"branch2{letter}_bn", PYTORCH_NORM[w]),
    ),
    (
        r"s([2-5])\.pathway0_nonlocal(\d+)\.conv_(theta|phi|g|out)\.(weight|bias)",
        lambda s, i, part, w: non_local(s, i, part, LINEAR[w]),
    ),
    (r"s([2-5])\.pathway0_nonlocal(\d+)\.bn\.(\w+)", lambda s, i, w: non_local(s, i, "norm", PYTORCH_NORM[w])),
    (r"head\.projection\.(weight|bias)", lambda w: (CLASSIFIER, LINEAR[w])),
)


class SlowFast(Source):
    name = "slowfast"
    title = "SlowFast"
    files = ".pyth or .pkl"
    licence = "Apache-2.0 (facebookresearch/SlowFast); files converted from the official code stay CC-BY-NC 4.0"
    pixels = "RGB in [0, 1], (x - 0.45) / 0.225, unless it was trained otherwise"
    state_key = "model_state"
    training_state = {**official.TRAINING_STATE, **PYTORCH_STATE}
    names = (*NAMES, *official.NAMES)
    affine_suffix = official.AFFINE_SUFFIX
    conventions = dict(
        stem="slowfast", temporal_stride=2, pairwise=None, pool_size=(1, 2, 2), pool_before_projection=True, scale=True
    )

    def recognises(self, tensors):
        return any(name.startswith("s1.pathway0_stem.") for name in tensors)

    def config(self, metadata):
        config = metadata.get("cfg")
        if config is not None and not isinstance(config, str):
            raise CheckpointError(f"Its configuration `cfg` must be a text; it is a {type(config).__name__}.")
        return config

    def settle(self, network, checkpoint, targets, options):
        settings = slowfast_config.settings(checkpoint.config)
        if settings.detection and "classes" in network:
            raise CheckpointError(
                "its configuration has DETECTION.ENABLE, so its classifier looks at boxes; load it into a model "
                "without a classifier."
            )
        stages, block = network["non_local"].keys(), dict(network["non_local_block"])
        if "group_frames" not in options:
            network = {**network, "group_frames": slowfast_config.group_frames(settings, stages)}
        if stages:
            block["pairwise"] = block["pairwise"] or settings.pairwise
            if settings.pool_sizes and "pool_size" not in options:
                block["pool_size"] = slowfast_config.pool_size(settings, stages)
        return {**network, "non_local_block": block}

    def pixels_of(self, checkpoint):
        return slowfast_config.settings(checkpoint.config).pixels or self.pixels

    def check_softmax(self, checkpoint):
        activation = slowfast_config.settings(checkpoint.config).activation
        if activation not in (None, "softmax"):
            raise CheckpointError(
                f"its configuration has MODEL.HEAD_ACT {shown(activation)}, and `window` averages a softmax; leave "
                "`window` out to get the logits."
            )
