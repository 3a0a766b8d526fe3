"""The scores of every video in a file, from which a test can be scored again without the network."""

import dataclasses
import json
import os
import zipfile
from typing import Any

import numpy as np

from keras_nonlocal import errors, files
from keras_nonlocal.tfm import scoring
from keras_nonlocal.tfm.scoring import result

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a network says of the videos of a test.

    Args:
      videos: (N,) str, their names.
      labels: (N, classes), not 0 where a video has a class.
      scores: (N, classes) float32.
      scoring: how they are scored: a key of keras_nonlocal.tfm.scoring.SCORINGS.
      classes: names of the classes, None where they are not known.
      about: what else the result of the test says: step, views and so on.
    """

    videos: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    scoring: str
    classes: list[str] | None
    about: dict[str, Any]

    def score(self) -> result.Result:
        """The result of the test."""
        return scoring.SCORINGS[self.scoring](self.videos, self.labels, self.scores, self.classes)

    def save(self, path: str | os.PathLike) -> None:
        """Writes a whole .npz file of `videos`, `labels`, `scores` and `header`, a JSON text."""
        header = {"format": FORMAT, "scoring": self.scoring, "classes": self.classes, "about": self.about}
        with files.whole_file(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(
                file,
                videos=np.asarray(self.videos, np.str_),
                labels=np.asarray(self.labels) != 0,
                scores=np.asarray(self.scores, np.float32),
                header=np.array(json.dumps(header)),
            )


def load(path: str | os.PathLike) -> Predictions:
    """Reads a file that Predictions.save wrote.

    Raises:
      UserError: if there is none, or it is damaged or something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it is a single array")
            videos, labels, scores = file["videos"], file["labels"], file["scores"]
            header = json.loads(str(file["header"]))
        _check(videos, labels, scores, header)
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zipfile.zlib.error) as error:
        raise errors.UserError(
            f"--predictions {os.fspath(path)} is no file of predictions ({errors.first_line(error)}): give the "
            "predictions.npz of an evaluation, or a submission whose name ends in .txt."
        ) from error
    return Predictions(videos, labels, scores, header["scoring"], header["classes"], header["about"])


def _check(videos, labels, scores, header):
    if header["format"] != FORMAT:
        raise ValueError(f"its format is {header['format']}, not {FORMAT}")
    if header["scoring"] not in scoring.SCORINGS:
        raise ValueError(f"it is to be scored by {header['scoring']!r}")
    if scores.ndim != 2 or labels.shape != scores.shape or videos.shape != scores.shape[:1] or not scores.size:
        raise ValueError(f"videos {videos.shape}, labels {labels.shape} and scores {scores.shape} do not fit")
    kinds = tuple(array.dtype.kind for array in (videos, labels, scores))
    if kinds != ("U", "b", "f") or not (scores < np.inf).all():  # nor is a NaN
        raise ValueError("its names, labels or scores are of another type")
    if not isinstance(header["about"], dict) or len(header["classes"] or labels[0]) != labels.shape[1]:
        raise ValueError("its header does not fit")
