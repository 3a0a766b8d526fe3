"""Lists of labelled videos: Kinetics-style and `path,label` CSV files."""

import collections
import csv
import dataclasses
import io
import os

from keras_nonlocal import errors

# The order in which the files of one name are preferred.
EXTENSIONS = (".mp4", ".mkv", ".webm", ".avi")
_KINETICS_COLUMNS = ("label", "youtube_id", "time_start", "time_end")
_PATH_COLUMNS = ("path", "label")
# A typo in an integer label must not make a list of a billion class names.
_MAX_CLASSES = 100_000


class ListError(errors.UserError):
    """A CSV or labels file that cannot be used; the message names the row or column and the cure."""


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


@dataclasses.dataclass(frozen=True)
class _Row:
    line: int
    name: str
    path: str
    label: str


def read_list(csv_path, videos_dir, split=None, labels=None):
    """Reads a CSV of videos.

    Args:
      csv_path: with columns `label,youtube_id,time_start,time_end[,split]` (Kinetics) or `path,label[,split]`. Kinetics
        files are named `<youtube_id>_<time_start:06d>_<time_end:06d>` and lie in the folder or in `<label>/`.
      videos_dir: the folder relative paths start from.
      split: keeps the rows of this split; default None keeps all. Ignored when there is no split column.
      labels: class names in the order of their indices. Default None takes the CSV's own, of all its splits, sorted;
        when these are all integers, they are the indices.

    Returns:
      A list of LabelledVideo in the CSV's order, and the list of class names.

    Raises:
      ListError: no such CSV, no row, no such column or split, an unknown label, a video listed twice, or not one of
        the videos exists.
    """
    columns, rows = _read_csv(csv_path)
    is_kinetics = _is_kinetics(csv_path, columns)
    chosen = _rows_of_split(csv_path, columns, rows, split)
    if labels is None:
        labels = _labels_of(csv_path, rows)
    find = _Finder(videos_dir)
    listed = [(_kinetics_row if is_kinetics else _path_row)(csv_path, line, row, find) for line, row in chosen]
    _check_duplicates(csv_path, listed)
    indices = {label: index for index, label in enumerate(labels)}
    videos = [
        LabelledVideo(row.name, row.path, labels[index], index)
        for row in listed
        for index in [_index_of(csv_path, row.line, row.label, indices)]
    ]
    _check_any_exists(csv_path, videos, videos_dir)
    return videos, labels


def read_labels(path):
    """Reads class names, one a line; the line's order is the index.

    Raises:
      ListError: no such file, no name, an empty line between names or a name given twice.
    """
    labels = [line.strip() for line in _read_text(path, "labels file").rstrip().split("\n")]
    if labels == [""]:
        raise ListError(f"labels file {path} is empty; write one class name a line")
    for line, label in enumerate(labels, start=1):
        if not label:
            raise ListError(f"labels file {path}, line {line}, is empty; a line's number is its class, so remove it")
    name, count = collections.Counter(labels).most_common(1)[0]
    if count > 1:
        raise ListError(f"labels file {path} names {name!r} {count} times; every class has one line")
    return labels


def _read_text(path, what):
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise ListError(f"{what} {path} is not UTF-8 text; save it as UTF-8") from error
    except OSError as error:
        raise ListError(f"{what} {path} cannot be read ({error.strerror}); check the path") from error


def _read_csv(path):
    """The column names, and (line number, {column: text}) for each row."""
    reader = csv.reader(io.StringIO(_read_text(path, "CSV"), newline=""), skipinitialspace=True, strict=True)
    try:
        lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise ListError(f"CSV {path}, line {reader.line_num}, is not valid ({error}); correct that line") from error
    if not lines:
        raise ListError(f"CSV {path} is empty; its first line names the columns, as in {','.join(_PATH_COLUMNS)}")
    columns = [column.strip() for column in lines[0][1]]
    rows = [(line, dict(zip(columns, map(str.strip, cells), strict=False))) for line, cells in lines[1:]]
    if not rows:
        raise ListError(f"CSV {path} has no row below its column names; add one row for each video")
    return columns, rows


def _is_kinetics(path, columns):
    wanted = _PATH_COLUMNS if "path" in columns else _KINETICS_COLUMNS
    missing = [column for column in wanted if column not in columns]
    if missing:
        raise ListError(
            f"CSV {path} has no column {', '.join(missing)} (found: {', '.join(columns)}); its first line must name "
            f"{','.join(_KINETICS_COLUMNS)} or {','.join(_PATH_COLUMNS)}"
        )
    return wanted is _KINETICS_COLUMNS


def _rows_of_split(path, columns, rows, split):
    if split is None or "split" not in columns:
        return rows
    chosen = [(line, row) for line, row in rows if row.get("split") == split]
    if not chosen:
        counts = collections.Counter(row.get("split", "") for _, row in rows)
        found = ", ".join(f"{name} ({count} rows)" for name, count in sorted(counts.items()))
        raise ListError(f"CSV {path} has no row of split {split!r}; its splits are {found}")
    return chosen


def _labels_of(path, rows):
    names = sorted({row.get("label", "") for _, row in rows} - {""})
    if not all(map(_is_integer, names)):
        return names
    # Integers are class indices already: sorted as text, 10 would come before 2.
    for line, row in rows:
        label = row.get("label", "")
        if label and not 0 <= int(label) < _MAX_CLASSES:
            raise ListError(
                f"CSV {path}, line {line}: label {label} is out of range; it must be 0 to {_MAX_CLASSES - 1}"
            )
    return [str(index) for index in range(max(map(int, names), default=-1) + 1)]


def _index_of(path, line, label, indices):
    if label in indices:
        return indices[label]
    if not _is_integer(label):
        raise ListError(
            f"CSV {path}, line {line}: label {label!r} is not one of the {len(indices)} class names; add it to the "
            "labels file or correct the row"
        )
    if not 0 <= int(label) < len(indices):
        raise ListError(
            f"CSV {path}, line {line}: label {label} is out of range; there are {len(indices)} classes, "
            f"0 to {len(indices) - 1}"
        )
    return int(label)


def _is_integer(text):
    return text.removeprefix("-").isascii() and text.removeprefix("-").isdigit()


def _cell(path, line, row, column):
    if row.get(column):
        return row[column]
    raise ListError(f"CSV {path}, line {line}, has no {column}; fill it in or remove the row")


def _seconds(path, line, row, column):
    text = _cell(path, line, row, column)
    try:
        return int(float(text))
    except (ValueError, OverflowError) as error:
        raise ListError(f"CSV {path}, line {line}: {column} is {text!r} and must be a number of seconds") from error


def _kinetics_row(csv_path, line, row, find):
    start, end = (_seconds(csv_path, line, row, column) for column in ("time_start", "time_end"))
    name = f"{_cell(csv_path, line, row, 'youtube_id')}_{start:06d}_{end:06d}"
    label = _cell(csv_path, line, row, "label")
    return _Row(line, name, find(name, label), label)


def _path_row(csv_path, line, row, find):
    name = os.path.normpath(_cell(csv_path, line, row, "path"))
    return _Row(line, name, os.path.join(find.videos_dir, name), _cell(csv_path, line, row, "label"))


class _Finder:
    """Finds Kinetics videos. Lists each folder once: looking for each name would ask a slow disk millions of times."""

    def __init__(self, videos_dir):
        self.videos_dir = os.path.abspath(videos_dir)
        self._folders = {}

    def __call__(self, name, label):
        for folder in (self.videos_dir, os.path.join(self.videos_dir, label)):
            names = self._names_in(folder)
            for extension in EXTENSIONS:
                if name + extension in names:
                    return os.path.join(folder, name + extension)
        return os.path.join(self.videos_dir, name + EXTENSIONS[0])

    def _names_in(self, folder):
        if folder not in self._folders:
            try:
                self._folders[folder] = set(os.listdir(folder))
            except OSError:
                self._folders[folder] = set()
        return self._folders[folder]


def _check_duplicates(csv_path, rows):
    first = {}
    for row in rows:
        if row.name in first:
            raise ListError(
                f"CSV {csv_path} lists video {row.name} twice, in lines {first[row.name]} and {row.line}; remove one"
            )
        first[row.name] = row.line


def _check_any_exists(csv_path, videos, videos_dir):
    if not os.path.isdir(videos_dir):
        raise ListError(f"videos folder {videos_dir} does not exist; give the folder the videos of {csv_path} are in")
    if not any(os.path.exists(video.path) for video in videos):
        raise ListError(
            f"none of the {len(videos)} videos of {csv_path} is in {videos_dir}, the first one would be "
            f"{videos[0].path}; check the videos folder"
        )
