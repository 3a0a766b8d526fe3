"""Where the records of TFRecord files begin and end, without reading them."""

import concurrent.futures
import contextlib
import dataclasses
import os
import struct
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_nonlocal import errors

# A record: 8 bytes of length, 4 of that one's checksum; the data; 4 bytes of theirs.
HEADER_BYTES, FOOTER_BYTES = 12, 4
# The disk or the network is waited for, not the CPU.
THREADS = 32


@dataclasses.dataclass(frozen=True, eq=False)
class Index:
    """The records of some files, in their order.

    Args:
      files: their paths.
      file: (N,) int32, which of the files a record is in.
      offset: (N,) int64, the byte where its header begins.
      length: (N,) int64, the bytes of its data.
    """

    files: tuple[str, ...]
    file: np.ndarray
    offset: np.ndarray
    length: np.ndarray

    def __len__(self) -> int:
        return len(self.file)


def read(files: Sequence[str]) -> Index:
    """The index of TFRecord files, by walking over the headers of their records.

    Args:
      files: paths of any file system that tf.io.gfile knows.

    Returns:
      An Index in the order of the files, and of the records in them.

    Raises:
      UserError: for a file that cannot be read or is not whole records from its first byte to its last.
    """
    with concurrent.futures.ThreadPoolExecutor(THREADS) as threads:
        found = list(threads.map(_walk, files))
    counts = [len(offsets) for offsets, _ in found]
    return Index(
        tuple(files),
        np.repeat(np.arange(len(files), dtype=np.int32), counts),
        np.concatenate([offsets for offsets, _ in found] or [np.zeros(0, np.int64)]),
        np.concatenate([lengths for _, lengths in found] or [np.zeros(0, np.int64)]),
    )


def _walk(path):
    """Offsets and lengths of the records of a file."""
    offsets, headers, at = [], [], 0
    try:
        with _open(path) as (size, read_at):
            while at < size:
                header = read_at(at)
                offsets.append(at)
                headers.append(header)
                if len(header) < HEADER_BYTES:
                    break
                at += HEADER_BYTES + struct.unpack_from("<Q", header)[0] + FOOTER_BYTES
    except (OSError, tf.errors.OpError) as error:
        raise errors.UserError(f"{path} cannot be read ({errors.first_line(error)}): correct its path.") from error
    whole = np.frombuffer(b"".join(header for header in headers if len(header) == HEADER_BYTES), np.uint8)
    whole = whole.reshape(-1, HEADER_BYTES)
    right = masked_crc32c(whole[:, :8]) == whole[:, 8:].copy().view("<u4")[:, 0]
    # A wrong length leads to a wrong place: the first header that is none says where the damage is.
    if not right.all():
        raise _broken(path, offsets[int(np.argmin(right))], "no record begins there")
    if at != size:
        raise _broken(path, offsets[-1], f"the file ends within the record there, after {size:,} bytes in all")
    return np.array(offsets, np.int64), whole[:, :8].copy().view("<i8")[:, 0]


@contextlib.contextmanager
def _open(path):
    """Yields the size of a file and a function of an offset that gives the bytes of the header there."""
    # A reader of tf.io.gfile fetches half a megabyte for each header.
    if "://" not in path:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            yield os.fstat(descriptor).st_size, lambda at: os.pread(descriptor, HEADER_BYTES, at)
        finally:
            os.close(descriptor)
        return
    with tf.io.gfile.GFile(path, "rb") as file:

        def read_at(at):
            file.seek(at)
            return file.read(HEADER_BYTES)

        yield file.size(), read_at


def _broken(path, at, what):
    return errors.UserError(
        f"{path} is not a whole TFRecord file: at byte {at} {what}; match files of records only, and write a damaged "
        "one again."
    )


def masked_crc32c(data: np.ndarray) -> np.ndarray:
    """The checksums that TFRecord files keep.

    Args:
      data: (N, bytes) uint8, of which each row is one datum.

    Returns:
      (N,) uint32.
    """
    crc = np.full(len(data), 0xFFFFFFFF, np.uint32)
    for column in data.T:
        crc = _TABLE[(crc ^ column) & 0xFF] ^ (crc >> np.uint32(8))
    crc = ~crc
    return ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(0xA282EAD8)


def _table():
    """The remainders of all bytes by the Castagnoli polynomial, bits reversed."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> np.uint32(1)) ^ np.uint32(0x82F63B78), table >> np.uint32(1))
    return table


_TABLE = _table()
