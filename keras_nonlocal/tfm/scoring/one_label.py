"""The result where a video is of one class: Kinetics."""

import numpy as np

from keras_nonlocal import errors
from keras_nonlocal.tfm.scoring import result

MISTAKES = 10


def ranks(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """How many classes are before the true one, (N,): those of a higher score, and of the same and a lower index.

    Args:
      labels: (N,) int.
      scores: (N, classes).
    """
    true = np.take_along_axis(scores, labels[:, np.newaxis], axis=1)
    before = np.arange(scores.shape[1]) < labels[:, np.newaxis]
    return ((scores > true) | ((scores == true) & before)).sum(axis=1)


def score(videos: np.ndarray, labels: np.ndarray, scores: np.ndarray, names: list[str] | None = None) -> result.Result:
    """Top-1 and top-5, the mean over classes of their accuracy, what is taken for what, and the worst mistakes.

    Args:
      videos: (N,) their names.
      labels: one-hot, (N, classes).
      scores: probabilities, (N, classes).
      names: of the classes. Default their numbers.

    Raises:
      UserError: for a video of no class, or of several.
    """
    labels = np.asarray(labels)
    odd = np.flatnonzero((labels != 0).sum(axis=1) != 1)
    if odd.size:
        raise errors.UserError(
            f"the video {videos[odd[0]]} has {(labels[odd[0]] != 0).sum()} classes, where every one has one: write the "
            "records again from a list with one class a video, or train an experiment of several labels."
        )
    true, scores = labels.argmax(axis=1), np.asarray(scores, np.float64)
    count = scores.shape[1]
    names = result.class_names(names, count)
    rank = ranks(true, scores)
    predicted = scores.argmax(axis=1)
    confusion = np.zeros((count, count), np.int64)
    np.add.at(confusion, (true, predicted), 1)
    of_class = confusion.sum(axis=1)
    present = of_class > 0
    accuracies = np.diag(confusion)[present] / of_class[present]
    metrics = {"accuracy": float((rank == 0).mean())}
    if count > 5:
        metrics["top_5_accuracy"] = float((rank < 5).mean())
    metrics["mean_class_accuracy"] = float(accuracies.mean())
    of_true = np.take_along_axis(scores, true[:, np.newaxis], axis=1)
    metrics["loss"] = float(-np.log(np.maximum(of_true, np.finfo(np.float32).tiny)).mean())
    notes = [f"{len(videos)} videos of {present.sum()} classes"]
    if not present.all():
        notes.append(f"{(~present).sum()} of {count} classes have no video and are left out of the mean class accuracy")
    wrong = np.flatnonzero(rank > 0)
    worst = wrong[np.argsort(-scores[wrong].max(axis=1), kind="stable")[:MISTAKES]]
    mistakes = [
        {
            "video": str(videos[i]),
            "true": names[true[i]],
            "predicted": names[predicted[i]],
            "score": float(scores[i].max()),
        }
        for i in worst
    ]
    return result.Result(metrics, notes, _rows(names, true, rank, confusion), mistakes, confusion)


def _rows(names, true, rank, confusion):
    rows = []
    for index, name in enumerate(names):
        own = rank[true == index]
        others = confusion[index].copy()
        others[index] = 0
        most = int(others.argmax())
        rows.append(
            {
                "class": index,
                "name": name,
                "videos": len(own),
                "accuracy": float((own == 0).mean()) if len(own) else None,
                "top_5_accuracy": float((own < 5).mean()) if len(own) else None,
                "most_often_taken_for": names[most] if others[most] else None,
                "times": int(others[most]) or None,
            }
        )
    return rows
