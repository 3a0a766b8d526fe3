"""The rule by which the demo chooses what its pictures of attention show, on attention written by hand."""

import numpy as np
import pytest

from keras_nonlocal.analysis.attention_maps import BlockAttention
from keras_nonlocal.demo import attention, clips

# Keys of two frames and 8 x 8 pixels, (4, 5, 5) of them.
KEY_SIZE = (2, 8, 8)
KEYS = np.stack(np.meshgrid([0.5, 2.5, 4.5, 6.5], *[4 + 8 * np.arange(5)] * 2, indexing="ij"), -1).reshape(-1, 3)
EARLY, LATE = (2, 12, 12), (5, 31, 28)  # in keys 1 and 2 of time, the early one on 0.5 to 2.6 of rows and columns
ON_EACH = attention.SIDE**2


def key(t, y, x):
    """The number of a key."""
    return np.ravel_multi_index((t, y, x), (4, 5, 5))


def test_points_are_all_over_a_digit_and_on_nothing_else():
    frames, rows, columns = attention.points(EARLY).T
    assert set(frames) == {2} and len(frames) == ON_EACH
    # Its 17 pixels are from 4 to 21, and the points in the middles of quarters of it.
    for along in (rows, columns):
        np.testing.assert_allclose(np.unique(along), 4 + 17 * np.array([1, 3, 5, 7]) / 8)


def test_keys_count_as_far_as_the_digit_covers_them():
    found = attention.covered(EARLY, KEYS, KEY_SIZE).reshape(4, 5, 5)
    along = [4 / 8, 8 / 8, 5 / 8, 0, 0]
    np.testing.assert_allclose(found[1], np.outer(along, along))
    assert found.sum() == found[1].sum() == pytest.approx(clips.DIGIT**2 / 64)


def test_the_block_is_the_one_that_is_needed_most():
    assert attention.choose_block({"a": 85, "b": 63, "c": 82, "d": 63}) == "b"


def test_the_clip_is_neither_the_best_nor_the_worst():
    looks = [attention.Look(0, 0, 0.9, share, (0.75, 0.05)) for share in (0.5, 0.9, 0.1, 0.4, 0.0, 1.0)]
    assert attention.choose_clip(looks, [0, 1, 2]) == 0
    assert attention.choose_clip(looks, [1, 3, 5, 4, 2]) == 3


@pytest.mark.parametrize(("digit", "own", "other"), [(0, (1, 1, 1), (2, 3, 3)), (1, (2, 3, 3), (1, 1, 1))])
def test_the_position_is_the_one_on_a_digit_with_the_most_in_other_frames(digit, own, other):
    queries = np.concatenate([attention.points(EARLY), attention.points(LATE)])
    queries[:, 0] = np.repeat([2.5, 4.5], ON_EACH)
    weights = np.zeros((2, 2 * ON_EACH, len(KEYS)))
    weights[..., key(*own)] = 1
    # Of the other example each position on its own frame, but for one with half of its attention on the other digit.
    weights[1] = 0
    weights[1, :ON_EACH, key(1, 4, 4)] = weights[1, ON_EACH:, key(2, 4, 4)] = 1
    query = digit * ON_EACH + 7
    weights[1, query] = 0
    weights[1, query, [key(*own), key(*other), key(3, 0, 0)]] = 0.2, 0.5, 0.3
    places = np.broadcast_to(KEYS, (2, 2 * ON_EACH, *KEYS.shape))
    block = BlockAttention("block", "embedded_gaussian", True, 100, KEY_SIZE, np.stack([queries] * 2), places, weights)
    found = attention.look(block, 1, (EARLY, LATE))
    assert (found.query, found.digit) == (query, digit)
    assert (found.elsewhere, found.on_other) == (pytest.approx(0.8), pytest.approx(0.5))
    assert found.even == (0.75, pytest.approx(clips.DIGIT**2 / 64 / 100))
