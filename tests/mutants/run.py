"""Do the tests notice when something in the package is wrong?

    python tests/mutants/run.py
    python tests/mutants/run.py --faults softmax 1/N --tests tests/test_attend.py --slow

Puts the faults of faults.py into copies of the package, one at a time, and runs the tests on each copy. Prints how many
tests fail for each fault, and at the end the faults that no test notices and a small set of tests, found greedily, that
notices all others. The package as it is comes first: a test that fails there notices nothing. Exits with 1 if a fault
goes unnoticed.
"""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time

import faults

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = "keras_nonlocal"
# What the tests import apart from the package: every run is a fork of this process, which has done so.
WARM = ("hypothesis", "pytest", "keras", "tf_keras", "official.core.train_lib", "official.vision.configs.maskrcnn")
WARM += ("official.vision.tasks.video_classification", "official.vision.modeling.backbones.factory")


class Recorder:
    """A pytest plugin that writes down which tests failed and the seconds that each took."""

    def __init__(self):
        self.failed, self.seconds = [], collections.Counter()

    def pytest_runtest_logreport(self, report):
        self.seconds[report.nodeid] += report.duration
        self._fails(report)

    def pytest_collectreport(self, report):
        self._fails(report)

    def _fails(self, report):
        if report.failed and report.nodeid not in self.failed:
            self.failed.append(report.nodeid)


def put_in(fault, folder):
    """Copies the package to a folder, with a fault in it unless that is None."""
    shutil.copytree(ROOT / PACKAGE, folder / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    if fault is None:
        return
    path = folder / PACKAGE / fault.file
    text = path.read_text()
    if text.count(fault.old) != 1:
        raise SystemExit(f"faults.py: {fault.old!r} is {text.count(fault.old)} times in {fault.file}, not once.")
    path.write_text(text.replace(fault.old, fault.new))


def run_tests(folder, arguments):
    """Runs pytest in this process on the package in a folder, and leaves the results there."""
    import hypothesis
    import pytest

    output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = str(folder)  # of processes that tests start
    # The first example that fails will do, and none is kept for later.
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("mutants", database=None, phases=phases, derandomize=True)
    hypothesis.settings.load_profile("mutants")
    recorder = Recorder()
    code = pytest.main([*arguments, "-q", "--tb=line", "-p", "no:cacheprovider"], plugins=[recorder])
    found = sys.modules.get(PACKAGE)
    if found is not None and not found.__file__.startswith(str(folder)):
        raise SystemExit(f"The tests ran on {found.__file__}.")
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        recorder.failed.append(f"pytest: {code!s}")
    (folder / "results.json").write_text(json.dumps([recorder.failed, recorder.seconds]))


def start(fault, folder, arguments):
    """Starts a process that tests a copy with a fault in it. Returns its id."""
    folder.mkdir()
    put_in(fault, folder)
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        os.setsid()
        run_tests(folder, arguments)
        code = 0
    finally:
        os._exit(code)


def results(folder):
    """(names of failed tests, {name: seconds}) of a run that has ended, if only by dying."""
    path = folder / "results.json"
    return json.loads(path.read_text()) if path.exists() else [["the process died"], {}]


def run_all(jobs, processes, limit, done):
    """Runs (fault, arguments) jobs, several at a time.

    Args:
      jobs: list of (fault or None, arguments of pytest).
      processes: how many at a time.
      limit: seconds after which a run is killed, which counts as noticed.
      done: function of (fault, names of failed tests, {name: seconds}) called as each ends.
    """
    waiting, running = collections.deque(enumerate(jobs)), {}
    with tempfile.TemporaryDirectory() as root, _ended(running):
        while waiting or running:
            while waiting and len(running) < processes:
                number, (fault, arguments) = waiting.popleft()
                folder = pathlib.Path(root, str(number))
                running[start(fault, folder, arguments)] = (fault, folder, time.monotonic() + limit)
            time.sleep(0.1)
            for process, (fault, folder, end) in list(running.items()):
                if os.waitpid(process, os.WNOHANG)[0]:
                    failed, seconds = results(folder)
                elif time.monotonic() > end:
                    os.killpg(process, signal.SIGKILL)
                    os.waitpid(process, 0)
                    failed, seconds = [f"killed after {limit:.0f} s"], {}
                else:
                    continue
                del running[process]
                shutil.rmtree(folder)
                done(fault, failed, seconds)


@contextlib.contextmanager
def _ended(running):
    """Ends the processes that still run when this one is interrupted."""
    try:
        yield
    finally:
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)


def smallest_set(noticed, seconds):
    """A few tests that notice together whatever any notices: always the one that adds most, of these the fastest.

    Args:
      noticed: {fault: set of names of tests}.
      seconds: {name: seconds of the test on the package as it is}.

    Returns:
      [(name of a test, number of faults that it adds)].
    """
    left = {fault: tests & seconds.keys() for fault, tests in noticed.items()}
    left, chosen = {fault: tests for fault, tests in left.items() if tests}, []
    while left:
        adds = collections.Counter(test for tests in left.values() for test in tests)
        best = max(adds, key=lambda test: (adds[test], -seconds[test]))
        chosen.append((best, adds[best]))
        left = {fault: tests for fault, tests in left.items() if best not in tests}
    return chosen


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", nargs="+", default=[""], help="Only faults whose file or description holds one.")
    parser.add_argument("--tests", nargs="+", help="What pytest runs; default: what faults.py names for each fault.")
    parser.add_argument("--slow", action="store_true", help="Run the slow tests too.")
    parser.add_argument("--first", action="store_true", help="Stop at the first test that fails: quicker, no counts.")
    parser.add_argument(
        "--limit", type=float, default=3600, help="Seconds after which a run is killed, as noticed. Default 3600."
    )
    parser.add_argument("--processes", type=int, default=2, help="Runs at a time. Default 2.")
    parser.add_argument("--out", type=pathlib.Path, help="A JSON file for the names of all tests that fail.")
    return parser.parse_args()


def main():
    options = parse_arguments()
    chosen = [f for f in faults.FAULTS if any(word in f"{f.file}: {f.what}" for word in options.faults)]
    if not chosen:
        raise SystemExit(f"No fault of faults.py holds any of {options.faults}.")
    more = ["-m", "slow or not slow"] if options.slow else []
    os.chdir(ROOT)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.update(TF_NUM_INTRAOP_THREADS="1", OMP_NUM_THREADS="1")
    for module in WARM:
        __import__(module)

    failing, seconds = [], {}
    if not options.first:
        everything = options.tests or sorted({path for fault in chosen for path in faults.tests(fault)})
        print(f"The package as it is, {' '.join(everything)}", flush=True)
        sound, began = [], time.monotonic()
        run_all([(None, [*everything, *more])], 1, options.limit, lambda *found: sound.extend(found[1:]))
        failing, seconds = sound
        print(f"{len(seconds)} tests, {time.monotonic() - began:.0f} s; failing: {failing or 'none'}", flush=True)

    noticed, began = {}, time.monotonic()

    def done(fault, failed, _):
        noticed[fault] = set(failed) - set(failing)
        passed = time.monotonic() - began
        left = passed / len(noticed) * (len(chosen) - len(noticed))
        example = min(noticed[fault], default="-- nobody notices")
        print(
            f"{len(noticed)}/{len(chosen)} {passed:.0f} s, {left:.0f} s left | {fault.file}: {fault.what} | "
            f"{len(noticed[fault])} | {example}",
            flush=True,
        )
        if options.out:
            table = [{"file": f.file, "what": f.what, "tests": sorted(names)} for f, names in noticed.items()]
            options.out.write_text(json.dumps({"seconds": seconds, "faults": table}, indent=1))

    more += ["-x"] if options.first else []
    jobs = [(fault, [*(options.tests or faults.tests(fault)), *more]) for fault in chosen]
    run_all(jobs, options.processes, options.limit, done)

    if seconds:
        print("\nA small set of tests that notices whatever any does, and how many faults each adds:")
        for name, count in smallest_set(noticed, seconds):
            print(f"{count:4} {seconds[name]:6.1f} s {name}")
    missed = [fault for fault in chosen if not noticed[fault]]
    print(f"\n{len(chosen) - len(missed)} of {len(chosen)} faults are noticed.")
    for fault in missed:
        print(f"Nobody notices {fault.file}: {fault.what}: {fault.old!r} -> {fault.new!r}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
