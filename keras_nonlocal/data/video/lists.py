"""Lists of labelled videos: Kinetics-style and `path,label` CSV files."""

import collections
import csv
import dataclasses
import io
import os
import re
import unicodedata

from keras_nonlocal.data import texts
from keras_nonlocal.data.video import finder
from keras_nonlocal.errors import UserError

_KINETICS_COLUMNS = ("label", "youtube_id", "time_start", "time_end")
_PATH_COLUMNS = ("path", "label")
# A typo in an integer label must not make a list of a billion class names.
_MAX_CLASSES = 100_000
# Integers, also as they come out of a table that held them as floats.
_INTEGER = re.compile(r"[+-]?0*([0-9]{1,18})(\.0*)?")
# File names hold six digits of them.
_MAX_SECONDS = 10**9
# What tables write where a label is missing.
_MISSING = ("", "nan", "<na>")


@dataclasses.dataclass(frozen=True)
class LabelledVideo:
    """One row of a list.

    Args:
      name: what identifies the video in its list: `<youtube_id>_<start>_<end>`, or the CSV's path.
      path: the file, below the videos folder unless the CSV gives an absolute path; it need not exist.
      label: the class name.
      index: the class index.
    """

    name: str
    path: str
    label: str
    index: int

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names, of which there is one."""
        return (self.label,)

    @property
    def annotation(self) -> int:
        """The class index, which is all that a record holds of the list besides the names."""
        return self.index


def read_list(
    csv_path: str | os.PathLike,
    videos_dir: str | os.PathLike,
    split: str | None = None,
    labels: list[str] | None = None,
) -> tuple[list[LabelledVideo], list[str]]:
    """Reads a CSV of videos.

    Labels are class names, or class indices from 0 on, written as integers (2) or as the floats that a table makes of
    them (2.0). A name is the same in every Unicode normalisation.

    Args:
      csv_path: with columns `label,youtube_id,time_start,time_end[,split]` (Kinetics) or `path,label[,split]`. Kinetics
        files are named `<youtube_id>_<time_start:06d>_<time_end:06d>` and lie in the folder or in that of their label.
        See finder.Finder for the extensions and the names of folders.
      videos_dir: the folder relative paths start from.
      split: keeps the rows of this split; default None keeps all. Ignored when there is no split column.
      labels: class names in the order of their indices. Default None takes the CSV's own, of all its splits, sorted;
        when these are all integers, they are the indices.

    Returns:
      A list of LabelledVideo in the CSV's order, and the list of class names.

    Raises:
      UserError: no such CSV, no row, no such column or split, an unknown label, numbers among names, a number that is
        no class index, a video listed twice, several files for one video, or not one of the videos exists.
    """
    columns, lines = _read_csv(csv_path)
    is_kinetics = _is_kinetics(csv_path, columns)
    rows = _named_cells(csv_path, columns, lines)
    chosen = _rows_of_split(csv_path, columns, rows, split)
    classes = _Classes(_labels_of(csv_path, rows) if labels is None else labels)
    folder = finder.Finder(videos_dir)
    read = _kinetics_video if is_kinetics else _path_video
    videos = [read(csv_path, line, row, classes, folder) for line, row in chosen]
    _check_duplicates(csv_path, [line for line, _ in chosen], videos)
    _check_any_exists(csv_path, videos, videos_dir)
    return videos, classes.names


def _read_csv(path):
    """The column names, and (line number, list of texts) for each row."""
    reader = csv.reader(io.StringIO(texts.read(path, "CSV"), newline=""), skipinitialspace=True, strict=True)
    try:
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(map(str.strip, cells))]
    except csv.Error as error:
        raise UserError(f"CSV {path}, line {reader.line_num}, is not valid ({error}); correct that line") from error
    if not lines:
        raise UserError(f"CSV {path} is empty; its first line names the columns, as in {','.join(_PATH_COLUMNS)}")
    (_, columns), *rows = lines
    if not rows:
        raise UserError(f"CSV {path} has no row below its column names; add one row for each video")
    return columns, rows


def _named_cells(path, columns, rows):
    """(Line number, {column: text}) for each row."""
    for column, count in collections.Counter(columns).items():
        if count > 1 and column:
            raise UserError(
                f"CSV {path} names the column {texts.quoted(column)} {count} times; remove or rename the others"
            )
    for line, cells in rows:
        if any(cells[len(columns) :]):
            raise UserError(
                f"CSV {path}, line {line}, has {len(cells)} cells and there are {len(columns)} columns; put what holds "
                "a comma in double quotes"
            )
    return [(line, dict(zip(columns, cells, strict=False))) for line, cells in rows]


def _is_kinetics(path, columns):
    wanted = _PATH_COLUMNS if "path" in columns else _KINETICS_COLUMNS
    missing = [column for column in wanted if column not in columns]
    if missing:
        found = ", ".join(map(texts.plain, columns[:10]))
        raise UserError(
            f"CSV {path} has no column {', '.join(missing)} (found: {found}); its first line must name "
            f"{','.join(_KINETICS_COLUMNS)} or {','.join(_PATH_COLUMNS)}"
        )
    return wanted is _KINETICS_COLUMNS


def _rows_of_split(path, columns, rows, split):
    if split is None or "split" not in columns:
        return rows
    chosen = [(line, row) for line, row in rows if row.get("split") == split]
    if not chosen:
        counts = collections.Counter(row.get("split", "") for _, row in rows)
        found = ", ".join(f"{texts.plain(name)} ({count} rows)" for name, count in sorted(counts.items())[:20])
        raise UserError(f"CSV {path} has no row of split {split!r}; its splits are {found}")
    return chosen


def _labels_of(path, rows):
    """The class names of a list: its own, sorted, or where they are numbers the indices up to the highest one."""
    lines = {}
    for line, row in rows:
        # Rows of a test split may have no label.
        if row.get("label", "").lower() not in _MISSING:
            lines.setdefault(_cell(path, line, row, "label"), line)
    numbers = [label for label in lines if _is_number(label)]
    names = sorted(label for label in lines if not _is_number(label))
    if numbers and names:
        raise UserError(
            f"CSV {path}, line {lines[numbers[0]]}: label {texts.quoted(numbers[0])} is a number and label "
            f"{texts.quoted(names[0])} of line {lines[names[0]]} is a name; write all as one of the two, or give the "
            "names of all classes with --labels"
        )
    indices = [_class_index(path, lines[label], label) for label in numbers]
    # Sorted as text, 10 would come before 2.
    return names or [str(index) for index in range(max(indices, default=-1) + 1)]


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def _class_index(path, line, label):
    rule = f"it must be 0 to {_MAX_CLASSES - 1}"
    match = _INTEGER.fullmatch(label)
    if not match:
        raise UserError(
            f"CSV {path}, line {line}: label {texts.quoted(label)} is a number and no class index; {rule}, or give the "
            "names of all classes with --labels"
        )
    index = -int(match[1]) if label.startswith("-") else int(match[1])
    if not 0 <= index < _MAX_CLASSES:
        raise UserError(f"CSV {path}, line {line}: label {index} is out of range; {rule}")
    return index


class _Classes:
    """The class names, and the index of whatever a row calls its class.

    Args:
      names: list of texts in the order of their indices.
    """

    def __init__(self, names):
        self.names = names
        self._indices = {unicodedata.normalize("NFC", name): index for index, name in enumerate(names)}
        # Then 3 is the class of that name, wherever it stands in the list.
        self._are_integers = any(map(_INTEGER.fullmatch, names))

    def index(self, path, line, label):
        """The index of the class that a row names, or numbers."""
        if label in self._indices:
            return self._indices[label]
        if label.lower() in _MISSING:
            raise UserError(
                f"CSV {path}, line {line}, has no label but {texts.quoted(label)}; fill it in or remove the row"
            )
        number = _class_index(path, line, label) if _is_number(label) else None
        if number is None or (self._are_integers and str(number) not in self._indices):
            raise UserError(
                f"CSV {path}, line {line}: label {texts.quoted(label)} is not one of the {len(self.names)} class "
                "names; add it to the labels file or correct the row"
            )
        if self._are_integers:
            return self._indices[str(number)]
        if number >= len(self.names):
            raise UserError(
                f"CSV {path}, line {line}: label {number} is out of range; there are {len(self.names)} classes, "
                f"0 to {len(self.names) - 1}"
            )
        return number


def _cell(path, line, row, column):
    if row.get(column):
        return texts.printable(path, "CSV", line, row[column])
    raise UserError(f"CSV {path}, line {line}, has no {column}; fill it in or remove the row")


def _seconds(path, line, row, column):
    text = _cell(path, line, row, column)
    try:
        seconds = int(float(text))
    except (ValueError, OverflowError):
        seconds = -1
    if not 0 <= seconds < _MAX_SECONDS:
        raise UserError(f"CSV {path}, line {line}: {column} is {texts.quoted(text)} and must be a number of seconds")
    return seconds


def _kinetics_video(csv_path, line, row, classes, folder):
    start, end = (_seconds(csv_path, line, row, column) for column in ("time_start", "time_end"))
    name = f"{_cell(csv_path, line, row, 'youtube_id')}_{start:06d}_{end:06d}"
    label = _cell(csv_path, line, row, "label")
    index = classes.index(csv_path, line, label)
    found = folder.by_name(name, [label, classes.names[index]])
    path = _only(csv_path, line, name, found) or os.path.join(folder.videos_dir, name + finder.EXTENSIONS[0])
    return LabelledVideo(name, path, classes.names[index], index)


def _path_video(csv_path, line, row, classes, folder):
    name = os.path.normpath(_cell(csv_path, line, row, "path"))
    index = classes.index(csv_path, line, _cell(csv_path, line, row, "label"))
    path = _only(csv_path, line, name, folder.by_path(name)) or os.path.join(folder.videos_dir, name)
    return LabelledVideo(name, path, classes.names[index], index)


def _only(csv_path, line, name, found):
    """The one file found, or None; of two, nobody can say which is meant."""
    if len(found) > 1:
        files = " and ".join(map(texts.plain, found[:2]))
        raise UserError(
            f"CSV {csv_path}, line {line}: video {texts.plain(name)} may be any of {len(found)} files, such as "
            f"{files}; remove or rename the others"
        )
    return found[0] if found else None


def _check_duplicates(csv_path, lines, videos):
    for attribute in ("name", "path"):
        first = {}
        for line, video in zip(lines, videos, strict=True):
            value = getattr(video, attribute)
            if value in first:
                raise UserError(
                    f"CSV {csv_path} lists video {texts.plain(value)} twice, in lines {first[value]} and {line}; "
                    "remove one"
                )
            first[value] = line


def _check_any_exists(csv_path, videos, videos_dir):
    if not os.path.isdir(videos_dir):
        raise UserError(f"videos folder {videos_dir} does not exist; give the folder the videos of {csv_path} are in")
    if not any(os.path.exists(video.path) for video in videos):
        raise UserError(
            f"none of the {len(videos)} videos of {csv_path} is in {videos_dir}, the first one would be "
            f"{texts.plain(videos[0].path)}; check the videos folder"
        )
