"""Lists of labelled videos, in all the forms that data sets and other code have them; each form is a module here."""

import collections
import os
import re

from keras_nonlocal.data import texts
from keras_nonlocal.data.video import finder, trees
from keras_nonlocal.data.video.lists import (
    charades,
    charades_frames,
    classes,
    folders,
    kinetics,
    paths,
    plain,
    webdataset,
)
from keras_nonlocal.data.video.lists.labelled_video import Action, LabelledVideo
from keras_nonlocal.errors import UserError

__all__ = ["FORMATS", "Action", "LabelledVideo", "read_list"]

_WITH_COLUMNS = {"kinetics": kinetics, "paths": paths, "charades": charades, "charades_frames": charades_frames}
# Names of list formats.
FORMATS = (*_WITH_COLUMNS, *plain.FORMATS)
# Names that lists give to one split.
_VALIDATION = ("val", "validate", "validation")


def read_list(
    list_path: str | os.PathLike | None,
    videos: str | os.PathLike,
    split: str | None = None,
    labels: list[str] | None = None,
    list_format: str | None = None,
) -> tuple[list[LabelledVideo], list[str]]:
    """Reads a list of videos.

    Labels are class names, or class indices from 0 on, written as integers (2) or as the floats that a table makes of
    them (2.0). A name is the same in every Unicode normalisation.

    Args:
      list_path: one of FORMATS; the columns of a CSV may have any order. None takes the labels of tar shards, or the
        folders of classes.
      videos: the folder that relative paths start from, or tar files; see trees.open_tree, and finder.Finder for the
        extensions and the names of folders.
      split: keeps the rows of this split; default None keeps all. Ignored when there is no split column. `val`,
        `validate` and `validation` are one.
      labels: class names in the order of their indices. Default None takes the list's own, of all its splits, sorted;
        when these are all integers, they are the indices.
      list_format: one of FORMATS; default None sees which it is.

    Returns:
      A list of LabelledVideo in the list's order, and the list of class names.

    Raises:
      UserError: no such list, no row, no such column or split, an unknown label, numbers among names, a number that is
        no class index, a video listed twice, several files for one video, or not one of the videos exists.
    """
    what = f"list {list_path}" if list_path else os.fspath(videos)
    if list_path:
        read, rows = _read(list_path, list_format)
    tree = trees.open_tree(videos)
    if not list_path:
        read = webdataset if isinstance(tree, trees.tars.TarTree) and webdataset.fits(tree) else folders
        rows = read.rows(tree)
    chosen = _rows_of_split(what, rows, split)
    known = classes.Classes(_own_names(read, rows) if labels is None else labels)
    found = finder.Finder(tree)
    listed = [_video(row, read.entry(row), known, found, tree) for row in chosen]
    _check_duplicates(what, [row.line for row in chosen], listed)
    _check_any_exists(what, listed, videos)
    return listed, known.names


def _read(path, list_format):
    """The format of a list, and its rows."""
    if os.path.isdir(path):
        raise UserError(f"list {path} is a folder; leave --list out and give the folder of classes as --videos")
    text = texts.read(path, "list")
    first = next(filter(None, map(str.strip, re.split("[\r\n]", text))), None)
    if first is None:
        raise UserError(f"list {path} is empty; its first line names the columns, as in {','.join(paths.COLUMNS)}")
    read = _WITH_COLUMNS.get(list_format) or (plain.Plain(list_format) if list_format else _detect(first))
    return read, read.rows(path, text)


def _detect(first):
    """The format of a list by its first line."""
    columns = [cell.strip(' "') for cell in first.split(",")]
    if "path" in columns:
        return paths
    if "actions" in columns:
        return charades
    if first.split()[:1] == [charades_frames.COLUMNS[0]]:
        return charades_frames
    return plain.Plain(None) if plain.fits(first) else kinetics


def _rows_of_split(what, rows, split):
    if split is None or not any("split" in row.cells for row in rows):
        return rows
    chosen = [row for row in rows if _is_split(row.cells.get("split"), split)]
    if not chosen:
        counts = collections.Counter(row.cells.get("split", "") for row in rows)
        found = ", ".join(f"{texts.plain(name)} ({count} rows)" for name, count in sorted(counts.items())[:20])
        raise UserError(f"{what} has no row of split {split!r}; its splits are {found}")
    return chosen


def _is_split(found, wanted):
    return found == wanted or (found in _VALIDATION and wanted in _VALIDATION)


def _own_names(read, rows):
    where = {}
    for row in rows:
        for label in read.labels(row):
            where.setdefault(label, row.where)
    return classes.own_names(where)


def _video(row, entry, known, found, tree):
    indices = [known.index(row.where, label) for label in entry.labels]
    names = [known.names[index] for index in sorted(set(indices))]
    fitting = found.by_name(entry.path, [*entry.labels, *names]) if entry.is_stem else found.by_path(entry.path)
    extension = finder.EXTENSIONS[0] if entry.is_stem else ""
    path = _only(row.where, entry.name, fitting) or os.path.join(tree.root, entry.path + extension)
    stored = tree.stored(path)
    actions = entry.actions and tuple(Action(known.index(row.where, label), *times) for label, *times in entry.actions)
    return LabelledVideo(
        entry.name,
        os.path.join(stored.tar, stored.path) if stored else path,
        tuple(names),
        tuple(sorted(set(indices))),
        actions,
        entry.actions_in,
        entry.first_frame,
        entry.frames,
        stored,
    )


def _only(where, name, found):
    """The one file found, or None; of two, nobody can say which is meant."""
    if len(found) > 1:
        files = " and ".join(map(texts.plain, found[:2]))
        raise UserError(
            f"{where}: video {texts.plain(name)} may be any of {len(found)} files, such as {files}; remove or rename "
            "the others"
        )
    return found[0] if found else None


def _check_duplicates(what, lines, listed):
    for key in (lambda video: (video.name,), lambda video: (video.path, video.first_frame)):
        first = {}
        for line, video in zip(lines, listed, strict=True):
            value = key(video)
            if value in first:
                raise UserError(
                    f"{what} lists video {texts.plain(value[0])} twice, in lines {first[value]} and {line}; remove one"
                )
            first[value] = line


def _check_any_exists(what, listed, videos):
    if not any(video.exists() for video in listed):
        raise UserError(
            f"none of the {len(listed)} videos of {what} is in {videos}, the first one would be "
            f"{texts.plain(listed[0].path)}; check the videos folder"
        )
