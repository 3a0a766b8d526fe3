"""The task of keypoints: what it refuses, reads, learns and reports."""

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from keypoint_items import Item, record, write
from official.core import config_definitions as cfg
from official.core import exp_factory, task_factory

from keras_nonlocal import errors
from keras_nonlocal.tfm import evaluate, train
from keras_nonlocal.tfm import trainer as trainers
from keras_nonlocal.tfm.backbones import configs
from keras_nonlocal.tfm.keypoints import checks, config
from keras_nonlocal.tfm.tasks import answers

SIZE = 64
KINDS = 3


def task_config(path="", **settings):
    """The smallest keypoint R-CNN of three keypoints, the last two left and right, with two blocks in its head."""
    network = configs.NonLocalResNet(model_id=10, depth_multiplier=0.25, non_local=configs.Placement(res4=(0,)))
    found = config.KeypointTask(mirrored=[0, 2, 1], sigmas=[0.01, 0.02, 0.03])
    found.model.backbone = configs.Backbone(non_local_resnet=network)
    data = {"input_path": path, "global_batch_size": 2, "dtype": "float32", "shuffle_buffer_size": 4}
    found.override({
        "model": {
            "input_size": [SIZE, SIZE, 3], "num_keypoints": KINDS, "max_level": 5,
            "decoder": {"fpn": {"num_filters": 16}}, "rpn_head": {"num_filters": 16},
            "detection_head": {"num_convs": 1, "num_filters": 16, "fc_dims": 16},
            "keypoint_head": {"num_convs": 2, "num_filters": 16, "non_local": [0, 1]},
            "keypoint_sampler": {"num_sampled_keypoints": 4},
            "roi_generator": {"num_proposals": 16, "test_num_proposals": 16},
            "roi_sampler": {"num_sampled_rois": 16},
            "detection_generator": {"max_num_detections": 4, "pre_nms_score_threshold": 0.0},
            "norm_activation": {"use_sync_bn": False},
        },
        "train_data": {**data, "parser": {"max_num_instances": 4}},
        "validation_data": {**data, "parser": {"max_num_instances": 4}},
    })  # fmt: skip
    found.override(settings)
    return found


def one(source_id, visibility=(2, 2, 1), box=(10, 12, 50, 44)):
    """A record of one bright object in the dark, its keypoints its centre and its upper corners, as COCO counts."""
    y1, x1, y2, x2 = box
    image = np.full((SIZE, SIZE, 3), 40, np.uint8)
    image[y1:y2, x1:x2] = 220
    points = ((x1 + x2) / 2 - 0.5, (y1 + y2) / 2 - 0.5), (x1, y1), (x2 - 1, y1)
    points = [(x, y, v) if v else (0, 0, 0) for (x, y), v in zip(points, visibility, strict=True)]
    return record(image, [Item(box, points)], source_id)


REFUSED = (
    ({"model": {"num_keypoints": 0}}, "task.model.num_keypoints must be a positive integer. Received: 0"),
    ({"mirrored": [0, 1]}, r"task.mirrored must be the numbers from 0 .* - 1 = 2, each once. Received: \[0, 1\]"),
    ({"mirrored": [0, 1, 1]}, r"task.mirrored must be the numbers .*\[0, 1, 1\]"),
    ({"mirrored": [1, 2, 0]}, r"task.mirrored must exchange keypoints in pairs.*\[1, 2, 0\]"),
    ({"sigmas": [0.1]}, r"task.sigmas must be positive, one for each .* = 3. Received: \[0.1\]"),
    ({"sigmas": [0.1, 0.0, 0.1]}, "task.sigmas must be positive"),
    ({"decoding": "argmax"}, "task.decoding must be one of quadratic, bicubic. Received: argmax"),
    ({"train_data": {"drop_remainder": False}}, "task.train_data.drop_remainder must be true"),
    ({"train_data": {"parser": {"aug_rand_vflip": True}}}, "task.train_data.parser.aug_rand_vflip must be false"),
    ({"validation_data": {"decoder": {"type": "label_map_decoder"}}}, "validation_data.decoder.type must be simple"),
)


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_what_cannot_work_is_refused_in_a_sentence(change, message):
    with pytest.raises(errors.UserError, match=message):
        task_factory.get_task(task_config(**change)).build_model()


def test_people_are_fine():
    checks.check(config.KeypointTask())


def test_images_without_a_visible_keypoint_are_tested_and_not_trained_on(tmp_path):
    path = write(tmp_path / "a.tfrecord", [one(1), one(2, (0, 0, 0)), record(np.zeros((9, 9, 3), np.uint8), [], 3)])
    task = task_factory.get_task(task_config(path))
    data = task.build_inputs(task.task_config.train_data)
    assert all(each.shape[0] == 2 for each in tf.nest.flatten(data.element_spec)), "tfm's sampling wants a static batch"
    for _, labels in data.take(2):
        np.testing.assert_array_equal(labels["gt_visibility"][:, 0], [[2, 2, 1]] * 2)
    tested = [labels["groundtruths"]["source_id"] for _, labels in task.build_inputs(task.task_config.validation_data)]
    assert np.concatenate(tested).tolist() == [1, 2, 3]


def test_records_that_would_be_read_for_ever_are_refused(tmp_path):
    path = write(tmp_path / "a.tfrecord", [one(2, (0, 0, 0))])
    task = task_factory.get_task(task_config(path))
    with pytest.raises(errors.UserError, match="input_path must match records with a visible.*Received: .*a.tfrecord"):
        task.build_inputs(task.task_config.train_data)
    mixed = task.task_config.train_data.replace(input_path={"a": path})
    with pytest.raises(errors.UserError, match="input_path must be a pattern of files or a list"):
        task.build_inputs(mixed)


def test_records_of_other_keypoints_are_explained(tmp_path):
    path = write(tmp_path / "a.tfrecord", [one(41)])
    params = task_config(path, model={"num_keypoints": 4}, mirrored=[0, 1, 2, 3], sigmas=[0.1] * 4)
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        next(iter(task_factory.get_task(params).build_inputs(params.validation_data)))
    assert answers.of(params).explain(caught.value) == (
        "the records of task.*_data.input_path do not fit task.model: num_keypoints is 4, but image 41 has 1 objects "
        "and 3 y, 3 x and 3 visibilities of keypoints: set num_keypoints, or write them again with keras-nonlocal "
        "prepare_coco --keypoints."
    )


def test_a_damaged_file_is_named_before_training(tmp_path):
    path = pathlib.Path(write(tmp_path / "a.tfrecord", [one(1)]))
    path.write_bytes(path.read_bytes()[:-100])
    task = task_factory.get_task(task_config(str(path)))
    with pytest.raises(errors.UserError, match="is not a whole TFRecord file .* with keras-nonlocal prepare_coco"):
        task.build_inputs(task.task_config.train_data)


def annotations(path, items):
    """A file of annotations of ({id: (visibility, box)}) as `one` draws them."""
    truth = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "thing", "keypoints": ["a", "b", "c"]}]}
    for number, (image, ((y1, x1, y2, x2), visibility)) in enumerate(items.items(), start=1):
        points = ((x1 + x2) / 2 - 0.5, (y1 + y2) / 2 - 0.5), (x1, y1), (x2 - 1, y1)
        flat = [value for (x, y), v in zip(points, visibility, strict=True) for value in ((x, y, v) if v else [0] * 3)]
        truth["images"].append({"id": image, "height": SIZE, "width": SIZE})
        truth["annotations"].append(
            {"id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "area": (y2 - y1) * (x2 - x1),
             "bbox": [x1, y1, x2 - x1, y2 - y1], "keypoints": flat, "num_keypoints": sum(v > 0 for v in visibility)}
        )  # fmt: skip
    path.write_text(json.dumps(truth))
    return str(path)


def outputs_of(labels, moved=0.0):
    """What a network gives that finds the objects exactly, its keypoints moved to the right by pixels of the image."""
    truths, scale = labels["groundtruths"], labels["image_info"][:, 2]
    keypoints = (truths["keypoints"] + [0.0, moved]) * scale[:, tf.newaxis, tf.newaxis]
    shown = tf.cast(truths["num_detections"], tf.int32)
    return {
        "detection_boxes": truths["boxes"] * tf.tile(scale, [1, 2])[:, tf.newaxis],
        "detection_scores": tf.ones(truths["classes"].shape),
        "detection_classes": tf.cast(truths["classes"], tf.int32),
        "num_detections": shown,
        "detection_keypoints": tf.concat([keypoints, tf.ones_like(keypoints[..., :1])], axis=-1),
    }


OBJECTS = {5: ((10, 12, 50, 44), (2, 2, 1)), 6: ((20, 20, 54, 54), (0, 2, 0)), 9: ((2, 30, 34, 62), (1, 0, 2))}


@pytest.mark.parametrize("annotated", [False, True])
@pytest.mark.parametrize("moved", [0.0, 0.5])
def test_the_truth_is_perfect_and_half_a_pixel_is_not(tmp_path, annotated, moved):
    records = [one(image, visibility, box) for image, (box, visibility) in OBJECTS.items()]
    settings = {"annotation_file": annotations(tmp_path / "a.json", OBJECTS)} if annotated else {}
    params = task_config(write(tmp_path / "a.tfrecord", records), model={"input_size": [128, 128, 3]}, **settings)
    task = task_factory.get_task(params, logging_dir=str(tmp_path))
    task.build_metrics(training=False)
    state = None
    for _, labels in task.build_inputs(params.validation_data):
        logs = {}
        task._update_metrics(labels, outputs_of(labels, moved), logs)
        state = task.aggregate_logs(state, logs)
    metrics = task.reduce_aggregated_logs(state)
    assert metrics["AP"] == pytest.approx(1, abs=1e-6), "boxes are where they are"
    # By hand, as COCO says: exp(-d^2 / (2 * area * (2 * sigma)^2)), on average over the keypoints that are visible.
    sigmas = np.array(params.sigmas)
    similar = [
        np.mean(np.exp(-(moved**2) / (8 * (y2 - y1) * (x2 - x1) * sigmas**2))[np.array(visibility) > 0])
        for (y1, x1, y2, x2), visibility in OBJECTS.values()
    ]
    thresholds = np.linspace(0.5, 0.95, 10)
    if not moved:
        assert metrics["keypoint_AP"] == pytest.approx(1, abs=1e-6)
    else:
        recall = np.mean([np.mean(np.array(similar) >= threshold) for threshold in thresholds])
        assert metrics["keypoint_AR"] == pytest.approx(recall, abs=1e-6) == pytest.approx(25 / 30)


@exp_factory.register_config_factory("tiny_keypoint_rcnn")
def experiment(path="", **settings):
    """A few steps of the smallest one, whose keypoints weigh 2."""
    settings = {"losses": {"keypoint_weight": 2.0, "l2_weight_decay": 1e-4}, **settings}
    return cfg.ExperimentConfig(
        runtime=cfg.RuntimeConfig(distribution_strategy="one_device", num_gpus=0),
        task=task_config(path, **settings),
        trainer=trainers.TrainerConfig(
            train_steps=3, steps_per_loop=1, summary_interval=1, checkpoint_interval=3, validation_interval=3,
            validation_steps=1,
            optimizer_config={
                "optimizer": {"type": "sgd", "sgd": {"momentum": 0.9}},
                "learning_rate": {"type": "constant", "constant": {"learning_rate": 0.01}},
            },
        ),
    )  # fmt: skip


def logged(folder):
    """{name: values by step} of what TensorBoard shows."""
    found = {}
    for path in sorted(folder.glob("events*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = float(tf.make_ndarray(value.tensor))
    return found


def test_a_keypoint_rcnn_trains_and_its_keypoints_are_scored(tmp_path, capsys):
    path = write(tmp_path / "a.tfrecord", [one(image, visible, box) for image, (box, visible) in OBJECTS.items()])
    params = experiment(path, decoding="bicubic", train_data={"parser": {"aug_rand_hflip": True}})
    metrics = train.run(params, "train_and_eval", str(tmp_path / "run"), seed=0)
    names = {"AP", "keypoint_AP", "keypoint_AP50", "keypoint_AP75", "keypoint_AR", "keypoint_AP_quadratic"}
    assert names < set(metrics) and metrics["step"] == 3
    assert all(-1 <= metrics[name] <= 1 for name in names) and 0 <= metrics["keypoint_AP"]
    values = logged(tmp_path / "run" / "train")
    assert values["keypoint_loss"][1] == pytest.approx(np.log(56 * 56), abs=0.4), "it knows nothing yet"
    assert np.isfinite(list(values["keypoint_loss"].values())).all()
    for step in (1, 2, 3):
        parts = [values[name][step] for name in ("rpn_score_loss", "rpn_box_loss", "frcnn_cls_loss", "frcnn_box_loss")]
        expected = sum(parts) + 2 * values["keypoint_loss"][step]
        assert values["model_loss"][step] == pytest.approx(expected, rel=1e-4)
        assert values["total_loss"][step] > values["model_loss"][step], "with the decay of weights"
    assert "  keypoint_AP " in capsys.readouterr().out
    best = json.loads((tmp_path / "run" / "best" / "info.json").read_text())
    assert best["keypoint_AP"] == pytest.approx(metrics["keypoint_AP"])
    checkpoint = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(tmp_path / "run")))
    shapes = checkpoint.get_variable_to_shape_map()
    moved = [
        name for name in shapes if "keypoint_head" in name and name.endswith("out/kernel/.ATTRIBUTES/VARIABLE_VALUE")
    ]
    assert len(moved) == 2 and all(np.abs(checkpoint.get_tensor(name)).max() > 0 for name in moved), "W_z was zero"


def dotted(source_id, box, visibility):
    """A record of a box with dots where its keypoints are: red in the middle, green and blue left and right of it."""
    y1, x1, y2, x2 = box
    image = np.full((SIZE, SIZE, 3), 40, np.uint8)
    image[y1:y2, x1:x2] = 160
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[y1:y2, x1:x2] = 1
    points = []
    places = ((x1 + x2) // 2, (y1 + y2) // 2), (x1 + 3, y1 + 3), (x2 - 4, y1 + 3)
    for colour, ((x, y), v) in enumerate(zip(places, visibility, strict=True)):
        if v:
            image[y - 2 : y + 3, x - 2 : x + 3] = 255 * np.eye(3, dtype=np.uint8)[colour]
        points.append((x, y, v) if v else (0, 0, 0))
    return record(image, [Item(box, points, mask=mask)], source_id)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_keypoints_are_learned_by_heart_beside_masks(tmp_path):
    path = write(tmp_path / "a.tfrecord", [dotted(image, *item) for image, item in OBJECTS.items()])
    params = experiment(path)
    params.override({
        "task": {
            "sigmas": [0.079] * KINDS,
            "model": {
                "include_mask": True, "mask_head": {"num_convs": 1, "num_filters": 16},
                "mask_sampler": {"num_sampled_masks": 4},
                "norm_activation": {"norm_momentum": 0.8},
                "keypoint_head": {"num_convs": 4, "num_filters": 32, "non_local": [1, 3]},
            },
            "train_data": {"global_batch_size": 3}, "validation_data": {"num_examples": 3},
        },
        "trainer": {
            "train_steps": 150, "steps_per_loop": 50, "summary_interval": 50, "validation_interval": 150,
            "checkpoint_interval": 150, "validation_steps": -1,
            "optimizer_config": {"learning_rate": {"constant": {"learning_rate": 0.005}}},
        },
    })  # fmt: skip
    metrics = train.run(params, "train_and_eval", str(tmp_path / "run"), seed=0)
    assert metrics["keypoint_AP"] > 0.9 and metrics["AP50"] > 0.9 and 0 <= metrics["mask_AP"] <= 1
    losses = list(logged(tmp_path / "run" / "train")["keypoint_loss"].values())
    assert losses[-1] < 2.5 < losses[0]
    result = evaluate.evaluate("tiny_keypoint_rcnn", str(tmp_path / "run"), out_dir=str(tmp_path / "test"))
    assert result["best_metric"] == "keypoint_AP" and result["keypoint_AP"] == pytest.approx(metrics["keypoint_AP"])
    lines = json.loads((tmp_path / "test" / "keypoints.json").read_text())
    # The best one of each image has its visible keypoints within four pixels of the dots; boxes are of 32 or more.
    for image, ((y1, x1, y2, x2), visibility) in OBJECTS.items():
        best = max((line for line in lines if line["image_id"] == image), key=lambda line: line["score"])
        found = np.reshape(best["keypoints"], [KINDS, 3])[:, :2]
        places = np.array([((x1 + x2) // 2, (y1 + y2) // 2), (x1 + 3, y1 + 3), (x2 - 4, y1 + 3)])
        assert np.abs(found - places)[np.array(visibility) > 0].max() < 4
