"""Clips of several classes at once: how records are read, what is learned and what is measured."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.core import exp_factory, task_factory, train_utils

from keras_nonlocal.tfm import evaluate, export
from keras_nonlocal.tfm.inputs import clips, pixels
from keras_nonlocal.tfm.inputs import parser as clip_parser
from keras_nonlocal.tfm.tasks import answers

SIZE = (32, 32, 32, 3)


@pytest.fixture(scope="module")
def task():
    config = exp_factory.get_exp_config("paper_nl_i3d_r101_5_charades").task
    for data in (config.train_data, config.validation_data):
        data.feature_shape, data.num_classes = SIZE, 4
        data.min_image_size, data.max_image_size = 32, 36
    backbone = config.model.backbone.video_resnet
    backbone.width, backbone.block_counts = 4, (1, 2, 2, 1)
    backbone.non_local.override({"res3": (1,), "res4": (0,)})
    config.init_checkpoint, config.losses.l2_weight_decay = None, 0.0
    return task_factory.get_task(config)


def record(labels, frames=16, actions=()):
    """A record; actions are (class, first frame, last frame)."""
    jpeg = tf.io.encode_jpeg(np.full((40, 50, 3), 90, "uint8")).numpy()
    example = tf.train.SequenceExample()
    example.context.feature["clip/label/index"].int64_list.value.extend(labels)
    for name, values in zip(("index", "first", "last"), zip(*actions, strict=True), strict=False):
        example.context.feature[f"clip/action/{name}"].int64_list.value.extend(values)
    for _ in range(frames):
        example.feature_lists.feature_list["image/encoded"].feature.add().bytes_list.value.append(jpeg)
    return example.SerializeToString()


def parsed(data, record, number=0):
    """Image and label of a training clip."""
    decoded = clip_parser.decoder(data)(record)
    parser = clip_parser.Parser(data, data.image_field_key, data.label_field_key)
    return parser.parse_fn(True)({**decoded, clip_parser.SEED: tf.constant([0, number], tf.int64)})


@pytest.mark.parametrize(("labels", "expected"), [([0, 2], [1, 0, 1, 0]), ([3], [0, 0, 0, 1]), ([], [0, 0, 0, 0])])
def test_records_hold_any_number_of_labels(task, labels, expected):
    features, label = parsed(task.task_config.train_data, record(labels))
    assert features["image"].shape == SIZE
    assert label.numpy().tolist() == expected


@pytest.mark.parametrize("outside", clips.OUTSIDE_FRAMES)
def test_a_clip_has_the_classes_of_the_frames_it_spans(task, outside):
    """Of those between the frames it shows too; the same class may happen twice."""
    actions = [(0, 0, 2), (0, 1, 4), (1, 7, 7), (2, 11, 15), (0, 13, 13)]
    data = task.task_config.train_data.replace(feature_shape=(3, 32, 32, 3), temporal_stride=3, outside_frames=outside)
    seen = set()
    for number in range(12):
        image, label = parsed(data, record([0, 1, 2, 3], 16, actions), number)
        seeds = clips.Seeds.of(tf.constant([0, number], tf.int64))
        start = int(clips.sample_start(tf.constant(16), 3, 3, outside, seeds.start))
        spanned = set(range(start, start + 7))
        expected = [
            float(any(set(range(a, b + 1)) & spanned for c, a, b in actions if c == index)) for index in range(4)
        ]
        assert label.numpy().tolist() == expected
        seen.add(tuple(expected))
    assert len(seen) > 2
    # Between all actions, a clip has none; the whole of a video has all that happens in it.
    assert not parsed(data, record([1], 16, [(1, 99, 99)]))[1].numpy().any()
    whole = data.replace(feature_shape=(32, 32, 32, 3))
    assert parsed(whole, record([0, 1, 2, 3], 16, actions))[1].numpy().tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize("labels", [[], [1, 2]])
def test_one_label_is_one_label(task, labels):
    data = task.task_config.train_data.replace(is_multilabel=False)
    one = record(labels)
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        tf.function(lambda: parsed(data, one))()
    message = answers.of(task.task_config).explain(caught.value)
    assert f"is_multilabel is off, but in the records a clip has to have one label, not {len(labels)}: use" in message


def test_the_loss_is_a_mean_over_clips(task):
    labels = tf.constant([[1.0, 0, 1, 0], [0, 0, 0, 0]])
    outputs = tf.constant([[0.9, 0.1, 0.5, 0.2], [0.3, 0.1, 0.1, 0.4]])
    losses = task.build_losses(labels, outputs)
    expected = -np.mean(np.log(np.where(labels == 1, outputs, 1 - outputs)))
    assert losses[task.loss].shape == ()
    assert float(losses[task.loss]) == pytest.approx(expected, rel=1e-4)
    assert float(task.build_losses(labels, outputs, [tf.constant(2.0)])[task.loss]) == pytest.approx(
        expected + 2, rel=1e-4
    )


def test_the_metric_is_the_mean_average_precision(task):
    (metric,) = task.build_metrics(training=False)
    labels = np.eye(4, dtype="float32")
    metric.update_state(labels, labels)
    assert metric.name == "mean_average_precision" and float(metric.result()) == pytest.approx(1, abs=1e-3)


def test_a_step_learns(task):
    model = task.build_model()
    optimizer = tf_keras.optimizers.legacy.SGD(0.1)
    images = np.random.default_rng(0).normal(size=(2, *SIZE)).astype("float32")
    batch = {"image": tf.constant(images)}, tf.constant([[1.0, 0, 1, 0], [0, 1, 0, 0]])
    losses = [float(task.train_step(batch, model, optimizer)[task.loss]) for _ in range(6)]
    assert losses[-1] < losses[0]
    norms = {v.name for v in model.trainable_variables if "gamma" in v.name or "beta" in v.name}
    assert not norms  # frozen
    assert task.inference_step(batch[0], model).numpy().max() < 1


def test_a_run_is_evaluated_and_served_with_a_sigmoid_for_each_class(task, tmp_path):
    experiment = exp_factory.get_exp_config("paper_nl_i3d_r101_5_charades")
    labels = [[0, 2], [3], [], [1, 2, 3], [0], [2]]
    with tf.io.TFRecordWriter(f"{tmp_path}/test.tfrecord") as writer:
        for each in labels:
            writer.write(record(each))
    experiment.task = task.task_config
    experiment.task.validation_data.input_path = f"{tmp_path}/test.tfrecord"
    experiment.task.validation_data.global_batch_size = 4
    experiment.runtime.distribution_strategy = "one_device"
    train_utils.serialize_config(experiment, str(tmp_path))
    model = task.build_model()
    head = model.layers[-1]
    kernel, bias = head.get_weights()
    head.set_weights([np.random.default_rng(0).normal(size=kernel.shape), bias])
    tf.train.Checkpoint(model=model, global_step=tf.Variable(7, dtype=tf.int64)).save(f"{tmp_path}/ckpt")

    result = evaluate.evaluate("paper_nl_i3d_r101_5_charades", str(tmp_path), clips=2)
    assert 0 <= result["mean_average_precision"] <= 1 and result["step"] == 7 and result["clips"] == 2
    assert "mean_average_precision" in evaluate.summary(result)

    path = export.export_run("paper_nl_i3d_r101_5_charades", str(tmp_path), str(tmp_path / "saved"))
    served = tf.saved_model.load(path).signatures["serving_default"]
    frames = np.random.default_rng(1).integers(0, 256, (2, *SIZE), "uint8")
    answer = served(frames=tf.constant(frames))
    logits = model(pixels.normalize(frames), training=False)
    # Both weights of a sigmoid and of a softmax: the answer is the former and not near the latter.
    np.testing.assert_allclose(answer["probabilities"], 1 / (1 + np.exp(-logits)), atol=1e-4)
    assert np.abs(answer["probabilities"] - tf.nn.softmax(logits)).max() > 1e-2
