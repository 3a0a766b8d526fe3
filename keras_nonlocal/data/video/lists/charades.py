"""The lists of Charades: `id,...,actions[,length]` with actions such as `c092 11.90 21.20;c147 0.00 12.60`, or none.

An action may end behind the length, and a class may come twice.
"""

import re

from keras_nonlocal.data import texts
from keras_nonlocal.data.video.lists import rows as _rows
from keras_nonlocal.errors import UserError

COLUMNS = ("id", "actions")
_MAX_SECONDS = 10**9


def rows(path, text):
    """The rows of the list."""
    return _rows.of_csv(path, text, COLUMNS)


def labels(row):
    """The codes of the row's classes."""
    return [code for code, _, _ in _actions(row)]


def entry(row):
    """The video is the file, or the folder of frames, of its id."""
    name = row.cell("id")
    actions = tuple(
        (code, *(_rows.seconds(row.where, f"a time of {code}", text, _MAX_SECONDS) for text in times))
        for code, *times in _actions(row)
    )
    return _rows.Entry(name, name, tuple(code for code, _, _ in actions), actions)


def _actions(row):
    actions = []
    for action in filter(None, map(str.strip, row.cells.get("actions", "").split(";"))):
        parts = action.split()
        if len(parts) != 3 or not re.fullmatch(r"c\d{3}", parts[0]):
            raise UserError(
                f"{row.where}: action {texts.quoted(action)} is not a class, a start and an end, as in "
                "c092 11.90 21.20; correct it"
            )
        actions.append(tuple(parts))
    return actions
