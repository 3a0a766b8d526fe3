"""The rows of the paper's tables: which network, on which clips, and what the paper reached. Data only.

Rows of other authors (Tables 3 and 4) are left out. Results are the paper's, in percent: top-1 / top-5 on Kinetics-400
validation, mAP on Charades, AP (AP50 / AP75) on COCO.
"""

import dataclasses

from keras_nonlocal.models import presets


@dataclasses.dataclass(frozen=True)
class Run:
    """A training run that one row of the paper or several report.

    Args:
      preset: of keras_nonlocal.models.presets, or the name of a detector's backbone.
      dataset: "kinetics400", "charades" or "coco".
      frames: of a clip; None for images.
      stride: distance between frames.
    """

    preset: str
    dataset: str = "kinetics400"
    frames: int | None = 32
    stride: int | None = 2

    @property
    def name(self):
        """The name of the registered experiment."""
        if self.dataset == "coco":
            return f"paper_{self.preset}_coco"
        clip = f"{self.frames}x{self.stride}"
        return f"paper_{self.preset}_{clip}" if self.dataset == "kinetics400" else f"paper_{self.preset}_{self.dataset}"

    @property
    def frozen(self):
        """Whether batch norm is frozen: the recipe of clips that leave room for two on a GPU, and of detectors."""
        return self.frames is None or self.frames > 32


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table.

    Args:
      table: "2a", ..., "6".
      label: what the row is called there.
      result: the paper's numbers.
      run: the Run, or None for what is not built yet.
      baseline: the Run that parameters and multiply-adds are compared with, or None.
      factors: the paper's own factors of parameters and FLOPs, ("1.2x", "1.5x"), or None where it gives none.
    """

    table: str
    label: str
    result: str
    run: Run | None = None
    baseline: Run | None = None
    factors: tuple | None = None


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


def _video(table, baseline, *rows, **run):
    """Rows of (label, preset, result) or (label, preset, result, factors) compared with a baseline's preset."""
    base = Run(baseline, **run)
    return [Row(table, label, result, Run(preset, **run), base, *factors) for label, preset, result, *factors in rows]


def _rows():
    c2d, i3d, nl, nl_i3d = "c2d_r{0}", "i3d_3x1x1_r{0}", "nl_c2d_r{0}_{1}", "nl_i3d_r{0}_5"
    baseline = {50: "71.8 / 89.7", 101: "73.1 / 91.0"}
    yield from _video(
        "2a",
        "c2d_r50",
        ("R50 baseline", "c2d_r50", baseline[50]),
        ("R50 Gaussian", "nl_c2d_r50_1_gaussian", "72.5 / 90.2"),
        ("R50 Gaussian, embed", "nl_c2d_r50_1", "72.7 / 90.5"),
        ("R50 dot-product", "nl_c2d_r50_1_dot_product", "72.9 / 90.3"),
        ("R50 concatenation", "nl_c2d_r50_1_concatenation", "72.8 / 90.5"),
    )
    yield from _video(
        "2b",
        "c2d_r50",
        ("R50 baseline", "c2d_r50", baseline[50]),
        ("R50 res2", "nl_c2d_r50_1_res2", "72.7 / 90.3"),
        ("R50 res3", "nl_c2d_r50_1_res3", "72.9 / 90.4"),
        ("R50 res4", "nl_c2d_r50_1", "72.7 / 90.5"),
        ("R50 res5", "nl_c2d_r50_1_res5", "72.3 / 90.1"),
    )
    deeper = {
        50: ("72.7 / 90.5", "73.8 / 91.0", "74.3 / 91.2"),
        101: ("74.3 / 91.3", "75.1 / 91.7", "75.1 / 91.6"),
    }
    for depth, results in deeper.items():
        blocks = [
            (f"R{depth} {count}-block", nl.format(depth, count), result)
            for count, result in zip((1, 5, 10), results, strict=True)
        ]
        base = c2d.format(depth)
        yield from _video("2c", base, (f"R{depth} baseline", base, baseline[depth]), *blocks)
    extents = {
        50: ("72.9 / 90.8", "73.1 / 90.5", "73.8 / 91.0"),
        101: ("74.4 / 91.3", "74.4 / 90.5", "75.1 / 91.7"),
    }
    for depth, (space, time, spacetime) in extents.items():
        base = c2d.format(depth)
        yield from _video(
            "2d",
            base,
            (f"R{depth} baseline", base, baseline[depth]),
            (f"R{depth} space-only", nl.format(depth, "5_space"), space),
            (f"R{depth} time-only", nl.format(depth, "5_time"), time),
            (f"R{depth} space-time", nl.format(depth, 5), spacetime),
        )
    yield from _video(
        "2e",
        "c2d_r101",
        ("R101 C2D baseline", "c2d_r101", baseline[101], ("1x", "1x")),
        ("R101 I3D 3x3x3", "i3d_3x3x3_r101", "74.1 / 91.2", ("1.5x", "1.8x")),
        ("R101 I3D 3x1x1", "i3d_3x1x1_r101", "74.4 / 91.1", ("1.2x", "1.5x")),
        ("R101 NL C2D, 5-block", "nl_c2d_r101_5", "75.1 / 91.7", ("1.2x", "1.2x")),
    )
    both = {
        ("2f", 50): (baseline[50], "73.3 / 90.7", "74.9 / 91.6"),
        ("2f", 101): (baseline[101], "74.4 / 91.1", "76.0 / 92.1"),
        ("2g", 50): ("73.8 / 91.2", "74.9 / 91.7", "76.5 / 92.6"),
        ("2g", 101): ("75.3 / 91.8", "76.4 / 92.7", "77.7 / 93.3"),
    }
    for (table, depth), results in both.items():
        clip = dict(frames=128, stride=1) if table == "2g" else {}
        names = [("C2D baseline", c2d), ("I3D", i3d), ("NL I3D", nl_i3d)]
        rows = [
            (f"R{depth} {label}", name.format(depth), result)
            for (label, name), result in zip(names, results, strict=True)
        ]
        yield from _video(table, c2d.format(depth), *rows, **clip)
    for depth, result in ((50, "76.5 / 92.6"), (101, "77.7 / 93.3; test average 83.8")):
        yield Row("3", f"R{depth} NL I3D", result, Run(nl_i3d.format(depth), frames=128, stride=1))
    charades = dict(dataset="charades", frames=128, stride=1)
    for label, preset, result in (
        ("R101 I3D", "i3d_3x1x1_r101", "train/val 35.5, trainval/test 37.2"),
        ("R101 NL I3D", "nl_i3d_r101_5", "train/val 37.5, trainval/test 39.5"),
    ):
        yield Row("4", label, result, Run(preset, **charades), Run("i3d_3x1x1_r101", **charades))
    coco = dict(dataset="coco", frames=None, stride=None)
    boxes = "box AP {} ({} / {}), mask AP {} ({} / {})"
    for network, base, plain, added in (
        ("R50", "r50", (38.0, 59.6, 41.0, 34.6, 56.4, 36.5), (39.0, 61.1, 41.9, 35.5, 58.0, 37.4)),
        ("R101", "r101", (39.5, 61.4, 42.9, 36.0, 58.1, 38.3), (40.8, 63.1, 44.5, 37.1, 59.9, 39.2)),
        ("X152", "x152", (44.1, 66.4, 48.4, 39.7, 63.2, 42.2), (45.0, 67.8, 48.9, 40.3, 64.4, 42.8)),
    ):
        base = Run(f"mask_rcnn_{base}", **coco)
        yield Row("5", f"{network} baseline", boxes.format(*plain), base, base)
        more = dataclasses.replace(base, preset=f"nl_{base.preset}_1")
        yield Row("5", f"{network} +1 NL", boxes.format(*added), more, base)
    for label, result in (
        ("R101 baseline", "keypoint AP 65.1 (86.8 / 70.4)"),
        ("R101 +4 NL in the head", "keypoint AP 66.0 (87.1 / 71.7)"),
        ("R101 +4 NL in the head, +1 in the backbone", "keypoint AP 66.5 (87.3 / 72.8)"),
    ):
        yield Row("6", label, result)


ROWS = tuple(_rows())


def runs():
    """{name of the experiment: (Run, rows that report it)}, in the order of the tables."""
    found = {}
    for row in ROWS:
        if row.run is not None:
            found.setdefault(row.run.name, (row.run, []))[1].append(row)
    return found


def arguments(run):
    """What video_resnet takes for a run on clips.

    Args:
      run: a Run of a video network.

    Returns:
      {"inflate": ..., "temporal_stride": 8, "non_local": ..., ...}, without the block counts.
    """
    network = presets.find(run.preset).arguments
    if run.frozen:
        # Long clips, as in the official code: batch norm is frozen, non-local blocks have none, and those of res3 see
        # four positions in time together.
        network["norm_frozen"] = True
        network["non_local_block"]["norm"] = None
        network["group_frames"] = {"res3": 4} if "res3" in network["non_local"] else {}
    return network
