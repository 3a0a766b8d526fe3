"""The numbers of a test against their definitions: scikit-learn's, the official rule in plain Python, tf_keras's."""

import json

import numpy as np
import pytest
import tf_keras
from sklearn import metrics as sklearn_metrics

from keras_nonlocal import errors
from keras_nonlocal.tfm.scoring import many_labels, one_label, predictions, report, submission

NAMES = np.array([f"v{i:02}" for i in range(40)])


def several(seed, videos=40, classes=6, digits=None):
    """Random labels and scores; the first three videos have no class."""
    rng = np.random.default_rng(seed)
    labels = rng.random((videos, classes)) < 0.3
    labels[np.arange(videos), rng.integers(0, classes - 2, videos)] = True
    labels[:3] = False
    scores = rng.random((videos, classes)).astype("float32")
    return labels, scores if digits is None else scores.round(digits)


def official(labels, scores):
    """Charades_v1_classify.m: unlabelled videos at minus infinity, a stable sort, precision at every hit."""
    aps = []
    scores = np.where(labels.any(axis=1, keepdims=True), scores, -np.inf)
    for c in range(labels.shape[1]):
        ranked = sorted(range(len(labels)), key=lambda i: -scores[i, c])  # Python's sort is stable
        hits, precisions = 0, []
        for rank, i in enumerate(ranked, start=1):
            if labels[i, c]:
                hits += 1
                precisions.append(hits / rank)
        aps.append(sum(precisions) / hits)
    return np.array(aps)


@pytest.mark.parametrize("digits", [None, 1], ids=["no ties", "ties"])
def test_the_official_rule(digits):
    labels, scores = several(0, digits=digits)
    result = many_labels.score(NAMES, labels, scores)
    aps = official(labels, scores)
    weights = labels.sum(axis=0)
    assert result.metrics["mean_average_precision"] == pytest.approx(aps.mean(), rel=1e-12)
    assert result.metrics["weighted_average_precision"] == pytest.approx(
        (aps * weights).sum() / weights.sum(), rel=1e-12
    )
    assert [row["average_precision"] for row in result.classes] == pytest.approx(aps, rel=1e-12)
    slowfast = sklearn_metrics.average_precision_score(labels, scores, average="macro")
    assert result.metrics["mean_average_precision_slowfast"] == pytest.approx(slowfast, rel=1e-9)
    # The three numbers are three, so that one cannot stand for another.
    assert abs(aps.mean() - slowfast) > 1e-3
    assert "3 of no class left out" in result.notes[0]


def test_without_ties_and_unlabelled_videos_all_rules_agree():
    labels, scores = several(1)
    labels, scores = labels[labels.any(axis=1)], scores[labels.any(axis=1)]
    result = many_labels.score(NAMES, labels, scores)
    by_sklearn = sklearn_metrics.average_precision_score(labels, scores, average="macro")
    assert result.metrics["mean_average_precision"] == pytest.approx(by_sklearn, rel=1e-12)
    assert result.metrics["mean_average_precision_slowfast"] == pytest.approx(by_sklearn, rel=1e-12)


def test_equal_scores_stay_in_the_order_of_the_videos():
    first, last = np.array([True, False, False]), np.array([False, False, True])
    assert many_labels.average_precision(first, np.zeros(3)) == 1
    assert many_labels.average_precision(last, np.zeros(3)) == pytest.approx(1 / 3)
    for positive in (first, last):
        assert many_labels.average_precision_by_threshold(positive, np.zeros(3)) == pytest.approx(1 / 3)


def test_classes_without_videos_are_named_and_left_out():
    labels, scores = several(2)
    labels[:, 4] = False
    rest = [0, 1, 2, 3, 5]
    result = many_labels.score(NAMES, labels, scores, ["a", "b", "c", "d", "eating", "f"])
    labelled = labels.any(axis=1)
    assert result.metrics["mean_average_precision"] == pytest.approx(
        official(labels[labelled][:, rest], scores[labelled][:, rest]).mean(), rel=1e-12
    )
    assert "1 of 6 classes" in result.notes[1] and result.notes[1].endswith(": eating")
    assert result.classes[4]["average_precision"] is None and result.classes[4]["videos"] == 0
    json.dumps(result.metrics, allow_nan=False)
    with pytest.raises(errors.UserError, match="none of the 40 videos has a class"):
        many_labels.score(NAMES, np.zeros_like(labels), scores)


def test_the_most_confident_wrong_class_of_videos_of_several():
    labels = np.array([[1, 0, 0], [0, 1, 1]])
    scores = np.array([[0.9, 0.2, 0.8], [0.7, 0.1, 0.95]])
    worst = many_labels.score(NAMES[:2], labels, scores, ["a", "b", "c"]).mistakes
    assert [(row["video"], row["true"], row["predicted"], row["score"]) for row in worst] == [
        ("v00", "a", "c", 0.8),
        ("v01", "b; c", "a", 0.7),
        ("v00", "a", "b", 0.2),
    ]


def one_of(seed, videos=40, classes=8):
    rng = np.random.default_rng(seed)
    scores = rng.dirichlet(np.ones(classes), videos).astype("float32")
    true = rng.integers(0, classes - 1, videos)  # the last class has no video
    return np.eye(classes, dtype=int)[true], scores, true


def test_top_1_top_5_and_the_mean_over_classes():
    labels, scores, true = one_of(0)
    result = one_label.score(NAMES, labels, scores)
    ranked = np.argsort(-scores, axis=1)
    assert result.metrics["accuracy"] == np.mean(ranked[:, 0] == true)
    assert result.metrics["top_5_accuracy"] == np.mean([t in row[:5] for t, row in zip(true, ranked, strict=True)])
    assert result.metrics["mean_class_accuracy"] == pytest.approx(
        sklearn_metrics.balanced_accuracy_score(true, ranked[:, 0])
    )
    loss = tf_keras.losses.categorical_crossentropy(labels.astype("float32"), scores).numpy().mean()
    assert result.metrics["loss"] == pytest.approx(loss, rel=1e-5)
    np.testing.assert_array_equal(
        result.confusion, sklearn_metrics.confusion_matrix(true, ranked[:, 0], labels=range(8))
    )
    assert "1 of 8 classes have no video" in result.notes[1] and result.classes[7]["accuracy"] is None
    assert result.classes[2]["accuracy"] == np.mean(ranked[true == 2, 0] == 2)


def test_a_tie_is_no_luck():
    """Of equal scores the lower index is first, so a network that says nothing gets no more than its share."""
    labels = np.eye(8, dtype=int)
    result = one_label.score(NAMES[:8], labels, np.full((8, 8), 0.125))
    assert result.metrics["accuracy"] == 1 / 8 and result.metrics["top_5_accuracy"] == 5 / 8


def test_the_most_confident_mistakes():
    labels, scores, true = one_of(3)
    predicted, best = scores.argmax(axis=1), scores.max(axis=1)
    worst = sorted((i for i in range(40) if predicted[i] != true[i]), key=lambda i: -best[i])[:10]
    rows = one_label.score(NAMES, labels, scores).mistakes
    assert [(row["video"], row["true"], row["predicted"]) for row in rows] == [
        (NAMES[i], str(true[i]), str(predicted[i])) for i in worst
    ]
    assert [row["score"] for row in rows] == pytest.approx(best[worst])


def test_a_video_of_two_classes_is_refused_where_each_has_one():
    labels, scores, _ = one_of(0)
    labels[5] = [1, 1, 0, 0, 0, 0, 0, 0]
    with pytest.raises(errors.UserError, match="v05 has 2 classes"):
        one_label.score(NAMES, labels, scores)
    labels[5] = 0
    with pytest.raises(errors.UserError, match="v05 has 0 classes"):
        one_label.score(NAMES, labels, scores)


def saved(folder, labels, scores, scoring="many_labels"):
    about = {"step": 3, "clips": 10}
    written = predictions.Predictions(NAMES, labels, scores, scoring, None, about)
    written.save(folder / "p.npz")
    return written


def test_predictions_come_back_to_the_bit(tmp_path):
    labels, scores = several(4)
    written = saved(tmp_path, labels, scores)
    read = predictions.load(tmp_path / "p.npz")
    np.testing.assert_array_equal(read.scores, scores)
    assert read.scores.dtype == np.float32 and read.videos.tolist() == NAMES.tolist() and read.about == written.about
    assert read.score() == written.score()


def _damage(path, how):
    content = path.read_bytes()
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "flipped":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :])
    elif how == "text":
        path.write_text("v00 0.5")
    elif how == "array":
        with open(path, "wb") as file:
            np.save(file, np.zeros(3))
    elif how == "pickle":
        np.savez(path, videos=np.array([{}], object), labels=1, scores=2, header=3)
    elif how == "missing":
        np.savez(path, videos=NAMES)
    elif how == "gone":
        path.unlink()
    elif how == "nan":
        saved(path.parent, np.ones((40, 2)), np.full((40, 2), np.nan))
    elif how == "sizes":
        saved(path.parent, np.ones((39, 2)), np.ones((39, 2)))
    elif how == "scoring":
        saved(path.parent, np.ones((40, 2)), np.ones((40, 2)), "by_dice")


@pytest.mark.parametrize(
    "how", ["cut", "flipped", "text", "array", "pickle", "missing", "gone", "nan", "sizes", "scoring"]
)
def test_files_that_are_no_predictions_are_refused_in_a_sentence(how, tmp_path):
    saved(tmp_path, *several(5))
    _damage(tmp_path / "p.npz", how)
    with pytest.raises(errors.UserError, match="--predictions .*p.npz is no file of predictions"):
        predictions.load(tmp_path / "p.npz")


def test_a_submission_holds_all_digits(tmp_path):
    _, scores = several(6, classes=157)
    submission.write(tmp_path / "s.txt", NAMES, scores)
    lines = (tmp_path / "s.txt").read_text().splitlines()
    assert len(lines) == 40 and lines[0].split()[0] == "v00" and len(lines[0].split()) == 158
    read = submission.read(tmp_path / "s.txt")
    assert list(read) == NAMES.tolist()
    np.testing.assert_array_equal(np.stack(list(read.values())), scores)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("A 0.1 0.2\nB 0.1\n", "line 2, has 1 scores, not 2"),
        ("A 0.1 x\n", "line 1, is not an id and its scores"),
        ("A\n", "line 1, is not an id and its scores"),
        ("A nan\n", "line 1, is not an id and its scores"),
        ("A 0.1\nA 0.1\n", "line 2: the video A was there before"),
    ],
)
def test_what_is_no_submission_is_named(text, message, tmp_path):
    (tmp_path / "s.txt").write_text(text)
    with pytest.raises(errors.UserError, match=message):
        submission.read(tmp_path / "s.txt")


def test_the_picture_shows_the_classes_that_are_confused():
    confusion = np.eye(400, dtype=int) * 50
    confusion[7, 300], confusion[300, 7], confusion[12, 13], confusion[5, 399] = 20, 9, 11, 1
    assert report.most_confused(confusion, 4).tolist() == [7, 12, 13, 300]
    assert len(report.most_confused(confusion, 30)) <= 30 and {5, 399} <= set(report.most_confused(confusion, 30))
    assert report.most_confused(confusion[:20, :20], 30).tolist() == list(range(20))
