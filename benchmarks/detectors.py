"""What does a non-local block cost a detector? R50-FPN with one in res4, in multiply-adds and time of a forward pass.

    nice python benchmarks/detectors.py --out=docs/benchmarks/detectors.md

The paper (section 5.3) says that it adds less than 5 % of computation to Mask R-CNN. Time is that of the parts that see
the whole image; the heads are counted only.
"""

import os
import re

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # oneDNN's kernels, off by default on CPUs without AVX-512

import command_line  # noqa: E402
import report  # noqa: E402
import side_by_side  # noqa: E402
from absl import app, flags  # noqa: E402
from report import Bar, ratio  # noqa: E402
from side_by_side import Contestant  # noqa: E402

PLAIN, BLOCK = "plain", "with the block"
PARTS = {"R50": False, "R50-FPN": True}
# Seconds: a forward pass of the large image takes about one.
BUDGET = 40.0
ASKED = 5.0
# What a network consists of, in the order in which the table adds it up.
SUMS = {
    "R50": ("R50",),
    "R50-FPN": ("R50", "FPN"),
    "Mask R-CNN, Detectron's box head": ("R50", "FPN", "RPN", "box head of Detectron", "mask head"),
    "Mask R-CNN, tfm's box head": ("R50", "FPN", "RPN", "box head of tfm", "mask head"),
}

INTRODUCTION = """\
How to read this: benchmarks/README.md. The paper's sentence is about the whole detector, in which 1000 regions go
through the box head and 100 detections through the mask head: bars on R50 and R50-FPN alone ask for more. Where other
processes took a core, only the ratio of CPU times says something.
"""
BUSY = "**On a busy machine**: no time below decides anything, measure again on an idle one.\n"

command_line.define_choices("parts", PARTS)
command_line.define_rounds(BUDGET)
flags.DEFINE_list("sizes", ["800x1344", "512x512"], "Heights and widths of the image, multiples of 32.")
flags.DEFINE_string("out", "docs/benchmarks/detectors.md", "Where the report goes; empty to only print it.")
flags.register_validator(
    "sizes", lambda sizes: all(re.fullmatch(r"\d+x\d+", size) for size in sizes), "has to be like 800x1344"
)
FLAGS = flags.FLAGS


def main(_):
    import keras_detectors  # TensorFlow, for the counts

    counts = {size: keras_detectors.multiply_adds(*_numbers(size)) for size in FLAGS.sizes}
    races = {}
    progress = report.Progress(len(FLAGS.sizes) * len(FLAGS.parts))
    for size in FLAGS.sizes:
        for part in FLAGS.parts:
            progress.next(f"{part}, {size}")
            races[part, size] = side_by_side.race(contestants(part, size), FLAGS.rounds, BUDGET)
    text = written(counts, races)
    report.write(FLAGS.out, text)
    print(text)


def contestants(part, size):
    """Without and with the block, which is the identity: the features have to be the same bits."""
    height, width = _numbers(size)
    arguments = dict(height=height, width=width, fpn=PARTS[part])
    return [
        Contestant(name, "keras_detectors", "Features", {**arguments, "block": name == BLOCK}, tolerance=0.0)
        for name in (PLAIN, BLOCK)
    ]


def added(counts, parts):
    """Per cent that the block adds to the multiply-adds of these parts."""
    return ratio(counts["block"], sum(counts[part] for part in parts), percent=True)


def slower(race):
    """Per cent that a forward pass takes longer with the block, or None."""
    found = ratio(race.median(BLOCK), race.median(PLAIN), percent=True)
    return None if found is None else found - 100


def bars(counts, races):
    """Bars over {size: counts} and {(part, size): Race}: the paper's 5 %, of everything that it may be a part of."""
    found = []
    for size, numbers in counts.items():
        for name, parts in SUMS.items():
            found.append(Bar(f"{name}, {size}: MACs", "<=", ASKED, " %", added(numbers, parts)))
    for (part, size), race in races.items():
        found.append(Bar(f"{part}, {size}: time", "<=", ASKED, " %", slower(race), race.one_core))
    return found


def sums(counts):
    """A table of multiply-adds."""
    block = counts["block"]
    rows = []
    for name, parts in SUMS.items():
        plain = sum(counts[part] for part in parts)
        rows.append([name, f"{plain / 1e9:.1f}", f"{(plain + block) / 1e9:.1f}", f"{added(counts, parts):.1f} %"])
    return report.table(["GMACs", "without", "with", "the block adds"], rows)


def cpu_time(race):
    """CPU time of a forward pass with the block over that without, which other processes change less; or None."""
    timings = [race.timings.get(name) for name in (BLOCK, PLAIN)]
    return ratio(*(getattr(each, "median", None) and each.median * each.cpu_per_wall for each in timings))


def written(counts, races):
    """The report on {size: counts} and {(part, size): Race}."""
    parts = [report.heading("What a non-local block costs R50-FPN, one image"), INTRODUCTION]
    if any(race.one_core for race in races.values()):
        parts.append(BUSY)
    parts.append(f"## Bars\n\n{report.bars(bars(counts, races))}")
    for size, numbers in counts.items():
        parts.append(f"## {size}: multiply-adds\n\n{sums(numbers)}")
    for (part, size), race in races.items():
        parts.append(f"## {size}: a forward pass of {part}\n\n{report.times(race)}")
        cpu = cpu_time(race)
        parts.append(f"CPU time, with the block / plain: {'not measured' if cpu is None else f'{cpu:.3f}x'}.\n")
    return "\n".join(parts)


def _numbers(size):
    return tuple(int(number) for number in size.split("x"))


if __name__ == "__main__":
    app.run(main)
