"""The study of detectors: images whose truth is known, how they are scored, and the whole of it, tiny."""

import json
import pathlib
import subprocess
import sys

import cv2
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.core import exp_factory
from official.modeling import hyperparams
from official.vision.modeling import factory

from keras_nonlocal import configs
from keras_nonlocal.demo import clips, cues, study, study_coco

ROOT = pathlib.Path(__file__).parent.parent


def source():
    """Digits of all classes, each a block of its own size, over black footage."""
    digits = np.zeros((40, 8, 8))
    for index, digit in enumerate(digits):
        digit[1 : 5 + index // 10, 2:6] = 1
    return clips.Source(digits, np.arange(40) % 10, [np.zeros((3, 144, 200, 3), np.uint8)])


@pytest.mark.parametrize("cue", [0, 1])
def test_boxes_hold_the_digits_and_categories_follow_the_cue(cue):
    rng = np.random.default_rng(cue)
    for _ in range(20):
        image, objects = cues.compose(source(), rng, cue)
        assert [each["category_id"] for each in objects] == [3 + cue, *[1 + cue] * 3]
        assert image.shape == (*cues.SIZE, 3)
        left = image.copy()
        for each in objects:
            x, y, width, height = each["bbox"]
            inside = left[y : y + height, x : x + width]
            assert inside.shape[:2] == (height, width), "inside the image"
            # 4 of 8 columns, 4 to 7 of 8 rows of a digit of 28 pixels, and what the interpolation adds.
            assert 14 <= width <= 16 and 14 <= height <= 27
            for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
                assert edge.max() >= 255 * cues.COVERED - 1, "no smaller box holds it"
            inside[...] = 0
        assert left.max() <= 255 * cues.COVERED + 0.5, "all that is bright is in a box"


def test_digits_are_apart_and_anywhere():
    rng = np.random.default_rng(0)
    found = [cues.compose(source(), rng, 0)[1] for _ in range(300)]
    distances = [cues.distance(each["bbox"], objects[0]["bbox"]) for objects in found for each in objects[1:]]
    # The patches are APART; a box need not be in the middle of its patch.
    assert min(distances) >= cues.APART - 8 and max(distances) > 500
    ranges, _ = np.histogram(distances, study_coco.RANGES)
    assert ranges.min() > 0.05 * len(distances), "enough of each distance"


def test_the_cue_and_the_digits_are_of_their_classes():
    # Evenly covered digits, whose brightness tells their class.
    digits = np.stack([np.full((8, 8), 0.3 + 0.07 * value) for value in range(10)])
    known = clips.Source(digits, np.arange(10), [np.zeros((2, 144, 144, 3), np.uint8)])
    for cue in (0, 1):
        image, objects = cues.compose(known, np.random.default_rng(3), cue)
        corners = [image[y, x, 0] / 255 for x, y, _, _ in (each["bbox"] for each in objects)]
        classes = [round((value - 0.3) / 0.07) for value in corners]
        assert classes[0] == cue and min(classes[1:]) > 1 and len(set(classes)) == 4


def test_files_hold_what_was_composed(tmp_path):
    cues.write(tmp_path / "a", {"train": 4, "validation": 2}, seed=1)
    cues.write(tmp_path / "b", {"train": 4, "validation": 2}, seed=2)
    read = {name: json.loads((tmp_path / name / "train.json").read_text()) for name in "ab"}
    assert read["a"] != read["b"], "training images are of the seed"
    assert (tmp_path / "a" / "validation.json").read_bytes() == (tmp_path / "b" / "validation.json").read_bytes()
    assert [each["id"] for each in read["a"]["annotations"]] == list(range(1, 17))
    cue = [each["category_id"] for each in read["a"]["annotations"]][::4]
    assert cue == [3, 4, 3, 4], "as many of either"
    rng = np.random.default_rng([0, 1])
    image, objects = cues.compose(clips.load_source("train"), rng, 0)
    stored = cv2.imread(str(tmp_path / "a" / "train" / "000000.jpg"))[..., ::-1]
    assert np.abs(stored.astype(float) - image).mean() < 4, "RGB, but for JPEG's loss"
    assert [each["bbox"] for each in read["a"]["annotations"][:4]] == [each["bbox"] for each in objects]


def annotation(number, image, category, box):
    return {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": box[2] * box[3],
            "iscrowd": 0}  # fmt: skip


def line(image, category, box, score):
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


NEAR, FAR, CUE = [40, 0, 20, 20], [160, 0, 20, 20], [0, 0, 20, 20]
TRUTH = {
    "images": [{"id": number, "height": cues.SIZE[0], "width": cues.SIZE[1]} for number in (0, 1)],
    "categories": cues.CATEGORIES,
    "annotations": [
        annotation(1, 0, 3, CUE), annotation(2, 0, 1, NEAR), annotation(3, 0, 1, FAR),
        annotation(4, 1, 4, CUE), annotation(5, 1, 2, NEAR), annotation(6, 1, 2, FAR),
    ],
}  # fmt: skip


def test_a_digit_is_told_right_by_its_best_box():
    lines = [
        line(0, 2, NEAR, 0.4), line(0, 1, NEAR, 0.6),  # right: the better box says so
        line(0, 1, [0, 100, 20, 20], 0.99), line(0, 3, FAR, 0.99),  # nothing there, and not of these categories
        line(0, 2, FAR, 0.5), line(0, 1, FAR, 0.4),  # wrong
        # Moved by a third of its width it shares half of the union, by more less than that.
        line(1, 2, [46, 0, 20, 20], 0.3), line(1, 1, [33, 0, 20, 20], 0.9),
    ]  # fmt: skip
    distances, right = study_coco.decisions(TRUTH, lines)
    assert distances.tolist() == [40, 160, 40, 160]
    assert right.tolist() == [True, False, True, False], "the last one has no box"


def test_scores_by_hand():
    # A digit more of either image in each of the other ranges.
    more = [
        annotation(7 + number, number % 2, 1 + number % 2, [x, 60, 20, 20])
        for number, x in enumerate((250, 250, 400, 400, 500, 500))
    ]
    truth = {**TRUTH, "annotations": TRUTH["annotations"] + more}
    perfect = [line(each["image_id"], each["category_id"], each["bbox"], 0.9) for each in truth["annotations"]]
    assert set(study_coco.score(truth, perfect).values()) == {1.0}
    # Of the second image every digit is taken for one under the cue of the first.
    mistaken = [{**each, "category_id": 1} if each["category_id"] == 2 else each for each in perfect]
    found = study_coco.score(truth, mistaken)
    assert found["AP50 of cues"] == 1
    # One category is never found; of the other, the five right boxes come before five wrong ones of the same score.
    assert found["AP50 of digits"] == pytest.approx(0.5)
    assert [value for name, value in found.items() if name.startswith("right")] == [0.5] * 5


def reach(params, cell):
    """How many pixels left of its centre, and how many right, a class in this column of P3 depends on."""
    height, width = cues.SIZE[0], 2 * cues.SIZE[1]
    specs = tf_keras.layers.InputSpec(shape=[None, height, width, 3])
    model = factory.build_retinanet(specs, params.task.model)
    image = tf.random.stateless_normal([1, height, width, 3], [0, 1])
    with tf.GradientTape() as tape:
        tape.watch(image)
        scores = model(image, training=False)["cls_outputs"]["3"][0, height // 16, cell]
    seen = np.flatnonzero(np.abs(tape.gradient(scores, image)[0].numpy()).max(axis=(0, 2)))
    centre = 8 * cell + 4
    return centre - seen[0], seen[-1] + 1 - centre


def test_what_convolutions_alone_see():
    params = exp_factory.get_exp_config(study_coco.EXPERIMENT)
    params = hyperparams.override_params_dict(params, configs.path(study_coco.CONFIG), is_strict=True)
    assert list(params.task.model.input_size) == [*cues.SIZE, 3]
    assert params.task.model.num_classes == 1 + len(cues.CATEGORIES)
    assert not study_coco.NETWORKS[0].blocks and not params.task.model.backbone.non_local_resnet.non_local.res4
    # A column where the grids of P3 to P5 begin together: the two ends of what is seen elsewhere.
    before, behind = reach(params, cues.SIZE[1] // 8)
    assert (before, behind) == (222, 277)
    half = cues.DIGIT // 2
    assert study_coco.RANGES[2] <= before - half and study_coco.RANGES[3] > behind + half


@pytest.mark.slow
def test_the_whole_study_tiny(tmp_path):
    arguments = [f"--work_dir={tmp_path}", "--seeds=2", "--steps=50", "--images=64"]
    command = [sys.executable, "training/study_coco.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    table = (tmp_path / "study_coco.md").read_text()
    for network in study_coco.NETWORKS:
        assert f"| AP50 of digits: {network.name} |" in table
    assert (tmp_path / "study_coco.png").stat().st_size > 10_000
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 0 and "keras-nonlocal train" not in again.stdout, "what is finished is not done again"
    assert (tmp_path / "study_coco.md").read_text() == table


def test_the_picture_has_the_rows():
    figure = study.draw({"a": [0.5, 0.7], "b": [0.9, 0.8]}, "score", 0.5)
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b"]
    assert axis.get_xlabel() == "score"
