"""The paper's tables as literal data: its networks, recipes, training runs and rows, each stated here and nowhere else.

Rows of other authors (Tables 3 and 4) are left out. Results are the paper's, in percent: top-1 / top-5 on Kinetics-400
validation, mAP on Charades, AP (AP50 / AP75) on COCO.

What the paper leaves open is the official code's where there is any: the blocks' arguments, the stem, and where five
blocks go. Our own choice is where ten blocks go in ResNet-101: the paper says "to the corresponding residual blocks",
and the official code has no such model. We put them after every fourth block of res4, as gluon-cv does.
"""

import dataclasses

# What the official code's networks are given, for every channel: a pixel of 0 to 255, less the first, by the second.
PIXEL_MEAN, PIXEL_STD = 114.75, 57.375


@dataclasses.dataclass(frozen=True)
class Network:
    """A network of clips, as Table 1 has it (temporal stride 8).

    Args:
      name: as in "nl_c2d_r50_5".
      depth: 50 or 101.
      inflate: None for C2D, "3x1x1" or "3x3x3" for I3D.
      non_local: where non-local blocks go, {"res4": (4,)}: after these residual blocks, counted from 0.
      non_local_block: arguments of the blocks that are not their defaults.
    """

    name: str
    depth: int
    inflate: str | None = None
    non_local: dict = dataclasses.field(default_factory=dict)
    non_local_block: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Detector:
    """The backbone of a Mask R-CNN, and where its keypoint head has blocks.

    Args:
      name: as in "nl_mask_rcnn_r50_1".
      depth: 50, 101 or 152.
      groups: of the 3x3 convolutions, of 8 channels each in the first stage; 1 for a plain ResNet.
      non_local: as in Network.
      head_non_local: convolutions of the keypoint head, counted from 0, that are followed by a block.
    """

    name: str
    depth: int
    groups: int = 1
    non_local: dict = dataclasses.field(default_factory=dict)
    head_non_local: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a network is trained, by SGD whose learning rate falls to a tenth twice.

    Args:
      dataset: "kinetics400", "charades", "coco" or "coco_keypoints".
      hardware: in words.
      batch_size: clips or images a step, of all GPUs together.
      learning_rate: to begin with.
      steps: in all.
      falls: steps at which the learning rate falls.
      note: sentences about the recipe.
      start: a sentence about what training starts from.
      frames: of a clip; None for images.
      stride: distance between frames, in frames of the video.
      norm_frozen: whether batch norm keeps what it starts with.
      nesterov: whether momentum is Nesterov's.
      warm_up: steps in which the learning rate rises from a third.
    """

    dataset: str
    hardware: str
    batch_size: int
    learning_rate: float
    steps: int
    falls: tuple[int, int]
    note: str
    start: str
    frames: int | None = None
    stride: int | None = None
    norm_frozen: bool = False
    nesterov: bool = True
    warm_up: int = 0


@dataclasses.dataclass(frozen=True)
class Run:
    """A training run, which one row of the tables or several report.

    Args:
      name: of the registered experiment.
      network: name of a Network or a Detector.
      recipe: name of a Recipe.
      start: name of the run that it starts from, or None.
    """

    name: str
    network: str
    recipe: str
    start: str | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table.

    Args:
      table: "2a", ..., "6".
      label: what the row is called there.
      result: the paper's numbers.
      run: name of the Run.
      baseline: name of the Run that parameters and multiply-adds are compared with, or None.
      factors: the paper's own factors of parameters and FLOPs, ("1.2x", "1.5x"), or None where it gives none.
    """

    table: str
    label: str
    result: str
    run: str
    baseline: str | None = None
    factors: tuple[str, str] | None = None


def _by_name(*things):
    return {thing.name: thing for thing in things}


# One block comes right before the last residual block of its stage; five come after every second one of res3 and of
# res4 (every seventh in ResNet-101).
NETWORKS = _by_name(
    Network("c2d_r50", 50),
    Network("nl_c2d_r50_1", 50, non_local={"res4": (4,)}),
    Network("nl_c2d_r50_1_res2", 50, non_local={"res2": (1,)}),
    Network("nl_c2d_r50_1_res3", 50, non_local={"res3": (2,)}),
    Network("nl_c2d_r50_1_res5", 50, non_local={"res5": (1,)}),
    Network("nl_c2d_r50_1_gaussian", 50, None, {"res4": (4,)}, {"pairwise": "gaussian"}),
    Network("nl_c2d_r50_1_dot_product", 50, None, {"res4": (4,)}, {"pairwise": "dot_product"}),
    Network("nl_c2d_r50_1_concatenation", 50, None, {"res4": (4,)}, {"pairwise": "concatenation"}),
    Network("nl_c2d_r50_5", 50, non_local={"res3": (1, 3), "res4": (1, 3, 5)}),
    Network("nl_c2d_r50_5_space", 50, None, {"res3": (1, 3), "res4": (1, 3, 5)}, {"extent": "space"}),
    Network("nl_c2d_r50_5_time", 50, None, {"res3": (1, 3), "res4": (1, 3, 5)}, {"extent": "time"}),
    Network("nl_c2d_r50_10", 50, non_local={"res3": (0, 1, 2, 3), "res4": (0, 1, 2, 3, 4, 5)}),
    Network("i3d_3x1x1_r50", 50, "3x1x1"),
    Network("nl_i3d_r50_5", 50, "3x1x1", {"res3": (1, 3), "res4": (1, 3, 5)}),
    Network("c2d_r101", 101),
    Network("nl_c2d_r101_1", 101, non_local={"res4": (21,)}),
    Network("nl_c2d_r101_5", 101, non_local={"res3": (1, 3), "res4": (6, 13, 20)}),
    Network("nl_c2d_r101_5_space", 101, None, {"res3": (1, 3), "res4": (6, 13, 20)}, {"extent": "space"}),
    Network("nl_c2d_r101_5_time", 101, None, {"res3": (1, 3), "res4": (6, 13, 20)}, {"extent": "time"}),
    Network("nl_c2d_r101_10", 101, non_local={"res3": (0, 1, 2, 3), "res4": (2, 6, 10, 14, 18, 22)}),
    Network("i3d_3x3x3_r101", 101, "3x3x3"),
    Network("i3d_3x1x1_r101", 101, "3x1x1"),
    Network("nl_i3d_r101_5", 101, "3x1x1", {"res3": (1, 3), "res4": (6, 13, 20)}),
)

DETECTORS = _by_name(
    Detector("mask_rcnn_r50", 50),
    Detector("nl_mask_rcnn_r50_1", 50, non_local={"res4": (4,)}),
    Detector("mask_rcnn_r101", 101),
    Detector("nl_mask_rcnn_r101_1", 101, non_local={"res4": (21,)}),
    Detector("mask_rcnn_x152", 152, 32),
    Detector("nl_mask_rcnn_x152_1", 152, 32, {"res4": (34,)}),
    Detector("keypoint_rcnn_r101", 101),
    Detector("nl_keypoint_rcnn_r101_head", 101, head_non_local=(1, 3, 5, 7)),
    Detector("nl_keypoint_rcnn_r101_head_backbone", 101, 1, {"res4": (21,)}, (1, 3, 5, 7)),
)

_TEST = "Test: keras-nonlocal evaluate with --clips=10 --crops=3."
_DETECTRON = (
    "It is Detectron's {}, the paper does not say, and tfm's Mask R-CNN differs from Detectron's. Batch norm of the "
    "backbone is frozen."
)
_FROM_IMAGENET = (
    "The paper starts from ImageNet weights: set task.init_checkpoint, of a network with non-local blocks to what "
    "keras-nonlocal warm_start makes."
)
RECIPES = {
    "kinetics400_32x2": Recipe(  # section 4.1
        "kinetics400",
        "8 GPUs of 8 clips",
        batch_size=64,
        learning_rate=0.01,
        steps=400_000,
        falls=(150_000, 300_000),
        note=_TEST,
        start="The paper starts from ImageNet weights, inflated in I3D: keras-nonlocal warm_start makes a checkpoint "
        "of such for task.init_checkpoint, with init_checkpoint_modules: backbone.",
        frames=32,
        stride=2,
    ),
    "kinetics400_128x1": Recipe(
        "kinetics400",
        "8 GPUs of 2 clips",
        batch_size=16,
        learning_rate=0.0025,
        steps=400_000,
        falls=(150_000, 300_000),
        note=_TEST,
        start="Starts from the 32-frame network without non-local blocks, as the official code does. The paper says "
        "from the corresponding one: for that set task.init_checkpoint to its run and init_checkpoint_modules: "
        "backbone.",
        frames=128,
        stride=1,
        norm_frozen=True,
    ),
    "charades_128x1": Recipe(  # section 5.2
        "charades",
        "8 GPUs of a clip",
        batch_size=8,
        learning_rate=0.00125,
        steps=200_000,
        falls=(75_000, 150_000),
        note="keras-nonlocal prepare_videos writes records of several labels a video from Charades' own lists.",
        start="Starts from the same network trained on Kinetics-400, as in the paper.",
        frames=128,
        stride=1,
        norm_frozen=True,
    ),
    "coco": Recipe(  # section 5.3
        "coco",
        "8 GPUs, 16 images a step",
        batch_size=16,
        learning_rate=0.02,
        steps=90_000,
        falls=(60_000, 80_000),
        note=_DETECTRON.format("1x"),
        start=_FROM_IMAGENET,
        norm_frozen=True,
        nesterov=False,
        warm_up=500,
    ),
    "coco_x152": Recipe(
        "coco",
        "8 GPUs, 8 images a step",
        batch_size=8,
        learning_rate=0.01,
        steps=260_000,
        falls=(200_000, 240_000),
        note=_DETECTRON.format("1.44x of this network"),
        start=_FROM_IMAGENET,
        norm_frozen=True,
        nesterov=False,
        warm_up=500,
    ),
    "coco_keypoints": Recipe(
        "coco_keypoints",
        "8 GPUs, 16 images a step",
        batch_size=16,
        learning_rate=0.02,
        steps=90_000,
        falls=(60_000, 80_000),
        note=f"{_DETECTRON.format('1x')} --config_file=coco_keypoints_s1x after the other one gives its longer s1x.",
        start=_FROM_IMAGENET,
        norm_frozen=True,
        nesterov=False,
        warm_up=500,
    ),
}

RUNS = _by_name(
    Run("paper_c2d_r50_32x2", "c2d_r50", "kinetics400_32x2"),
    Run("paper_nl_c2d_r50_1_gaussian_32x2", "nl_c2d_r50_1_gaussian", "kinetics400_32x2"),
    Run("paper_nl_c2d_r50_1_32x2", "nl_c2d_r50_1", "kinetics400_32x2"),
    Run("paper_nl_c2d_r50_1_dot_product_32x2", "nl_c2d_r50_1_dot_product", "kinetics400_32x2"),
    Run("paper_nl_c2d_r50_1_concatenation_32x2", "nl_c2d_r50_1_concatenation", "kinetics400_32x2"),
    Run("paper_nl_c2d_r50_1_res2_32x2", "nl_c2d_r50_1_res2", "kinetics400_32x2"),
    Run("paper_nl_c2d_r50_1_res3_32x2", "nl_c2d_r50_1_res3", "kinetics400_32x2"),
    Run("paper_nl_c2d_r50_1_res5_32x2", "nl_c2d_r50_1_res5", "kinetics400_32x2"),
    Run("paper_nl_c2d_r50_5_32x2", "nl_c2d_r50_5", "kinetics400_32x2"),
    Run("paper_nl_c2d_r50_10_32x2", "nl_c2d_r50_10", "kinetics400_32x2"),
    Run("paper_c2d_r101_32x2", "c2d_r101", "kinetics400_32x2"),
    Run("paper_nl_c2d_r101_1_32x2", "nl_c2d_r101_1", "kinetics400_32x2"),
    Run("paper_nl_c2d_r101_5_32x2", "nl_c2d_r101_5", "kinetics400_32x2"),
    Run("paper_nl_c2d_r101_10_32x2", "nl_c2d_r101_10", "kinetics400_32x2"),
    Run("paper_nl_c2d_r50_5_space_32x2", "nl_c2d_r50_5_space", "kinetics400_32x2"),
    Run("paper_nl_c2d_r50_5_time_32x2", "nl_c2d_r50_5_time", "kinetics400_32x2"),
    Run("paper_nl_c2d_r101_5_space_32x2", "nl_c2d_r101_5_space", "kinetics400_32x2"),
    Run("paper_nl_c2d_r101_5_time_32x2", "nl_c2d_r101_5_time", "kinetics400_32x2"),
    Run("paper_i3d_3x3x3_r101_32x2", "i3d_3x3x3_r101", "kinetics400_32x2"),
    Run("paper_i3d_3x1x1_r101_32x2", "i3d_3x1x1_r101", "kinetics400_32x2"),
    Run("paper_i3d_3x1x1_r50_32x2", "i3d_3x1x1_r50", "kinetics400_32x2"),
    Run("paper_nl_i3d_r50_5_32x2", "nl_i3d_r50_5", "kinetics400_32x2"),
    Run("paper_nl_i3d_r101_5_32x2", "nl_i3d_r101_5", "kinetics400_32x2"),
    Run("paper_c2d_r50_128x1", "c2d_r50", "kinetics400_128x1", "paper_c2d_r50_32x2"),
    Run("paper_i3d_3x1x1_r50_128x1", "i3d_3x1x1_r50", "kinetics400_128x1", "paper_i3d_3x1x1_r50_32x2"),
    Run("paper_nl_i3d_r50_5_128x1", "nl_i3d_r50_5", "kinetics400_128x1", "paper_i3d_3x1x1_r50_32x2"),
    Run("paper_c2d_r101_128x1", "c2d_r101", "kinetics400_128x1", "paper_c2d_r101_32x2"),
    Run("paper_i3d_3x1x1_r101_128x1", "i3d_3x1x1_r101", "kinetics400_128x1", "paper_i3d_3x1x1_r101_32x2"),
    Run("paper_nl_i3d_r101_5_128x1", "nl_i3d_r101_5", "kinetics400_128x1", "paper_i3d_3x1x1_r101_32x2"),
    Run("paper_i3d_3x1x1_r101_charades", "i3d_3x1x1_r101", "charades_128x1", "paper_i3d_3x1x1_r101_128x1"),
    Run("paper_nl_i3d_r101_5_charades", "nl_i3d_r101_5", "charades_128x1", "paper_nl_i3d_r101_5_128x1"),
    Run("paper_mask_rcnn_r50_coco", "mask_rcnn_r50", "coco"),
    Run("paper_nl_mask_rcnn_r50_1_coco", "nl_mask_rcnn_r50_1", "coco"),
    Run("paper_mask_rcnn_r101_coco", "mask_rcnn_r101", "coco"),
    Run("paper_nl_mask_rcnn_r101_1_coco", "nl_mask_rcnn_r101_1", "coco"),
    Run("paper_mask_rcnn_x152_coco", "mask_rcnn_x152", "coco_x152"),
    Run("paper_nl_mask_rcnn_x152_1_coco", "nl_mask_rcnn_x152_1", "coco_x152"),
    Run("paper_keypoint_rcnn_r101_coco_keypoints", "keypoint_rcnn_r101", "coco_keypoints"),
    Run("paper_nl_keypoint_rcnn_r101_head_coco_keypoints", "nl_keypoint_rcnn_r101_head", "coco_keypoints"),
    Run(
        "paper_nl_keypoint_rcnn_r101_head_backbone_coco_keypoints",
        "nl_keypoint_rcnn_r101_head_backbone",
        "coco_keypoints",
    ),
)

TITLES = {
    "2a": "Table 2(a): instantiations, 1 block",
    "2b": "Table 2(b): stages, 1 block",
    "2c": "Table 2(c): deeper non-local models",
    "2d": "Table 2(d): space, time, space-time, 5 blocks",
    "2e": "Table 2(e): non-local against 3D convolution",
    "2f": "Table 2(f): non-local 3D ConvNets",
    "2g": "Table 2(g): longer clips, 128 frames",
    "3": "Table 3: the state of the art, the paper's own rows",
    "4": "Table 4: Charades, the paper's own rows",
    "5": "Table 5: COCO object detection and segmentation",
    "6": "Table 6: COCO keypoints",
}

ROWS = (
    Row("2a", "R50 baseline", "71.8 / 89.7", "paper_c2d_r50_32x2", "paper_c2d_r50_32x2"),
    Row("2a", "R50 Gaussian", "72.5 / 90.2", "paper_nl_c2d_r50_1_gaussian_32x2", "paper_c2d_r50_32x2"),
    Row("2a", "R50 Gaussian, embed", "72.7 / 90.5", "paper_nl_c2d_r50_1_32x2", "paper_c2d_r50_32x2"),
    Row("2a", "R50 dot-product", "72.9 / 90.3", "paper_nl_c2d_r50_1_dot_product_32x2", "paper_c2d_r50_32x2"),
    Row("2a", "R50 concatenation", "72.8 / 90.5", "paper_nl_c2d_r50_1_concatenation_32x2", "paper_c2d_r50_32x2"),
    Row("2b", "R50 baseline", "71.8 / 89.7", "paper_c2d_r50_32x2", "paper_c2d_r50_32x2"),
    Row("2b", "R50 res2", "72.7 / 90.3", "paper_nl_c2d_r50_1_res2_32x2", "paper_c2d_r50_32x2"),
    Row("2b", "R50 res3", "72.9 / 90.4", "paper_nl_c2d_r50_1_res3_32x2", "paper_c2d_r50_32x2"),
    Row("2b", "R50 res4", "72.7 / 90.5", "paper_nl_c2d_r50_1_32x2", "paper_c2d_r50_32x2"),
    Row("2b", "R50 res5", "72.3 / 90.1", "paper_nl_c2d_r50_1_res5_32x2", "paper_c2d_r50_32x2"),
    Row("2c", "R50 baseline", "71.8 / 89.7", "paper_c2d_r50_32x2", "paper_c2d_r50_32x2"),
    Row("2c", "R50 1-block", "72.7 / 90.5", "paper_nl_c2d_r50_1_32x2", "paper_c2d_r50_32x2"),
    Row("2c", "R50 5-block", "73.8 / 91.0", "paper_nl_c2d_r50_5_32x2", "paper_c2d_r50_32x2"),
    Row("2c", "R50 10-block", "74.3 / 91.2", "paper_nl_c2d_r50_10_32x2", "paper_c2d_r50_32x2"),
    Row("2c", "R101 baseline", "73.1 / 91.0", "paper_c2d_r101_32x2", "paper_c2d_r101_32x2"),
    Row("2c", "R101 1-block", "74.3 / 91.3", "paper_nl_c2d_r101_1_32x2", "paper_c2d_r101_32x2"),
    Row("2c", "R101 5-block", "75.1 / 91.7", "paper_nl_c2d_r101_5_32x2", "paper_c2d_r101_32x2"),
    Row("2c", "R101 10-block", "75.1 / 91.6", "paper_nl_c2d_r101_10_32x2", "paper_c2d_r101_32x2"),
    Row("2d", "R50 baseline", "71.8 / 89.7", "paper_c2d_r50_32x2", "paper_c2d_r50_32x2"),
    Row("2d", "R50 space-only", "72.9 / 90.8", "paper_nl_c2d_r50_5_space_32x2", "paper_c2d_r50_32x2"),
    Row("2d", "R50 time-only", "73.1 / 90.5", "paper_nl_c2d_r50_5_time_32x2", "paper_c2d_r50_32x2"),
    Row("2d", "R50 space-time", "73.8 / 91.0", "paper_nl_c2d_r50_5_32x2", "paper_c2d_r50_32x2"),
    Row("2d", "R101 baseline", "73.1 / 91.0", "paper_c2d_r101_32x2", "paper_c2d_r101_32x2"),
    Row("2d", "R101 space-only", "74.4 / 91.3", "paper_nl_c2d_r101_5_space_32x2", "paper_c2d_r101_32x2"),
    Row("2d", "R101 time-only", "74.4 / 90.5", "paper_nl_c2d_r101_5_time_32x2", "paper_c2d_r101_32x2"),
    Row("2d", "R101 space-time", "75.1 / 91.7", "paper_nl_c2d_r101_5_32x2", "paper_c2d_r101_32x2"),
    Row("2e", "R101 C2D baseline", "73.1 / 91.0", "paper_c2d_r101_32x2", "paper_c2d_r101_32x2", ("1x", "1x")),
    Row("2e", "R101 I3D 3x3x3", "74.1 / 91.2", "paper_i3d_3x3x3_r101_32x2", "paper_c2d_r101_32x2", ("1.5x", "1.8x")),
    Row("2e", "R101 I3D 3x1x1", "74.4 / 91.1", "paper_i3d_3x1x1_r101_32x2", "paper_c2d_r101_32x2", ("1.2x", "1.5x")),
    Row(
        "2e", "R101 NL C2D, 5-block", "75.1 / 91.7", "paper_nl_c2d_r101_5_32x2", "paper_c2d_r101_32x2", ("1.2x", "1.2x")
    ),
    Row("2f", "R50 C2D baseline", "71.8 / 89.7", "paper_c2d_r50_32x2", "paper_c2d_r50_32x2"),
    Row("2f", "R50 I3D", "73.3 / 90.7", "paper_i3d_3x1x1_r50_32x2", "paper_c2d_r50_32x2"),
    Row("2f", "R50 NL I3D", "74.9 / 91.6", "paper_nl_i3d_r50_5_32x2", "paper_c2d_r50_32x2"),
    Row("2f", "R101 C2D baseline", "73.1 / 91.0", "paper_c2d_r101_32x2", "paper_c2d_r101_32x2"),
    Row("2f", "R101 I3D", "74.4 / 91.1", "paper_i3d_3x1x1_r101_32x2", "paper_c2d_r101_32x2"),
    Row("2f", "R101 NL I3D", "76.0 / 92.1", "paper_nl_i3d_r101_5_32x2", "paper_c2d_r101_32x2"),
    Row("2g", "R50 C2D baseline", "73.8 / 91.2", "paper_c2d_r50_128x1", "paper_c2d_r50_128x1"),
    Row("2g", "R50 I3D", "74.9 / 91.7", "paper_i3d_3x1x1_r50_128x1", "paper_c2d_r50_128x1"),
    Row("2g", "R50 NL I3D", "76.5 / 92.6", "paper_nl_i3d_r50_5_128x1", "paper_c2d_r50_128x1"),
    Row("2g", "R101 C2D baseline", "75.3 / 91.8", "paper_c2d_r101_128x1", "paper_c2d_r101_128x1"),
    Row("2g", "R101 I3D", "76.4 / 92.7", "paper_i3d_3x1x1_r101_128x1", "paper_c2d_r101_128x1"),
    Row("2g", "R101 NL I3D", "77.7 / 93.3", "paper_nl_i3d_r101_5_128x1", "paper_c2d_r101_128x1"),
    Row("3", "R50 NL I3D", "76.5 / 92.6", "paper_nl_i3d_r50_5_128x1"),
    Row("3", "R101 NL I3D", "77.7 / 93.3; test average 83.8", "paper_nl_i3d_r101_5_128x1"),
    Row(
        "4",
        "R101 I3D",
        "train/val 35.5, trainval/test 37.2",
        "paper_i3d_3x1x1_r101_charades",
        "paper_i3d_3x1x1_r101_charades",
    ),
    Row(
        "4",
        "R101 NL I3D",
        "train/val 37.5, trainval/test 39.5",
        "paper_nl_i3d_r101_5_charades",
        "paper_i3d_3x1x1_r101_charades",
    ),
    Row(
        "5",
        "R50 baseline",
        "box AP 38.0 (59.6 / 41.0), mask AP 34.6 (56.4 / 36.5)",
        "paper_mask_rcnn_r50_coco",
        "paper_mask_rcnn_r50_coco",
    ),
    Row(
        "5",
        "R50 +1 NL",
        "box AP 39.0 (61.1 / 41.9), mask AP 35.5 (58.0 / 37.4)",
        "paper_nl_mask_rcnn_r50_1_coco",
        "paper_mask_rcnn_r50_coco",
    ),
    Row(
        "5",
        "R101 baseline",
        "box AP 39.5 (61.4 / 42.9), mask AP 36.0 (58.1 / 38.3)",
        "paper_mask_rcnn_r101_coco",
        "paper_mask_rcnn_r101_coco",
    ),
    Row(
        "5",
        "R101 +1 NL",
        "box AP 40.8 (63.1 / 44.5), mask AP 37.1 (59.9 / 39.2)",
        "paper_nl_mask_rcnn_r101_1_coco",
        "paper_mask_rcnn_r101_coco",
    ),
    Row(
        "5",
        "X152 baseline",
        "box AP 44.1 (66.4 / 48.4), mask AP 39.7 (63.2 / 42.2)",
        "paper_mask_rcnn_x152_coco",
        "paper_mask_rcnn_x152_coco",
    ),
    Row(
        "5",
        "X152 +1 NL",
        "box AP 45.0 (67.8 / 48.9), mask AP 40.3 (64.4 / 42.8)",
        "paper_nl_mask_rcnn_x152_1_coco",
        "paper_mask_rcnn_x152_coco",
    ),
    Row(
        "6",
        "R101 baseline",
        "keypoint AP 65.1 (86.8 / 70.4)",
        "paper_keypoint_rcnn_r101_coco_keypoints",
        "paper_keypoint_rcnn_r101_coco_keypoints",
    ),
    Row(
        "6",
        "R101 +4 NL in the head",
        "keypoint AP 66.0 (87.1 / 71.7)",
        "paper_nl_keypoint_rcnn_r101_head_coco_keypoints",
        "paper_keypoint_rcnn_r101_coco_keypoints",
    ),
    Row(
        "6",
        "R101 +4 NL in the head, +1 in the backbone",
        "keypoint AP 66.5 (87.3 / 72.8)",
        "paper_nl_keypoint_rcnn_r101_head_backbone_coco_keypoints",
        "paper_keypoint_rcnn_r101_coco_keypoints",
    ),
)


def place(row: Row) -> str:
    """Where a row is, as in "Table 2(b), R50 res3"."""
    return f"{TITLES[row.table].split(':')[0]}, {row.label}"
