"""What a scoring gives, whatever the task."""

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Result:
    """The result of a test.

    Args:
      metrics: by name, those that say most first.
      notes: sentences on what was left out of them.
      classes: for each class a row of its table, {column: value}; None for a value that there is not.
      mistakes: the most confident ones, rows likewise.
      confusion: (classes, classes), how many videos of a true class (row) were predicted as another (column); None
        where a video has several classes.
    """

    metrics: dict[str, float]
    notes: list[str]
    classes: list[dict[str, Any]]
    mistakes: list[dict[str, Any]]
    confusion: np.ndarray | None = None


def class_names(names: list[str] | None, count: int) -> list[str]:
    """The names of the classes, or their numbers."""
    return list(names) if names else [str(number) for number in range(count)]
