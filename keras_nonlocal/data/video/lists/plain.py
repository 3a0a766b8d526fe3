"""Lists without column names, as SlowFast, pytorchvideo and mmaction2 have them: a path, then integers.

    clips/a b.mp4 3         path_label
    clips/a.mp4 3 17        path_labels, of several classes
    frames/a 250 3          path_frames_labels: 250 frames of the file or folder
    frames/a 100 250 3      path_start_frames_labels: those from the 100th on, counted from 0

Whatever stands before the integers is the path, spaces included. A comma, semicolon or bar may stand for the spaces.
"""

import os
import re

from keras_nonlocal.data import texts
from keras_nonlocal.data.video.lists import rows as _rows
from keras_nonlocal.errors import UserError

# How many integers of a line are no labels.
FORMATS = {"path_label": 0, "path_labels": 0, "path_frames_labels": 1, "path_start_frames_labels": 2}
_INTEGER = r"[+-]?\d{1,18}"
_LAST = re.compile(rf"\S\s*([,;|]|\s)\s*{_INTEGER}$")
_MAX_LINE = 10_000


def fits(line):
    """Whether a line, the first one of a list, is such."""
    return bool(_LAST.search(line.strip()[-_MAX_LINE:]))


class Plain:
    """One of the formats; its methods are those of the modules of the other ones.

    Args:
      name: one of FORMATS, or None for path_label where nothing else can be meant.
    """

    def __init__(self, name):
        self._name = name
        self._before = FORMATS[name or "path_label"]

    def rows(self, path, text):
        """The rows of the list."""
        lines = [
            (line, cells.strip()) for line, cells in enumerate(re.split(r"\r\n|\r|\n", text), start=1) if cells.strip()
        ]
        first = _LAST.search(lines[0][1][-_MAX_LINE:])
        # What separates the first line's last two cells does so in all lines; for str.rsplit None is any white space.
        separator = first[1].strip() or None if first else None
        return [self._row(f"list {path}, line {line}", line, cells, separator) for line, cells in lines]

    def labels(self, row):
        """The indices of the row's classes, as text."""
        return row.cells["numbers"][self._before :]

    def entry(self, row):
        """The video is its path, or a part of it."""
        before = [int(number) for number in row.cells["numbers"][: self._before]]
        name = path = os.path.normpath(row.cells["path"])
        if not before:
            return _rows.Entry(name, path, tuple(self.labels(row)))
        first, frames = before if len(before) == 2 else (0, *before)
        if frames < 1 or first < 0:
            raise UserError(f"{row.where}: {frames} frames from frame {first} on are no part of a video; correct it")
        if len(before) == 2:
            name = f"{path} from frame {first}"
        return _rows.Entry(name, path, tuple(self.labels(row)), first_frame=first, frames=frames)

    def _row(self, where, line, text, separator):
        if len(text) > _MAX_LINE:
            raise UserError(f"{where}, has more than {_MAX_LINE:,} characters; write one video a line")
        path, numbers = _split(text, separator, 1 if self._name == "path_label" else None)
        least = self._before + 1
        if len(numbers) < least:
            raise UserError(
                f"{where}: {texts.quoted(text)} is not a path and {least} number{'s' if least > 1 else ''}, the last "
                "one that of its class; correct it"
            )
        if self._name is None and len(numbers) > 1:
            raise UserError(
                f"{where}: {texts.quoted(text)} has {len(numbers)} numbers after its path; say with --list_format "
                "whether they are labels (path_labels), frames and labels (path_frames_labels), start, frames and "
                "labels (path_start_frames_labels), or all but the last one part of the path (path_label)"
            )
        return _rows.Row(where, line, {"path": texts.printable(where, path), "numbers": numbers})


def _split(text, separator, most):
    """The path, and the numbers at the end of a line as text; `most` of them, or all."""
    numbers = []
    while len(numbers) != most:
        path, *number = text.rsplit(separator, 1)
        if not path.strip() or not number or not re.fullmatch(_INTEGER, number[0].strip()):
            break
        text = path.rstrip()
        numbers.insert(0, number[0].strip())
    return text, numbers
