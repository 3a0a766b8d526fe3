"""The result where a video is of any number of classes, or none: Charades, by the rule of its authors.

`Charades_v1_classify.m`: for each class the videos are sorted by their score, and the precision at the rank of every
one that has the class is averaged. The mean over the classes is the mAP, weighted by how many videos have each the wAP.
Videos without any class are ranked last there for every class, which is the same as to leave them out.
"""

import numpy as np

from keras_nonlocal import errors
from keras_nonlocal.tfm.scoring import result

MISTAKES = 10


def average_precision(positive: np.ndarray, scores: np.ndarray) -> float:
    """The official rule for one class: the mean over its videos of the precision at their rank.

    Args:
      positive: (N,) bool, which videos have the class.
      scores: (N,) float; equal ones stay in the order of the videos.

    Returns:
      NaN if none has it.
    """
    if not positive.any():
        return np.nan
    places = np.flatnonzero(positive[np.argsort(-scores, kind="stable")])
    return float((np.arange(1, len(places) + 1) / (places + 1)).mean())


def average_precision_by_threshold(positive: np.ndarray, scores: np.ndarray) -> float:
    """scikit-learn's rule, which SlowFast and LFB take: as the official one, but equal scores have one rank together.

    Args:
      positive: (N,) bool.
      scores: (N,) float.

    Returns:
      NaN if no video has the class.
    """
    if not positive.any():
        return np.nan
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.append(ordered[1:] != ordered[:-1], True)
    found = np.cumsum(positive[order])[last]
    precision = found / (np.flatnonzero(last) + 1)
    return float((np.diff(found, prepend=0) * precision).sum() / found[-1])


def score(videos: np.ndarray, labels: np.ndarray, scores: np.ndarray, names: list[str] | None = None) -> result.Result:
    """mAP and weighted AP by the official rule, and SlowFast's mAP beside them.

    Args:
      videos: (N,) their names.
      labels: (N, classes), not 0 where a video has a class.
      scores: (N, classes) float, not rounded: where scores tie, their order counts. Minus infinity ranks last.
      names: of the classes. Default their numbers.

    Raises:
      UserError: if no video has any class.
    """
    labels, scores = np.asarray(labels) != 0, np.asarray(scores, np.float64)
    count = labels.shape[1]
    names = result.class_names(names, count)
    labelled = labels.any(axis=1)
    if not labelled.any():
        raise errors.UserError(f"none of the {len(videos)} videos has a class: there is no average precision of them.")
    positives = labels.sum(axis=0)
    official = np.array([average_precision(labels[labelled, c], scores[labelled, c]) for c in range(count)])
    slowfast = np.array([average_precision_by_threshold(labels[:, c], scores[:, c]) for c in range(count)])
    present = positives > 0
    metrics = {
        "mean_average_precision": float(official[present].mean()),
        "weighted_average_precision": float((official[present] * positives[present]).sum() / positives.sum()),
        "mean_average_precision_slowfast": float(slowfast[present].mean()),
    }
    if 0 <= scores.min() and scores.max() <= 1:
        tiny = np.finfo(np.float32).tiny
        metrics["loss"] = float(-np.log(np.maximum(np.where(labels, scores, 1 - scores), tiny)).mean())
    notes = [
        f"official rule: {labelled.sum()} videos ranked, {(~labelled).sum()} of no class left out (SlowFast counts "
        "them as negatives)"
    ]
    if not present.all():
        missing = [names[c] for c in np.flatnonzero(~present)]
        shown = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
        notes.append(
            f"{len(missing)} of {count} classes have no video and are left out of the means, which the official rule "
            f"makes NaN: {shown}"
        )
    rows = [
        {
            "class": c,
            "name": names[c],
            "videos": int(positives[c]),
            "average_precision": float(official[c]) if present[c] else None,
            "average_precision_slowfast": float(slowfast[c]) if present[c] else None,
        }
        for c in range(count)
    ]
    return result.Result(metrics, notes, rows, _mistakes(videos, labels, scores, names))


def _mistakes(videos, labels, scores, names):
    """The highest scores of classes that a video does not have."""
    absent = np.where(labels, -np.inf, scores)
    worst = np.argsort(-absent, axis=None, kind="stable")[:MISTAKES]
    rows = []
    for video, c in zip(*np.unravel_index(worst, absent.shape), strict=True):
        if np.isfinite(absent[video, c]):
            true = "; ".join(names[own] for own in np.flatnonzero(labels[video]))
            rows.append(
                {"video": str(videos[video]), "true": true, "predicted": names[c], "score": float(absent[video, c])}
            )
    return rows
