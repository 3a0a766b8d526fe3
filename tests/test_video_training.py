"""Video networks through tfm on real records: train, resume, start from a trunk, evaluate, export, serve."""

import contextlib
import io
import json
import pathlib
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from absl import flags as absl_flags
from official.core import exp_factory, task_factory
from official.vision.modeling.backbones import factory
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

import keras_nonlocal
from keras_nonlocal import errors, surgery
from keras_nonlocal.analysis import blocks
from keras_nonlocal.data.records import plan, split
from keras_nonlocal.data.video import examples, lists
from keras_nonlocal.demo import clips, curves
from keras_nonlocal.demo import experiments as demo_experiments  # noqa: F401  (registers them)
from keras_nonlocal.export import folding, pictures
from keras_nonlocal.serving import Client, clip_inputs
from keras_nonlocal.serving.local import server
from keras_nonlocal.tfm import evaluate, experiments, explain, export
from keras_nonlocal.tfm import train as training
from keras_nonlocal.tfm.backbones import configs, video_resnet
from keras_nonlocal.tfm.inputs import pixels
from keras_nonlocal.tfm.tasks import answers


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Videos of two digits as records of three splits."""
    folder = tmp_path_factory.mktemp("data")
    counts = {"train": 24, "validation": 8, "test": 6}
    pairs, _ = clips.write(folder, counts, dict.fromkeys(counts, 0))
    for name in counts:
        videos, labels = lists.read_list(pairs, str(folder / "videos"), name)
        maker = examples.VideoExamples(str(folder / "videos"), short_side=0)
        split.write(plan.Plan(name, videos, labels, maker, shards=2), str(folder / "records"), workers=1)
    return folder


def overrides(data, **more):
    return {
        "task.train_data.input_path": f"{data}/records/train-*.tfrecord",
        "task.validation_data.input_path": f"{data}/records/validation-*.tfrecord",
        "task.train_data.global_batch_size": 8,
        "task.validation_data.global_batch_size": 4,
        "task.model.backbone.video_resnet.width": 4,
        "trainer.train_steps": 4,
        "trainer.steps_per_loop": 2,
        "trainer.summary_interval": 2,
        "trainer.checkpoint_interval": 2,
        "trainer.validation_interval": 4,
        "trainer.optimizer_config.learning_rate.cosine.initial_learning_rate": 0.05,
        "trainer.optimizer_config.learning_rate.cosine.decay_steps": 4,
        **more,
    }


def parse(experiment, settings, config_file=None):
    text = ",".join(f"{key}={value}" for key, value in settings.items())
    flags = absl_flags.FlagValues()
    absl_flags.DEFINE_string("experiment", experiment, "", flag_values=flags)
    absl_flags.DEFINE_multi_string("config_file", config_file, "", flag_values=flags)
    absl_flags.DEFINE_string("params_override", text, "", flag_values=flags)
    absl_flags.DEFINE_string("tpu", None, "", flag_values=flags)
    flags.mark_as_parsed()
    return training.parse_experiment(flags)


@pytest.fixture(scope="module")
def trunk_run(data, tmp_path_factory):
    """The folder of a trained C2D without non-local blocks, and what training printed."""
    model_dir = str(tmp_path_factory.mktemp("c2d"))
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        training.run(parse("c2d_demo", overrides(data)), "train_and_eval", model_dir, seed=0)
    return model_dir, printed.getvalue()


@pytest.fixture(scope="module")
def trunk(trunk_run):
    return trunk_run[0]


@pytest.fixture(scope="module")
def trained(data, trunk, tmp_path_factory):
    """A non-local C2D trained from the trunk."""
    model_dir = str(tmp_path_factory.mktemp("non_local"))
    start = {"task.init_checkpoint": trunk, "task.init_checkpoint_modules": "trunk"}
    params = parse("non_local_c2d_demo", overrides(data, **start))
    look = explain.Explanation(params, next((data / "videos").rglob("*.mp4")), model_dir)
    training.run(params, "train_and_eval", model_dir, seed=0, look=look)
    return model_dir


def built(experiment, model_dir):
    """The model of a run with its newest weights."""
    params = training.load_experiment(experiment, model_dir)
    model = task_factory.get_task(params.task).build_model()
    checkpoint = tf.train.Checkpoint(model=model).read(training.latest_checkpoint(model_dir))
    checkpoint.expect_partial().assert_existing_objects_matched()
    return params, model


@pytest.fixture(scope="module")
def learned(trained):
    """The configuration of the non-local C2D's run, and the model that it learned."""
    return built("non_local_c2d_demo", trained)


@pytest.fixture(scope="module")
def published(data, trained, tmp_path_factory):
    """The non-local C2D as it is served, version 1."""
    labels = str(data / "records" / "labels.txt")
    saved = str(tmp_path_factory.mktemp("saved") / "demo")
    return export.export_run("non_local_c2d_demo", trained, saved, labels=labels)


def test_progress_resume_and_tensorboard(data, trunk_run, tmp_path, capsys):
    folder, first = trunk_run
    lines = [line for line in first.splitlines() if line.startswith("train ")]
    assert [line.split()[1] for line in lines] == ["2/4", "4/4"]
    assert "loss" in lines[1] and "accuracy" in lines[1] and "steps/s" in lines[1] and "ETA 0:00:00" in lines[1]
    assert "eval        4  loss" in first and "going on" not in first
    resumed = tmp_path / "run"
    shutil.copytree(folder, resumed)
    training.run(
        parse("c2d_demo", overrides(data, **{"trainer.train_steps": 6})), "train_and_eval", str(resumed), seed=0
    )
    second = capsys.readouterr().out
    assert f"going on from step 4 of 6, {resumed}" in second
    assert [line.split()[1] for line in second.splitlines() if line.startswith("train ")] == ["6/6"]
    assert list(resumed.glob("train/events*")) and list(resumed.glob("validation/events*"))
    assert training.load_experiment("c2d_demo", str(resumed)).trainer.train_steps == 6


def test_tensorboard_shows_what_a_run_attends_to(trained):
    (path,) = pathlib.Path(trained).glob("attention/events*")
    events = tf.compat.v1.train.summary_iterator(str(path))
    found = {(event.step, value.tag): value for event in events for value in event.summary.value}
    assert {step for step, _ in found} == {0, 4} and any(tag.endswith("/heatmap") for _, tag in found)
    entropies = {tag: value for (step, tag), value in found.items() if step == 4 and tag.endswith("/entropy")}
    for tag, value in entropies.items():  # blocks that have learned something
        assert tf.make_ndarray(value.tensor) != tf.make_ndarray(found[0, tag].tensor)
    assert len(entropies) == len(blocks.paths(built("non_local_c2d_demo", trained)[1]))


def test_what_cannot_be_shown_is_said_before_training(data, tmp_path):
    video = next((data / "videos").rglob("*.mp4"))
    look = explain.Explanation(parse("c2d_demo", overrides(data)), video, str(tmp_path))
    with pytest.raises(errors.UserError, match="no non-local block to look into: leave --explain out"):
        training.run(parse("c2d_demo", overrides(data)), "train_and_eval", str(tmp_path / "run"), seed=0, look=look)
    with pytest.raises(errors.UserError, match="RetinaNetTask is not drawn while it trains"):
        explain.Explanation(exp_factory.get_exp_config("retinanet_r50_coco"), video, str(tmp_path))


def test_the_best_checkpoint_is_kept(trunk):
    best = json.loads((pathlib.Path(trunk) / "best" / "info.json").read_text())
    assert best["best_ckpt_global_step"] == 4 and 0 <= best["accuracy"] <= 1
    assert training.latest_checkpoint(f"{trunk}/best")


def test_a_non_local_model_starts_as_its_trunk(data, trunk):
    params, plain = built("c2d_demo", trunk)
    start = {"task.init_checkpoint": trunk, "task.init_checkpoint_modules": "trunk"}
    task = task_factory.get_task(parse("non_local_c2d_demo", overrides(data, **start)).task)
    model = task.build_model()
    clip = np.random.default_rng(0).normal(size=(2, *params.task.train_data.feature_shape)).astype("float32")
    before = model.backbone(clip)
    task.initialize(model)
    expected, started = plain.backbone(clip), model.backbone(clip)
    assert all(np.array_equal(expected[level], started[level]) for level in "2345")
    assert not np.allclose(before["5"], started["5"])


def test_training_moves_the_non_local_blocks(learned):
    _, model = learned
    blocks = [layer for layer in model.backbone.layers if layer.name.endswith("nonlocal")]
    assert len(blocks) >= 2
    assert all(np.abs(block.norm.gamma).max() > 0 for block in blocks)


def test_a_missing_trunk_is_named(data):
    start = {"task.init_checkpoint": "nowhere", "task.init_checkpoint_modules": "trunk"}
    task = task_factory.get_task(parse("non_local_c2d_demo", overrides(data, **start)).task)
    with pytest.raises(errors.UserError, match="task.init_checkpoint nowhere is no checkpoint"):
        task.initialize(task.build_model())


def test_evaluation_averages_the_softmax_of_clips(data, trained, learned, tmp_path):
    out = tmp_path / "test.json"
    records = f"{data}/records/test-*.tfrecord"
    views = {"protocol": "spread", "clips": 3, "crops": 1}
    result = evaluate.evaluate("non_local_c2d_demo", trained, records, out=str(out), **views)
    assert json.loads(out.read_text()) == result and result["clips"] == 3 and result["step"] == 4
    assert curves.read(f"{trained}/validation")[0] == [4], "a test is no point of the validation curve"
    params, model = learned
    count = sum(int(tf.size(variable)) for variable in model.trainable_variables)
    assert result["parameters"] == count and result["multiply_adds"] > 1e5
    shape, stride = params.task.validation_data.feature_shape, params.task.validation_data.temporal_stride
    listed, _ = lists.read_list(str(data / "pairs.csv"), str(data / "videos"), "test")
    right = []
    for video in listed:
        # The records hold JPEGs of the videos' frames: as close as that, and no closer.
        frames = pixels.normalize(clip_inputs.reader.read_video(video.path))
        last = len(frames) - (shape[0] - 1) * stride - 1
        views = [frames[start:][: shape[0] * stride : stride] for start in (0, round(last / 2), last)]
        mean = tf.reduce_mean(tf.nn.softmax(model(tf.stack(views), training=False)), axis=0)
        right.append((int(tf.argmax(mean)),) == video.indices)
    assert result["accuracy"] == pytest.approx(np.mean(right))


def test_both_signatures_answer_as_the_model(data, learned, published):
    path = pathlib.Path(published)
    assert path.name == "1"
    assert (path / "assets.extra" / "labels.txt").read_text().split() == ["different", "same"]
    _replay_warmup(published)
    params, model = learned
    video = next((data / "videos").glob("pairs-test-*"))
    shape, stride = params.task.validation_data.feature_shape, params.task.validation_data.temporal_stride
    clip = clip_inputs.sample_clip(video, *shape[:3], stride=stride)
    expected = model(pixels.normalize(clip[None]), training=False)
    with (
        server.LocalServer(str(path.parent), "demo") as local,
        Client(local.rest_url, "demo") as rest,
        Client(local.grpc_url, "demo") as client,
    ):
        by_rest = rest.predict({"frames": clip[None]})
        by_grpc = client.predict({"frames": clip[None]})
        examples = {"examples": np.array([clip_inputs.sequence_example(video)] * 2, object)}
        by_example = client.predict(examples, "tf_example")
        with pytest.raises(errors.UserError, match="shape"):
            client.predict({"frames": clip[None, :, :-1]})
        for bad in (b"", b"GIF89a" + bytes(40), b"\xff\xd8\xff" + bytes(40)):
            example = tf.train.SequenceExample()
            example.feature_lists.feature_list["image/encoded"].feature.add().bytes_list.value.append(bad)
            with pytest.raises(errors.UserError):
                inputs = {"examples": np.array([example.SerializeToString()], object)}
                client.predict(inputs, "tf_example")
        with pytest.raises(errors.UserError):
            no_frames = {"examples": np.array([tf.train.SequenceExample().SerializeToString()], object)}
            client.predict(no_frames, "tf_example")
        again = client.predict({"frames": clip[None]})
    np.testing.assert_allclose(by_grpc["logits"], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(by_rest["probabilities"], tf.nn.softmax(expected), rtol=1e-4, atol=1e-5)
    assert by_grpc["probabilities"].dtype == by_grpc["logits"].dtype == np.float32
    # JPEG in between: close, not equal.
    np.testing.assert_allclose(by_example["probabilities"][0], tf.nn.softmax(expected)[0], atol=0.1)
    np.testing.assert_allclose(by_example["probabilities"][0], by_example["probabilities"][1], atol=1e-6)
    np.testing.assert_array_equal(again["logits"], by_grpc["logits"])
    assert not _operations(published) & NORMS, "they are folded"


def test_a_run_shows_what_it_attends_to(trained, learned, tmp_path):
    run = export.load_run("non_local_c2d_demo", trained)
    clip = np.random.default_rng(0).integers(0, 256, _clip_shape(trained), np.uint8)
    _, model = learned
    expected = keras_nonlocal.attention_maps(model, pixels.normalize(clip[None]))
    for path, found in keras_nonlocal.attention_maps(run.model, run.prepare(clip[None])).items():
        np.testing.assert_allclose(found.weights, expected[path].weights, rtol=1e-5)
    said = pictures.draw(run.model, clip, run.prepare, tmp_path)
    assert path in said and {each.name for each in tmp_path.iterdir()} >= {"arrows.png", "overview.png"}


@pytest.mark.slow
def test_norms_are_left_alone_on_request(trained, published, tmp_path):
    unfolded = export.export_run("non_local_c2d_demo", trained, str(tmp_path / "demo"), fold_norms=False)
    clip = tf.random.stateless_uniform([1, *_clip_shape(trained)], [1, 1], 0, 256, tf.int32)
    served = [tf.saved_model.load(path) for path in (published, unfolded)]
    folded, plain = (each.signatures["serving_default"](frames=tf.cast(clip, tf.uint8))["logits"] for each in served)
    np.testing.assert_allclose(folded, plain, rtol=1e-4, atol=1e-4)
    assert not _operations(published) & NORMS and _operations(unfolded) & NORMS


def test_a_model_that_folding_changes_is_not_published(trained, learned, tmp_path, monkeypatch):
    def broken(break_, fold=surgery.fold_norms):
        def fold_badly(model):
            copy = fold(model)
            break_(copy.layers[-1])
            return copy

        return fold_badly

    monkeypatch.setattr(surgery, "fold_norms", broken(lambda head: head.bias.assign_add([1.0, 0.0])))
    with pytest.raises(errors.UserError, match="answers differently: by .* export it as"):
        export.export_run("non_local_c2d_demo", trained, str(tmp_path / "demo"))
    assert not list((tmp_path / "demo").iterdir())
    monkeypatch.setattr(surgery, "fold_norms", broken(lambda head: head.bias.assign([np.nan, np.nan])))
    params, model = learned
    inputs = export.video_classification.VideoClassificationModule.random_inputs(params)
    with pytest.raises(errors.UserError, match="by nan"):
        folding.folded(model, inputs)


def test_a_model_that_cannot_be_folded_says_how_to_export_it():
    class Subclassed(tf_keras.Model):
        def call(self, x):
            return x

    with pytest.raises(errors.UserError, match="cannot be folded: `model` must be .* with --nofold_norms"):
        folding.folded(Subclassed(), tf.zeros([1, 8, 48, 48, 3]))


NORMS = {"FusedBatchNormV3", "FusedBatchNorm", "Rsqrt"}


def _clip_shape(model_dir):
    return training.load_experiment("non_local_c2d_demo", model_dir).task.validation_data.feature_shape


def _operations(path):
    """The kinds of operations in a SavedModel."""
    saved = saved_model_pb2.SavedModel.FromString((pathlib.Path(path) / "saved_model.pb").read_bytes())
    (graph,) = (meta.graph_def for meta in saved.meta_graphs)
    return {node.op for function in graph.library.function for node in function.node_def}


def _replay_warmup(path):
    """What TensorFlow Serving does with the warm-up file."""
    signatures = tf.saved_model.load(path).signatures
    logs = [
        prediction_log_pb2.PredictionLog.FromString(record.numpy())
        for record in tf.data.TFRecordDataset(f"{path}/assets.extra/tf_serving_warmup_requests")
    ]
    requests = [log.predict_log.request for log in logs]
    names = ["serving_default", "encoded", "tf_example", "features", "explain"]
    assert [request.model_spec.signature_name for request in requests] == names
    for request in requests:
        inputs = {alias: tf.constant(tf.make_ndarray(value)) for alias, value in request.inputs.items()}
        outputs = signatures[request.model_spec.signature_name](**inputs)
        assert all(np.isfinite(value).all() for value in outputs.values())
        if "probabilities" in outputs:
            np.testing.assert_allclose(tf.reduce_sum(outputs["probabilities"], -1), [1.0], rtol=1e-5)


def test_curves_hold_what_training_printed(trained, tmp_path):
    steps, values = curves.read(f"{trained}/train")
    assert steps == [2, 4] and all(0 <= value <= 1 for value in values)
    assert curves.read(f"{trained}/train", "no_such_metric") == ([], [])
    figure = curves.draw({"run": trained}, 0.75, "ceiling")
    (axis,) = figure.axes
    assert [list(line.get_xdata()) for line in axis.lines][:2] == [[2, 4], [4]]
    assert list(axis.lines[2].get_ydata()) == [0.75, 0.75]


def _of_16000_pixels_a_side():
    """A JPEG whose header says so."""
    small = bytearray(tf.io.encode_jpeg(np.zeros((8, 8, 3), np.uint8)).numpy())
    size = small.index(b"\xff\xc0") + 5
    small[size : size + 4] = b"\x3e\x80" * 2
    return bytes(small)


def _bad_record(path, frame=None, label=0):
    example = tf.train.SequenceExample()
    example.context.feature["clip/label/index"].int64_list.value.append(label)
    frame = frame or tf.io.encode_jpeg(np.zeros((40, 40, 3), np.uint8)).numpy()
    example.feature_lists.feature_list["image/encoded"].feature.add().bytes_list.value.append(frame)
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(example.SerializeToString())
    return {"task.train_data.input_path": path, "task.train_data.global_batch_size": 1}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            {"frame": b"GIF89a" + bytes(40)},
            "cannot be decoded, a frame of a video is not a JPEG image: write them again",
        ),
        (
            {"frame": _of_16000_pixels_a_side()},
            "a frame of a video has too many pixels: .* 16000 16000: write them again",
        ),
        ({"frame": b"\xff\xd8\xff" + bytes(40)}, "cannot be decoded, Invalid JPEG data.*: write them again with"),
        ({"label": 2}, "num_classes is 2, but .* outside 0 to num_classes - 1 = 1.*: set it to the number of lines"),
        ({"label": -1}, "outside 0 to num_classes - 1 = 1"),
    ],
    ids=["gif", "large", "cut", "label", "negative"],
)
def test_a_record_that_cannot_be_read_is_explained(tmp_path, record, message):
    task = parse("c2d_demo", overrides(tmp_path, **_bad_record(tmp_path / "bad.tfrecord", **record))).task
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        next(iter(task_factory.get_task(task).build_inputs(task.train_data)))
    assert re.search(message, answers.of(task).explain(caught.value))


def test_training_says_what_is_wrong_with_a_record(tmp_path):
    settings = overrides(tmp_path, **_bad_record(tmp_path / "bad.tfrecord", label=5))
    with pytest.raises(errors.UserError, match="num_classes is 2.*outside 0 to num_classes - 1 = 1"):
        training.run(parse("c2d_demo", settings), "train", str(tmp_path / "run"), seed=0)


def test_records_that_are_none_are_explained(data):
    task = parse("c2d_demo", overrides(data, **{"task.train_data.input_path": f"{data}/pairs.csv"})).task
    with pytest.raises(errors.UserError, match=f"{data}/pairs.csv is not a whole TFRecord file: at byte 0"):
        task_factory.get_task(task).build_inputs(task.train_data)


@pytest.mark.parametrize("cache", [False, True])
def test_a_damaged_record_is_named(tmp_path, cache):
    path = tmp_path / "bad.tfrecord"
    settings = overrides(tmp_path, **_bad_record(path), **{"task.train_data.cache": cache})
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(content)
    with pytest.raises(errors.UserError, match=f"{path} is damaged: write it again with keras-nonlocal prepare_videos"):
        training.run(parse("c2d_demo", settings), "train", str(tmp_path / "run"), seed=0)


def test_records_that_are_not_there_are_named(data, tmp_path):
    settings = {"task.train_data.input_path": "nothing/here-*"}
    with pytest.raises(errors.UserError, match="train_data.input_path 'nothing/here-\\*' matches no file"):
        training.run(parse("c2d_demo", overrides(data, **settings)), "train", str(tmp_path), seed=0)


@pytest.mark.parametrize(
    ("experiment", "settings", "config_file", "message"),
    [
        (
            "c2d_demos",
            {},
            None,
            "--experiment c2d_demos is not registered: choose one of .*non_local_i3d_kinetics400, .* --register",
        ),
        ("c2d_demo", {"task.model.backbone.video_resnet.non_locl": "[1]"}, None, "non_locl"),
        ("c2d_demo", {}, ["no/such.yaml"], "--config_file no/such.yaml does not exist"),
    ],
)
def test_wrong_configurations_are_named(experiment, settings, config_file, message):
    with pytest.raises(errors.UserError, match=message):
        parse(experiment, settings, config_file)


def test_a_network_that_cannot_be_built_leaves_nothing(data, tmp_path):
    settings = {"task.model.backbone.video_resnet.non_local.res3": "[7]"}
    with pytest.raises(errors.UserError, match=r"cannot be built: `non_local`.*from 0 to 1. Received: res3: \[7\]"):
        training.run(parse("non_local_c2d_demo", overrides(data, **settings)), "train", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_every_named_experiment_is_registered():
    for name in experiments.NAMES:
        backbone = exp_factory.get_exp_config(name).task.model.backbone.type
        assert backbone == ("video_resnet" if name.endswith("kinetics400") else "non_local_resnet")


def test_blocks_are_placed_by_the_configuration():
    params = exp_factory.get_exp_config("c2d_kinetics400")
    params.override({"task": {"model": {"backbone": {"video_resnet": {
        "block_counts": [1, 2, 2, 1], "width": 4, "non_local": {"res3": [1], "res4": [0, 1]},
        "non_local_block": {"pairwise": "dot_product", "pool_size": [1, 1, 1]},
    }}}}})  # fmt: skip
    model = params.task.model
    spec = tf_keras.layers.InputSpec(shape=[None, 8, 48, 48, 3])
    backbone = factory.build_backbone(spec, model.backbone, model.norm_activation, tf_keras.regularizers.l2(1e-4))
    names = [layer.name for layer in backbone.layers if layer.name.endswith("nonlocal")]
    assert names == ["res3_1_nonlocal", "res4_0_nonlocal", "res4_1_nonlocal"]
    block = backbone.get_layer("res4_0_nonlocal")
    assert (block.pairwise, block.pool_size, block.norm_momentum) == ("dot_product", (1, 1, 1), 0.9)
    assert {level: tuple(shape[1:]) for level, shape in backbone.output_specs.items()} == {
        "2": (8, 11, 11, 16), "3": (4, 6, 6, 32), "4": (4, 3, 3, 64), "5": (4, 2, 2, 128),
    }  # fmt: skip
    again = video_resnet.VideoResNet.from_config(backbone.get_config())
    again.set_weights(backbone.get_weights())
    clip = np.random.default_rng(0).normal(size=(1, 8, 48, 48, 3)).astype("float32")
    assert np.array_equal(backbone(clip)["5"], again(clip)["5"])
    assert len(again.losses) == len(backbone.losses) > 0


@pytest.mark.parametrize("name", ["c2d", "non_local_c2d", "i3d", "non_local_i3d"])
def test_kinetics_experiments_follow_the_official_recipe(name):
    params = exp_factory.get_exp_config(f"{name}_kinetics400")
    network = params.task.model.backbone.get()
    assert (network.inflate == "3x1x1") == ("i3d" in name)
    expected = configs.Placement(res3=(1, 3), res4=(1, 3, 5)) if "non_local" in name else configs.Placement()
    assert network.non_local.as_dict() == expected.as_dict()
    rates = params.trainer.optimizer_config.learning_rate.get()
    assert rates.boundaries == [150_000, 300_000] and rates.values == [0.01, 0.001, 0.0001]
    assert params.task.train_data.global_batch_size == 64 and params.task.losses.l2_weight_decay == 1e-4
    momentum = params.trainer.optimizer_config.optimizer.get()
    assert (momentum.momentum, momentum.nesterov) == (0.9, True)
