"""Where videos lie: a folder on the disk here, tar files in tars.py, which answers the same questions."""

import os
import re

from keras_nonlocal.data.video import tars
from keras_nonlocal.errors import UserError

_JPEG = re.compile(r".*\.jpe?g", re.I)


def open_tree(path: str | os.PathLike) -> "DiskTree | tars.TarTree":
    """The tree of a folder, or of the tar files that a path such as `train-{000..099}.tar` or `train-*.tar` stands for.

    Raises:
      UserError: there is no such folder or file, or a tar file that is damaged or holds what no list of videos needs.
    """
    path = os.fspath(path)
    if os.path.isdir(path):
        return DiskTree(path)
    if tars.is_tar(path):
        return tars.TarTree(path)
    raise UserError(f"videos folder {path} does not exist; give the folder the videos are in, or tar files (*.tar)")


class DiskTree:
    """A folder.

    Args:
      root: the folder.
    """

    def __init__(self, root):
        self.root = os.path.abspath(root)
        self.roots = [self.root]

    def names(self, folder):
        """What is in a folder; nothing where there is none."""
        try:
            return os.listdir(folder)
        except (OSError, ValueError):
            return []

    def is_folder(self, path):
        """Whether it is one."""
        return os.path.isdir(path)

    def has_frames(self, folder):
        """Whether a folder holds JPEGs."""
        return any(map(_JPEG.fullmatch, self.names(folder)))

    def stored(self, path):
        """Where the tars hold it; None, as this is no tar."""
        return None
