"""Keypoints of records go where their image goes: half a pixel, mirrors, scales, crops, and objects that vanish."""

import coco_files
import numpy as np
import pytest
import tensorflow as tf
from keypoint_items import Item, record
from official.vision.dataloaders import maskrcnn_input

from keras_nonlocal.tfm.inputs import keypoint_parser, keypoint_records

SIZE = 64  # of the networks' input
PARSER = {
    "output_size": [SIZE, SIZE], "min_level": 3, "max_level": 5, "num_scales": 1, "aspect_ratios": [1.0],
    "anchor_size": 3.0, "max_num_instances": 6,
}  # fmt: skip
CORNERS = (1, 0, 3, 2)  # top left, top right, bottom left, bottom right: what a mirror makes of the corners of a box


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def corners(y1, x1, y2, x2, *visibility):
    """The corners of a box as COCO counts pixels: half a pixel less than continuous coordinates."""
    points = ((x1, y1), (x2, y1), (x1, y2), (x2, y2))
    return [(x - 0.5, y - 0.5, v) for (x, y), v in zip(points, visibility, strict=True)]


def test_a_keypoint_is_in_the_middle_of_its_pixel():
    items = [Item((0, 0, 2, 4), [(3, 1, 2), (0, 0, 1), (5, 2, 0)]), Item((1, 1, 4, 8), [(0, 0, 0)] * 3)]
    decoded = keypoint_records.Decoder(3).decode(record(noise(4, 8), items))
    expected = [[[1.5 / 4, 3.5 / 8], [0.5 / 4, 0.5 / 8], [0, 0]], np.zeros((3, 2))]
    np.testing.assert_array_equal(decoded["groundtruth_keypoints"], expected)
    np.testing.assert_array_equal(decoded["groundtruth_visibility"], [[2, 1, 0], [0, 0, 0]])
    assert decoded["groundtruth_visibility"].dtype == tf.int32
    assert decoded["groundtruth_boxes"].shape == (2, 4) and decoded["source_id"] == b"1"


def test_annotations_come_through_prepare_coco(tmp_path):
    folder = coco_files.Folder(tmp_path)
    folder.image(5, "a.jpg")
    person = {"id": 1, "image_id": 5, "category_id": 1, "iscrowd": 0, "bbox": [3, 2, 30, 20], "area": 300.0}
    folder.annotate({**person, "keypoints": [3, 2, 2, 29, 11, 1, 0, 0, 0], "num_keypoints": 2}, coco_files.KITE)
    _, records = folder.write(keypoints=True)
    decoded = keypoint_records.Decoder(3).decode(records[5])
    size = coco_files.HEIGHT, coco_files.WIDTH
    order = np.argsort(decoded["groundtruth_classes"])
    expected = [[[2.5, 3.5], [11.5, 29.5], [0, 0]], np.zeros((3, 2))]
    np.testing.assert_allclose(decoded["groundtruth_keypoints"].numpy()[order] * size, expected, atol=1e-5)
    np.testing.assert_array_equal(decoded["groundtruth_visibility"].numpy()[order], [[2, 1, 0], [0, 0, 0]])
    assert keypoint_records.has_keypoints(records[5])


def test_an_image_without_objects_has_no_keypoints():
    decoded = keypoint_records.Decoder(17).decode(record(noise(4, 8), []))
    assert decoded["groundtruth_keypoints"].shape == (0, 17, 2) and decoded["groundtruth_visibility"].shape == (0, 17)


@pytest.mark.parametrize("missing", [("x", "y", "visibility"), ("x",), ("visibility",)])
def test_records_of_other_keypoints_are_refused_by_the_name_of_the_image(missing):
    bad = record(noise(4, 8), [Item((0, 0, 2, 4), [(1, 1, 2)] * 3)] * 2, 77, **{name: [] for name in missing})
    with pytest.raises(tf.errors.InvalidArgumentError, match="is 3, but image 77 has 2 objects and [06] y"):
        keypoint_records.Decoder(3).decode(bad)


@pytest.mark.parametrize(("visibility", "expected"), [((0, 0), False), ((0, 1), True), ((2, 0), True), ((), False)])
def test_a_hidden_keypoint_is_one_to_train_on(visibility, expected):
    items = [Item((0, 0, 2, 4), [(1, 1, v)]) for v in visibility]
    assert bool(keypoint_records.has_keypoints(record(noise(4, 8), items))) == expected


def in_a_mirror(keypoints, visibility, mirrored, width):
    """facts of Detectron: x' = W - x, then left and right change places; what is not there stays (0, 0)."""
    found, seen = np.zeros_like(keypoints), np.zeros_like(visibility)
    for n in range(len(keypoints)):
        for k, other in enumerate(mirrored):
            seen[n, k] = visibility[n, other]
            if seen[n, k]:
                y, x = keypoints[n, other]
                found[n, k] = y, width - x
    return found, seen


def some_keypoints(count=5, kinds=4, seed=0):
    rng = np.random.default_rng(seed)
    visibility = rng.integers(0, 3, (count, kinds)).astype("int32")
    return rng.uniform(-4, 70, (count, kinds, 2)) * (visibility[..., np.newaxis] > 0), visibility


def test_a_mirror_by_hand():
    keypoints, visibility = keypoint_parser.mirror([[[3.0, 0.0], [5.0, 2.5], [0.0, 0.0]]], [[1, 2, 0]], (0, 2, 1), 8.0)
    np.testing.assert_array_equal(keypoints, [[[3, 8], [0, 0], [5, 5.5]]])
    np.testing.assert_array_equal(visibility, [[1, 0, 2]])


@pytest.mark.parametrize("mirrored", [(0, 1, 2, 3), CORNERS, (0, 3, 2, 1)])
def test_a_mirror_is_numpy_s_and_twice_nothing(mirrored):
    keypoints, visibility = some_keypoints()
    found = keypoint_parser.mirror(keypoints, visibility, mirrored, 64.0)
    for ours, numpys in zip(found, in_a_mirror(keypoints, visibility, mirrored, 64.0), strict=True):
        np.testing.assert_array_equal(ours, numpys)
    again, seen = keypoint_parser.mirror(*found, mirrored, 64.0)
    np.testing.assert_allclose(again, keypoints, atol=1e-12)
    np.testing.assert_array_equal(seen, visibility)


def in_a_crop(keypoints, visibility, scale, offset, size):
    found, seen = np.zeros_like(keypoints), np.zeros_like(visibility)
    for index in np.ndindex(visibility.shape):
        y, x = keypoints[index] * scale - offset
        if visibility[index] and 0 <= y <= size[0] and 0 <= x <= size[1]:
            found[index], seen[index] = (y, x), visibility[index]
    return found, seen


def test_a_crop_is_numpy_s():
    keypoints, visibility = some_keypoints()
    window = np.array([0.5, 0.75]), np.array([3.0, 5.0]), np.array([20.0, 30.0])
    found, seen = keypoint_parser.crop(keypoints, visibility, *window)
    expected, expected_seen = in_a_crop(keypoints, visibility, *window)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_array_equal(seen, expected_seen)
    assert 0 < (expected_seen > 0).sum() < (visibility > 0).sum(), "some are outside"


def test_the_border_of_a_crop_is_inside_and_what_is_not_there_stays_away():
    just_out = np.nextafter(np.float32(16), np.float32(17))
    keypoints = [[[0, 0], [16, 16], [16, just_out], [-1e-6, 8], [0, 0]]]
    found, seen = keypoint_parser.crop(tf.constant(keypoints), [[1, 2, 2, 2, 0]], [1.0, 1.0], [0.0, 0.0], [16.0, 16.0])
    np.testing.assert_array_equal(seen, [[1, 2, 0, 0, 0]])
    np.testing.assert_array_equal(found, [[[0, 0], [16, 16], [0, 0], [0, 0], [0, 0]]])


def parsed(count, serialized, decoder, parser):
    """What training gets of a record, so many times."""
    records = tf.data.Dataset.from_tensors(serialized).repeat(count)
    return records.map(decoder.decode).map(parser.parse_fn(True)).as_numpy_iterator()


def test_a_keypoint_stays_on_its_pixel_in_a_mirror():
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    image[40, 10] = 255
    serialized = record(image, [Item((30, 0, 60, 20), [(10, 40, 2)])])
    parser = keypoint_parser.Parser(mirrored=(0,), aug_rand_hflip=True, **PARSER)
    for found, labels in parsed(12, serialized, keypoint_records.Decoder(1), parser):
        y, x = labels["gt_keypoints"][0, 0]
        row, column, _ = np.unravel_index(np.argmax(found), found.shape)
        assert (int(y), int(x)) == (row, column) == (40, (10, 53)[int(x) > 31]) and (y % 1, x % 1) == (0.5, 0.5)


ITEMS = [
    Item((10, 20, 50, 60), corners(10, 20, 50, 60, 2, 2, 1, 2), 1),
    Item((0, 0, 80, 100), corners(0, 0, 80, 100, 2, 2, 2, 2), 2, crowd=1),
    Item((58, 78, 78, 98), corners(58, 78, 78, 98, 1, 0, 2, 1), 3),
    Item((5, 70, 30, 95), corners(5, 70, 30, 95, 0, 1, 2, 0), 4),
]


def expected_labels(flipped, info):
    """All that training is told of ITEMS, on an image of 80 x 100, computed afresh."""
    (_, _), (height, width), scale, offset = info.astype("float64")
    boxes, labels, points, seen = [], [], [], []
    for item in ITEMS:
        if item.crowd:
            continue
        y1, x1, y2, x2 = item.box
        keypoints = np.array([[(y + 0.5, x + 0.5) if v else (0, 0) for x, y, v in item.keypoints]], "float64")
        visibility = np.array([[v for _, _, v in item.keypoints]])
        if flipped:
            x1, x2 = 100 - x2, 100 - x1
            keypoints, visibility = in_a_mirror(keypoints, visibility, CORNERS, 100)
        box = np.array([y1, x1, y2, x2]) * np.tile(scale, 2) - np.tile(offset, 2)
        box = np.clip(box, 0, [height, width] * 2)
        if box[2] <= box[0] or box[3] <= box[1]:
            continue
        keypoints, visibility = in_a_crop(keypoints, visibility, scale, offset, (height, width))
        for values, value in ((boxes, box), (labels, item.label), (points, keypoints[0]), (seen, visibility[0])):
            values.append(value)
    return np.array(boxes), labels, np.array(points), np.array(seen)


def test_labels_of_training_are_numpy_s_whatever_is_drawn():
    parser = keypoint_parser.Parser(
        mirrored=CORNERS, aug_rand_hflip=True, aug_scale_min=0.5, aug_scale_max=3.0, **PARSER
    )
    flips, counts, vanished = set(), set(), 0
    for _, labels in parsed(30, record(noise(80, 100), ITEMS), keypoint_records.Decoder(4), parser):
        found = [labels[f"gt_{name}"] for name in ("boxes", "classes", "keypoints", "visibility")]
        assert [part.shape for part in found] == [(6, 4), (6,), (6, 4, 2), (6, 4)]
        matches = []
        for flipped in (False, True):
            expected = expected_labels(flipped, labels["image_info"])
            count = len(expected[0])
            if list(found[1]) != [*expected[1], *[-1] * (6 - count)]:
                continue
            if not count or np.allclose(found[0][:count], expected[0], atol=1e-3):
                matches.append((flipped, count, expected))
        assert len(matches) == 1 or matches[0][1] == 0
        flipped, count, expected = matches[0]
        np.testing.assert_array_equal(found[3], [*expected[3], *[[0] * 4] * (6 - count)])
        if count:
            np.testing.assert_allclose(found[2][:count], expected[2], atol=1e-3)
        assert not found[2][count:].any()
        flips.add(flipped)
        counts.add(count)
        vanished += (found[3] > 0).sum() < 9
    assert flips == {False, True} and {3} < counts and vanished, "all that can be drawn was"


def test_without_a_mirror_all_else_is_tfm_s():
    mask = np.zeros((80, 100), np.uint8)
    mask[12:40, 22:30] = 1
    items = [Item(item.box, item.keypoints, item.label, item.crowd, mask) for item in ITEMS]
    decoded = keypoint_records.Decoder(4, include_mask=True).decode(record(noise(80, 100), items))
    settings = {**PARSER, "include_mask": True, "mask_crop_size": 28}
    results = []
    for parser in (keypoint_parser.Parser(mirrored=CORNERS, **settings), maskrcnn_input.Parser(**settings)):
        tf.random.set_seed(0)  # of the anchors that are sampled
        results.append([*parser.parse_fn(True)(decoded), *parser.parse_fn(False)(decoded)])
    ours, tfms = results
    for name in ("gt_keypoints", "gt_visibility"):
        del ours[1][name]
    for name in ("keypoints", "visibility"):
        del ours[3]["groundtruths"][name]
    tf.nest.map_structure(np.testing.assert_array_equal, ours, tfms)


def test_masks_are_mirrored_with_their_object():
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[20:24, 10:40] = 1
    mask[24:50, 10:18] = 1
    serialized = record(noise(SIZE, SIZE), [Item((20, 10, 50, 40), corners(20, 10, 50, 40, 2, 2, 2, 2), mask=mask)])
    settings = {**PARSER, "include_mask": True, "mask_crop_size": 28}
    parser = keypoint_parser.Parser(mirrored=CORNERS, aug_rand_hflip=True, **settings)
    found = {}
    for _, labels in parsed(12, serialized, keypoint_records.Decoder(4, include_mask=True), parser):
        found[labels["gt_boxes"][0, 1]] = labels["gt_masks"][0]
    assert set(found) == {10.0, 24.0}, "64 - 40"
    np.testing.assert_allclose(found[24.0], found[10.0][:, ::-1], atol=1e-4)
    assert np.abs(found[24.0] - found[10.0]).max() > 0.9


def test_an_evaluation_keeps_every_object_and_its_keypoints_in_the_image_s_pixels():
    decoded = keypoint_records.Decoder(4).decode(record(noise(80, 100), ITEMS, 12))
    parser = keypoint_parser.Parser(mirrored=CORNERS, aug_rand_hflip=True, **PARSER)
    _, labels = parser.parse_fn(False)(decoded)
    truths = labels["groundtruths"]
    assert truths["source_id"] == 12 and truths["num_detections"] == 4
    assert truths["keypoints"].shape == (6, 4, 2) and truths["visibility"].shape == (6, 4)
    for row, item in enumerate(ITEMS):
        expected = [(y + 0.5, x + 0.5) if v else (0, 0) for x, y, v in item.keypoints]
        np.testing.assert_allclose(truths["keypoints"][row], expected, atol=1e-4)
        np.testing.assert_array_equal(truths["visibility"][row], [v for _, _, v in item.keypoints])
    assert not truths["keypoints"][4:].numpy().any() and not truths["visibility"][4:].numpy().any()
