"""What formats make of a list: rows, and what each says of its video."""

import collections
import csv
import dataclasses
import io

from keras_nonlocal.data import texts
from keras_nonlocal.data.video.lists import classes
from keras_nonlocal.errors import UserError


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a list.

    Args:
      where: it is, such as "list train.csv, line 3", for messages.
      line: its number.
      cells: {column: text}, or whatever the format finds there.
    """

    where: str
    line: int
    cells: dict

    def has(self, column):
        """Whether the row says anything there."""
        return self.cells.get(column, "").lower() not in classes.MISSING

    def cell(self, column):
        """The text there, which must be one."""
        if self.cells.get(column):
            return texts.printable(self.where, self.cells[column])
        raise UserError(f"{self.where}, has no {column}; fill it in or remove the row")


@dataclasses.dataclass(frozen=True)
class Entry:
    """What a row says of a video, in the words of the list.

    Args:
      name: what identifies the video in its list.
      path: of its file, or with `is_stem` the file's name without an extension.
      labels: what the row calls its classes.
      actions: (label, start, end) of each action; None where the list has no times.
      actions_in: what start and end count: "seconds", or "frames" from 0 on, the last one included.
      first_frame: of the file that belongs to the video; default 0.
      frames: how many belong to it; default None for all.
      is_stem: whether the file may also lie in the folder of its class, under any extension.
    """

    name: str
    path: str
    labels: tuple
    actions: tuple | None = None
    actions_in: str = "seconds"
    first_frame: int = 0
    frames: int | None = None
    is_stem: bool = False


def of_csv(path, text, columns, without_label=None):
    """The rows of a CSV whose first line names its columns.

    Args:
      path: for messages.
      text: of the file.
      columns: those that the format needs.
      without_label: what to say where nothing but the column label is missing.

    Returns:
      List of Row.

    Raises:
      UserError: no row, no such column, or what is no CSV.
    """
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    try:
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(map(str.strip, cells))]
    except csv.Error as error:
        raise UserError(f"list {path}, line {reader.line_num}, is not valid ({error}); correct that line") from error
    if not lines:
        raise UserError(f"list {path} is empty; its first line names the columns, as in {','.join(columns)}")
    (_, found), *rows = lines
    missing = [column for column in columns if column not in found]
    if missing == ["label"] and without_label:
        raise UserError(f"list {path} has no column label{without_label}")
    if missing:
        names = ", ".join(map(texts.plain, found[:10]))
        raise UserError(
            f"list {path} has no column {', '.join(missing)} (found: {names}); its first line must name "
            f"{','.join(columns)}, or each of its lines must end in the number of a class"
        )
    if not rows:
        raise UserError(f"list {path} has no row below its column names; add one row for each video")
    for column, count in collections.Counter(found).items():
        if count > 1 and column:
            raise UserError(
                f"list {path} names the column {texts.quoted(column)} {count} times; remove or rename the others"
            )
    for line, cells in rows:
        if any(cells[len(found) :]):
            raise UserError(
                f"list {path}, line {line}, has {len(cells)} cells and there are {len(found)} columns; put what holds "
                "a comma in double quotes"
            )
    empty = dict.fromkeys(found, "")  # Rows may end before their last columns.
    return [
        Row(f"list {path}, line {line}", line, {**empty, **dict(zip(found, cells, strict=False))})
        for line, cells in rows
    ]


def seconds(where, what, text, largest):
    """The number of seconds that a text is.

    Raises:
      UserError: it is none, or not 0 to `largest`.
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < largest:
        raise UserError(f"{where}: {what} is {texts.quoted(text)} and must be a number of seconds")
    return value
