"""How fast is a non-local block, and how much memory does it take, next to what else computes the same?

    python benchmarks/block.py --out=docs/benchmarks/block.md

Prints the bars that the figures have to reach, and writes the report anew after every case.
"""

import os

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # oneDNN's kernels, off by default on CPUs without AVX-512

import block_cases  # noqa: E402
import command_line  # noqa: E402
import report  # noqa: E402
import side_by_side  # noqa: E402
from absl import app, flags  # noqa: E402

flags.DEFINE_list("cases", "all", f"Of {', '.join(block_cases.CASES)}; a shape or a form alone is all of its cases.")
command_line.define_choices("modes", block_cases.MODES)
command_line.define_choices("what", ["time", "memory"])
command_line.define_rounds(side_by_side.BUDGET)
flags.DEFINE_string("only", "", "Only contestants whose names start with this, such as ours. Default: all.")
flags.DEFINE_string("out", "docs/benchmarks/block.md", "Where the report goes; empty to only print it.")
FLAGS = flags.FLAGS


def main(_):
    try:
        cases = block_cases.matching(FLAGS.cases)
    except ValueError as e:
        raise app.UsageError(str(e)) from None
    races, peaks = {}, {}
    progress = report.Progress(len(cases) * len(FLAGS.modes) * len(FLAGS.what))
    for case in cases:
        for mode in FLAGS.modes:
            contestants = [one for one in block_cases.contestants(case, mode) if one.name.startswith(FLAGS.only)]
            if "time" in FLAGS.what:
                progress.next(f"{case} {mode}: time")
                races[case, mode] = side_by_side.race(contestants, FLAGS.rounds)
                print(report.times(races[case, mode]))
            if "memory" in FLAGS.what:
                progress.next(f"{case} {mode}: memory")
                blocks = block_cases.blocks_only(contestants)
                peaks[case, mode] = {one.name: side_by_side.peak_memory(one) for one in blocks}
                print(memory_table(peaks[case, mode]))
            # After every case, so that nothing is lost when a long run is stopped.
            text = written(races, peaks)
            report.write(FLAGS.out, text)
    print(text)


def memory_table(mib):
    """A table of {contestant's name: MiB}."""
    first = next(iter(mib.values()))
    rows = []
    for name, value in mib.items():
        share = report.ratio(first, value, percent=True)
        number = f"{value:.0f}" if isinstance(value, float) else value
        rows.append([name, number, "" if share is None else f"{share:.1f} %"])
    return report.table(["contestant", "peak MiB over inputs", "ours takes"], rows)


def written(races, peaks):
    """The report on {(case, mode): Race} and {(case, mode): {name: MiB}}."""
    parts = [report.heading("A non-local block"), "How to read this: benchmarks/README.md.\n"]
    bars = (block_cases.time_bars(races) if races else []) + (block_cases.memory_bars(peaks) if peaks else [])
    parts.append(f"## Bars\n\n{report.bars(bars)}")
    if rows := block_cases.needs(races):
        parts.append(f"## What the bars need of tf.matmul\n\n{report.table(block_cases.NEEDS, rows)}")
    for case, mode in dict.fromkeys([*races, *peaks]):
        parts.append(f"## {case}, {mode}\n\n{block_cases.SHAPES[case.split('/')[0]]}\n")
        if (case, mode) in races:
            parts.append(report.times(races[case, mode]))
        if (case, mode) in peaks:
            parts.append(memory_table(peaks[case, mode]))
    return "\n".join(parts)


if __name__ == "__main__":
    app.run(main)
