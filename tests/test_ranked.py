"""Lists whose order a score decides: what may change places, and what may not."""

import numpy as np

from keras_nonlocal.export import ranked

SCORES = np.array([[0.9, 0.5, 0.5, 0.2, 0.1]], np.float32)
BOXES = np.arange(20, dtype=np.float32).reshape(1, 5, 4)
WANTED = {"scores": SCORES, "boxes": BOXES, "num_detections": np.array([5], np.int32)}


def largest(found, wanted):
    found, wanted = ranked.aligned(found, wanted, 1e-4)
    return max(np.abs(found[name].astype(float) - wanted[name]).max() for name in wanted)


def in_order(order):
    return WANTED | {"scores": SCORES[:, order], "boxes": BOXES[:, order]}


def test_tied_entries_may_change_places_and_others_may_not():
    assert largest(WANTED, WANTED) == 0
    assert largest(in_order([0, 2, 1, 3, 4]), WANTED) == 0
    assert largest(in_order([0, 3, 2, 1, 4]), WANTED) > 0.1
    assert largest(WANTED | {"boxes": BOXES + 3}, WANTED) == 3


def test_of_those_tied_with_the_last_only_the_scores_count():
    tied = WANTED | {"scores": np.array([[0.9, 0.5, 0.3, 0.1, 0.1]], np.float32)}
    other = BOXES.copy()
    other[0, 3:] += 50
    assert largest(tied | {"boxes": other}, tied) == 0
    assert largest(tied | {"scores": tied["scores"] + np.array([0, 0, 0, 0, 0.05], np.float32)}, tied) > 0.04
    other[0, 2] += 50
    assert largest(tied | {"boxes": other}, tied) == 50


def test_lists_of_each_query_and_answers_without_a_list():
    weights = np.array([[[-0.6, 0.4, 0.0], [1.0, 1.0, 0.5]]], np.float32)
    positions = np.arange(18, dtype=np.float32).reshape(1, 2, 3, 3)
    wanted = {"weights": weights, "positions": positions, "queries": np.ones([1, 2, 3])}
    swapped = positions.copy()
    swapped[0, 1, :2] = positions[0, 1, 1::-1]
    assert largest(wanted | {"positions": swapped}, wanted) == 0
    swapped[0, 0, :2] = positions[0, 0, 1::-1]
    assert largest(wanted | {"positions": swapped}, wanted) == 3
    plain = {"logits": np.array([[1.0, 2.0]])}
    assert largest({"logits": np.array([[1.0, 2.5]])}, plain) == 0.5
