"""Contestants side by side: each in a process of its own, taking turns, so that all of them see the same machine."""

import contextlib
import dataclasses
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import worker

WORKER = pathlib.Path(worker.__file__)
# Between turns: the threads of who ran last spin for some milliseconds before they sleep.
PAUSE = 0.1
# A turn shorter than this is filled with repetitions, whose mean counts.
TURN = 0.04
# Rounds: as many as fit the budget, but at least MANY, or FEW where a contestant takes longer than LONG.
BUDGET, MOST, MANY, FEW, LONG = 20.0, 15, 7, 3, 2.0
# Below this, starting threads and calling a framework is much of the time, and that is done by one thread.
SHORT = 0.02
CPU_PER_WALL = 1.6
# Less than this of the other processes cannot be why a contestant does not fill both cores.
OTHERS = 0.1
ATTEMPTS = 3
# Bytes of data of one process, and what is left free for the machine.
LIMIT, RESERVE = 14e9, 2e9


@dataclasses.dataclass(frozen=True)
class Contestant:
    """An object with run(), and results() if it is to agree with the others.

    Args:
      name: in tables.
      module: that defines it, importable from this folder; only a worker imports it.
      factory: what to call in the module.
      arguments: to call it with.
      tolerance: up to which its results agree with those of the first contestant; None if it computes something else.
      environment: variables of its process, beside those of this one.
    """

    name: str
    module: str
    factory: str
    arguments: dict
    tolerance: float | None = 1e-3
    environment: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of wall for one run, and what was going on meanwhile: CPU seconds for a second of wall."""

    median: float
    minimum: float
    cpu_per_wall: float
    others: float
    rounds: int

    @property
    def disturbed(self):
        """Whether it did not get both cores because others did."""
        return self.median >= SHORT and self.cpu_per_wall < CPU_PER_WALL and self.others > OTHERS


class Failure(Exception):  # noqa: N818
    """Why a contestant has no number: its text goes into the table."""


@dataclasses.dataclass
class Race:
    """What came out: for each name a Timing, or the text of a Failure; and how far each is from the first."""

    timings: dict
    differences: dict
    disagree: list
    one_core: bool

    def median(self, *names):
        """The fastest median of those names that finished, or None."""
        found = [self.timings.get(name) for name in names]
        return min((timing.median for timing in found if isinstance(timing, Timing)), default=None)


class Worker:
    """A process with one contestant."""

    def __init__(self, contestant):
        self._stderr = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [sys.executable, WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", **contestant.environment},
        )
        build = dict(module=contestant.module, name=contestant.factory, arguments=contestant.arguments)
        try:
            self._send(**build, limit=min(LIMIT, available() - RESERVE))
        except Failure:
            self.close()
            raise

    def ask(self, function, **arguments):
        """Calls a function of worker.py. Raises Failure."""
        return self._send(do=function, **arguments)

    def close(self):
        self._process.kill()
        self._process.communicate()
        self._stderr.close()

    def _send(self, **request):
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise Failure(self._last_words())
        reply = json.loads(line)
        if "error" in reply:
            raise Failure(reply["error"])
        return reply

    def _last_words(self):
        code = self._process.wait()
        self._stderr.seek(0)
        text = self._stderr.read()
        # Allocators abort, and the kernel kills (9) whoever takes the last memory.
        if code == -9 or worker.OUT_OF_MEMORY.search(text):
            return "out of memory"
        return f"exit code {code}: {(text.strip().splitlines() or [''])[-1][:200]}"


@contextlib.contextmanager
def started(contestant):
    """A Worker, closed at the end. Raises Failure."""
    process = Worker(contestant)
    try:
        yield process
    finally:
        process.close()


def race(contestants, rounds=None, budget=BUDGET):
    """Times contestants in turns.

    Args:
      contestants: of different names; the first is what the others' results are compared with.
      rounds: how many turns each has. Default: by the budget.
      budget: seconds for all rounds.

    Returns:
      A Race. It was run again, up to ATTEMPTS times, if another process took a core; if that did not help, the best
      attempt is returned and `one_core` is set.
    """
    workers, timings, seconds = {}, {}, {}
    with contextlib.ExitStack() as stack:
        for contestant in contestants:
            try:
                process = stack.enter_context(started(contestant))
                seconds[contestant.name] = warm_up(process)
                workers[contestant.name] = process
            except Failure as e:
                timings[contestant.name] = str(e)
        differences, disagree = compare([c for c in contestants if c.name in workers], workers)
        turns = {name: max(1, math.ceil(TURN / s)) for name, s in seconds.items()}
        rounds = rounds or rounds_within(budget, [turns[name] * s for name, s in seconds.items()])
        attempts = []
        for _ in range(ATTEMPTS):
            attempts.append(measure(workers, turns, rounds))
            if not _disturbed(attempts[-1]):
                break
        best = min(attempts, key=_disturbed)
    timings = {contestant.name: (best | timings)[contestant.name] for contestant in contestants}
    return Race(timings, differences, disagree, _disturbed(best) > 0)


def warm_up(process):
    """Runs until nothing is compiled or allocated for the first time; returns the seconds of the last run."""
    first = process.ask("run")["wall"]
    if first > LONG:
        return process.ask("run")["wall"] if first < 10 * LONG else first
    process.ask("run")
    return process.ask("run")["wall"]


def rounds_within(budget, seconds):
    """How many rounds fit, within the least and most that make sense.

    Args:
      budget: seconds.
      seconds: of each contestant's turn.
    """
    least = FEW if max(seconds, default=0) > LONG else MANY
    return max(least, min(MOST, int(budget / (sum(seconds) + PAUSE * len(seconds) + 1e-9))))


def measure(workers, turns, rounds):
    """One attempt: {name: Timing, or the text of a Failure}.

    Args:
      workers: {name: Worker}, warm.
      turns: {name: runs in a turn}.
      rounds: turns of each.
    """
    taken = {name: [] for name in workers}
    failures = {}
    order = list(workers)
    for _ in range(rounds):
        for name in order:
            time.sleep(PAUSE)
            try:
                if name not in failures:
                    taken[name].append(workers[name].ask("run", repeats=turns[name]))
            except Failure as e:
                failures[name] = str(e)
        order = order[1:] + order[:1]  # nobody always follows the same one
    return {name: _timing(runs, turns[name]) for name, runs in taken.items() if name not in failures} | failures


def _disturbed(attempt):
    """How many were."""
    return sum(isinstance(timing, Timing) and timing.disturbed for timing in attempt.values())


def _timing(runs, repeats):
    walls = [run["wall"] / repeats for run in runs]
    wall = sum(run["wall"] for run in runs)
    return Timing(
        median=statistics.median(walls),
        minimum=min(walls),
        cpu_per_wall=statistics.median(run["cpu"] / run["wall"] for run in runs),
        # The kernel counts in ticks of 10 ms: only the sum means something.
        others=max(0.0, sum(run["others"] for run in runs) / wall),
        rounds=len(runs),
    )


def compare(contestants, workers):
    """How far results are from the first contestant's.

    Args:
      contestants: those to compare.
      workers: {name: Worker}.

    Returns:
      {name: {array: difference(array, the first's)}}, and the names whose differences pass their tolerance.
    """
    differences, disagree, reference = {}, [], None
    with tempfile.TemporaryDirectory() as folder:
        for contestant in contestants:
            if contestant.tolerance is None:
                continue
            path = f"{folder}/{len(differences)}.npz"
            try:
                workers[contestant.name].ask("results", path=path)
            except Failure as e:
                disagree.append(f"{contestant.name} ({e})")
                continue
            with np.load(path) as file:
                arrays = dict(file)
            if reference is None:
                reference = arrays
            differences[contestant.name] = difference(arrays, reference)
            if not max(differences[contestant.name].values()) <= contestant.tolerance:  # NaN included
                disagree.append(contestant.name)
    return differences, disagree


def difference(arrays, reference):
    """The rms of each array's difference from its reference, relative to the reference's rms.

    A gradient that is zero in exact arithmetic, as phi's bias has under a softmax, is rounding errors only: nothing is
    taken relative to less than a thousandth of the largest gradient.

    Raises:
      KeyError: if one has an array that the other does not.
    """
    if arrays.keys() != reference.keys():
        raise KeyError(f"{sorted(arrays)} are not {sorted(reference)}")
    rms = {name: _rms(array) for name, array in reference.items()}
    largest = max((value for name, value in rms.items() if name.startswith("d")), default=0)
    return {
        name: float(_rms(array.ravel() - reference[name].ravel()) / max(rms[name], 1e-3 * largest, 1e-30))
        for name, array in arrays.items()
    }


def _rms(array):
    return float(np.sqrt(np.mean(np.square(array, dtype="float64"))))


def peak_memory(contestant):
    """MiB over framework, inputs and weights, or the text of a Failure; in a fresh process."""
    try:
        with started(contestant) as process:
            return process.ask("peak")["mib"]
    except Failure as e:
        return str(e)


def available():
    """Bytes that can be taken without swapping."""
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/meminfo does not say how much memory is available")
