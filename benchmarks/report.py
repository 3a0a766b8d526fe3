"""What every report has: the machine and the command, tables, and bars with the figures reached."""

import dataclasses
import datetime
import importlib.metadata
import os
import pathlib
import platform
import re
import shlex
import sys
import time

import side_by_side
from frameworks import THREADS

PACKAGES = ("tensorflow", "keras", "tf_keras", "tf-models-official", "torch", "numpy")
# What decides which kernels TensorFlow picks, and how fast they are.
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16")


def machine():
    """One line on what the numbers were measured with."""
    text = pathlib.Path("/proc/cpuinfo").read_text()
    found = {key: re.search(rf"^{key}\s*: (.*)$", text, re.M) for key in ("model name", "cpu family", "model", "flags")}
    cpu = {key: match[1] if match else "?" for key, match in found.items()}
    wide = ", ".join(flag for flag in FLAGS if flag in cpu["flags"].split())
    packages = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    onednn = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "not set")
    return (
        f"{cpu['model name']} (family {cpu['cpu family']}, model {cpu['model']}; {wide}), {os.cpu_count()} cores, "
        f"{THREADS} threads used; Python {platform.python_version()}, {packages}; TF_ENABLE_ONEDNN_OPTS={onednn}; "
        f"{datetime.date.today()}"
    )


def heading(title):
    """The first lines of a report: title, machine and the exact command."""
    return f"# {title}\n\n{machine()}\n\n```\n{shlex.join(['python', *sys.argv])}\n```\n"


def table(columns, rows):
    """A Markdown table; all columns but the first are aligned right."""
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines) + "\n"


@dataclasses.dataclass(frozen=True)
class Bar:
    """A figure that is asked for.

    Args:
      what: the figure, in words.
      relation: ">=" or "<=".
      asked: the bound.
      unit: written after both figures, such as "x", " %" or " MiB".
      reached: the figure, or None where it was not measured.
      one_core: whether other processes took a core while it was measured. Threads that wait for each other, PyTorch's
        above all, then lose several times what others lose: such a figure decides nothing.
    """

    what: str
    relation: str
    asked: float
    unit: str
    reached: float | None
    one_core: bool = False

    @property
    def held(self):
        """Whether it is, or None where nothing was measured that counts."""
        if self.reached is None or self.one_core:
            return None
        return self.reached >= self.asked if self.relation == ">=" else self.reached <= self.asked

    def row(self):
        reached = "-" if self.reached is None else f"{self.reached:.3g}{self.unit}"
        missing = "not measured" if self.reached is None else "does not count: one core"
        verdict = {True: "held", False: "**not held**", None: missing}[self.held]
        return self.what, f"{self.relation} {self.asked:g}{self.unit}", reached, verdict


def ratio(numerator, denominator, percent=False):
    """Their quotient, or None where one of them is missing or no number."""
    if not all(isinstance(value, float | int) for value in (numerator, denominator)):
        return None
    return numerator / denominator * (100 if percent else 1)


def bars(bars):
    """A table of Bars, and how many of those measured are held."""
    measured = [bar for bar in bars if bar.held is not None]
    held = sum(bar.held for bar in measured)
    rows = [bar.row() for bar in bars]
    return f"{held} of {len(measured)} held.\n\n{table(['bar', 'asked', 'reached', ''], rows)}"


TIMES = ["contestant", "median ms", "min ms", "cpu/wall", "others", "rounds", "against the first"]


def times(race):
    """A table of a Race, in the columns TIMES."""
    first = next(iter(race.timings.values()), None)
    rows = []
    for name, timing in race.timings.items():
        if not isinstance(timing, side_by_side.Timing):
            rows.append([name, timing, *[""] * 5])
            continue
        against = ratio(timing.median, getattr(first, "median", None))
        rows.append(
            [
                name,
                f"{timing.median * 1e3:.1f}",
                f"{timing.minimum * 1e3:.1f}",
                f"{timing.cpu_per_wall:.2f}",
                f"{timing.others:.2f}",
                timing.rounds,
                "" if against is None else f"{against:.2f}x",
            ]
        )
    return table(TIMES, rows) + _remarks(race)


def _remarks(race):
    remarks = []
    if race.one_core:
        remarks.append("**One core**: another process took time from one of these, in all attempts.")
    if race.disagree:
        remarks.append(f"**DISAGREE**: {', '.join(race.disagree)}")
    worst = {name: max(parts.items(), key=lambda part: part[1]) for name, parts in race.differences.items()}
    text = "; ".join(f"{name} {value:.1e} ({array})" for name, (array, value) in list(worst.items())[1:])
    if text:
        remarks.append(f"Largest relative rms difference from the first: {text}.")
    return "".join(f"\n{remark}\n" for remark in remarks)


class Progress:
    """Prints which of n cases is being measured, and when the last may be done.

    Args:
      total: n.
    """

    def __init__(self, total):
        self._total, self._done, self._start = total, 0, time.monotonic()

    def next(self, name):
        elapsed = time.monotonic() - self._start
        left = f", about {elapsed / self._done * (self._total - self._done) / 60:.0f} min left" if self._done else ""
        self._done += 1
        print(f"[{self._done}/{self._total}] {name}{left}", flush=True)


def write(path, text):
    """Writes a report, making its folder; an empty path writes nothing."""
    if path:
        path = pathlib.Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
