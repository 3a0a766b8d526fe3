"""The demo's clips: what is in them, and why frames that do not meet cannot answer more than 0.75 of them."""

import csv
import itertools

import numpy as np
import pytest

from keras_nonlocal.data.video import reader
from keras_nonlocal.demo import clips


@pytest.fixture(scope="module")
def sources():
    return {split: clips.load_source(split) for split in clips.DIGITS}


def test_splits_share_no_digit_and_no_footage(sources):
    images = {split: {digit.tobytes() for digit in source.digits} for split, source in sources.items()}
    for one, other in itertools.combinations(sources, 2):
        assert not images[one] & images[other]
        frames = [{frame.tobytes() for part in sources[split].footage for frame in part} for split in (one, other)]
        assert not frames[0] & frames[1]
    assert sum(len(source.digits) for source in sources.values()) == 1797
    assert all(set(source.classes) == set(range(10)) for source in sources.values())


def test_every_clip_shows_each_digit_in_one_frame(sources):
    rng = np.random.default_rng(0)
    for _ in range(50):
        _, places = clips.compose(sources["test"], rng, same=True)
        for start in range(clips.FRAMES - 8 * 2 + 1):
            clip = set(range(start, start + 16, 2))
            seen = [clip & set(range(first, first + clips.STAY)) for first, _, _ in places]
            assert [len(frames) for frames in seen] == [1, 1]
            early, late = (frames.pop() - start for frames in seen)
            assert late // 4 > early // 4, "pool2 must not bring the two into one step"


def test_digits_are_where_it_says(sources):
    rng = np.random.default_rng(1)
    frames, places = clips.compose(sources["test"], rng, same=False)
    (first, y, x), (last, v, u) = places
    half = clips.SIZE // 2
    assert (y < half) != (v < half) and (x < half) != (u < half), "opposite quadrants"
    for t, row, column in places:
        reach = clips.DIGIT // 2
        patch = np.s_[row - reach : row + reach + 1, column - reach : column + reach + 1]
        assert frames[t][patch].max() > 240 and frames[t + 1][patch].max() > 240
        assert np.abs(frames[t][patch].astype(int) - frames[t + 3][patch]).max() > 60, "gone again"


def test_the_same_seed_gives_the_same_clips_and_test_clips_never_change(sources, tmp_path, monkeypatch):
    monkeypatch.setattr(clips, "load_source", sources.__getitem__)  # They are loaded already.
    counts = {"train": 2, "validation": 2, "test": 2}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        clips.write(tmp_path / name, counts, counts, seed)

    def read(name, video):
        return (tmp_path / name / "videos" / f"{video}_000000_000001.mp4").read_bytes()

    assert read("a", "pairs-train-00000") == read("b", "pairs-train-00000") != read("c", "pairs-train-00000")
    assert read("a", "pairs-test-00001") == read("c", "pairs-test-00001")
    frames = reader.read_video(tmp_path / "a" / "videos" / "digits-test-00000_000000_000001.mp4")
    assert frames.shape == (clips.SINGLE_FRAMES, clips.SIZE, clips.SIZE, 3)
    with open(tmp_path / "a" / "pairs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["different", "same"] * 3
    assert [row["split"] for row in rows] == ["train"] * 2 + ["validation"] * 2 + ["test"] * 2


@pytest.mark.parametrize("classes", [2, 3])
def test_the_ceiling_of_frames_that_do_not_meet(classes):
    """The best of all rules "same if g(early) + h(late) > 0", by trying every order that sums can come in."""
    rules = np.array(list(itertools.product(np.linspace(-1, 1, 2 * classes + 1), repeat=classes)))
    same = np.eye(classes, dtype=bool)
    best = 0
    for g in rules:
        says_same = g[:, None] + rules[:, None, :] > 1e-9  # (rules of h, early, late)
        right = says_same[:, same].mean(1) + (~says_same)[:, ~same].mean(1)
        best = max(best, right.max() / 2)
    # s "same" cells answered right cost s (s - 1) / 2 "different" cells: nested rows. The best is s = classes.
    assert best == pytest.approx(clips.CEILING)
