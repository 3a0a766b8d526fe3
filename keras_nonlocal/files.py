"""Files that survive a power cut."""

import os


def sync(path):
    """Forces a file or a directory to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
