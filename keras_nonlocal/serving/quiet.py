"""Keeps out of the console what TensorFlow logs of every SavedModel that it loads, and nothing else."""

import contextlib
import os
import re
import threading

import tensorflow as tf
from absl import logging as absl_logging

_UNWANTED = re.compile(
    # No request to a server needs a gradient.
    r"^Importing a function \(.*\) with ops with unsaved custom gradients"
    # The advice to use tf.saved_model.load, which hides what publish.check_servable looks for.
    r"|\(from tensorflow\.python\.saved_model\.loader_impl\) is deprecated"
    r"|^Restoring parameters from "
)
_lock = threading.Lock()
_sessions_are_quiet = False


@contextlib.contextmanager
def quiet_loading():
    """Drops those messages from TensorFlow's log while its body loads a SavedModel."""
    loggers = tf.get_logger(), absl_logging.get_absl_logger()
    for logger in loggers:
        logger.addFilter(_is_wanted)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(_is_wanted)


def _is_wanted(record):
    return not _UNWANTED.search(record.getMessage())


def quiet_sessions():
    """Uses up, with stderr off, what TensorFlow's C++ logs once in a process, on its first graph in a session.

    "MLIR V1 optimization pass is not enabled", and a line that announces it, obey no environment variable, not
    TF_CPP_MIN_LOG_LEVEL either. So a graph of one constant runs first.
    """
    global _sessions_are_quiet
    with _lock:
        if not _sessions_are_quiet:
            with _stderr_off(), tf.Graph().as_default(), tf.compat.v1.Session(config=cpu_only()) as session:
                session.run(tf.constant(0))
        _sessions_are_quiet = True


def cpu_only():
    """The ConfigProto of a session that leaves GPUs alone, which it would otherwise claim whole."""
    return tf.compat.v1.ConfigProto(device_count={"GPU": 0})


@contextlib.contextmanager
def _stderr_off():
    try:
        kept = os.dup(2)
    except OSError:  # there is none
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
