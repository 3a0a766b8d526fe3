"""What do our Conv3D and MaxPooling3D change, with TensorFlow's oneDNN on and off?

    python benchmarks/convolutions.py --out=docs/benchmarks/convolutions.md

Ours and Keras' own, each with TF_ENABLE_ONEDNN_OPTS=1 and 0, take turns: first the training step of `make demo`, then
the layers of C2D and I3D one by one, forward and backward.
"""

import os

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # oneDNN's kernels, off by default on CPUs without AVX-512

import command_line  # noqa: E402
import report  # noqa: E402
import side_by_side  # noqa: E402
from absl import app, flags  # noqa: E402
from report import Bar, ratio  # noqa: E402
from side_by_side import Contestant  # noqa: E402

BUDGET = 20.0
KERAS_ON, OURS_ON = "Keras, oneDNN on", "ours, oneDNN on"
KERAS_OFF, OURS_OFF = "Keras, oneDNN off", "ours, oneDNN off"
KINDS = {KERAS_ON: (True, "1"), OURS_ON: (False, "1"), KERAS_OFF: (True, "0"), OURS_OFF: (False, "0")}


def _conv(shape, filters, kernel, strides=(1, 1, 1), padding="same"):
    return "Layer", dict(kind="Conv3D", shape=shape, arguments=[filters, kernel, strides, padding])


def _pool(shape, pool, strides):
    return "Layer", dict(kind="MaxPooling3D", shape=shape, arguments=[pool, strides])


# The demo's step, and what the networks are made of at the sizes of R50 with a clip of 8 x 224 x 224 and at the demo's.
CASES = {
    "demo step, c2d_demo": ("DemoStep", dict(experiment="c2d_demo")),
    "demo step, non_local_c2d_demo": ("DemoStep", dict(experiment="non_local_c2d_demo")),
    "stem 1x7x7 / 2, 3 to 64": _conv((1, 8, 230, 230, 3), 64, (1, 7, 7), (1, 2, 2), "valid"),
    "stem 5x7x7 / 1,2,2, 3 to 64": _conv((1, 12, 230, 230, 3), 64, (5, 7, 7), (1, 2, 2), "valid"),
    "stem 5x7x7 / 2,2,2, 3 to 64": _conv((1, 20, 230, 230, 3), 64, (5, 7, 7), (2, 2, 2), "valid"),
    "pool 1x3x3 / 2, 64": _pool((1, 8, 112, 112, 64), (1, 3, 3), (1, 2, 2)),
    "pool 2x1x1 / 2, 256": _pool((1, 8, 55, 55, 256), (2, 1, 1), (2, 1, 1)),
    "1x1x1, 64 to 256": _conv((1, 8, 55, 55, 64), 256, (1, 1, 1)),
    "1x1x1 / 2, 256 to 512": _conv((1, 4, 55, 55, 256), 512, (1, 1, 1), (1, 2, 2)),
    "1x3x3, 64": _conv((4, 8, 28, 28, 64), 64, (1, 3, 3)),
    "1x3x3 / 2, 128": _conv((1, 4, 58, 58, 128), 128, (1, 3, 3), (1, 2, 2), "valid"),
    "3x1x1, 64": _conv((4, 8, 28, 28, 64), 64, (3, 1, 1)),
    "3x1x1, 256 to 64": _conv((1, 8, 55, 55, 256), 64, (3, 1, 1)),
    "3x3x3, 64": _conv((1, 8, 55, 55, 64), 64, (3, 3, 3)),
    "3x3x3 / 1,2,2, 128": _conv((1, 6, 58, 58, 128), 128, (3, 3, 3), (1, 2, 2), "valid"),
    "demo stem 1x7x7 / 2, 3 to 16": _conv((32, 8, 46, 46, 3), 16, (1, 7, 7), (1, 2, 2), "valid"),
    "demo 1x3x3 / 2, 32": _conv((32, 4, 11, 11, 32), 32, (1, 3, 3), (1, 2, 2), "valid"),
}

flags.DEFINE_string("cases", "", "Only cases whose names start with this. Default: all.")
command_line.define_rounds(BUDGET)
flags.DEFINE_string("out", "docs/benchmarks/convolutions.md", "Where the report goes; empty to only print it.")
FLAGS = flags.FLAGS


def main(_):
    names = [name for name in CASES if name.startswith(FLAGS.cases)]
    if not names:
        raise app.UsageError(f"--cases={FLAGS.cases} begins none of: {'; '.join(CASES)}")
    races = {}
    progress = report.Progress(len(names))
    for name in names:
        progress.next(name)
        races[name] = side_by_side.race(contestants(name), FLAGS.rounds, BUDGET)
        text = written(races)
        report.write(FLAGS.out, text)
    print(text)


def contestants(name):
    """The four of a case."""
    factory, arguments = CASES[name]
    # Rounding grows through the layers of a network.
    tolerance = 0.05 if factory == "DemoStep" else 1e-3
    return [
        Contestant(kind, "keras_convolutions", factory, arguments | dict(own=own), tolerance, _switch(onednn))
        for kind, (own, onednn) in KINDS.items()
    ]


def _switch(onednn):
    return {"TF_ENABLE_ONEDNN_OPTS": onednn}


def bars(races):
    """Bars over {case: Race}."""
    found = []
    for name, race in races.items():
        if name.startswith("demo step"):
            figure = ratio(race.median(OURS_OFF), race.median(OURS_ON))
            found.append(Bar(f"{name}: ours off / ours on", "<=", 3.0, "x", figure, race.one_core))
        figure = ratio(race.median(OURS_ON), race.median(KERAS_ON))
        found.append(Bar(f"{name}: ours on / Keras on", "<=", 1.05, "x", figure, race.one_core))
    return found


def written(races):
    """The report on {case: Race}."""
    parts = [report.heading("Convolutions and poolings of clips, forward and backward")]
    parts.append("How to read this: benchmarks/README.md. Each contestant has oneDNN on or off as its name says.\n")
    rows = [[name, *(_milliseconds(race, kind) for kind in KINDS)] for name, race in races.items()]
    parts.append(report.table(["median ms (minimum)", *KINDS], rows))
    parts.append(f"## Bars\n\n{report.bars(bars(races))}")
    for name, race in races.items():
        parts.append(f"## {name}\n\n{report.times(race)}")
    return "\n".join(parts)


def _milliseconds(race, kind):
    timing = race.timings[kind]
    return f"{timing.median * 1e3:.1f} ({timing.minimum * 1e3:.1f})" if hasattr(timing, "median") else timing


if __name__ == "__main__":
    app.run(main)
