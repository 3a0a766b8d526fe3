"""How fast is a whole network? C2D R50 on 8 x 224 x 224 clips, batch 1, next to PyTorch's best.

    python benchmarks/networks.py --out=docs/benchmarks/networks.md

Training is forward and backward with batch statistics; inference is measured with and without batch norms folded.
"""

import os

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # oneDNN's kernels, off by default on CPUs without AVX-512

import command_line  # noqa: E402
import report  # noqa: E402
import side_by_side  # noqa: E402
from absl import app, flags  # noqa: E402
from report import Bar, ratio  # noqa: E402
from side_by_side import Contestant  # noqa: E402

OURS, FOLDED = "ours", "ours, folded"
LAYOUTS = {
    "3d": "torch, Conv3d",
    "3d_channels_last": "torch, Conv3d channels_last_3d",
    "frames": "torch, Conv2d on frames",
}
TORCH = tuple(LAYOUTS.values())
# Seconds: a step takes ten times as long as a block.
BUDGET = 40.0
TORCH_FOLDED = tuple(f"{name}, folded" for name in TORCH)

command_line.define_choices("modes", ["train", "forward"])
command_line.define_rounds(BUDGET)
flags.DEFINE_string("out", "docs/benchmarks/networks.md", "Where the report goes; empty to only print it.")
FLAGS = flags.FLAGS


def main(_):
    races = {}
    progress = report.Progress(len(FLAGS.modes))
    for mode in FLAGS.modes:
        progress.next(mode)
        races[mode] = side_by_side.race(contestants(mode), FLAGS.rounds, BUDGET)
    text = written(races)
    report.write(FLAGS.out, text)
    print(text)


def contestants(mode):
    """Ours first; in forward with and without batch norms folded."""
    # A ReLU in res5 that rounding turns changes every gradient below it: against float64, the float32 gradients of
    # either framework are off by about 1 %.
    tolerance = 1e-3 if mode == "forward" else 0.05
    found = [Contestant(OURS, "keras_networks", "C2D", dict(mode=mode), tolerance)]
    if mode == "forward":
        found.append(Contestant(FOLDED, "keras_networks", "C2D", dict(mode=mode, fold=True)))
    for layout, name in LAYOUTS.items():
        found.append(Contestant(name, "torch_networks", "C2D", dict(mode=mode, layout=layout), tolerance))
        if mode == "forward":
            arguments = dict(mode=mode, layout=layout, fold=True)
            found.append(Contestant(f"{name}, folded", "torch_networks", "C2D", arguments))
    return found


def bars(races):
    """Bars over {mode: Race}; those without a bound asked for are figures to know."""
    found = []
    for mode, ours, peers, what, asked in [
        ("train", OURS, TORCH, "best torch / ours", 1.45),
        ("forward", FOLDED, TORCH, "best torch, not folded / ours, folded", 1.6),
    ]:
        race = races.get(mode)
        figure = ratio(race.median(*peers), race.median(ours)) if race else None
        found.append(Bar(f"{mode}: {what}", ">=", asked, "x", figure, bool(race and race.one_core)))
    return found


def written(races):
    """The report on {mode: Race}."""
    parts = [report.heading("C2D R50, 8 x 224 x 224, batch 1"), "How to read this: benchmarks/README.md.\n"]
    parts.append(f"## Bars\n\n{report.bars(bars(races))}")
    if "forward" in races:
        race = races["forward"]
        for what, ours, peers in [
            ("folded, best torch folded / ours folded", FOLDED, TORCH_FOLDED),
            ("neither folded, best torch / ours", OURS, TORCH),
        ]:
            figure = ratio(race.median(*peers), race.median(ours))
            parts.append(f"Without a bar: {what} {'not measured' if figure is None else f'{figure:.2f}x'}.\n")
    for mode, race in races.items():
        parts.append(f"## {mode}\n\n{report.times(race)}")
    return "\n".join(parts)


if __name__ == "__main__":
    app.run(main)
