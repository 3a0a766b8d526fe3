"""Commands as a person would type them: one after the other, side by side, or together."""

import contextlib
import math
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import sysconfig
import threading
import time

from keras_nonlocal import errors

PROGRAM = "keras-nonlocal"
# Seconds that the others have to end by themselves when one of several commands has failed, or when they are asked to.
GRACE = 60


def command(name, *arguments, **flags):
    """The command line of `keras-nonlocal NAME arguments --flag=value ...` (list of str)."""
    program = pathlib.Path(sysconfig.get_path("scripts")) / PROGRAM
    return [sys.executable, str(program), name, *arguments, *(f"--{flag}={value}" for flag, value in flags.items())]


def show(arguments):
    """Prints a command line so that it can be typed."""
    print("$", shlex.join([PROGRAM, *arguments[2:]]), flush=True)


@contextlib.contextmanager
def running(arguments, **options):
    """A command's process, which ends with the context. It is no member of our group: Ctrl-C reaches us alone."""
    process = subprocess.Popen(arguments, start_new_session=True, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def told(name, arguments, environment, hear=None, width=13):
    """A running command, each line of which is printed with its name, so wide, and heard with the process."""

    def tell():
        for line in process.stdout:
            print(f"{name:>{width}} | {line}", end="", flush=True)
            if hear:
                hear(process, line)

    environment = {**environment, "PYTHONUNBUFFERED": "1"}
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    thread = threading.Thread(target=tell)
    try:
        with running(arguments, env=environment, **piped) as process:
            thread.start()
            yield process
    finally:
        thread.join()


def run(arguments):
    """Runs a command. Raises UserError if it fails."""
    show(arguments)
    with running(arguments) as process:
        if code := process.wait():
            raise errors.UserError(f"the command above ended with exit code {code}.")


def side_by_side(commands, kills=None):
    """Runs commands at once, each line with the name of who says it; returns the seconds each took.

    Args:
      commands: {name: command line}.
      kills: {name: steps}, of trainings that SIGKILL ends at the first line that tells of such a step or a later one,
        and that are run again each time. Default none.

    Raises:
      UserError: if one fails.
    """
    # A small network cannot keep two cores busy: one core for each is faster than both for one after the other.
    environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": "1"}
    seconds, codes, running_now, start = {}, {}, {}, time.monotonic()
    width = max(13, *map(len, commands))

    def follow(name, arguments):
        for step in (*(kills or {}).get(name, ()), None):
            with told(name, arguments, environment, step and _killer(step), width) as process:
                running_now[name] = process
                codes[name] = process.wait()
            # What an earlier run finished is not killed.
            if codes[name] != -signal.SIGKILL:
                break
        seconds[name] = time.monotonic() - start

    threads = [threading.Thread(target=follow, args=item) for item in commands.items()]
    try:
        for arguments, thread in zip(commands.values(), threads, strict=True):
            show(arguments)
            thread.start()
        for thread in threads:
            thread.join()
    finally:  # after Ctrl-C
        for process in running_now.values():
            process.terminate()
    if any(codes.values()):
        raise errors.UserError(f"exit codes {codes} of the commands above.")
    return {name: seconds[name] for name in commands}


def _killer(step):
    """Kills a training that tells of this step or a later one."""

    def hear(process, line):
        told_of = re.match(r"train +(\d+)/", line)
        if told_of and int(told_of[1]) >= step and process.poll() is None:
            process.kill()
            print(f"SIGKILL after step {told_of[1]}; the same command again", flush=True)

    return hear


def together(commands, environments, grace=GRACE):
    """Runs commands of which none can go on without the others, each line with the name of who says it.

    Ctrl-C and SIGTERM are passed on, and waited for. When one fails the others have `grace` seconds to say what that
    means for them; then they are killed.

    Args:
      commands: {name: command line}.
      environments: {name: environment}.
      grace: seconds. Default a minute.

    Returns:
      Name and exit code (128 + its number for a signal) of the one that failed first; None if none did.
    """
    with contextlib.ExitStack() as stack:
        processes, failed, until = {}, None, math.inf
        asked = stack.enter_context(_passed_on(processes))
        for name, arguments in commands.items():
            if not asked:
                processes[name] = stack.enter_context(told(name, arguments, environments[name]))
        while None in (codes := {name: process.poll() for name, process in processes.items()}).values():
            failed = failed or _failed(codes)
            if failed and not asked:
                until = min(until, time.monotonic() + grace)
            if time.monotonic() > until:
                for process in processes.values():
                    process.kill()
            time.sleep(0.05)
    return failed or _failed(codes)


def _failed(codes):
    codes = ((name, 128 - code if (code or 0) < 0 else code) for name, code in codes.items())
    return next(((name, code) for name, code in codes if code), None)


@contextlib.contextmanager
def _passed_on(processes):
    """Passes signals that ask to stop on to processes; a list of those that came."""
    asked = []

    def pass_on(number, frame):
        asked.append(number)
        for process in processes.values():
            process.send_signal(number)

    # Only the main thread may handle signals, and nohup's wish not to be interrupted is respected.
    is_main = threading.current_thread() is threading.main_thread()
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if is_main and signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
