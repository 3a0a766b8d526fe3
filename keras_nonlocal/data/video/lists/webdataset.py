"""Tar shards that hold their own labels: members of one name up to its first dot are a sample, such as 7.mp4 and 7.cls.

The label of a sample is in `.cls`, a class index or name, or in `.json`, as `label` or as a list `labels`.
"""

import json
import os

from keras_nonlocal import errors
from keras_nonlocal.data import texts
from keras_nonlocal.data.video import finder
from keras_nonlocal.data.video.lists import rows as _rows
from keras_nonlocal.errors import UserError

_LABEL_FILES = ("cls", "json")
_MAX_BYTES = 2**20


def fits(tree):
    """Whether any member of the tars holds a label."""
    return any(_extension(path) in _LABEL_FILES for path in tree.files())


def rows(tree):
    """A row for each sample with a video."""
    samples = {}
    for path in tree.files():
        folder, name = os.path.split(path)
        key = os.path.join(folder, name.split(".")[0])
        samples.setdefault(key, {})[_extension(path)] = path
    found = []
    for key, parts in samples.items():
        videos = [path for extension, path in parts.items() if f".{extension}".lower() in finder.EXTENSIONS]
        if len(videos) == 1:
            where = f"tar {tree.stored(videos[0]).tar}, sample {texts.plain(os.path.relpath(key, tree.root))}"
            cells = {"path": os.path.relpath(videos[0], tree.root), "labels": _labels(where, tree, parts)}
            found.append(_rows.Row(where, len(found) + 1, cells))
        elif videos:
            raise UserError(f"{tree.root}: sample {texts.plain(key)} holds {len(videos)} videos; keep one of them")
    if not found:
        raise UserError(f"{tree.root} holds no sample with a video; give the list of its videos with --list")
    return found


def labels(row):
    """What the sample calls its classes."""
    return row.cells["labels"]


def entry(row):
    """The video is the member."""
    return _rows.Entry(row.cell("path"), row.cells["path"], tuple(row.cells["labels"]))


def _extension(path):
    return os.path.basename(path).partition(".")[2].lower()


def _labels(where, tree, parts):
    extension = next((extension for extension in _LABEL_FILES if extension in parts), None)
    if extension is None:
        raise UserError(f"{where}, has neither .cls nor .json; add its label")
    ((_, data),) = tree.stored(parts[extension]).members(_MAX_BYTES)
    try:
        text = data.decode("utf-8-sig").strip()
        found = [text] if extension == "cls" else _of_json(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: its .{extension} is not valid ({errors.first_line(error)}); correct it") from error
    if not all(found):
        raise UserError(f"{where}: its .{extension} holds an empty label; write the index or the name of a class")
    return [texts.printable(where, label) for label in found]


def _of_json(value):
    """The labels as text."""
    found = None
    if isinstance(value, dict):
        found = value["labels"] if "labels" in value else [value.get("label")]
    if not isinstance(found, list) or not all(type(label) in (str, int) for label in found):
        raise ValueError("it needs `label`, the index or the name of a class, or `labels`, a list of them")
    return [str(label) for label in found]
