"""Ctrl-C and SIGTERM: the step under way is finished and saved before a run ends."""

import os
import signal
import threading

import tensorflow as tf

from keras_nonlocal import errors
from keras_nonlocal.tfm.runs import workers

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):
    """Leaves an evaluation that nobody waits for any more."""


class Stopping:
    """Whether a run was asked to stop, also while TensorFlow runs a loop of steps. A context: its end restores all.

    The first Ctrl-C or SIGTERM asks, another Ctrl-C ends the process at once.

    Python's own handlers would wait until TensorFlow returns, after a whole loop of steps. So the number of the signal
    goes into a pipe, which a thread reads; it sets a variable that the loop of steps reads before each of them.

    Args:
      console: file that people read.
    """

    def __init__(self, console):
        self._console = console
        self.signal = None
        with tf.device("CPU:0"):
            self.flag = tf.Variable(False, trainable=False, name="stop")

    def __enter__(self) -> "Stopping":
        # Only the main thread may handle signals, and nohup's wish not to be interrupted is respected.
        self._old = {}
        if threading.current_thread() is not threading.main_thread():
            return self
        numbers = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._old = {number: signal.signal(number, _leave_it_to_the_thread) for number in numbers}
        self._old_wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        if not self._old:
            return
        signal.set_wakeup_fd(self._old_wakeup)
        for number, handler in self._old.items():
            signal.signal(number, handler)
        os.close(self._writer)
        self._thread.join()
        os.close(self._reader)

    def _watch(self):
        while byte := os.read(self._reader, 1):
            if byte[0] in self._old:
                self._receive(signal.Signals(byte[0]))

    def _receive(self, number):
        if self.signal is None:
            self.signal = number
            self.flag.assign(True)
            again = "; Ctrl-C now ends it at once" if number == signal.SIGINT else ""
            print(f"{number.name}: stopping after this step{again}", file=self._console, flush=True)
        elif number == signal.SIGINT:
            # Nothing is half-written: files get their names when they are whole.
            print("stopped at once", file=self._console, flush=True)
            os._exit(128 + number)

    def stopped(self, what: str) -> errors.Stopped:
        """The exception that ends the command.

        Args:
          what: how far it came and how to go on.
        """
        number = self.signal or signal.SIGTERM  # of several workers another one was asked
        return errors.Stopped(f"stopped by {number.name} {what}", 128 + number)


def _leave_it_to_the_thread(number, frame):
    pass


def asked_anywhere(stopping: Stopping, strategy: tf.distribute.Strategy) -> bool:
    """Whether a stop was asked of this worker or, of several that train together, of any. All must call it."""
    return workers.on_any(strategy, stopping.flag)
