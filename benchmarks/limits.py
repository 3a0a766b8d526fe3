"""Which chunks are fastest on this device? What keras_nonlocal/ops/limits.py should say for it.

    python benchmarks/limits.py --out=docs/benchmarks/limits_cpu.md

Runs the embedded Gaussian of an image of 100 x 168 positions with chunks of every size, forward and in training, and
names the smallest chunk within 3 % of the fastest. On a GPU or TPU it measures these as well: nobody has yet.
"""

import os

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # oneDNN's kernels, off by default on CPUs without AVX-512

import command_line  # noqa: E402
import report  # noqa: E402
import side_by_side  # noqa: E402
from absl import app, flags  # noqa: E402
from side_by_side import Contestant  # noqa: E402

BLOCK = dict(pairwise="embedded_gaussian", positions=(100, 168), channels=256, inner=128, implementation="chunked")
CLOSE = 1.03

flags.DEFINE_list("mib", ["4", "8", "16", "32", "64"], "Sizes of a chunk's matrix to try, in MiB.")
flags.DEFINE_list("queries", ["256", "512", "2048"], "Most queries of a chunk to try.")
command_line.define_choices("modes", ["forward", "train"])
command_line.define_rounds(side_by_side.BUDGET)
flags.DEFINE_string("out", "", "Where the report goes. Default: it is only printed.")
FLAGS = flags.FLAGS


def main(_):
    parts = [report.heading("Sizes of chunks at 100 x 168 positions"), "How to read this: benchmarks/README.md.\n"]
    progress = report.Progress(len(FLAGS.modes))
    for mode in FLAGS.modes:
        progress.next(mode)
        race = side_by_side.race(contestants(mode), FLAGS.rounds)
        parts += [f"## {mode}\n", f"{chosen(race)}\n", report.times(race)]
        print("\n".join(parts[-3:]))
        report.write(FLAGS.out, "\n".join(parts))


def contestants(mode):
    """One for each size; in training both ways have it."""
    found = {}
    for mib in map(int, FLAGS.mib):
        for queries in map(int, FLAGS.queries):
            if 4 * queries * 100 * 168 // 2**20 * 2 < mib and queries != max(map(int, FLAGS.queries)):
                continue  # the queries alone bound this chunk, as they do a smaller one
            limits = dict(matrix_bytes=0, forward_bytes=mib * 2**20, backward_bytes=mib * 2**20, queries=queries)
            name = f"{mib} MiB, {queries} queries"
            found[name] = Contestant(name, "keras_blocks", "Block", BLOCK | dict(mode=mode, limits=limits))
    return list(found.values())


def chosen(race):
    """The smallest chunk that is about as fast as any."""
    medians = {name: timing.median for name, timing in race.timings.items() if isinstance(timing, side_by_side.Timing)}
    if not medians:
        return "Nothing was measured."
    fastest = min(medians.values())
    first = next(name for name, median in medians.items() if median <= CLOSE * fastest)
    return f"Within {CLOSE - 1:.0%} of the fastest: **{first}**, {medians[first] * 1e3:.1f} ms."


if __name__ == "__main__":
    app.run(main)
