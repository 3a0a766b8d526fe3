"""Commands as a person would type them, one after the other or side by side."""

import contextlib
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


def command(name, **flags):
    """The command line of `keras-nonlocal NAME --flag=value ...` (list of str)."""
    program = pathlib.Path(sysconfig.get_path("scripts")) / PROGRAM
    return [sys.executable, str(program), name, *(f"--{flag}={value}" for flag, value in flags.items())]


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
        process.wait()


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
    environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    seconds, codes = {}, {}
    width = max(13, *map(len, commands))

    def follow(name, arguments):
        start = time.monotonic()
        for step in (*(kills or {}).get(name, ()), None):
            piped = running(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            process = stack.enter_context(piped)
            for line in process.stdout:
                print(f"{name:>{width}} | {line}", end="", flush=True)
                told = re.match(r"train +(\d+)/", line)
                if step is not None and told and int(told[1]) >= step:
                    process.kill()
                    print(f"{name:>{width}} | SIGKILL after step {told[1]}; the same command again", flush=True)
                    step = None
            codes[name] = process.wait()
            # What an earlier run finished is not killed.
            if codes[name] != -signal.SIGKILL:
                break
        seconds[name] = time.monotonic() - start

    with contextlib.ExitStack() as stack:
        threads = []
        for name, arguments in commands.items():
            show(arguments)
            threads.append(threading.Thread(target=follow, args=(name, arguments)))
            threads[-1].start()
        for thread in threads:
            thread.join()
    if any(codes.values()):
        raise errors.UserError(f"exit codes {codes} of the commands above.")
    return {name: seconds[name] for name in commands}
