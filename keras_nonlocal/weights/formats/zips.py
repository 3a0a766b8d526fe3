"""Zip files from outside, opened with a bound on what their list of entries takes."""

import contextlib
import struct
import zipfile
import zlib

from keras_nonlocal.weights.formats.values import MAX_ENTRIES, CheckpointError, shown

MAGIC = b"PK\x03\x04"
ENTRY = b"PK\x01\x02"


@contextlib.contextmanager
def opened(path, content):
    """The zipfile.ZipFile at a path; whatever is wrong with it, also when it is read, becomes a CheckpointError.

    Args:
      path: of the file.
      content: the same as an mmap.
    """
    if _count(content, ENTRY, MAX_ENTRIES + 1) > MAX_ENTRIES:
        raise CheckpointError(f"It is a zip of more than {MAX_ENTRIES} entries: refused.")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except CheckpointError:
        raise
    except (ValueError, KeyError, IndexError, AttributeError, EOFError, OSError, RuntimeError, OverflowError) as e:
        raise CheckpointError(f"It is a damaged zip ({shown(str(e))}).") from None
    except (zipfile.BadZipFile, zlib.error, struct.error) as e:
        raise CheckpointError(f"It is a damaged zip ({shown(str(e))}).") from None


def _count(content, part, limit):
    """How often a part is in the content, or `limit` where it is more often."""
    found, at = 0, content.find(part)
    while at >= 0 and found < limit:
        found, at = found + 1, content.find(part, at + 1)
    return found
