"""The rule by which the demo chooses what its picture of attention shows, on attention written by hand."""

import numpy as np
import pytest

from keras_nonlocal.analysis.attention_maps import AttentionMap
from keras_nonlocal.demo import attention, clips

GRID = (4, 5, 5)  # cells of 8 x 8 pixels, two frames of the clip in each step
EARLY, LATE = (2, 12, 12), (5, 31, 28)  # in steps 1 and 2, the early one on rows and columns 0.5 to 2.6
FRAMES = 8


def index(t, y, x):
    return np.ravel_multi_index((t, y, x), GRID)


def own_frame():
    """Every position attends to itself."""
    return np.eye(100)


def test_cells_count_as_far_as_the_digit_covers_them():
    found = attention.covered(EARLY, GRID, FRAMES)
    along = [4 / 8, 8 / 8, 5 / 8, 0, 0]  # 17 pixels, from 4 to 21
    np.testing.assert_allclose(found[1], np.outer(along, along))
    assert found.sum() == found[1].sum() == pytest.approx(clips.DIGIT**2 / 64)
    assert (
        attention.on_digit(EARLY, GRID, FRAMES)[1, :3, :3].sum() == attention.on_digit(EARLY, GRID, FRAMES).sum() == 9
    )
    coarse = [attention.on_digit((3, y, x), (4, 3, 3), FRAMES) for y in range(8, 32) for x in range(8, 32)]
    assert all(cells.any() for cells in coarse), "some cell is on the digit wherever it is"


def test_the_block_is_the_one_that_is_needed_most():
    assert attention.choose_block({"a": 85, "b": 63, "c": 82, "d": 63}) == "b"


def test_the_clip_is_neither_the_best_nor_the_worst():
    looks = [attention.Look((0, 0, 0), 0, 0.9, share, (0.75, 0.05)) for share in (0.5, 0.9, 0.1, 0.4, 0.0, 1.0)]
    assert attention.choose_clip(looks, [0, 1, 2]) == 0
    assert attention.choose_clip(looks, [1, 3, 5, 4, 2]) == 3


@pytest.mark.parametrize(("digit", "query", "other"), [(0, (1, 1, 1), (2, 3, 3)), (1, (2, 3, 3), (1, 1, 1))])
def test_the_position_is_the_one_on_a_digit_with_the_most_in_other_frames(digit, query, other):
    weights = own_frame()
    weights[index(0, 4, 4)] = own_frame()[index(*other)]  # the background looks at a digit, and is not chosen
    weights[index(*query)] = 0.2 * own_frame()[index(*query)] + 0.5 * own_frame()[index(*other)]
    weights[index(*query)][index(3, 0, 0)] = 0.3
    found = attention.look(AttentionMap(weights, GRID, GRID), (EARLY, LATE), FRAMES)
    assert (found.query, found.digit) == (query, digit)
    assert (found.elsewhere, found.on_other) == (pytest.approx(0.8), pytest.approx(0.5))
    assert found.even == (0.75, pytest.approx(clips.DIGIT**2 / 64 / 100))
