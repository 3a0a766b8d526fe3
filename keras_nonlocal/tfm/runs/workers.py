"""The devices and workers that share a run: which strategy, what all of them agree on, and what if one is lost."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

import tensorflow as tf
from official.common import distribute_utils
from official.core import config_definitions as cfg

from keras_nonlocal import cluster, errors

# The exit code of a worker that has lost another one: start all of them again.
LOST = os.EX_TEMPFAIL


def strategy(runtime: cfg.RuntimeConfig) -> tf.distribute.Strategy:
    """The strategy of a configuration; of several workers in TF_CONFIG it is multi_worker_mirrored, as none is alone.

    Args:
      runtime: the configuration.
    """
    name = runtime.distribution_strategy
    index, workers = cluster.place()
    if workers > 1 and name in ("off", "one_device", "mirrored"):
        name = "multi_worker_mirrored"
    if workers > 1:
        print(f"worker {index} of {workers}: waiting for the others", flush=True)
    with _ended_by_ctrl_c():
        return distribute_utils.get_distribution_strategy(
            distribution_strategy=name,
            all_reduce_alg=runtime.all_reduce_alg,
            num_gpus=runtime.num_gpus,
            tpu_address=runtime.tpu,
        )


@contextlib.contextmanager
def _ended_by_ctrl_c():
    """Python's own handler would wait as long as TensorFlow waits for other workers, up to an hour."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def are_several(strategy: tf.distribute.Strategy) -> bool:
    """Whether other workers would wait for this one if it left a loop of steps early."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) and cluster.place()[1] > 1


def of_first(strategy: tf.distribute.Strategy, number: int) -> int:
    """What the first worker gives for an integer. All must call it."""
    if not are_several(strategy):
        return number

    def on_replica():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return tf.where(tf.equal(replica, 0), tf.constant(number, tf.int64), 0)

    return int(strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(on_replica), axis=None))


def on_any(strategy: tf.distribute.Strategy, flag: bool | tf.Variable) -> bool:
    """Whether a flag is set on any worker. All must call it."""
    if not are_several(strategy):
        return bool(flag)
    flags = strategy.run(lambda: tf.cast(flag, tf.float32))
    return bool(strategy.reduce(tf.distribute.ReduceOp.SUM, flags, axis=None) > 0)


def check_same(strategy: tf.distribute.Strategy, name: str, number: int, cure: str) -> None:
    """Raises UserError on all workers if one has another number than the first. All must call it."""
    first = of_first(strategy, number)
    if on_any(strategy, number != first):
        raise errors.UserError(f"{name} is {first} on the first worker, and not on all: {cure}. Here it is {number}.")


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Within, the loss of another worker becomes a sentence.

    TensorFlow notices it: at once where a connection breaks, else by heartbeats, after some 20 seconds.

    Raises:
      Stopped: with the exit code LOST.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if not is_loss(error):
            raise
        index, workers = cluster.place()
        raise errors.Stopped(
            f"worker {index} of {workers} stops, another one is gone ({_reason(error)}): see what that one said last, "
            "and run the same command again on all of them to go on from the last checkpoint",
            LOST,
        ) from error


def is_loss(error: Exception) -> bool:
    """Whether an exception says that another worker is gone."""
    words = ("Collective ops is aborted by", "CoordinationService", "tasks are unhealthy")
    return isinstance(error, tf.errors.OpError) and any(each in error.message for each in words)


def _reason(error):
    """What was noticed, on one line."""
    return errors.first_line(error.message.partition("aborted by:")[2] or error).strip()
