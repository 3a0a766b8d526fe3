"""COCO's metrics of keypoints, result files of what a detector found, and Detectron's decoding, against hand counts."""

import copy
import json
import math
import types

import cv2
import numpy as np
import pytest
import tensorflow as tf
from official.core import exp_factory, train_utils
from official.vision.evaluation import coco_evaluator
from pycocotools import mask as masks_of_coco

from keras_nonlocal import errors
from keras_nonlocal.skeleton import COCO_PERSON
from keras_nonlocal.tfm import evaluate
from keras_nonlocal.tfm.keypoints.bicubic import bicubic
from keras_nonlocal.tfm.scoring import coco_results, coco_scores, kept_results
from keras_nonlocal.tfm.scoring.coco_keypoints import KeypointEvaluator

THRESHOLDS = np.linspace(0.5, 0.95, 10)
# One pixel of the original is this many of the network's input, in y and x.
SCALES = {11: (0.5, 0.5), 12: (2.0, 2.0), 13: (0.75, 0.8)}


def person(image, keypoints, area=100.0, box=None, **others):
    """An annotation; keypoints as (x, y, v) in COCO's numbers of pixels."""
    x, y = np.array(keypoints, float)[:, :2].min(axis=0) - 5
    return {
        "image_id": image, "category_id": 1, "bbox": box or [x, y, 40.0, 60.0], "area": area, "iscrowd": 0,
        "keypoints": np.ravel(keypoints).tolist(), **others,
    }  # fmt: skip


def detection(annotation, score, moved=()):
    """What finds an annotation exactly, but for keypoints moved by {number: (dx, dy)} in pixels of the original."""
    keypoints = np.array(annotation["keypoints"], float).reshape(-1, 3)
    for number, (dx, dy) in dict(moved).items():
        keypoints[number, :2] += dx, dy
    return {
        "image": annotation["image_id"], "class": annotation["category_id"], "score": score,
        "bbox": annotation["bbox"], "keypoints": keypoints[:, :2],
    }  # fmt: skip


def scale_of(image):
    return np.array(SCALES.get(image, (1.0, 1.0)))


def batch_of(found, images, room=4, ids=int, size=(400, 400), **others):
    """Predictions as tfm's tasks give them: padded, and in pixels of the network's input."""
    count = max([len(each["keypoints"]) for each in found], default=3)
    boxes, scores = np.zeros([len(images), room, 4], np.float32), np.zeros([len(images), room], np.float32)
    classes, keypoints = np.zeros([len(images), room], np.int32), np.zeros([len(images), room, count, 3], np.float32)
    numbers = []
    for row, image in enumerate(images):
        own = [each for each in found if each["image"] == image]
        numbers.append(len(own))
        for place, each in enumerate(own):
            x, y, width, height = each["bbox"]
            boxes[row, place] = np.array([y, x, y + height, x + width]) * np.tile(scale_of(image), 2)
            scores[row, place], classes[row, place] = each["score"], each["class"]
            # Continuous coordinates: the centre of pixel 0 is at 0.5.
            keypoints[row, place, :, :2] = (each["keypoints"][:, ::-1] + 0.5) * scale_of(image)
            keypoints[row, place, :, 2] = 0.25
    info = np.array([[size, (512, 512), scale_of(image), (0, 0)] for image in images], np.float32)
    arrays = {
        "source_id": [ids(image) for image in images], "image_info": info, "num_detections": np.int32(numbers),
        "detection_boxes": boxes, "detection_scores": scores, "detection_classes": classes,
        "detection_keypoints": keypoints, **others,
    }  # fmt: skip
    return {name: tf.constant(value) for name, value in arrays.items()}


def objects_of(annotations, images, room=5):
    """The decoded objects of the same images as tfm's parsers pad them, with keypoints."""
    count = len(annotations[0]["keypoints"]) // 3 if annotations else 3
    objects = {
        "source_id": np.array(images), "num_detections": np.zeros(len(images), np.int32),
        "boxes": -np.ones([len(images), room, 4], np.float32), "classes": -np.ones([len(images), room], np.int32),
        "areas": -np.ones([len(images), room], np.float32), "is_crowds": np.zeros([len(images), room], np.int32),
        "keypoints": np.zeros([len(images), room, count, 2], np.float32),
        "visibility": np.zeros([len(images), room, count], np.int32),
    }  # fmt: skip
    for row, image in enumerate(images):
        own = [each for each in annotations if each["image_id"] == image]
        objects["num_detections"][row] = len(own)
        for place, each in enumerate(own):
            x, y, width, height = each["bbox"]
            values = np.array(each["keypoints"], float).reshape(-1, 3)
            shown = values[:, 2:] > 0
            objects["boxes"][row, place] = y, x, y + height, x + width
            objects["classes"][row, place], objects["areas"][row, place] = each["category_id"], each["area"]
            objects["is_crowds"][row, place] = each["iscrowd"]
            objects["keypoints"][row, place] = np.where(shown, values[:, 1::-1] + 0.5, 0)
            objects["visibility"][row, place] = values[:, 2]
    return {name: tf.constant(value) for name, value in objects.items()}


def write_annotations(path, annotations, images, **others):
    numbered = [{"id": number + 500, **each} for number, each in enumerate(annotations)]
    document = {
        "images": [{"id": image, "height": 400, "width": 400} for image in images],
        "categories": [{"id": category} for category in sorted({each["category_id"] for each in annotations} or {1})],
        "annotations": numbered, **others,
    }  # fmt: skip
    path.write_text(json.dumps(document))
    return str(path)


def metrics_of(path, annotations, found, images, sigmas=(0.05,) * 3, **settings):
    evaluator = KeypointEvaluator(write_annotations(path, annotations, images), sigmas, **settings)
    evaluator.update_state(None, batch_of(found, images))
    return evaluator.result()


THREE = [(30.0, 40.0, 2), (50.0, 45.0, 2), (35.0, 80.0, 1)]


def oks(distances, sigmas, area):
    """Of visible keypoints, from the formula on COCO's page: k_i = 2 sigma_i, s^2 the area."""
    return np.mean([math.exp(-(d**2) / (2 * area * (2 * s) ** 2)) for d, s in zip(distances, sigmas, strict=True)])


@pytest.mark.parametrize(
    ("sigmas", "area", "distance", "average_precision"),
    [
        ((0.05,), 100.0, 1.0, 0.3),  # exp(-1 / 2) = 0.607: 0.50, 0.55, 0.60
        ((0.05,), 100.0, 0.5, 0.8),  # exp(-1 / 8) = 0.882: 0.50 to 0.85
        ((0.10,), 100.0, 1.0, 0.8),  # exp(-1 / 8), by the other sigma
        ((0.05,), 400.0, 1.0, 0.8),  # exp(-1 / 8), by the other area
        ((0.05, 0.1, 0.02), 400.0, 3.0, 0.6),  # (2 + exp(-9 / 8)) / 3 = 0.775: 0.50 to 0.75
        ((0.05, 0.1, 0.02), 400.0, 99.0, 0.4),  # 2 / 3: 0.50 to 0.65
        (COCO_PERSON.sigmas, 400.0, 99.0, 0.9),  # 16 / 17 = 0.941: 0.50 to 0.90
    ],
)
@pytest.mark.parametrize("image", [7, 11, 13])
def test_a_moved_keypoint_gives_the_similarity_counted_by_hand(
    tmp_path, sigmas, area, distance, average_precision, image
):
    annotation = person(image, (THREE * 6)[: len(sigmas)], area)
    moved = {0: (0.6 * distance, -0.8 * distance)}  # a triangle of 3, 4, 5: both coordinates count
    similarity = oks([distance] + [0] * (len(sigmas) - 1), sigmas, area)
    assert np.mean(similarity >= THRESHOLDS) == average_precision
    metrics = metrics_of(tmp_path / "a", [annotation], [detection(annotation, 0.9, moved)], [image], sigmas)
    assert metrics["keypoint_AP"] == pytest.approx(average_precision, abs=1e-6)
    assert metrics["keypoint_AR"] == pytest.approx(average_precision, abs=1e-6)
    assert metrics["keypoint_AP50"] == (similarity >= 0.5) and metrics["keypoint_AP75"] == (similarity >= 0.75)


@pytest.mark.parametrize(("v", "average_precision"), [(2, 0.4), (1, 0.4), (0, 1.0)])
def test_an_occluded_keypoint_counts_and_one_that_is_not_marked_does_not(tmp_path, v, average_precision):
    annotation = person(7, [(30.0, 40.0, v), *THREE[1:]], 400.0)
    metrics = metrics_of(tmp_path / "a", [annotation], [detection(annotation, 0.9, {0: (99, 0)})], [7])
    assert metrics["keypoint_AP"] == pytest.approx(average_precision, abs=1e-6)


def test_results_are_pixels_of_the_original_image_with_all_their_digits(tmp_path):
    """So small an object that half a pixel, or a fraction that is cut off, leaves nothing of the similarity."""
    annotation = person(13, [(30.375, 41.625, 2), (50.25, 45.5, 2), (35.125, 80.75, 2)], area=1.0)
    path = write_annotations(tmp_path / "a", [annotation], [13])
    evaluator = KeypointEvaluator(path, (0.025,) * 3)
    evaluator.update_state(None, batch_of([detection(annotation, 0.5)], [13]))
    assert evaluator.result()["keypoint_AP"] == pytest.approx(1, abs=1e-6)
    [line] = evaluator.results()
    assert {name: line[name] for name in ("image_id", "category_id", "score")} == {
        "image_id": 13, "category_id": 1, "score": 0.5,
    }  # fmt: skip
    keypoints = np.reshape(line["keypoints"], [3, 3])
    np.testing.assert_allclose(keypoints[:, :2], np.reshape(annotation["keypoints"], [3, 3])[:, :2], atol=2e-5)
    assert (keypoints[:, 2] == 0.25).all(), "the score of each keypoint"


def test_who_is_in_a_crowd_or_has_no_keypoints_is_neither_right_nor_wrong(tmp_path):
    alone = person(7, THREE)
    hidden = person(7, [(0, 0, 0)] * 3, box=[200.0, 200.0, 40.0, 60.0], num_keypoints=0)
    crowd = person(7, [(310.0, 310.0, 2)] * 3, box=[300.0, 300.0, 40.0, 60.0], iscrowd=1)
    within = [detection(person(7, [(x, x, 2)] * 3), 0.95) for x in (220.0, 310.0)]
    annotations = [alone, hidden, crowd]
    found = [detection(alone, 0.9), *within]
    assert metrics_of(tmp_path / "a", annotations, found, [7])["keypoint_AP"] == pytest.approx(1, abs=1e-6)
    # The same two where nobody is come first and are wrong: one of three is right.
    elsewhere = [{**each, "keypoints": each["keypoints"] + 100} for each in within]
    found = [detection(alone, 0.9), *elsewhere]
    assert metrics_of(tmp_path / "a", annotations, found, [7])["keypoint_AP"] == pytest.approx(1 / 3, abs=1e-6)


def test_what_an_annotation_file_may_lack(tmp_path):
    """Areas, iscrowd and num_keypoints; ids are 0 or repeated, which pycocotools would stumble over."""
    one, other = person(7, THREE), person(8, [(60.0, 90.0, 2), (0, 0, 0), (70.0, 95.0, 1)])
    for each in (one, other):
        del each["area"], each["iscrowd"]
    without = {"image_id": 8, "category_id": 1, "bbox": [300.0, 300.0, 10.0, 10.0]}
    chair = {"image_id": 8, "category_id": 62, "bbox": [0.0, 0.0, 10.0, 10.0]}
    annotations = [{**each, "id": 0} for each in (one, other, without, chair)]
    found = [detection(one, 0.9), detection(other, 0.8)]
    evaluator = KeypointEvaluator(write_annotations(tmp_path / "a", annotations, [7, 8]), (0.05,) * 3)
    evaluator.update_state(None, batch_of(found, [7, 8]))
    assert evaluator.result()["keypoint_AP"] == pytest.approx(1, abs=1e-6)
    truth = coco_scores.of_keypoints(coco_scores.read_annotations(str(tmp_path / "a")), 3, "a")
    assert [each["num_keypoints"] for each in truth["annotations"]] == [3, 2, 0]
    assert [each["id"] for each in truth["annotations"]] == [1, 2, 3]
    assert truth["annotations"][0]["area"] == 40 * 60
    assert truth["categories"] == [{"id": 1}]


def test_what_is_scored_stays_as_it_is(tmp_path):
    """pycocotools writes areas, ids and more into what it is given."""
    annotations = [person(7, THREE)]
    truth = coco_scores.read_annotations(write_annotations(tmp_path / "a", annotations, [7]))
    truth = coco_scores.of_keypoints(truth, 3, "a")
    line = {"image_id": 7, "category_id": 1, "keypoints": annotations[0]["keypoints"], "score": 0.5}
    before = copy.deepcopy((truth, line))
    coco_scores.score("keypoints", truth, [line], sigmas=(0.05,) * 3)
    assert (truth, line) == before


def test_categories_count_alike(tmp_path):
    """The mean over categories: of persons all are found, of dogs (18) one of two."""
    persons = [person(7, THREE), person(8, THREE)]
    dogs = [person(image, [(200.0, 220.0, 2)] * 3, category_id=18) for image in (7, 8)]
    found = [detection(persons[0], 0.9), detection(persons[1], 0.8), detection(dogs[0], 0.7)]
    metrics = metrics_of(tmp_path / "a", [*persons, *dogs], found, [7, 8])
    # Precision 1 up to a recall of a half: 51 of 101 points.
    assert metrics["keypoint_AP"] == pytest.approx((1 + 51 / 101) / 2, abs=1e-6)
    assert metrics["keypoint_AR"] == pytest.approx(0.75, abs=1e-6)
    wrong_kind = [{**each, "class": 1 if each["class"] == 18 else 18} for each in found]
    assert metrics_of(tmp_path / "a", [*persons, *dogs], wrong_kind, [7, 8])["keypoint_AP"] == 0


def test_sizes_are_those_of_areas(tmp_path):
    """A medium person (32^2 to 96^2 pixels) is found, a large one is not."""
    medium, large = person(7, THREE, 50.0**2), person(8, THREE, 100.0**2)
    metrics = metrics_of(tmp_path / "a", [medium, large], [detection(medium, 0.9)], [7, 8])
    assert metrics["keypoint_APm"] == metrics["keypoint_ARm"] == pytest.approx(1, abs=1e-6)
    assert metrics["keypoint_APl"] == metrics["keypoint_ARl"] == 0
    assert list(metrics) == [
        f"keypoint_{name}" for name in ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
    ]
    assert all(isinstance(value, np.float32) for value in metrics.values())


def test_what_is_reported_of_nothing(tmp_path):
    """Nothing found: 0. Nobody to be found: -1, as pycocotools has it. Neither raises or is not a number."""
    annotation = person(7, THREE)
    nothing = metrics_of(tmp_path / "a", [annotation], [], [7])
    assert nothing["keypoint_AP"] == nothing["keypoint_AR"] == 0
    assert nothing["keypoint_APl"] == -1, "there is no large one"
    crowd = person(7, THREE, iscrowd=1)
    only_crowd = metrics_of(tmp_path / "a", [crowd], [detection(annotation, 0.9)], [7])
    assert set(only_crowd.values()) == {-1}
    for found in ([], [detection(annotation, 0.9)]):
        evaluator = KeypointEvaluator(None, (0.05,) * 3)
        evaluator.update_state(objects_of([], [7]), batch_of(found, [7]))
        assert set(evaluator.result().values()) == {-1}, "no object in any record"
    for path in (None, write_annotations(tmp_path / "a", [annotation], [7])):
        evaluator = KeypointEvaluator(path, (0.05,) * 3)
        assert set(evaluator.result().values()) == {-1} and evaluator.results() == [], "no image at all"


def test_decoded_objects_give_the_metrics_of_their_annotations(tmp_path):
    annotations = [
        person(11, THREE, 400.0), person(11, [(0, 0, 0), (130.0, 140.0, 1), (150.0, 160.0, 2)], 2000.0),
        person(12, [(220.0, 240.0, 1)] * 3, 3000.0, category_id=18), person(12, [(0, 0, 0)] * 3, box=[5.0, 5, 9, 9]),
        person(13, [(20.0, 40.0, 2)] * 3, iscrowd=1),
    ]  # fmt: skip
    found = [detection(each, 0.9 - 0.1 * n, {1: (2 * n, n)}) for n, each in enumerate(annotations)]
    predictions = batch_of(found, [11, 12, 13])
    results = []
    for path in (None, write_annotations(tmp_path / "a", annotations, [11, 12, 13])):
        evaluator = KeypointEvaluator(path, (0.05,) * 3)
        evaluator.update_state(objects_of(annotations, [11, 12, 13]), predictions)
        results.append(evaluator.result())
    assert results[0] == pytest.approx(results[1], abs=1e-6) and 0 < results[0]["keypoint_AP"] < 1


def test_objects_that_the_padding_has_no_room_for_are_left_out():
    annotations = [person(7, [(40.0 * n, 30.0, 2)] * 3) for n in range(1, 4)]
    objects = objects_of(annotations, [7], room=3)
    objects = {name: value[:, :2] if value.ndim > 1 else value for name, value in objects.items()}
    evaluator = KeypointEvaluator(None, (0.05,) * 3)
    evaluator.update_state(objects, batch_of([detection(each, 0.9) for each in annotations[:2]], [7]))
    assert evaluator.result()["keypoint_AR"] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("with_file", [True, False])
def test_an_image_that_comes_again_does_not_count_again(tmp_path, with_file):
    """A second time the first person would be wrong, and come before the second one."""
    annotations = [person(7, THREE), person(8, THREE)]
    path = write_annotations(tmp_path / "a", annotations, [7, 8]) if with_file else None
    evaluator = KeypointEvaluator(path, (0.05,) * 3)
    found = [detection(annotations[0], 0.9), detection(annotations[1], 0.5)]
    for images in ([7, 7], [8, 7]):
        evaluator.update_state(objects_of(annotations, images), batch_of(found, images))
    assert evaluator.result()["keypoint_AP"] == pytest.approx(1, abs=1e-6)
    assert [line["image_id"] for line in evaluator.results()] == [7, 8]
    # Then it begins anew.
    evaluator.update_state(objects_of(annotations, [8]), batch_of(found, [8]))
    assert evaluator.result()["keypoint_AP"] == pytest.approx(1, abs=1e-6), "of the images that were seen only"
    assert [line["image_id"] for line in evaluator.results()] == [8]


def test_an_evaluator_is_used_as_tfm_uses_its_own(tmp_path, capsys):
    """Texts or numbers as ids, on either side; a batch in parts of several replicas; nothing on the console."""
    annotations = [person("000000000007", THREE), person("8", THREE)]
    path = write_annotations(tmp_path / "a", annotations, ["000000000007", "8"])
    parts = []
    for image, ids in ((7, int), (8, lambda image: f"{image:06}".encode())):
        parts.append(batch_of([detection(person(image, THREE), 0.9)], [image], ids=ids))
    joined = {name: (parts[0][name], parts[1][name]) for name in parts[0] if name != "source_id"}
    evaluator = KeypointEvaluator(path, (0.05,) * 3)
    for part in parts:
        evaluator.update_state({}, part)
    one_by_one = evaluator.result()
    evaluator.update_state({}, {**joined, "source_id": (tf.constant([7]), tf.constant([8]))})
    assert evaluator.result() == one_by_one and one_by_one["keypoint_AP"] == pytest.approx(1, abs=1e-6)
    evaluator.update_state({}, parts[0])
    evaluator.reset_states()
    evaluator.update_state({}, parts[1])
    evaluator.result()
    assert [line["image_id"] for line in evaluator.results()] == [8]
    assert capsys.readouterr().out == "" and evaluator.name == "keypoint_metric"


def heat_map(box, peak, size=56, width=1.5):
    """Logits over a box whose highest point is at (y, x), in pixels of the box."""
    grid = [(np.arange(size) + 0.5) * (box[2 + axis] - box[axis]) / size + box[axis] for axis in range(2)]
    squared = ((grid[0] - peak[0]) ** 2)[:, np.newaxis] + ((grid[1] - peak[1]) ** 2)[np.newaxis]
    return (-squared / (2 * width**2)).astype(np.float32)


def test_both_decodings_are_reported(tmp_path):
    """The model's own is off by what leaves a similarity of 0.607, the heat map's highest pixel is right."""
    annotation = person(7, [(30.0, 40.0, 2)] * 3, area=100.0, box=[10.0, 20.0, 40.0, 60.0])
    found = detection(annotation, 0.9, {number: (0.6, 0.8) for number in range(3)})
    logits = np.zeros([1, 4, 56, 56, 3], np.float32)
    logits[0, 0] = heat_map((20, 10, 80, 50), (40.5, 30.5))[..., np.newaxis]
    path = write_annotations(tmp_path / "a", [annotation], [7])
    evaluator = KeypointEvaluator(path, (0.05,) * 3, "bicubic")
    evaluator.update_state(None, batch_of([found], [7], keypoint_outputs=logits))
    metrics = evaluator.result()
    assert metrics["keypoint_AP"] == pytest.approx(1, abs=1e-6)
    assert metrics["keypoint_AP_quadratic"] == pytest.approx(0.3, abs=1e-6)
    [line] = evaluator.results()
    assert line["keypoints"][:2] == pytest.approx([30, 40], abs=1e-9), "a box of whole pixels"
    evaluator.update_state(None, batch_of([], [7], keypoint_outputs=logits))
    assert evaluator.result()["keypoint_AP"] == 0, "no box to decode"


def cubic(distance, a=-0.75):
    """Keys' kernel, as the papers on it have it."""
    d = abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def resized(values, sizes):
    """Cubic interpolation of both axes in float64, borders repeated, centres of pixels at halves."""
    for axis, size in enumerate(sizes):
        old = values.shape[axis]
        matrix = np.zeros([size, old])
        for row in range(size):
            centre = (row + 0.5) * old / size - 0.5
            for near in range(math.floor(centre) - 1, math.floor(centre) + 3):
                matrix[row, min(max(near, 0), old - 1)] += cubic(centre - near)
        values = np.moveaxis(np.tensordot(matrix, values, (1, axis)), 0, axis)
    return values


@pytest.mark.parametrize(
    "box",
    [
        (10, 20, 66, 76),  # as large as the map: nothing changes
        (3.5, -8.25, 203.7, 90.5),
        (0.0, 0.0, 30.2, 11.9),  # smaller than the map
        (5.0, 5.0, 5.3, 40.0),  # less than a pixel high
        (7.0, 7.0, 7.0, 7.0),  # no pixel
    ],
)
@pytest.mark.parametrize("count", [1, 17])
def test_detectron_s_decoding_in_float64(box, count):
    generator = np.random.default_rng(count)
    logits = cv2.GaussianBlur(generator.normal(size=(56, 56, count)).astype(np.float32) * 30, (0, 0), 2)
    logits = logits.reshape(56, 56, count)
    height, width = max(box[2] - box[0], 1), max(box[3] - box[1], 1)
    large = resized(logits.astype(np.float64), (math.ceil(height), math.ceil(width)))
    found = bicubic(logits, np.array(box, np.float32))
    assert found.shape == (count, 3)
    for number, (y, x, score) in enumerate(found):
        row, column = np.unravel_index(large[..., number].argmax(), large.shape[:2])
        assert y == pytest.approx(box[0] + (row + 0.5) * height / math.ceil(height), abs=1e-4)
        assert x == pytest.approx(box[1] + (column + 0.5) * width / math.ceil(width), abs=1e-4)
        own = logits[..., number].astype(np.float64)
        assert score == pytest.approx(np.exp(large[row, column, number]) / np.exp(own).sum(), rel=1e-3)


def test_resizing_finds_the_peak_between_the_cells():
    """The highest cell of the map is half a cell off and less, four pixels a cell less than half as much."""
    generator = np.random.default_rng(0)
    peaks = generator.uniform(20, 36, (50, 2))
    logits = np.stack([heat_map((0, 0, 56, 56), peak, width=2) for peak in peaks], axis=-1)
    found = bicubic(logits, np.array([0, 0, 224, 224]))[:, :2] / 4
    cells = np.stack(np.unravel_index(logits.reshape(-1, 50).argmax(axis=0), (56, 56)), axis=-1) + 0.5
    distances = [np.linalg.norm(each - peaks, axis=1).mean() for each in (found, cells)]
    assert distances[0] < 0.18 and 0.3 < distances[1] < 0.45


def ellipse(centre, axes):
    mask = np.zeros([400, 400], np.uint8)
    cv2.ellipse(mask, centre, axes, 0, 0, 360, 1, -1)
    return mask


def instance(image, category, mask, **others):
    """An annotation of a mask, with its box and area."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    box = [float(columns[0]), float(rows[0]), float(np.ptp(columns) + 1), float(np.ptp(rows) + 1)]
    encoded = masks_of_coco.encode(np.asfortranarray(mask))
    return {
        "image_id": image, "category_id": category, "bbox": box, "area": float(mask.sum()), "iscrowd": 0,
        "segmentation": {"size": [400, 400], "counts": encoded["counts"].decode()}, **others,
    }  # fmt: skip


@pytest.fixture
def instances():
    """Annotations of three images with masks and keypoints, categories with a gap, and what finds them all."""
    masks = [ellipse((150, 150), (60, 110)), ellipse((260, 200), (90, 150)), ellipse((200, 210), (130, 70)),
             ellipse((120, 100), (80, 80))]  # fmt: skip
    places = [(11, 1), (12, 1), (12, 44), (13, 1)]
    annotations = []
    for (image, category), mask in zip(places, masks, strict=True):
        x, y, *_ = instance(image, category, mask)["bbox"]
        keypoints = np.array(THREE) + (x, y, 0)
        own = {"keypoints": keypoints.ravel().tolist()} if category == 1 else {}
        annotations.append(instance(image, category, mask, **own))
    found = [detection({"keypoints": [0.0] * 9, **each}, 0.9 - 0.1 * number) for number, each in enumerate(annotations)]
    predictions = batch_of(found, [11, 12, 13])
    crops = np.zeros([3, 4, 28, 28], np.float32)
    for (row, place), each, mask in zip([(0, 0), (1, 0), (1, 1), (2, 0)], annotations, masks, strict=True):
        x, y, width, height = (int(value) for value in each["bbox"])
        crop = mask[y : y + height, x : x + width].astype(np.float32)
        crops[row, place] = cv2.resize(crop, (28, 28), interpolation=cv2.INTER_AREA)
    return annotations, {**predictions, "detection_masks": tf.constant(crops)}


def keeping(path, include_mask=True):
    return kept_results.KeepingEvaluator(coco_evaluator.COCOEvaluator(path, include_mask=include_mask))


def test_the_truth_fed_back_is_found_entirely(tmp_path, instances):
    annotations, predictions = instances
    path = write_annotations(tmp_path / "a", annotations, [11, 12, 13])
    evaluator = keeping(path)
    evaluator.update_state(None, predictions)
    metrics = evaluator.result()
    assert metrics["AP"] == metrics["mask_AP"] == pytest.approx(1, abs=1e-6)
    of_keypoints = KeypointEvaluator(path, (0.05,) * 3)
    of_keypoints.update_state(None, predictions)
    assert of_keypoints.result()["keypoint_AP"] == pytest.approx(1, abs=1e-6)
    lines = evaluator.results()
    assert [set(lines[kind][0]) for kind in ("bbox", "segm")] == [
        {"image_id", "category_id", "bbox", "score"}, {"image_id", "category_id", "segmentation", "score"},
    ]  # fmt: skip
    for annotation, box, mask in zip(annotations, lines["bbox"], lines["segm"], strict=True):
        assert box["bbox"] == pytest.approx(annotation["bbox"], abs=1e-3)
        assert [box[name] == mask[name] == annotation[name] for name in ("image_id", "category_id")] == [True, True]
        truth, found = (masks_of_coco.decode(each["segmentation"]) for each in (annotation, mask))
        assert (truth & found).sum() / (truth | found).sum() > 0.97


def test_files_of_results_score_as_the_test_did(tmp_path, instances, capsys):
    """With boxes and keypoints that are partly wrong, so that no metric is trivial."""
    annotations, predictions = instances
    predictions["detection_boxes"] = predictions["detection_boxes"] * [[[1.15], [1.0], [1.0], [1.0]]]
    predictions["detection_keypoints"] = predictions["detection_keypoints"] + [[[[10.0, 15, 0]]]]
    path = write_annotations(tmp_path / "a", annotations, [11, 12, 13])
    task = types.SimpleNamespace(
        coco_metric=coco_evaluator.COCOEvaluator(path, include_mask=True),
        keypoint_metric=KeypointEvaluator(path, (0.05,) * 3),
    )
    kept = kept_results.KeptResults()
    kept.watch(task)
    task.coco_metric.update_state(None, predictions)
    task.coco_metric.update_state(None, predictions)  # tfm counts them twice, a file of results must not
    task.coco_metric.reset_states()
    metrics = {}
    for evaluator in (task.coco_metric, task.keypoint_metric):
        evaluator.update_state(None, predictions)
        metrics.update(evaluator.result())
    capsys.readouterr()
    files = coco_results.write(tmp_path / "test", kept.results())
    assert [file.split("/")[-1] for file in files] == ["bbox.json", "segm.json", "keypoints.json"]
    for file, kind in zip(files, ("bbox", "segm", "keypoints"), strict=True):
        again = evaluate.score_again(
            file, annotations=path, sigmas=(0.05,) * 3, out_dir=str(tmp_path / kind), out=str(tmp_path / "out.json")
        )
        assert json.loads((tmp_path / kind / "result.json").read_text()) == again
        assert json.loads((tmp_path / "out.json").read_text()) == again
        # With masks tfm has the sizes of boxes from them.
        names = [name for name in coco_scores.METRICS[kind] if kind != "bbox" or name[-1] not in "sml"]
        assert {name: again[name] for name in names} == pytest.approx({name: metrics[name] for name in names}, abs=1e-6)
        assert 0 < again[names[0]] < 1 and again["best_metric"] == names[0]
        assert evaluate.summary(again).startswith(f"{names[0]} {again[names[0]]:.4g}  ")
    assert len(json.loads((tmp_path / "test" / "bbox.json").read_text())) == 4
    assert capsys.readouterr().out == ""


def test_an_image_that_comes_again_is_kept_once(tmp_path, instances):
    annotations, predictions = instances
    evaluator = keeping(write_annotations(tmp_path / "a", annotations, [11, 12, 13]))
    evaluator.update_state(None, predictions)
    evaluator.update_state(None, predictions)
    assert {kind: len(lines) for kind, lines in evaluator.results().items()} == {"bbox": 4, "segm": 4}
    evaluator.reset_states()
    assert evaluator.results() == {"bbox": []}


def test_masks_are_pasted_into_their_outer_boxes(instances):
    """Where a model's masks are of enlarged boxes, they are as large as these."""
    _, predictions = instances
    batch = coco_results.in_numpy(predictions)
    sizes = []
    for factor in (1.0, 1.2):
        corners = batch["detection_boxes"].reshape(3, 4, 2, 2)
        centres = corners.mean(axis=2, keepdims=True)
        outer = (centres + (corners - centres) * factor).reshape(3, 4, 4)
        [line] = coco_results.masks({**batch, "detection_outer_boxes": outer}, 0)
        sizes.append(masks_of_coco.decode(line["segmentation"]).sum())
    assert sizes[1] / sizes[0] == pytest.approx(1.44, rel=0.03)


def raised(function, *arguments, **named):
    with pytest.raises(errors.UserError) as raised:
        function(*arguments, **named)
    return str(raised.value)


def test_results_that_are_not_numbers_are_not_written(tmp_path):
    line = {"image_id": 1, "category_id": 1, "bbox": [0.0, math.nan, 1.0, 1.0], "score": 0.5}
    message = raised(coco_results.write, tmp_path / "test", {"bbox": [line]})
    assert "bbox.json is not written, as some results are not numbers" in message
    assert list((tmp_path / "test").iterdir()) == []
    (tmp_path / "file").write_text("")
    assert "--out_dir" in raised(coco_results.write, tmp_path / "file", {"bbox": []})


def test_what_cannot_be_scored_is_one_sentence(tmp_path):
    sigmas = (0.05,) * 3
    assert raised(KeypointEvaluator, None, sigmas, "argmax").endswith("quadratic, bicubic. Received: 'argmax'")
    assert raised(KeypointEvaluator, None, (0.05, 0.0)).startswith("sigmas must be positive")
    assert "nothing.json is no file of annotations" in raised(KeypointEvaluator, str(tmp_path / "nothing.json"), sigmas)
    for content in ("[]", "{", "\xff", '{"images": [], "annotations": [{}], "categories": []}', "[1, 2]"):
        (tmp_path / "a").write_text(content, encoding="latin-1")
        assert "is no file of annotations" in raised(KeypointEvaluator, str(tmp_path / "a"), sigmas)
    chair = {"image_id": 8, "category_id": 62, "bbox": [0.0, 0.0, 10.0, 10.0]}
    path = write_annotations(tmp_path / "a", [chair], [8])
    assert "has keypoints: give a file of them" in raised(KeypointEvaluator, path, sigmas)
    path = write_annotations(tmp_path / "a", [person(7, THREE)], [7])
    assert "9 numbers as keypoints of annotation 1" in raised(KeypointEvaluator, path, sigmas[:2])
    evaluator = KeypointEvaluator(path, sigmas)
    evaluator.update_state(None, batch_of([], [7, 9]))
    assert "1 images of the results are not in the annotations, as image_id 9" in raised(evaluator.result)
    four = batch_of([detection(person(7, [*THREE, THREE[0]]), 0.5)], [7])
    assert "of the 4 keypoints of the model. Received: 3" in raised(evaluator.update_state, None, four)


def test_what_cannot_be_scored_again_is_one_sentence(tmp_path):
    path = write_annotations(tmp_path / "a", [person(7, THREE)], [7])
    results = tmp_path / "keypoints.json"

    def of(content, **named):
        results.write_text(content)
        return raised(evaluate.score_again, str(results), **{"annotations": path, **named})

    line = {"image_id": 7, "category_id": 1, "keypoints": [1.0] * 9, "score": 0.5}
    text = json.dumps([line])
    for content in ("", "{}", '[{"image_id": 7}]', '[{"image_id": 7, "category_id": 1, "score": 1}]', "[3]"):
        assert "COCO's format" in of(content) or "no results" in of(content), content
    assert "has no results" in of("[]")
    assert "has bbox and keypoints: give a file of one kind" in of(
        json.dumps([line, {"image_id": 7, "category_id": 1, "score": 0.5, "bbox": [0, 0, 1, 1]}])
    )
    assert "9 numbers as keypoints of annotation 1" in of(text)  # COCO's person by default
    wrong = json.dumps([{**line, "keypoints": [1.0] * 6}])
    assert "has 6 numbers as keypoints, not 3 for each of 3" in of(wrong, sigmas=[0.1] * 3)
    elsewhere = json.dumps([{**line, "image_id": 70}])
    assert "as image_id 70" in of(elsewhere, sigmas=[0.1] * 3)
    assert "is scored against --annotations" in of(text, annotations=None)
    assert "no --input_path" in of(text, input_path="x")
    assert "leave --annotations and --sigmas out" in raised(evaluate.score_again, "a.npz", annotations=path)


def test_who_writes_results_says_so_before_the_test(tmp_path, monkeypatch):
    train_utils.serialize_config(exp_factory.get_exp_config("resnet_imagenet"), str(tmp_path / "images"))
    message = raised(evaluate.evaluate, "resnet_imagenet", str(tmp_path / "images"), out_dir=str(tmp_path / "out"))
    assert message.startswith("--out_dir is for the results of videos and detectors")
    train_utils.serialize_config(exp_factory.get_exp_config("retinanet_resnetfpn_coco"), str(tmp_path / "boxes"))
    workers = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(workers))
    message = raised(evaluate.evaluate, "retinanet_resnetfpn_coco", str(tmp_path / "boxes"))
    assert message.startswith("a detector is tested by one worker, there are 2")


def test_a_faster_evaluation_agrees(tmp_path):
    """Crowds, persons without keypoints, ties of scores, all sizes: the same figures from another implementation."""
    faster = pytest.importorskip("faster_coco_eval")
    generator = np.random.default_rng(0)
    annotations, found = [], []
    for image in range(1, 31):
        for _ in range(3):
            visible = generator.integers(0, 3, (17, 1)) * (generator.random() > 0.2)
            values = np.concatenate([generator.uniform(0, 300, (17, 2)), visible], axis=1) * (visible > 0)
            area = float(generator.choice([500.0, 3000.0, 20000.0]))
            annotations.append(person(image, values, area, iscrowd=int(generator.random() < 0.2)))
            moved = {number: generator.normal(0, 0.08 * area**0.5, 2) for number in range(17)}
            found.append(detection(annotations[-1], float(generator.integers(1, 5)) / 5, moved))
    path = write_annotations(tmp_path / "a", annotations, range(1, 31))
    evaluator = KeypointEvaluator(path, COCO_PERSON.sigmas)
    evaluator.update_state(None, batch_of(found, range(1, 31)))
    metrics = evaluator.result()
    truth = coco_scores.of_keypoints(coco_scores.read_annotations(path), 17, path)
    (tmp_path / "truth").write_text(json.dumps(truth))
    other = faster.COCO(str(tmp_path / "truth"))
    evaluation = faster.COCOeval_faster(other, other.loadRes(evaluator.results()), "keypoints")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert list(metrics.values()) == pytest.approx(list(evaluation.stats[:10]), abs=1e-6)
    assert 0.1 < metrics["keypoint_AP"] < 0.9
