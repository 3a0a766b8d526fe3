"""labels.txt: the names of the classes, one a line; the line's order is the index."""

import collections
import os
import re
from collections.abc import Sequence

from keras_nonlocal.data import texts
from keras_nonlocal.errors import UserError


def read(path: str | os.PathLike) -> list[str]:
    """Reads class names, one a line.

    Args:
      path: the file.

    Returns:
      The names in the order of their indices.

    Raises:
      UserError: no such file, no name, an empty line between names, a control character in a name, or a name given
        twice.
    """
    lines = re.split(r"\r\n|\r|\n", texts.read(path, "labels file").rstrip())
    where = f"labels file {path}, line"
    labels = [texts.printable(f"{where} {line}", text.strip()) for line, text in enumerate(lines, start=1)]
    if labels == [""]:
        raise UserError(f"labels file {path} is empty; write one class name a line")
    for line, label in enumerate(labels, start=1):
        if not label:
            raise UserError(f"labels file {path}, line {line}, is empty; a line's number is its class, so remove it")
    name, count = collections.Counter(labels).most_common(1)[0]
    if count > 1:
        raise UserError(f"labels file {path} names {name!r} {count} times; every class has one line")
    return labels


def text(labels: Sequence[str]) -> str:
    """What such a file holds.

    Args:
      labels: the names in the order of their indices.

    Raises:
      UserError: a name that is not one line.
    """
    for label in labels:
        if label.splitlines() != [label]:
            raise UserError(f"class name {label!r} is not one line, and labels.txt has one class a line; correct it")
    return "".join(f"{label}\n" for label in labels)
