"""Files that survive a power cut."""

import os


def sync(path):
    """Forces a file or a directory to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def move_whole(temporary, path):
    """Gives a file that is complete its name, in the order in which this also holds when the power fails."""
    sync(temporary)
    os.replace(temporary, path)
    sync(os.path.dirname(path) or ".")
