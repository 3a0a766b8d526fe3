"""Lists whose order a score decides, such as detections: two orders of them compared without those that are tied."""

from collections.abc import Mapping

import numpy as np

from keras_nonlocal.serving import constants

# {the output with the scores: the axis of the list}; all outputs that are as long along it belong to the list.
LISTS = {constants.SCORES: 1, constants.WEIGHTS: 2}


def aligned(
    found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray], tolerance: float
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Answers whose lists have the same order, as far as their scores leave that open.

    Kernels round differently, and then what has nearly equal scores changes places, or the one instead of the other is
    the last that is listed. So each entry is put beside the one most like it of those with nearly its score, and of
    entries with nearly the last score the scores alone are left, the other outputs 0.

    Args:
      found: {output: array}.
      wanted: the same outputs, of the same shapes.
      tolerance: how far scores may be from each other, in parts of the largest.

    Returns:
      Both, the second in its own order. Answers without such a list, or of other shapes, as they were.
    """
    scored = next((name for name in LISTS if name in wanted), None)
    if scored is None or any(np.shape(found[name]) != np.shape(wanted[name]) for name in wanted):
        return dict(found), dict(wanted)
    axis = LISTS[scored]
    shape = wanted[scored].shape
    if len(shape) != axis + 1:
        return dict(found), dict(wanted)
    of_list = [name for name, value in wanted.items() if value.shape[: axis + 1] == shape]
    found, wanted = ({name: np.array(value) for name, value in side.items()} for side in (found, wanted))
    for place in np.ndindex(*shape[:axis]):
        old, new = ({name: side[name][place] for name in of_list} for side in (wanted, found))
        _align(new, old, scored, tolerance)
    return found, wanted


def _align(found, wanted, scored, tolerance):
    """In place, of one list: {output: (N, ...)} views."""
    scores = np.abs(wanted[scored].astype(float))
    near = tolerance * scores.max(initial=0)
    rows = {side: np.concatenate([np.reshape(each[name], [len(scores), -1]).astype(float) for name in found], axis=1)
            for side, each in (("found", found), ("wanted", wanted))}  # fmt: skip
    scale = np.maximum(np.abs(rows["wanted"]).max(axis=0, initial=0), 1e-30)
    left, order = list(range(len(scores))), []
    for row, score in zip(rows["wanted"], wanted[scored], strict=True):
        candidates = [each for each in left if abs(found[scored][each] - score) <= near] or left[:1]
        chosen = min(candidates, key=lambda each: np.abs((rows["found"][each] - row) / scale).max())
        left.remove(chosen)
        order.append(chosen)
    is_last = scores <= scores[-1:].max(initial=0) + near
    for name, values in found.items():
        if name != scored:  # the scores themselves have an order
            values[...] = values[order]
            values[is_last] = wanted[name][is_last] = 0
