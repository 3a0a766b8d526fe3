"""A detector with non-local blocks starts from one without: its detections, masks included, are the same bits."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.core import exp_factory, task_factory
from official.modeling import hyperparams
from official.vision.configs import backbones, decoders, image_classification, maskrcnn, retinanet

from keras_nonlocal import errors
from keras_nonlocal.tfm import warm_start
from keras_nonlocal.tfm.backbones import configs
from keras_nonlocal.tfm.keypoints import config
from keras_nonlocal.tfm.warm_start import checkpoints, detectors

ROOT = pathlib.Path(__file__).parent.parent
SIZE = 64


def backbone(**non_local):
    """tfm's own where there is no non-local block, ours otherwise."""
    shared = dict(model_id=10, depth_multiplier=0.25)
    if not non_local:
        return backbones.Backbone(type="resnet", resnet=backbones.ResNet(**shared))
    return configs.Backbone(non_local_resnet=configs.NonLocalResNet(**shared, non_local=configs.Placement(**non_local)))


def shared_arguments(**non_local):
    """Of the small models."""
    return dict(
        num_classes=4,
        input_size=[SIZE, SIZE, 3],
        max_level=5,
        backbone=backbone(**non_local),
        decoder=decoders.Decoder(type="fpn", fpn=decoders.FPN(num_filters=16)),
    )


def retinanet_task(num_classes=4, **non_local):
    """A RetinaNet that detects something with random weights."""
    model = retinanet.RetinaNet(
        **{**shared_arguments(**non_local), "num_classes": num_classes},
        head=retinanet.RetinaNetHead(num_convs=1, num_filters=16),
        detection_generator=retinanet.DetectionGenerator(pre_nms_score_threshold=0.0, max_num_detections=20),
    )
    return retinanet.RetinaNetTask(model=model)


def mask_rcnn_task(head=(), **non_local):
    """A Mask R-CNN with keypoints that detects something with random weights."""
    model = config.KeypointRCNN(
        **shared_arguments(**non_local),
        include_mask=True,
        rpn_head=maskrcnn.RPNHead(num_filters=16),
        detection_head=maskrcnn.DetectionHead(num_convs=1, num_filters=16, fc_dims=16),
        mask_head=maskrcnn.MaskHead(num_convs=1, num_filters=16),
        keypoint_head=config.KeypointHead(num_convs=2, num_filters=16, non_local=head),
        roi_generator=maskrcnn.ROIGenerator(test_num_proposals=16),
        detection_generator=maskrcnn.DetectionGenerator(pre_nms_score_threshold=0.0, max_num_detections=8),
    )
    return config.KeypointTask(model=model)


def randomise(model, seed=0):
    """Weights of a trained detector: statistics, gammas, betas and biases that are not what they start as."""
    generator = np.random.default_rng(seed)
    for variable in model.variables:
        noise = generator.normal(size=variable.shape).astype("float32")
        if "moving_variance" in variable.name:
            variable.assign(0.5 + np.abs(noise))
        elif "kernel" in variable.name:
            variable.assign(noise * np.sqrt(2 / np.prod(variable.shape[:-1])))
        elif "gamma" in variable.name:
            variable.assign(0.5 + 0.2 * noise)
        else:
            variable.assign(0.2 * noise)


def save(model, folder):
    """A checkpoint as tfm's trainer writes it: with the optimizer and its momentum, of which nothing may be taken."""
    optimizer = tf_keras.optimizers.legacy.SGD(momentum=0.9)
    optimizer._create_all_weights(model.trainable_variables)
    step = tf.Variable(7, dtype=tf.int64)
    items = dict(global_step=step, model=model, optimizer=optimizer, **model.checkpoint_items)
    return tf.train.Checkpoint(**items).save(str(folder / "ckpt"))


def detections(model):
    """Everything that a detector gives for two images, as {name: array}, the outputs of its heads too."""
    images = np.random.default_rng(1).normal(size=(2, SIZE, SIZE, 3)).astype("float32")
    shape = tf.constant([[SIZE, SIZE], [SIZE, SIZE // 2]], tf.float32)
    outputs = model(images, image_shape=shape, training=False)
    return {name: np.array(values) for name, values in flat(outputs)}


def flat(outputs, prefix=""):
    """(name, tensor) of dicts in dicts."""
    for name, values in outputs.items():
        yield from flat(values, f"{prefix}{name}/") if isinstance(values, dict) else [(f"{prefix}{name}", values)]


def saved_detector(task_config, folder):
    """The detections of a detector with random weights, and its variables by the names that they are saved with."""
    model = task_factory.get_task(task_config).build_model()
    randomise(model)
    prefix = save(model, folder)
    found = detections(model)
    assert found["num_detections"].min() > 0 and len(np.unique(found["detection_scores"])) > 5
    return found, {name for part in checkpoints.saved_parts(prefix).values() for name in part}


def started(task_config, folder, modules="all"):
    """A detector as tfm starts it."""
    task_config.init_checkpoint, task_config.init_checkpoint_modules = str(folder), modules
    task = task_factory.get_task(task_config)
    model = task.build_model()
    task.initialize(model)
    return model


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    assert [name for name in expected if not np.array_equal(found[name], expected[name])] == []


def assert_reported(report, model, folder, old):
    """Every variable is reported by the name that it is saved with, with the name that it was read by or as new."""
    rows = {row.variable: row for row in report.rows}
    saved = checkpoints.saved_parts(checkpoints.prefix(str(folder)))
    assert {name: row.shape for name, row in rows.items()} == {n: s for part in saved.values() for n, s in part.items()}
    assert len(report.rows) == len(rows) == len(model.variables)
    assert {row.tensor for row in report.rows} == {None, *old}
    assert all(row.tensor == row.variable for row in report.rows if row.tensor)
    assert all("/non_local/" in row.variable or "/blocks/" in row.variable for row in report.rows if not row.tensor)
    assert (folder / "warm_start.txt").read_text().splitlines() == report.lines()


def test_a_retinanet_starts_as_the_plain_one(tmp_path):
    expected, old = saved_detector(retinanet_task(), tmp_path)
    task = retinanet_task(res3=(0,), res4=(0,))
    report, modules = warm_start.write_task(task, str(tmp_path), str(tmp_path / "start"))
    assert modules == "all" and report.notes == [detectors.SETTINGS_UNKNOWN] and not report.skipped
    model = started(task, tmp_path / "start")
    assert len(checkpoints.blocks(model)) == 2
    assert_same(detections(model), expected)
    assert_reported(report, model, tmp_path / "start", old)
    assert {row.layer for row in report.rows if row.variable.startswith("head/")} == {None}
    parts = started(task, tmp_path / "start", ["backbone", "decoder"])
    assert np.array_equal(parts.backbone.get_weights()[0], model.backbone.get_weights()[0])
    assert np.array_equal(parts.decoder.get_weights()[0], model.decoder.get_weights()[0])
    # It is no dead end: a block that starts as the identity can leave it.
    for block in checkpoints.blocks(model):
        block.norm.gamma.assign_add(tf.ones_like(block.norm.gamma))
    assert not np.array_equal(detections(model)["detection_boxes"], expected["detection_boxes"])


@pytest.mark.slow
def test_a_mask_rcnn_starts_as_the_plain_one(tmp_path):
    expected, old = saved_detector(mask_rcnn_task(), tmp_path)
    assert expected["detection_masks"].std() > 0.01 and expected["keypoint_outputs"].std() > 0.01
    tf_keras.backend.clear_session()
    task = mask_rcnn_task(head=(1,), res4=(0,))
    report, modules = warm_start.write_task(task, str(tmp_path), str(tmp_path / "start"))
    tf_keras.backend.clear_session()
    model = started(task, tmp_path / "start")
    heads = {"mask_head", "keypoint_head", "detection_head", "rpn_head"}
    assert modules == "all" and heads < set(model.checkpoint_items)
    assert len(checkpoints.blocks(model)) == 2
    assert_same(detections(model), expected)
    assert_reported(report, model, tmp_path / "start", old)


@pytest.mark.slow
def test_blocks_that_are_there_stay(tmp_path):
    """The checkpoint of a detector with one trained block starts one with two."""
    expected, old = saved_detector(retinanet_task(res3=(0,)), tmp_path)
    task = retinanet_task(res3=(0,), res4=(0,))
    report, _ = warm_start.write_task(task, str(tmp_path), str(tmp_path / "start"))
    model = started(task, tmp_path / "start")
    assert any("non_local" in name for name in old) and np.abs(checkpoints.blocks(model)[0].norm.gamma).max() > 0
    assert_same(detections(model), expected)
    assert sum(row.tensor is None for row in report.rows) == len(checkpoints.blocks(model)[1].weights)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The folder of a plain RetinaNet."""
    folder = tmp_path_factory.mktemp("plain")
    saved_detector(retinanet_task(), folder)
    return folder


def parts(folder, change):
    """A checkpoint of parts of the plain RetinaNet, as a change makes them out of all."""
    model = task_factory.get_task(retinanet_task()).build_model()
    return tf.train.Checkpoint(**change(dict(model.checkpoint_items))).save(str(folder / "ckpt"))


def module(**shapes):
    """Something with variables of these shapes."""
    found = tf.Module()
    for name, shape in shapes.items():
        setattr(found, name, tf.Variable(tf.zeros(shape)))
    return found


CHANGES = {
    "a Mask R-CNN": (
        lambda items: {**items, "head": module(), "rpn_head": module(a=[2]), "detection_head": module(a=[3])},
        r"it has .*, and no head; --backbone_only takes its backbone alone",
    ),
    "a deeper backbone": (
        lambda items: {**items, "backbone": task_factory.get_task(retinanet_task(res4=(0,))).build_model().backbone},
        r"it also has backbone/layer_with_weights-\d/non_local/.* and 9 more; --backbone_only",
    ),
    "another head": (
        lambda items: {**items, "head": module(_classifier=[3])},
        r"it lacks head/_box_convs/0/bias, head/_box_convs/0/kernel, head/_box_norms/.* more; --backbone_only",
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_other_detectors_are_named(case, tmp_path):
    change, message = CHANGES[case]
    path = parts(tmp_path, change)
    task = retinanet_task(**({"res3": (0,)}))
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(errors.UserError, match=f"the checkpoint {path} is of another detector .*: {message}"):
        warm_start.write_task(task, path, str(tmp_path / "start"))
    assert sorted(os.listdir(tmp_path)) == before


def test_another_number_of_classes_is_named_and_the_model_stays_as_it_was(plain):
    model = task_factory.get_task(retinanet_task(num_classes=7, res4=(0,))).build_model()
    before = [np.array(weight) for weight in model.get_weights()]
    shapes = r"head/_classifier/bias is \(36,\) there and \(63,\) here"
    with pytest.raises(errors.UserError, match=f"another detector than the experiment: {shapes}; --backbone_only"):
        detectors.warm_start(model, str(plain))
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_the_backbone_alone(plain, tmp_path):
    """On request of a detector whose heads are others; of a network that has no other parts in any case."""
    other = retinanet_task(num_classes=7, res4=(0,))
    report, modules = warm_start.write_task(other, str(plain), str(tmp_path / "start"), backbone_only=True)
    assert modules == "backbone" and all(row.variable.startswith("backbone/") for row in report.rows)
    classifier = image_classification.ImageClassificationTask(
        model=image_classification.ImageClassificationModel(
            num_classes=2, input_size=[SIZE, SIZE, 3], backbone=backbone(res4=(0,))
        )
    )
    found, modules = warm_start.write_task(classifier, str(plain), str(tmp_path / "classifier"))
    assert modules == "backbone" and [row.tensor for row in found.rows] == [row.tensor for row in report.rows]
    model = started(other, tmp_path / "start", "backbone")
    of_backbone = checkpoints.values(checkpoints.prefix(str(plain)), ["backbone/layer_with_weights-0/kernel"])
    assert np.array_equal(model.backbone.get_weights()[0], next(of_backbone)[1])


def test_parts_that_the_experiment_has_not_are_skipped(tmp_path):
    path = parts(tmp_path, lambda items: {**items, "mask_head": module(a=[2])})
    report, _ = warm_start.write_task(retinanet_task(res4=(0,)), path, str(tmp_path / "start"))
    assert report.skipped == {"mask_head": "the experiment has no such part"}


def test_what_cannot_be_done_is_named_before_anything_is_built(plain, tmp_path):
    with pytest.raises(errors.UserError, match="the checkpoint no/where is no checkpoint"):
        warm_start.write_task(retinanet_task(res4=(0,)), "no/where", str(tmp_path / "start"))
    with pytest.raises(errors.UserError, match="exists already and is never overwritten"):
        warm_start.write_task(retinanet_task(res4=(0,)), str(plain), str(tmp_path))
    with pytest.raises(errors.UserError, match="the experiment has no non-local blocks to insert"):
        warm_start.write_task(retinanet_task(), str(plain), str(tmp_path / "start"))


@pytest.mark.slow
def test_the_script(tmp_path):
    """With what a user types: an experiment, the folder of a run, a folder."""
    small = {
        "task.model.num_classes": 4, "task.model.input_size": f"[{SIZE},{SIZE},3]", "task.model.max_level": 5,
        "task.model.backbone.non_local_resnet.depth_multiplier": 0.25, "task.model.decoder.fpn.num_filters": 16,
        "task.model.head.num_convs": 1, "task.model.head.num_filters": 16,
    }  # fmt: skip
    overrides = ",".join(f"{key}={value}" for key, value in small.items())
    params = exp_factory.get_exp_config("retinanet_r50_coco")
    params = hyperparams.override_params_dict(params, overrides, is_strict=True)
    model = task_factory.get_task(params.task).build_model()
    randomise(model)
    save(model, tmp_path)
    command = [sys.executable, "training/warm_start.py", "--experiment=non_local_retinanet_r50_coco"]
    command += [f"--params_override={overrides}", f"--checkpoint={tmp_path}", f"--out={tmp_path / 'start'}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sum("<- new" in line for line in lines) == 12 and f"{len(model.variables)} variables" in lines[-2]
    assert lines[-1].endswith("task.init_checkpoint_modules: all")
