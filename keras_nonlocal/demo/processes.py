"""Commands as a person would type them, one after the other or side by side."""

import contextlib
import os
import pathlib
import shlex
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


def side_by_side(commands):
    """Runs commands at once, each line with the name of who says it; returns the seconds each took.

    Args:
      commands: {name: command line}.

    Raises:
      UserError: if one fails.
    """
    # A small network cannot keep two cores busy: one core for each is faster than both for one after the other.
    environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    seconds, codes = {}, {}

    def follow(name, process):
        start = time.monotonic()
        for line in process.stdout:
            print(f"{name:>13} | {line}", end="", flush=True)
        codes[name] = process.wait()
        seconds[name] = time.monotonic() - start

    with contextlib.ExitStack() as stack:
        threads = []
        for name, arguments in commands.items():
            show(arguments)
            piped = running(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            threads.append(threading.Thread(target=follow, args=(name, stack.enter_context(piped))))
            threads[-1].start()
        for thread in threads:
            thread.join()
    if any(codes.values()):
        raise errors.UserError(f"exit codes {codes} of the commands above.")
    return {name: seconds[name] for name in commands}
