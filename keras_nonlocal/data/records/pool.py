"""Work done by several processes, and what happens when one of them, or the whole run, is stopped."""

import collections
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import traceback

from keras_nonlocal.errors import UserError


def run(do, maker, tasks, workers, tell):
    """Does all tasks in several processes. A dead worker is noticed here; workers end when this process does.

    Args:
      do: function of a module, of a task, the maker and `tell`; it may call `tell("reading", path)` before each item,
        and tell other kinds of values.
      maker: ExampleMaker.
      tasks: list of what pickles, as must what `do` returns.
      workers: how many processes; 0 is one for each CPU. With 1 the calling process does the work.
      tell: hears, in this process, what the tasks tell.

    Returns:
      List of what `do` returned, in the order of the tasks.

    Raises:
      UserError: a worker died, or a task raised a UserError.
    """
    workers = min(workers or _cpus(), len(tasks))
    if workers <= 1:
        return [do(task, maker, tell) for task in tasks]
    # Never fork this process, which may run TensorFlow's threads. The fork server is a fresh one that imports what
    # the work needs once and starts no thread of it, so that a worker starts in milliseconds.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([do.__module__, type(maker).__module__])
    pool, results, waiting = [], {}, collections.deque(enumerate(tasks))
    try:
        for _ in range(workers):
            pool.append(_Worker(context, do, maker))
            pool[-1].send(*waiting.popleft())
        while busy := [worker for worker in pool if worker.number is not None]:
            for worker in multiprocessing.connection.wait(busy):
                kind, value = worker.receive()
                if kind == "done":
                    results[worker.number] = value
                    worker.send(*(waiting.popleft() if waiting else (None, None)))
                else:
                    tell(kind, value)
    finally:
        # At once: nothing they have not finished is visible.
        for worker in pool:
            worker.process.kill()
        for worker in pool:
            worker.process.join()
            worker.connection.close()
    return [results[number] for number in range(len(tasks))]


@contextlib.contextmanager
def stoppable():
    """Turns SIGINT and SIGTERM into a UserError, so that everything is cleaned up on the way out."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)

    def stop(number, frame):
        for each in numbers:  # Once is enough: cleaning up takes a moment.
            signal.signal(each, signal.SIG_IGN)
        raise _Stopped(signal.Signals(number).name)

    before = [signal.signal(number, stop) for number in numbers]
    try:
        yield
    except _Stopped as stopped:
        raise UserError(
            f"stopped by {stopped}; rerun the same command to finish: complete shards are kept"
        ) from stopped
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


class _Stopped(BaseException):
    """A signal. No Exception, which others catch: for os.path.exists a ValueError means that there is no such file."""


def _cpus():
    """The CPUs this process may use, which in a container are fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


class _Worker:
    """A process, our end of its pipe, the number of its task (None when it has none) and the file it reads."""

    def __init__(self, context, do, maker):
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(do, maker, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.number = None
        self.reading = None
        self._noun = maker.noun

    def fileno(self):
        """Lets multiprocessing.connection.wait take the worker itself."""
        return self.connection.fileno()

    def send(self, number, task):
        self.number = number
        with contextlib.suppress(BrokenPipeError):  # It died; the next receive says so.
            self.connection.send(task)

    def receive(self):
        try:
            kind, value = self.connection.recv()
        except (EOFError, ConnectionResetError) as error:
            raise self._death() from error
        if kind == "user_error":
            raise UserError(value)
        if kind == "crash":
            raise RuntimeError(f"a worker failed while reading {self.reading}:\n{value}")
        self.reading = value if kind == "reading" else None
        return kind, value

    def _death(self):
        self.process.join()
        code = self.process.exitcode
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        while_reading, without = "", ""
        if self.reading:
            while_reading, without = f" while reading {self.reading}", f", or without that {self._noun}"
        return UserError(
            f"a worker died of {how}{while_reading}; rerun the same command (complete shards are kept), with fewer "
            f"--workers if memory is short{without}"
        )


def _serve(do, maker, connection):
    """A worker's life: a task, its result, the next task, until None or the parent is gone."""
    # Ctrl-C reaches the whole process group; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def tell(kind, value):
        try:
            connection.send((kind, value))
        except (BrokenPipeError, ConnectionResetError):
            sys.exit()  # The parent is gone. No Exception, which is the work's own.

    maker.start_worker()
    with contextlib.suppress(EOFError, ConnectionResetError):
        while task := connection.recv():
            try:
                answer = "done", do(task, maker, tell)
            except UserError as error:
                answer = "user_error", str(error)
            except Exception:
                answer = "crash", traceback.format_exc()
            tell(*answer)
