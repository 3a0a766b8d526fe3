"""The paper's code in Caffe2: facebookresearch/video-nonlocal-net, and the long-term feature banks' code after it."""

from keras_nonlocal import paper
from keras_nonlocal.weights.sources.source import CLASSIFIER, LINEAR, Source, non_local

# riv is the running variance, for all its name.
NORM = {"s": "gamma", "b": "beta", "rm": "moving_mean", "riv": "moving_variance"}
NAMES = (
    (r"conv1_w", lambda: ("conv1", "kernel")),
    (r"res_conv1_bn_(s|b|rm|riv)", lambda w: ("conv1_bn", NORM[w])),
    (r"(res[2-5]_\d+_branch(?:1|2a|2b|2c))_w", lambda layer: (layer, "kernel")),
    (r"(res[2-5]_\d+_branch(?:1|2a|2b|2c)_bn)_(s|b|rm|riv)", lambda layer, w: (layer, NORM[w])),
    (r"nonlocal_conv([2-5])_(\d+)_(theta|phi|g|out)_(w|b)", lambda s, i, part, w: non_local(s, i, part, LINEAR[w])),
    (r"nonlocal_conv([2-5])_(\d+)_bn_(s|b|rm|riv)", lambda s, i, w: non_local(s, i, "norm", NORM[w])),
    (r"pred_(w|b)", lambda w: (CLASSIFIER, LINEAR[w])),
)
TRAINING_STATE = {r".*_momentum|lr|model_iter": "state of the training"}
AFFINE_SUFFIX = "_bn_s"
# Frames that the affine models let res3 see at a time.
AFFINE_GROUP_FRAMES = {"res3": 4}


class Official(Source):
    name = "official"
    title = "the official code"
    files = ".pkl"
    licence = "CC-BY-NC 4.0 (facebookresearch/video-nonlocal-net): not for commercial use, not to be passed on"
    pixels = f"RGB in [0, 255], (x - {paper.PIXEL_MEAN}) / {paper.PIXEL_STD}"
    state_key = "blobs"
    training_state = TRAINING_STATE
    names = NAMES
    also_of = ("slowfast",)  # whose model zoo has networks of its own code under these names
    affine_suffix = AFFINE_SUFFIX
    conventions = dict(
        stem="official",
        temporal_stride=None,
        pairwise="embedded_gaussian",
        pool_size=(1, 2, 2),
        pool_before_projection=True,
        scale=True,
    )

    def recognises(self, tensors):
        return "conv1_w" in tensors or "pred_w" in tensors

    def settle(self, network, checkpoint, targets, options):
        return {**network, "group_frames": dict(AFFINE_GROUP_FRAMES)} if network["norm_frozen"] else network
