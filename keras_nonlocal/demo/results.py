"""What the demos found: read from files, and written as tables."""

import os
from collections.abc import Sequence

from keras_nonlocal import errors
from keras_nonlocal.data.records import writer


def read(path: str | os.PathLike, demo: str) -> dict:
    """What a command wrote as JSON.

    Args:
      path: the file.
      demo: the command that should have let it be written, such as "demo_video".

    Raises:
      UserError: there is no such file.
    """
    result = writer.read_json(path)
    if result is None:
        raise errors.UserError(f"{path} is not there: let keras-nonlocal {demo} run to its end first.")
    return result


def table(lines: Sequence[Sequence[str]]) -> str:
    """A table as Markdown; the first line is its head.

    Example:

    >>> print(table([["network", "AP"], ["RetinaNet", "0.9"]]))
    | network | AP |
    | --- | --- |
    | RetinaNet | 0.9 |
    """
    head, *rows = lines
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *rows])
