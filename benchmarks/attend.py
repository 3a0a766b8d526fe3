"""How do time and memory of a non-local block grow with the number of positions?

    python benchmarks/attend.py --out=docs/benchmarks/attend.md

Writes a picture for each form next to the report: attend.png for the embedded Gaussian, with our other forms in it.
"""

import os
import pathlib

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # oneDNN's kernels, off by default on CPUs without AVX-512

import attend_plot  # noqa: E402
import command_line  # noqa: E402
import report  # noqa: E402
import side_by_side  # noqa: E402
from absl import app, flags  # noqa: E402
from report import Bar, ratio  # noqa: E402
from side_by_side import Contestant  # noqa: E402

FORMS = ("embedded_gaussian", "dot_product", "concatenation")
SIZES = (1024, 2048, 4096, 8192, 16384, 32768, 65536)
CHANNELS, INNER = 256, 128
# Bytes of the N x M matrix (or of the 2C' x N x M pairs) beyond which a contestant that builds it does not take part.
MATRIX_BYTES = 3e9
OURS, DENSE, NAIVE, SDPA, ASSOCIATED = "ours", "ours, dense", "torch, naive", "torch, SDPA", "torch, associated"

flags.DEFINE_list("sizes", [str(size) for size in SIZES], "Numbers of positions.")
command_line.define_choices("forms", FORMS)
command_line.define_choices("modes", ["forward", "train"])
command_line.define_choices("what", ["time", "memory"])
command_line.define_rounds(side_by_side.BUDGET)
flags.DEFINE_string("out", "docs/benchmarks/attend.md", "The report, with pictures next to it; empty to only print it.")
FLAGS = flags.FLAGS


def main(_):
    sizes = [int(size) for size in FLAGS.sizes]
    cases = [(form, mode, size) for form in FLAGS.forms for mode in FLAGS.modes for size in sizes]
    races, peaks = {}, {}
    progress = report.Progress(len(cases))
    for form, mode, size in cases:
        progress.next(f"{form} {mode}, N = {size}")
        competing = contestants(form, mode, size)
        if "time" in FLAGS.what:
            races[form, mode, size] = side_by_side.race(competing, FLAGS.rounds)
            print(report.times(races[form, mode, size]))
        if "memory" in FLAGS.what:
            peaks[form, mode, size] = {one.name: side_by_side.peak_memory(one) for one in competing}
            print(peaks[form, mode, size])
        text = written(races, peaks)
        report.write(FLAGS.out, text)
    if FLAGS.out:
        pictures(pathlib.Path(FLAGS.out), races, peaks)
    print(text)


def contestants(form, mode, size):
    """Those that can compute a form at N = size; ours is the first."""
    arguments = dict(mode=mode, pairwise=form, positions=(size,), channels=CHANNELS, inner=INNER)
    matrix = 4 * size**2
    found = [Contestant(OURS, "keras_blocks", "Block", arguments)]
    if matrix < MATRIX_BYTES:
        found.append(Contestant(DENSE, "keras_blocks", "Block", arguments | dict(implementation="dense")))
    if matrix * (2 * INNER if form == "concatenation" else 1) < MATRIX_BYTES:
        found.append(Contestant(NAIVE, "torch_blocks", "Block", arguments))
    if form == "embedded_gaussian":
        options = dict(order="sdpa", layout="channels_last")
        found.append(Contestant(SDPA, "torch_blocks", "Block", arguments | options))
    if form == "dot_product":
        options = dict(order="associated", layout="channels_last")
        found.append(Contestant(ASSOCIATED, "torch_blocks", "Block", arguments | options))
    return found


def bars(peaks):
    """Bars over {(form, mode, size): {contestant's name: MiB}}."""

    def ours(form, mode, size):
        mib = peaks.get((form, mode, size), {}).get(OURS)
        return mib if isinstance(mib, float) else None

    largest = ours("embedded_gaussian", "forward", 65536)
    found = [Bar("embedded_gaussian forward at N = 65536: peak memory", "<=", 200, " MiB", largest)]
    for form in FORMS:
        for mode in ("forward", "train"):
            growth = ratio(ours(form, mode, 32768), ours(form, mode, 16384))
            found.append(Bar(f"{form} {mode}: peak memory at N = 32768 / at 16384", "<=", 2.2, "x", growth))
    return found


def written(races, peaks):
    """The report on {(form, mode, size): Race} and {(form, mode, size): {name: MiB}}."""
    title = f"The block as positions grow (1D, C = {CHANNELS}, C' = {INNER}, no pooling)"
    parts = [report.heading(title), "How to read this: benchmarks/README.md.\n"]
    if peaks:
        parts.append(f"## Bars\n\n{report.bars(bars(peaks))}")
    for form, mode in dict.fromkeys((form, mode) for form, mode, _ in [*races, *peaks]):
        parts.append(f"## {form}, {mode}\n")
        for what, cells in (("Median ms", milliseconds(races)), ("Peak MiB over inputs", peaks)):
            found = {size: values for (f, m, size), values in cells.items() if (f, m) == (form, mode)}
            if found:
                parts.append(size_table(what, found))
        for (f, m, size), race in races.items():
            if (f, m) == (form, mode):
                parts.append(f"<details><summary>N = {size}</summary>\n\n{report.times(race)}\n</details>\n")
    return "\n".join(parts)


def milliseconds(races):
    """{key: {contestant's name: ms or the text of a Failure}}."""
    return {
        key: {
            name: timing.median * 1e3 if isinstance(timing, side_by_side.Timing) else timing
            for name, timing in race.timings.items()
        }
        for key, race in races.items()
    }


def size_table(what, cells):
    """A row for each contestant, a column for each size; cells is {size: {name: number or text}}."""
    names = dict.fromkeys(name for values in cells.values() for name in values)
    rows = []
    for name in names:
        values = [cells[size].get(name, "") for size in cells]
        rows.append([name, *(f"{v:.{0 if v >= 100 else 1}f}" if isinstance(v, float) else v for v in values)])
    return report.table([what, *(f"N = {size}" for size in cells)], rows)


def pictures(out, races, peaks):
    """attend.png and one with the form's name for each of the other forms."""
    measured = {"ms": milliseconds(races), "MiB over inputs": peaks}
    for form in FLAGS.forms:
        lines = {
            unit: {
                (mode, _label(form, other, name), size): value
                for (other, mode, size), values in cells.items()
                for name, value in values.items()
                if isinstance(value, float) and (other == form or (form == FORMS[0] and name == OURS))
            }
            for unit, cells in measured.items()
        }
        suffix = "" if form == FORMS[0] else f"_{form}"
        attend_plot.plot(out.with_name(f"{out.stem}{suffix}.png"), f"{form}, C' = {INNER}", lines)


def _label(form, other, name):
    return name if other == form else f"{name}, {other}"


if __name__ == "__main__":
    app.run(main)
