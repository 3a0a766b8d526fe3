"""The files of a folder of records: each is there whole or not at all, and one run at a time writes a split."""

import contextlib
import fcntl
import json
import os
import re

import tensorflow as tf

from keras_nonlocal import files
from keras_nonlocal.errors import UserError

_SHARD = r"\d{5}-of-\d{5}\.(tfrecord|json)"
# What a full disk raises, in Python and in TensorFlow.
_WRITE_ERRORS = (OSError, tf.errors.OpError)


@contextlib.contextmanager
def writing_split(out_dir, split):
    """Makes the folder and keeps other runs for this split out of it; removes the temporary files of dead ones.

    Those of killed workers, or of a signal at a bad moment, are removed on the way out.
    """
    make_dir(out_dir)
    with _lock(out_dir, split):
        _remove_temporary_files(out_dir, split)
        try:
            yield
        finally:
            _remove_temporary_files(out_dir, split)


def make_dir(path: str | os.PathLike) -> None:
    """Makes a folder unless it is there."""
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise UserError(f"folder {path} cannot be made ({error.strerror}); use another --out") from error


def finished_files(out_dir, split):
    """The paths of a split's shards and reports."""
    return _matching(out_dir, rf"{re.escape(split)}-({_SHARD}|report\.json|used\.txt)")


def remove(path):
    """Removes a file if it is there."""
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)


class WholeFile:
    """`files.whole_file`, whose errors become UserErrors about `path`; those of the body, which may read, do not."""

    def __init__(self, path):
        self._path = path
        self._whole = files.whole_file(path)

    def __enter__(self):
        return self._whole.__enter__()

    def __exit__(self, error_type, *error):
        with contextlib.nullcontext() if error_type else clear_write_errors(self._path):
            return self._whole.__exit__(error_type, *error)


@contextlib.contextmanager
def clear_write_errors(path):
    """Turns whatever writing raises into a UserError about `path`."""
    try:
        yield
    except _WRITE_ERRORS as error:
        # TensorFlow says "<temporary file>; No space left on device".
        reason = getattr(error, "strerror", None) or str(getattr(error, "message", error)).rpartition("; ")[2]
        raise UserError(
            f"{path} cannot be written ({reason}); make room or correct the permissions of its folder and rerun the "
            "same command: complete shards are kept"
        ) from error


def write_text(path, text, temporary=None):
    """`files.write_text`, whose errors become UserErrors about `path`."""
    with clear_write_errors(path):
        files.write_text(path, text, temporary)


def write_json(path, value):
    """Writes a whole file of JSON."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def read_json(path):
    """The dict in a file; None when there is no such file, or only what a dying disk left of it."""
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


class RecordWriter:
    """Writes a TFRecord file and makes sure that all of it arrived.

    Args:
      temporary: the path to write to.
      path: the path errors name.

    Attributes:
      size: bytes written so far.
    """

    # 8 bytes of length, 4 of its checksum, the data, 4 of its checksum.
    _OVERHEAD_BYTES = 16

    def __init__(self, temporary, path):
        self.size = 0
        self._temporary = temporary
        self._path = path
        with clear_write_errors(path):
            self._writer = tf.io.TFRecordWriter(temporary)

    def write(self, record):
        """Adds a serialised example."""
        with clear_write_errors(self._path):
            self._writer.write(record)
        self.size += len(record) + self._OVERHEAD_BYTES

    def __enter__(self):
        return self

    def __exit__(self, error_type, *unused):
        # After an error there is a first message already; a disk that is still full has nothing to add.
        with contextlib.suppress(*_WRITE_ERRORS) if error_type else clear_write_errors(self._path):
            try:
                self._writer.flush()
            finally:
                self._writer.close()
            arrived = os.path.getsize(self._temporary)
            if arrived != self.size:
                raise OSError(f"{arrived} of {self.size} bytes arrived")


def _remove_temporary_files(out_dir, split):
    """Whoever holds the lock may remove them all: their writers are dead or about to fail."""
    for path in _matching(out_dir, rf"\.{re.escape(split)}-({_SHARD}|(plan|report)\.json|(labels|used)\.txt)\.tmp-\d+"):
        remove(path)


def _matching(folder, pattern):
    return [os.path.join(folder, name) for name in os.listdir(folder) if re.fullmatch(pattern, name)]


@contextlib.contextmanager
def _lock(out_dir, split):
    """Keeps a second run for the same split out; a dead run's lock is gone with it."""
    path = os.path.join(out_dir, f".{split}.lock")
    with clear_write_errors(path):
        file = open(path, "w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another run is writing split {split} in {out_dir}; wait for it or stop it") from error
        except OSError:
            pass  # A file system without locks.
        yield
