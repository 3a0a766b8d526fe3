"""From heat maps to points: peaks known by their equation, borders, ties, and Detectron's own way beside ours."""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from keras_nonlocal.tfm.keypoints import decoding

SIZE = 56
CELLS = np.arange(SIZE) + 0.5
UNIT = [0.0, 0.0, SIZE, SIZE]  # a region of which a cell is a pixel


def decoded(logits, boxes):
    """Of (N, S, S, K) and (N, 4), as one image; (N, K, 3)."""
    return decoding.quadratic(np.float32(logits)[None], np.float32(boxes)[None]).numpy()[0]


def paraboloids(centres, curvatures):
    """(N, S, S, 1) with -a (y - y0)^2 - b (x - x0)^2 in the middles of the cells."""
    along = -np.float64(curvatures)[:, :, None] * (CELLS - np.float64(centres)[:, :, None]) ** 2
    return (along[:, 0, :, None] + along[:, 1, None, :])[..., None]


def test_peaks_of_parabolas_are_exact():
    generator = np.random.default_rng(0)
    centres = generator.uniform(1.6, SIZE - 1.6, (40, 2))
    logits = paraboloids(centres, generator.uniform(0.05, 2, (40, 2)))
    points = decoded(logits, [UNIT] * 40)
    np.testing.assert_allclose(points[:, 0, :2], centres, atol=1e-3)


def test_the_score_is_the_softmax_of_the_peak():
    logits = np.random.default_rng(1).normal(0, 4, (3, SIZE, SIZE, 2))
    exponentials = np.exp(logits)
    expected = exponentials.max(axis=(1, 2)) / exponentials.sum(axis=(1, 2))
    np.testing.assert_allclose(decoded(logits, [UNIT] * 3)[..., 2], expected, rtol=1e-5)
    assert decoded(logits * 1e4, [UNIT] * 3)[..., 2] == pytest.approx(1), "no overflow"


def test_points_are_in_the_pixels_of_their_regions():
    box = [10.0, 200.0, 10.0 + 28, 200.0 + 112]  # half a pixel and two pixels a cell
    points = decoded(paraboloids([[20.25, 30.75]], [[1, 1]]), [box])
    np.testing.assert_allclose(points[0, 0, :2], [10 + 20.25 / 2, 200 + 30.75 * 2], atol=1e-4)


@pytest.mark.parametrize("value", [0.0, -7.5, 1e6])
def test_a_flat_map_has_its_point_in_the_first_cell(value):
    points = decoded(np.full([1, SIZE, SIZE, 2], value), [UNIT])
    np.testing.assert_allclose(points, [[[0.5, 0.5, 1 / 3136]] * 2], rtol=1e-4)


@pytest.mark.parametrize(
    "cells, expected",
    [
        ([(0, 0)], (0.5, 0.5)),
        ([(0, 55)], (0.5, 55.5)),
        ([(55, 0)], (55.5, 0.5)),
        ([(55, 55)], (55.5, 55.5)),
        ([(20, 30), (20, 31)], (20.5, 31)),  # as high as each other: between them
        ([(20, 30), (21, 30)], (21, 30.5)),
        ([(20, 30), (21, 31)], (20.5, 30.5)),
        ([(40, 10), (20, 30)], (20.5, 30.5)),  # the first one, row by row
        ([(20, 40), (20, 30)], (20.5, 30.5)),
        ([(0, 30), (0, 31)], (0.5, 31)),
        ([(20, 54), (20, 55)], (20.5, 55)),
        ([(54, 20), (55, 20)], (55, 20.5)),
    ],
)
def test_borders_corners_and_ties(cells, expected):
    logits = np.zeros([1, SIZE, SIZE, 1])
    for y, x in cells:
        logits[0, y, x] = 9
    np.testing.assert_allclose(decoded(logits, [UNIT])[0, 0, :2], expected, atol=1e-6)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("border", [-3.0, SIZE + 3.0])
def test_a_peak_on_a_border_is_refined_along_it_only(axis, border):
    centre = np.array([20.3, 20.3])
    centre[axis] = border
    expected = centre.clip(0.5, SIZE - 0.5)
    np.testing.assert_allclose(decoded(paraboloids([centre], [[1, 1]]), [UNIT])[0, 0, :2], expected, atol=1e-3)


@pytest.mark.parametrize("box", [[7.0, 9.0, 7.0, 9.0], [7.0, 9.0, 7.0, 30.0], [0.0, 0.0, 0.0, 0.0]])
def test_a_region_without_size_is_no_nan(box):
    points = decoded(paraboloids([[20.3, 20.3]], [[1, 1]]), [box])
    assert np.isfinite(points).all() and points[0, 0, 0] == box[0]


def detectron(heat_map, height, width):
    """The pixel that Detectron finds in a map (S, S) of a region of that size, in cells of the map."""
    large = cv2.resize(heat_map, (int(np.ceil(width)), int(np.ceil(height))), interpolation=cv2.INTER_CUBIC)
    y, x = np.unravel_index(large.argmax(), large.shape)
    return (y + 0.5) / large.shape[0] * SIZE, (x + 0.5) / large.shape[1] * SIZE


def test_points_are_near_detectron_s():
    """On bumps of a standard deviation of two cells, with noise; regions of 40 to 400 pixels."""
    generator = np.random.default_rng(2)
    centres = generator.uniform(4, SIZE - 4, (100, 2))
    along = np.exp(-((CELLS - centres[:, :, None]) ** 2) / (2 * 2.0**2))
    logits = 10 * along[:, 0, :, None, None] * along[:, 1, None, :, None]
    logits = np.float32(logits + generator.normal(0, 0.1, logits.shape))
    sizes = generator.uniform(40, 400, (100, 2))
    ours = decoded(logits, [UNIT] * 100)[:, 0, :2]
    theirs = np.array([detectron(x[..., 0], *size) for x, size in zip(logits, sizes, strict=True)])
    plain = np.stack(np.unravel_index(logits.reshape(100, -1).argmax(axis=1), (SIZE, SIZE)), axis=-1) + 0.5
    away, plain_away = (np.linalg.norm(points - theirs, axis=-1) for points in (ours, plain))
    assert away.mean() < 0.2 and np.quantile(away, 0.95) < 0.4
    assert plain_away.mean() > 0.35
    assert np.linalg.norm(ours - centres, axis=-1).mean() < np.linalg.norm(theirs - centres, axis=-1).mean()


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("sizes", [(2, 3), (None, None)])
def test_graphs_of_known_and_unknown_sizes(compiled, sizes):
    signature = [tf.TensorSpec([*sizes, SIZE, SIZE, 4]), tf.TensorSpec([*sizes, 4])]
    function = tf.function(decoding.quadratic, input_signature=signature, jit_compile=compiled)
    generator = np.random.default_rng(3)
    logits = generator.normal(0, 3, (2, 3, SIZE, SIZE, 4)).astype("float32")
    boxes = generator.uniform(0, 300, (2, 3, 4)).astype("float32")
    np.testing.assert_allclose(function(logits, boxes), decoding.quadratic(logits, boxes), rtol=1e-4, atol=1e-4)
    if sizes[0] is None:
        assert function(logits[:0], boxes[:0]).shape == (0, 3, 4, 3)
        assert function(logits[:, :0], boxes[:, :0]).shape == (2, 0, 4, 3)


def test_logits_of_half_precision_give_points_in_float32():
    logits = tf.cast(paraboloids([[20.5, 30.5]], [[1, 1]]), tf.bfloat16)[None]
    points = decoding.quadratic(logits, tf.constant([[[0.0, 0.0, 1000.0, 1000.0]]]))
    np.testing.assert_allclose(points[0, 0, 0, :2], np.array([20.5, 30.5]) * 1000 / SIZE, rtol=1e-5)
    assert points.dtype == tf.float32
