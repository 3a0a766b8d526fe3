"""keras-nonlocal commands in processes that start at once: forked from one that has imported TensorFlow, not used it.

A command's process has nothing of an earlier one's but the files: killing it loses all that a killed command loses,
without the seconds of importing TensorFlow for each.
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # oneDNN's kernels, off by default on CPUs without AVX-512


class Zygote:
    """A context in which commands can be started, one at a time.

    Args:
      *modules: imported before the first command, besides those of training.
      path: folder to import them from as well.
    """

    def __init__(self, *modules, path=""):
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [path, os.environ.get("PYTHONPATH")]))
        self._life = None
        self._process = subprocess.Popen(
            [sys.executable, __file__, *modules], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment,
        )  # fmt: skip

    def __enter__(self):
        self.answer()
        return self

    def __exit__(self, *_):
        if self._life:
            self._life.send(signal.SIGKILL)
        self._process.stdin.close()
        self._process.wait()

    def start(self, name, log, **flags):
        """Starts `keras-nonlocal NAME --flag=value ...`, whose output goes to the file `log`; returns its Life."""
        if self._life:  # nobody has waited for it, and its exit code would be taken for this one's number
            self._life.send(signal.SIGKILL)
            self._life.wait()
        arguments = [name, *(f"--{flag}={value}" for flag, value in flags.items())]
        self._process.stdin.write(json.dumps([str(log), arguments]) + "\n")
        self._process.stdin.flush()
        pathlib.Path(log).write_text("")
        self._life = Life(self, pathlib.Path(log), self.answer())
        return self._life

    def run(self, name, log, **flags):
        """The exit code of a command and what it printed."""
        life = self.start(name, log, **flags)
        return life.wait(), life.printed()

    def forget(self):
        """The last life is over: its number may be another process's."""
        self._life = None

    def answer(self):
        """The next number that the first process says."""
        return int(self._process.stdout.readline())


class Life:
    """A command's process.

    Args:
      zygote: who started it.
      log: pathlib.Path of what it prints.
      pid: its number.
    """

    def __init__(self, zygote, log, pid):
        self._zygote, self._log, self._pid = zygote, log, pid

    def send(self, number):
        """Sends a signal, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, number)

    def is_alive(self):
        return pathlib.Path(f"/proc/{self._pid}").exists()

    def printed(self):
        return self._log.read_text()

    def wait(self):
        """The exit code, minus the number of a signal that ended it."""
        code = self._zygote.answer()
        self._zygote.forget()
        return code


def main():
    import importlib

    from tensorflow.python.eager import context

    for name in ("keras_nonlocal.tfm.train", *sys.argv[1:]):
        importlib.import_module(name)
    answers = os.fdopen(os.dup(1), "w")
    print(0, file=answers, flush=True)
    for line in sys.stdin:
        log, arguments = json.loads(line)
        assert not context.context()._initialized, "its threads would be missing after a fork"
        pid = os.fork()
        if not pid:
            live(log, arguments)
        print(pid, file=answers, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=answers, flush=True)


def live(log, arguments):
    """Runs a command as the program does, and ends the process."""
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background ignores it
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
        os.dup2(1, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        from keras_nonlocal import commands

        sys.argv = ["keras-nonlocal", *arguments]
        commands.main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
