"""Charades' submissions: a line `ID s0 s1 ... s156` for each video."""

import os
from collections.abc import Iterable

import numpy as np

from keras_nonlocal import errors, files


def write(path: str | os.PathLike, ids: Iterable[str], scores: np.ndarray) -> None:
    """Writes a whole file, the scores with all their digits.

    Args:
      path: the file.
      ids: of the videos, without spaces.
      scores: (N, classes) float32.
    """
    # Nine digits tell any two float32 apart: rounded scores tie, and the average precision is another.
    lines = (" ".join([name, *(f"{score:.9g}" for score in row)]) for name, row in zip(ids, scores, strict=True))
    files.write_text(path, "".join(f"{line}\n" for line in lines))


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads a submission.

    Returns:
      {id: scores, float32 (classes,)}, in the order of the file.

    Raises:
      UserError: if there is no such file, it is empty, a line has another number of scores than the first or something
        that is none, or a video is there twice; naming the line.
    """
    found = {}
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                video, *row = line.split() or [""]
                if not video:
                    continue
                try:
                    scores = np.array(row, np.float32)
                except ValueError:
                    scores = np.array([np.nan])
                if not scores.size or np.isnan(scores).any():
                    raise errors.UserError(f"{path}, line {number}, is not an id and its scores, all numbers.")
                first = next(iter(found.values()), scores)
                if len(scores) != len(first):
                    raise errors.UserError(
                        f"{path}, line {number}, has {len(scores)} scores, not {len(first)} as those before it: every "
                        "line has one for each class."
                    )
                if video in found:
                    raise errors.UserError(f"{path}, line {number}: the video {video} was there before; leave one.")
                found[video] = scores
    except (OSError, UnicodeDecodeError) as error:
        raise errors.UserError(f"--predictions {path} cannot be read ({errors.first_line(error)}).") from error
    if not found:
        raise errors.UserError(f"--predictions {path} is empty: a submission has a line for each video.")
    return found
