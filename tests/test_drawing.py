"""Boxes, names, masks and skeletons are drawn where they are."""

import numpy as np
import pytest

from keras_nonlocal import drawing, errors

GRAY = np.full((60, 80, 3), 100, np.uint8)


def changed(drawn, image=GRAY):
    """The rows and columns that were drawn to: first and last of each."""
    rows, columns = np.nonzero((drawn != image).any(-1))
    return rows.min(), rows.max(), columns.min(), columns.max()


def test_a_box_covers_the_pixels_it_touches():
    drawn = drawing.draw(GRAY, np.array([[10, 20, 30, 50]]), [""])
    assert changed(drawn) == (10, 29, 20, 49)
    assert (drawn[11:29, 21:49] == GRAY[11:29, 21:49]).all()
    assert changed(drawing.draw(GRAY, np.array([[10.2, 20.9, 30.1, 50.6]]), [""])) == (10, 30, 20, 50)


@pytest.mark.parametrize(
    "box, expected",
    [
        ([-50.0, -50, 30, 30], (0, 29, 0, 29)),
        ([0, 0, 60, 80], (0, 59, 0, 79)),
        ([5, 5, 5, 5], (5, 5, 5, 5)),
        ([-9, 10, -2, 20], None),
        ([10, 80, 20, 99], None),
        ([10, 10, 1e12, 1e12], (10, 59, 10, 79)),
        ([10, 10, np.nan, 30], None),
    ],
)
def test_what_is_outside_is_not_drawn(box, expected):
    drawn = drawing.draw(GRAY, np.array([box], float), [""])
    assert changed(drawn) == expected if expected else (drawn == GRAY).all()


def test_nothing_changes_the_image_that_is_given():
    image = GRAY.copy()
    drawn = drawing.draw(image, np.zeros((0, 4)), [], np.zeros((0, 60, 80), bool), np.zeros((0, 3, 3)), [(0, 1)])
    np.testing.assert_array_equal(drawn, GRAY)
    drawing.draw(image, np.array([[1, 1, 9, 9]]), ["x"], np.ones((1, 60, 80), bool))
    np.testing.assert_array_equal(image, GRAY)
    drawing.draw(image[::-1, ::2], np.array([[1, 1, 9, 9]]), ["x"])
    np.testing.assert_array_equal(image, GRAY)
    image.flags.writeable = False
    assert (drawing.draw(image, np.array([[1, 1, 9, 9]]), ["x"]) != image).any()


def test_colours_are_red_green_and_blue_and_tell_objects_apart():
    boxes = np.array([[1 + 3 * n, 1, 3 + 3 * n, 79] for n in range(19)])
    drawn = drawing.draw(GRAY, boxes, [""] * 19)
    colours = [tuple(drawn[1 + 3 * n, 40].tolist()) for n in range(19)]
    assert len(set(colours)) == 19 and colours[0] == (255, 38, 38), "red first: hue 0, and 0.15 of white"
    neighbours = np.abs(np.diff(np.array(colours), axis=0)).sum(-1)
    assert neighbours.min() > 150


def test_masks_are_blended_and_lie_under_the_boxes():
    mask = np.zeros((1, 60, 80), bool)
    mask[0, 5:9, 12:18] = True
    drawn = drawing.draw(GRAY, np.array([[5, 12, 40, 60]]), [""], mask)
    np.testing.assert_array_equal(drawn[6, 14], np.rint(0.55 * 100 + 0.45 * np.array([255, 38, 38])))
    np.testing.assert_array_equal(drawn[5, 14], [255, 38, 38])
    np.testing.assert_array_equal(drawn[12, 30], [100, 100, 100])


def test_skeletons_join_what_is_shown():
    keypoints = np.array([[[10.5, 10.5, 1], [10.5, 70.5, 0.3], [50.5, 40.5, 0], [np.nan, 40.5, 1]]])
    edges = [(0, 1), (0, 2), (1, 3)]
    drawn = drawing.draw(GRAY, np.array([[0, 0, 60, 80]]), [""], None, keypoints, edges)
    inner = np.s_[1:-1, 1:-1]
    first, last = changed(drawn[inner], GRAY[inner])[:2]
    assert 6 <= first <= last <= 12, "two circles and a line in one row"
    np.testing.assert_allclose(drawn[10, 20:60], np.full((40, 3), [255, 38, 38]), rtol=0, atol=20)
    np.testing.assert_array_equal(drawn[10, [10, 70]], np.full((2, 3), [255, 38, 38]))
    without = drawing.draw(GRAY, np.array([[0, 0, 60, 80]]), [""], None, keypoints)
    assert (without[10, 20:60] == 100).all()


def test_dots_and_lines_of_skeletons_grow_with_the_photo():
    """In a photo that is ten times as large they are ten times as large: dots of 1/80 of its longer side, and a rim."""
    for size in (320, 3200):
        image = np.zeros((size // 2, size, 3), np.uint8)
        keypoints = np.array([[[size / 4, size / 4, 1], [size / 4, size * 3 / 4, 1]]])
        drawn = drawing.draw(image, np.zeros((1, 4)), [""], None, keypoints, [(0, 1)])
        dot = (drawn[:, size // 4] == [255, 38, 38]).all(-1).sum()
        with_rim = (drawn[size // 8 :, size // 4] > 0).any(-1).sum()
        line = (drawn[size // 8 :, size // 2] > 0).any(-1).sum()
        assert dot == pytest.approx(size / 80, abs=2 + size / 800)
        assert dot + 2 <= with_rim <= 1.5 * dot + 4
        assert line == pytest.approx(size / 320, abs=2 + size / 1600)


def arrows(frames, query, positions, weights):
    return drawing.draw_arrows(frames, np.array([query], float), np.array([positions], float), np.array([weights]))


def test_arrows_go_to_positions_in_their_frames():
    """Frames 1, 2 and 6 stand side by side; the brighter arrow is that of the larger weight, in a straight line."""
    frames = np.zeros((8, 200, 200, 3), np.uint8)
    frames[:] = np.arange(8)[:, None, None, None]
    drawn = arrows(frames, [1, 100.5, 100.5], [[2.2, 100.5, 150.5], [5.9, 150.5, 20.5]], [0.16, 0.01])
    assert drawn.shape == (200, 600, 3)
    assert drawn[199, 199].tolist() == [1] * 3 and drawn[199, 399].tolist() == [2] * 3 and drawn[199, 599, 0] == 6
    assert drawn[100, 250].tolist() == [255, 38, 38] == drawn[100, 345].tolist()
    assert drawn[100, 360].tolist() == [2] * 3, "it ends where the position is"
    dim = drawn[130:170, 410:418].reshape(-1, 3).max(0)
    share = 0.25 + 0.75 * (0.01 / 0.16) ** 0.5
    np.testing.assert_allclose(dim, share * np.array([255, 38, 38]), atol=7)


def test_small_frames_are_enlarged_and_places_with_them():
    frames = np.full((1, 20, 30, 3), 9, np.uint8)
    drawn = arrows(frames, [0, 5.5, 5.5], [[0, 5.5, 25.5], [0, 5.5, 5.5], [0, 99, 99]], [1.0, 0.5, 0])
    assert drawn.shape == (200, 300, 3)
    assert drawn[55, 150].tolist() == [255, 38, 38] and drawn[55, 252].tolist() == [255, 38, 38]
    assert drawn[55, 275].tolist() == [9] * 3
    assert arrows(np.zeros((2, 300, 201, 3), np.uint8), [9, 0, 0], [[-3, 0, 0]], [1.0]).shape == (300, 402, 3)


@pytest.mark.parametrize(
    "change, says",
    [
        ({"frames": GRAY}, r"frames must be \(T, H, W, 3\) uint8. Received: \(60, 80, 3\) uint8"),
        ({"queries": np.zeros((1, 2))}, r"queries must be \(Q, 3\), frame, y and x. Received: \(1, 2\)"),
        ({"positions": np.zeros((2, 4, 3))}, r"positions must be \(1, K, 3\). Received: \(2, 4, 3\)"),
        ({"weights": np.zeros((1, 5))}, r"weights must be \(1, 4\), as positions. Received: \(1, 5\)"),
        ({"weights": np.full((1, 4), np.nan)}, "must be finite"),
    ],
)
def test_arrows_of_other_shapes_are_refused(change, says):
    arguments = {"frames": GRAY[None], "queries": np.zeros((1, 3)), "positions": np.zeros((1, 4, 3))}
    with pytest.raises(errors.UserError, match=says):
        drawing.draw_arrows(**{**arguments, "weights": np.zeros((1, 4)), **change})


def test_names_are_within_the_image():
    """Above the box where there is room, and inside of it at the upper border; from the right border to the left."""
    drawn = drawing.draw(GRAY, np.array([[40, 30, 50, 60]]), ["kite"])
    first, last, left, _ = changed(drawn)
    assert first < 35 and last == 49 and left == 30
    drawn = drawing.draw(GRAY, np.array([[0, 75, 50, 80]]), ["kite"])
    first, _, left, right = changed(drawn)
    assert first == 0 and left < 65 and right == 79
    tiny = np.zeros((8, 8, 3), np.uint8)
    assert drawing.draw(tiny, np.array([[2, 2, 6, 6]]), ["a long name, 99 %"]).shape == (8, 8, 3)


def test_lines_are_wider_in_large_images():
    large = np.zeros((1200, 100, 3), np.uint8)
    drawn = drawing.draw(large, np.array([[300, 20, 900, 80]]), [""])
    assert (drawn[600, :50] > 0).any(-1).sum() == 3


@pytest.mark.parametrize(
    "change, says",
    [
        ({"image": GRAY[..., 0]}, r"image must be \(H, W, 3\) uint8. Received: \(60, 80\) uint8"),
        ({"image": GRAY / 255}, r"image must be .* float64"),
        ({"boxes": np.zeros((2, 4))}, r"boxes must be \(N, 4\), with one for each of 1 texts. Received: \(2, 4\)"),
        ({"masks": np.zeros((1, 30, 80), bool)}, r"masks must be .*\(1, 60, 80\). Received: \(1, 30, 80\)"),
        ({"keypoints": np.zeros((1, 17, 2))}, r"keypoints must be \(1, K, 3\). Received: \(1, 17, 2\)"),
    ],
)
def test_other_shapes_are_refused(change, says):
    arguments = {"image": GRAY, "boxes": np.zeros((1, 4)), "texts": ["a"], **change}
    with pytest.raises(errors.UserError, match=says):
        drawing.draw(**arguments)
