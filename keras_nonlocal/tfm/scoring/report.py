"""The folder of a test's result: the JSON, tables, and a picture of what is taken for what."""

import csv
import io
import json
import os
from typing import Any

import numpy as np

from keras_nonlocal import errors, files
from keras_nonlocal.analysis import plot
from keras_nonlocal.tfm.inputs import videos
from keras_nonlocal.tfm.scoring import result, submission
from keras_nonlocal.tfm.scoring.predictions import Predictions

RESULT, PREDICTIONS, CLASSES, MISTAKES = "result.json", "predictions.npz", "classes.csv", "mistakes.csv"
CONFUSION, SUBMISSION = "confusion", "submission.txt"
# What is legible in one picture.
MOST_CLASSES = 30


def write(out_dir: str, scored: Predictions, of_test: result.Result, values: dict[str, Any]) -> list[str]:
    """Writes the files of a test, each whole; result.json last.

    Args:
      out_dir: the folder, made if it is not there.
      scored: what the network said.
      of_test: the result of it.
      values: what result.json holds.

    Returns:
      Sentences on what was not written.

    Raises:
      UserError: if the folder cannot be written.
    """
    notes = []
    names = result.class_names(scored.classes, scored.scores.shape[1])
    try:
        os.makedirs(out_dir, exist_ok=True)
        scored.save(os.path.join(out_dir, PREDICTIONS))
        _write_csv(os.path.join(out_dir, CLASSES), of_test.classes)
        _write_csv(os.path.join(out_dir, MISTAKES), of_test.mistakes, ["video", "true", "predicted", "score"])
        if of_test.confusion is not None:
            _write_confusion(os.path.join(out_dir, CONFUSION), of_test.confusion, names)
        else:
            ids = [videos.stem(video) for video in scored.videos]
            if all(ids) and len(set(ids)) == len(ids) and not any(len(name.split()) != 1 for name in ids):
                submission.write(os.path.join(out_dir, SUBMISSION), ids, scored.scores)
            else:
                notes.append(f"{SUBMISSION} is not written: file names of videos are missing, repeated or have spaces")
        files.write_text(os.path.join(out_dir, RESULT), json.dumps(values, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise errors.UserError(
            f"--out_dir {out_dir} cannot be written ({errors.first_line(error)}): make room there, or give another one."
        ) from error
    return notes


def _write_csv(path, rows, columns=None):
    text = io.StringIO()
    table = csv.DictWriter(text, columns or list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    files.write_text(path, text.getvalue())


def _write_confusion(path, confusion, names):
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["true \\ predicted", *names])
    table.writerows([name, *row] for name, row in zip(names, confusion.tolist(), strict=True))
    files.write_text(f"{path}.csv", text.getvalue())
    chosen = most_confused(confusion, MOST_CLASSES)
    title = "How often a true class (row) was predicted as which (column)"
    if len(chosen) < len(names):
        title += f"\n{len(chosen)} of {len(names)} classes, those of the most frequent confusions"
    figure = plot.draw_confusion(confusion[np.ix_(chosen, chosen)], [names[c] for c in chosen], title)
    with files.whole_file(f"{path}.png") as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def most_confused(confusion: np.ndarray, count: int) -> np.ndarray:
    """The classes of the most frequent confusions, in order of their index.

    Args:
      confusion: (classes, classes).
      count: how many classes at most.

    Returns:
      Their indices.
    """
    if len(confusion) <= count:
        return np.arange(len(confusion))
    wrong = confusion * (1 - np.eye(len(confusion), dtype=confusion.dtype))
    chosen: dict[int, None] = {}
    for true, predicted in zip(
        *np.unravel_index(np.argsort(-wrong, axis=None, kind="stable"), wrong.shape), strict=True
    ):
        new = {true, predicted} - set(chosen)
        if len(chosen) + len(new) > count:
            break
        chosen.update(dict.fromkeys(sorted(new)))
    return np.array(sorted(chosen))
