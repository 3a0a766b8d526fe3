"""Detectors with a non-local block in res4: experiments and schedules, and that tfm's own tasks train and test them."""

import json
import pathlib
import re

import cv2
import numpy as np
import pytest
import tensorflow as tf
from official.core import exp_factory
from official.modeling import hyperparams
from official.vision.configs import maskrcnn, retinanet
from official.vision.data.tf_example_builder import TfExampleBuilder
from official.vision.evaluation import coco_utils
from sklearn.datasets import load_digits

from keras_nonlocal import configs as config_files
from keras_nonlocal.tfm import evaluate, train
from keras_nonlocal.tfm.backbones import configs
from keras_nonlocal.tfm.experiments import coco
from keras_nonlocal.tfm.scoring import coco_scores

SIZE, DIGIT = 128, 48

# {name: (class of the task, depth, groups, residual blocks of res4 with a non-local one)}
EXPERIMENTS = {
    "retinanet_r50_coco": (retinanet.RetinaNetTask, 50, 1, ()),
    "non_local_retinanet_r50_coco": (retinanet.RetinaNetTask, 50, 1, (4,)),
    "retinanet_r101_coco": (retinanet.RetinaNetTask, 101, 1, ()),
    "non_local_retinanet_r101_coco": (retinanet.RetinaNetTask, 101, 1, (21,)),
    "mask_rcnn_r50_coco": (maskrcnn.MaskRCNNTask, 50, 1, ()),
    "non_local_mask_rcnn_r50_coco": (maskrcnn.MaskRCNNTask, 50, 1, (4,)),
    "mask_rcnn_r101_coco": (maskrcnn.MaskRCNNTask, 101, 1, ()),
    "non_local_mask_rcnn_r101_coco": (maskrcnn.MaskRCNNTask, 101, 1, (21,)),
    "mask_rcnn_x152_coco": (maskrcnn.MaskRCNNTask, 152, 32, ()),
    "non_local_mask_rcnn_x152_coco": (maskrcnn.MaskRCNNTask, 152, 32, (34,)),
}


def test_the_experiments():
    assert set(coco.NAMES) == set(EXPERIMENTS)
    for name, (task, depth, groups, placed) in EXPERIMENTS.items():
        params = exp_factory.get_exp_config(name)
        network = params.task.model.backbone.get()
        assert type(params.task) is task and params.task.model.backbone.type == "non_local_resnet"
        assert (network.model_id, network.groups, tuple(network.non_local.res4)) == (depth, groups, placed)
        assert network.width_per_group == (8 if groups == 32 else 64) and network.bn_trainable
        assert not network.non_local.res2 and not network.non_local.res3 and not network.non_local.res5
        assert params.runtime.mixed_precision_dtype is None and not params.runtime.enable_xla
        assert params.task.train_data.dtype == params.task.validation_data.dtype == "float32"
        assert params.task.init_checkpoint is None
        params.validate()


@pytest.mark.parametrize("name", ["retinanet", "maskrcnn"])
def test_an_experiment_keeps_the_schedule_of_tfm(name):
    ours = exp_factory.get_exp_config({"retinanet": "retinanet_r50_coco", "maskrcnn": "mask_rcnn_r50_coco"}[name])
    stock = exp_factory.get_exp_config(f"{name}_resnetfpn_coco")
    expected = flat(stock.trainer.as_dict())
    assert expected.items() <= flat(ours.trainer.as_dict()).items()
    assert ours.trainer.base_batch_size == ours.task.train_data.global_batch_size
    assert ours.task.train_data.global_batch_size == stock.task.train_data.global_batch_size
    assert flat(ours.task.losses.as_dict()) == flat(stock.task.losses.as_dict())


def flat(settings, prefix=""):
    """{"a.b": value} of dicts in dicts; of lists every element."""
    items = settings.items() if isinstance(settings, dict) else enumerate(settings)
    found = {}
    for key, value in items:
        inner = value and isinstance(value, dict | list | tuple)
        found.update(flat(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value})
    return found


def with_files(name, *files):
    """An experiment with configuration files that come with the package, as the program reads them."""
    params = exp_factory.get_exp_config(name)
    for file in files:
        params = hyperparams.override_params_dict(params, config_files.path(file), is_strict=True)
    params.validate()
    return params


@pytest.mark.parametrize(
    ("name", "file", "of_paper"),
    [
        ("non_local_mask_rcnn_r50_coco", "coco_1x", "paper_nl_mask_rcnn_r50_1_coco"),
        ("mask_rcnn_r101_coco", "coco_1x", "paper_mask_rcnn_r101_coco"),
        ("non_local_mask_rcnn_x152_coco", "coco_x152", "paper_nl_mask_rcnn_x152_1_coco"),
    ],
)
def test_with_detectron_s_schedule_it_is_the_paper_s(name, file, of_paper):
    found, expected = flat(with_files(name, file).as_dict()), flat(exp_factory.get_exp_config(of_paper).as_dict())
    assert found.keys() == expected.keys()
    numbers = {key for key, value in expected.items() if isinstance(value, float)}
    for key in expected:
        assert found[key] == (pytest.approx(expected[key], rel=1e-4) if key in numbers else expected[key]), key


@pytest.mark.parametrize(
    ("name", "file", "rate", "batch", "steps", "falls"),
    [
        ("non_local_mask_rcnn_r50_coco", "coco_1x", 0.02, 16, 90_000, [60_000, 80_000]),
        ("non_local_mask_rcnn_r101_coco", "coco_2x", 0.02, 16, 180_000, [120_000, 160_000]),
        ("mask_rcnn_x152_coco", "coco_x152", 0.01, 8, 260_000, [200_000, 240_000]),
        ("non_local_retinanet_r50_coco", "coco_retinanet_1x", 0.01, 16, 90_000, [60_000, 80_000]),
        ("retinanet_r101_coco", "coco_retinanet_2x", 0.01, 16, 180_000, [120_000, 160_000]),
        ("mask_rcnn_r50_coco", "coco_350_epochs", 0.32, 256, 162_050, [148_160, 157_420]),
    ],
)
def test_schedules(name, file, rate, batch, steps, falls):
    params = with_files(name, "coco", file)
    trainer, task = params.trainer, params.task
    schedule = trainer.optimizer_config.learning_rate.stepwise
    assert (trainer.train_steps, list(schedule.boundaries)) == (steps, falls)
    assert schedule.values == pytest.approx([rate, rate / 10, rate / 100])
    assert task.train_data.global_batch_size == trainer.base_batch_size == batch
    assert not trainer.optimizer_config.optimizer.get().nesterov
    warmup = trainer.optimizer_config.warmup.linear
    if file == "coco_350_epochs":
        assert (warmup.warmup_steps, warmup.warmup_learning_rate) == (2000, 0.0067)
        assert task.losses.l2_weight_decay == 8e-5 and task.model.backbone.get().bn_trainable
        assert (task.model.min_level, task.model.max_level, list(task.model.input_size)) == (3, 7, [640, 640, 3])
    else:
        assert (warmup.warmup_steps, warmup.warmup_learning_rate) == (500, pytest.approx(rate / 3, rel=1e-3))
        assert task.losses.l2_weight_decay == 1e-4 and not task.model.backbone.get().bn_trainable
    text = pathlib.Path(config_files.path(file)).read_text()
    head = " ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    assert f"--config_file=coco \\ --config_file={file}" in head and "AP: not yet run." in head
    assert re.search(
        "Not (to be compared|a promise).*tfm's (Mask R-CNN|RetinaNet) has batch norm in FPN and heads", head
    )
    assert re.search("where Detectron has none", head)


def write_records(path, count, seed=0, first_id=0):
    """Images of two handwritten digits with their boxes, classes and masks, as tfm reads COCO."""
    digits = load_digits()
    generator = np.random.default_rng(seed)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for index in range(count):
            image = generator.integers(60, 100, (SIZE, SIZE, 3), dtype=np.uint8)
            boxes, masks, classes = [], [], []
            for corner in range(2):
                chosen = int(generator.integers(len(digits.images)))
                digit = cv2.resize(digits.images[chosen], (DIGIT, DIGIT)) > 6
                y, x = generator.integers(0, SIZE // 2 - DIGIT, 2) + (SIZE // 2) * corner
                mask = np.zeros((SIZE, SIZE), np.uint8)
                mask[y : y + DIGIT, x : x + DIGIT] = digit
                image[mask > 0] = 230
                rows, columns = np.nonzero(mask)
                boxes.append([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1])
                masks.append(mask)
                classes.append(int(digits.target[chosen]) + 1)
            ymin, xmin, ymax, xmax = (np.array(boxes) / SIZE).T.tolist()
            builder = TfExampleBuilder()
            builder.add_image_matrix_feature(image, image_source_id=str(first_id + index).encode())
            builder.add_boxes_feature(xmin, xmax, ymin, ymax, classes)
            builder.add_instance_mask_matrices_feature(np.array(masks))
            builder.add_ints_feature("image/object/is_crowd", [0, 0])
            writer.write(builder.example.SerializeToString())


def check_files_of_results(folder, records, result, *kinds):
    """What a test wrote is scored to the metrics that it said, by annotations made of the records."""
    annotations = f"{folder}.json"
    coco_utils.scan_and_generator_annotation_file(str(records), "tfrecord", -1, True, annotations)
    for kind in kinds:
        lines = json.loads((folder / f"{kind}.json").read_text())
        again = evaluate.score_again(str(folder / f"{kind}.json"), annotations=annotations)
        # With masks tfm has the sizes of boxes from them.
        same = [name for name in coco_scores.METRICS[kind] if name[-1] not in "sml"]
        assert {name: again[name] for name in same} == pytest.approx({name: result[name] for name in same}, abs=1e-6)
        assert lines
    assert json.loads((folder / "result.json").read_text()) == result


@pytest.mark.slow
def test_the_paper_s_mask_rcnn_trains_and_is_evaluated(tmp_path, capsys):
    write_records(tmp_path / "train.tfrecord", 4)
    params = exp_factory.get_exp_config("paper_nl_mask_rcnn_r50_1_coco")
    data = {"input_path": str(tmp_path / "train.tfrecord"), "global_batch_size": 2}
    params.override({
        "runtime": {"distribution_strategy": "one_device", "num_gpus": 0},
        "task": {
            "model": {"num_classes": 11, "input_size": [SIZE, SIZE, 3]},
            "train_data": {**data, "shuffle_buffer_size": 4},
            "validation_data": data,
            "annotation_file": None,
        },
        "trainer": {
            "train_steps": 4, "validation_steps": 2, "validation_interval": 4, "checkpoint_interval": 4,
            "summary_interval": 4, "steps_per_loop": 2,
        },
    })  # fmt: skip
    metrics = train.run(params, "train_and_eval", str(tmp_path / "run"), seed=0)
    assert all(0 <= metrics[name] <= 1 for name in ("AP", "mask_AP")) and metrics["step"] == 4
    lines = capsys.readouterr().out.splitlines()
    losses = [float(line.split("loss ")[1].split()[0]) for line in lines if line.startswith("train  ")]
    assert len(losses) == 2 and np.isfinite(losses).all()
    assert any(line.startswith("eval") and " mask_AP " in line for line in lines)
    checkpoint = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(tmp_path / "run")))
    out = [name for name in checkpoint.get_variable_to_shape_map()
           if "non_local/out/kernel/.ATTRIBUTES" in name and "optimizer" not in name]  # fmt: skip
    assert len(out) >= 1 and all(np.abs(checkpoint.get_tensor(name)).max() > 0 for name in out), "W_z starts at zero"
    # Other images than those of the validation: their annotations are not these.
    write_records(tmp_path / "test.tfrecord", 3, seed=1, first_id=100)
    result = evaluate.evaluate("paper_nl_mask_rcnn_r50_1_coco", str(tmp_path / "run"), str(tmp_path / "test.tfrecord"))
    assert all(0 <= result[name] <= 1 for name in ("AP", "mask_AP"))
    assert {"AP", "mask_AP50"} < set(result["metrics"]) and result["parameters"] > 40e6
    check_files_of_results(tmp_path / "run" / "test", tmp_path / "test.tfrecord", result, "bbox", "segm")


@exp_factory.register_config_factory("tiny_retinanet")
def tiny_retinanet():
    """tfm's RetinaNet on COCO, small and fast enough to learn three images by heart."""
    params = retinanet.retinanet_resnetfpn_coco()
    network = configs.NonLocalResNet(model_id=10, depth_multiplier=0.25, non_local=configs.Placement(res4=(0,)))
    params.task.model.backbone = configs.Backbone(non_local_resnet=network)
    data = {"global_batch_size": 2, "dtype": "float32"}
    params.override({
        "runtime": {"distribution_strategy": "one_device", "mixed_precision_dtype": None, "num_gpus": 0},
        "task": {
            "init_checkpoint": None, "annotation_file": None,
            "model": {
                "num_classes": 11, "input_size": [SIZE // 2, SIZE // 2, 3], "max_level": 5,
                "head": {"num_convs": 1, "num_filters": 16}, "decoder": {"fpn": {"num_filters": 16}},
                "norm_activation": {"norm_momentum": 0.8},
            },
            "train_data": {
                **data, "global_batch_size": 3, "shuffle_buffer_size": 4,
                "parser": {"aug_rand_hflip": False, "aug_scale_min": 1.0, "aug_scale_max": 1.0},
            },
            "validation_data": data,
        },
        "trainer": {
            "train_steps": 100, "validation_steps": 1, "validation_interval": 50, "checkpoint_interval": 50,
            "summary_interval": 50, "steps_per_loop": 50,
            "optimizer_config": {
                "warmup": {"type": None}, "learning_rate": {"type": "constant", "constant": {"learning_rate": 0.01}},
            },
        },
    })  # fmt: skip
    return params


@pytest.mark.slow
def test_a_retinanet_learns_and_its_average_precision_is_reported(tmp_path, capsys):
    write_records(tmp_path / "all.tfrecord", 3)
    params = tiny_retinanet()
    data = {"input_path": str(tmp_path / "all.tfrecord")}
    params.override({"task": {"train_data": data, "validation_data": data}})
    train.run(params, "train_and_eval", str(tmp_path / "run"), seed=0)
    best = json.loads((tmp_path / "run" / "best" / "info.json").read_text())
    # One step of validation is two images; a test takes all three, the last in a batch of its own.
    result = evaluate.evaluate("tiny_retinanet", str(tmp_path / "run"))
    assert result["metrics"] == ["AP", "AP50", "AP75"] and result["best_metric"] == "AP"
    assert best["AP"] > 0.5 and result["AP"] > 0.5 and result["AP50"] > 0.9, "learned by heart"
    assert f"eval      100  AP {result['AP']:.4g}  AP50 " in capsys.readouterr().out
    assert evaluate.summary(result).startswith(f"AP {result['AP']:.4g}  AP50 ")
    check_files_of_results(tmp_path / "run" / "test", tmp_path / "all.tfrecord", result, "bbox")
    write_records(tmp_path / "others.tfrecord", 3, seed=7)
    others = evaluate.evaluate("tiny_retinanet", str(tmp_path / "run"), str(tmp_path / "others.tfrecord"))
    assert others["AP"] < result["AP"] - 0.2, "images that it has not seen"
