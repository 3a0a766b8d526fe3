"""Keeps out of the console what TensorFlow remarks on every SavedModel it loads, and nothing else."""

import contextlib
import os
import re
import threading

import tensorflow as tf
from absl import logging as absl_logging

_REMARKS = re.compile(
    # A server asks for no gradient.
    r"Importing a function \(.*\) with ops with unsaved custom gradients"
    # Its advice, tf.saved_model.load, hides what publish.check_servable is to find.
    r"|\(from tensorflow\.python\.saved_model\.loader_impl\) is deprecated"
    r"|^Restoring parameters from "
)
_lock = threading.Lock()
_sessions_are_quiet = False


@contextlib.contextmanager
def quiet_loading():
    """Drops the known remarks from TensorFlow's log while its body loads a SavedModel."""
    loggers = tf.get_logger(), absl_logging.get_absl_logger()
    for logger in loggers:
        logger.addFilter(_is_no_remark)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(_is_no_remark)


def _is_no_remark(record):
    return not _REMARKS.search(record.getMessage())


def quiet_sessions():
    """Has TensorFlow remark here, unheard, what it remarks in C++ on the first graph that a process runs in a session.

    These two lines ("MLIR V1 optimization pass is not enabled") heed no environment variable, TF_CPP_MIN_LOG_LEVEL
    neither. They come once, so a graph of one constant runs with stderr switched off.
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
