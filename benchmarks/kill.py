"""Does a training that is killed at any moment end with the weights of one that never was?

    python benchmarks/kill.py --kills=100 --out=docs/benchmarks/kill.md

Trains a tiny non-local C2D on records of real handwritten digits, kills it by SIGKILL at random moments, a good part of
them while it saves, and runs the same command again until it is done; and so on until there were enough kills. The
uninterrupted run evaluates in between, the killed ones do not.
"""

import os
import pathlib
import random
import sys
import tempfile

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # oneDNN's kernels, off by default on CPUs without AVX-512

import killing  # noqa: E402
import report  # noqa: E402
from absl import app, flags  # noqa: E402

flags.DEFINE_integer("kills", 100, "How often to kill.")
flags.DEFINE_integer("seed", 0, "Of the moments.")
flags.DEFINE_string("out", "", "Where the report goes. Default: it is only printed.")
FLAGS = flags.FLAGS


def main(_):
    with tempfile.TemporaryDirectory() as work:
        found = killing.kill(pathlib.Path(work), FLAGS.kills, random.Random(FLAGS.seed))
    text = report.heading("Killed trainings") + f"\n{found.table()}"
    print(text)
    report.write(FLAGS.out, text)
    sys.exit(1 if found.divergences or found.half_written or found.damaged else 0)


if __name__ == "__main__":
    app.run(main)
