"""A folder for each class, with its videos in it: no list at all. The classes are sorted, capitals first."""

import os

from keras_nonlocal.data import texts
from keras_nonlocal.data.video import finder
from keras_nonlocal.data.video.lists import rows as _rows
from keras_nonlocal.errors import UserError


def rows(tree):
    """A row for each video, which is a file or a folder of frames."""
    found = []
    for label in sorted(tree.names(tree.root)):
        folder = os.path.join(tree.root, label)
        if not tree.is_folder(folder) or label.startswith("."):
            continue
        for name in sorted(tree.names(folder)):
            if _is_video(tree, os.path.join(folder, name)):
                where = f"folder {folder}, {texts.plain(name)}"
                found.append(_rows.Row(where, len(found) + 1, {"path": os.path.join(label, name), "label": label}))
    if not found:
        raise UserError(
            f"{tree.root} holds no folders of classes with videos in them; arrange it as class/video.mp4, or give the "
            "list of its videos with --list"
        )
    return found


def labels(row):
    """The folder's name."""
    return [row.cell("label")]


def entry(row):
    """The video is its path."""
    return _rows.Entry(row.cell("path"), row.cells["path"], (row.cell("label"),))


def _is_video(tree, path):
    name = os.path.basename(path)
    if name.startswith("."):
        return False
    if os.path.splitext(name)[1].lower() in finder.EXTENSIONS:
        return True
    return tree.is_folder(path) and tree.has_frames(path)
