"""The networks of the paper's tables by name, as data for either Keras.

A preset is a depth and the arguments of keras_nonlocal.models.video_resnet.video_resnet. All are the 32-frame networks
of Table 1 (temporal stride 8); the 128-frame ones of Table 2(g) are the same networks on longer clips.

What the paper leaves open is the official code's where there is any: the blocks' arguments, the stem, and where five
blocks go. Our own choice is where ten blocks go in ResNet-101: the paper says "to the corresponding residual blocks",
and the official code has no such model. We put them after every fourth block of res4, as gluon-cv does.
"""

import dataclasses

# Residual blocks, counted from 0, that a non-local block comes after. One block comes right before the last residual
# block of its stage; five come after every second one of res3 and of res4 (every seventh in ResNet-101).
ONE_BLOCK = {
    50: {"res2": {"res2": (1,)}, "res3": {"res3": (2,)}, "res4": {"res4": (4,)}, "res5": {"res5": (1,)}},
    101: {"res2": {"res2": (1,)}, "res3": {"res3": (2,)}, "res4": {"res4": (21,)}, "res5": {"res5": (1,)}},
}
FIVE_BLOCKS = {50: {"res3": (1, 3), "res4": (1, 3, 5)}, 101: {"res3": (1, 3), "res4": (6, 13, 20)}}
TEN_BLOCKS = {
    50: {"res3": (0, 1, 2, 3), "res4": (0, 1, 2, 3, 4, 5)},
    101: {"res3": (0, 1, 2, 3), "res4": (2, 6, 10, 14, 18, 22)},
}


@dataclasses.dataclass(frozen=True)
class Preset:
    """A network of the paper.

    Args:
      name: as in "nl_c2d_r50_5".
      depth: 50 or 101.
      rows: the paper's rows that it is in, in words.
      inflate: None for C2D, "3x1x1" or "3x3x3" for I3D.
      non_local: where non-local blocks go, {"res4": (4,)}.
      non_local_block: arguments of the blocks that are not their defaults.
    """

    name: str
    depth: int
    rows: str
    inflate: str | None = None
    non_local: dict = dataclasses.field(default_factory=dict)
    non_local_block: dict = dataclasses.field(default_factory=dict)

    @property
    def arguments(self):
        """Those of video_resnet, but the block counts, which are the depth's."""
        return dict(
            inflate=self.inflate,
            temporal_stride=8,
            non_local={stage: list(indices) for stage, indices in self.non_local.items()},
            non_local_block=dict(self.non_local_block),
        )

    @property
    def description(self):
        """What it is, on one line."""
        network = "C2D" if self.inflate is None else f"I3D ({self.inflate})"
        blocks = sum(map(len, self.non_local.values()))
        where = ", ".join(f"{stage} {list(indices)}" for stage, indices in self.non_local.items())
        what = "".join(f", {value}" for value in self.non_local_block.values())
        non_local = f" with {blocks} non-local block{'s' * (blocks > 1)} ({where}{what})" if blocks else ""
        return f"{network} ResNet-{self.depth}{non_local}: {self.rows}"


def _c2d(depth):
    one, five, ten = ONE_BLOCK[depth], FIVE_BLOCKS[depth], TEN_BLOCKS[depth]
    name = f"nl_c2d_r{depth}"
    yield Preset(f"c2d_r{depth}", depth, "the baseline of Table 2(a) to (d), (f) and (g)" + ", (e)" * (depth == 101))
    tables = "Table 2(a), (b) and (c)" if depth == 50 else "Table 2(c)"
    yield Preset(f"{name}_1", depth, f"{tables}, 1 block", non_local=one["res4"])
    if depth == 50:
        for stage in ("res2", "res3", "res5"):
            yield Preset(f"{name}_1_{stage}", depth, f"Table 2(b), {stage}", non_local=one[stage])
        for form in ("gaussian", "dot_product", "concatenation"):
            row = f"Table 2(a), {form.replace('_', '-')}"
            yield Preset(f"{name}_1_{form}", depth, row, None, one["res4"], {"pairwise": form})
    rows = "Table 2(c), 5 blocks; (d), space-time" + "; (e)" * (depth == 101)
    yield Preset(f"{name}_5", depth, rows, non_local=five)
    for extent in ("space", "time"):
        yield Preset(f"{name}_5_{extent}", depth, f"Table 2(d), {extent}-only", None, five, {"extent": extent})
    yield Preset(f"{name}_10", depth, "Table 2(c), 10 blocks", non_local=ten)


def _i3d(depth):
    rows = "Table 2(f) and (g), I3D"
    if depth == 101:
        rows += "; Table 2(e); the Charades baseline of Table 4"
        yield Preset("i3d_3x3x3_r101", depth, "Table 2(e), I3D 3x3x3", "3x3x3")
    yield Preset(f"i3d_3x1x1_r{depth}", depth, rows, "3x1x1")
    rows = "Table 2(f) and (g), NL I3D; Table 3" + "; Table 4" * (depth == 101)
    yield Preset(f"nl_i3d_r{depth}_5", depth, rows, "3x1x1", FIVE_BLOCKS[depth])


PRESETS = {preset.name: preset for depth in (50, 101) for make in (_c2d, _i3d) for preset in make(depth)}


def find(name):
    """The Preset of this name. Raises ValueError for an unknown one, with the known ones."""
    if name in PRESETS:
        return PRESETS[name]
    raise ValueError(f"`name` must be one of {', '.join(PRESETS)}. Received: name={name!r}")
