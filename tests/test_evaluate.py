"""A test of a network from records to result, each number against NumPy from the last feature map on."""

import contextlib
import csv
import io
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys

import cv2
import numpy as np
import pytest
import tensorflow as tf
from official.core import exp_factory, task_factory, train_utils

from keras_nonlocal import errors, features
from keras_nonlocal.tfm import evaluate, predict, train
from keras_nonlocal.tfm.inputs import videos as test_videos
from keras_nonlocal.tfm.scoring import predictions
from keras_nonlocal.tfm.tasks import answers, sliding

# Crops of 64 leave 2 x 2 of res5, test crops of 96 leave 3 x 3: the classifier slides over 2 x 2 places.
TRAINED, SIDE, FRAMES, STRIDE, CLASSES = 64, 96, 4, 2, 7
SIZES = [(96, 131), (131, 96), (96, 96), (96, 150), (96, 131)]
LENGTHS = [5, 30, 11, 7, 24]  # the first is shorter than a clip
ONE = [[3], [0], [6], [3], [2]]
MANY = [[0, 2], [], [6], [1, 2, 3], [0]]
EXPERIMENTS = {"one": "non_local_c2d_kinetics400", "many": "paper_nl_i3d_r101_5_charades"}


def pixels_of(number):
    """A video of noise that grows and changes its colour, the same at every call."""
    height, width = SIZES[number]
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 256, (LENGTHS[number], height // 8, width // 8, 3), "uint8")
    tints = np.linspace(*rng.random((2, 3)), LENGTHS[number])
    return np.stack(
        [cv2.resize(frame, (width, height)) * tint for frame, tint in zip(coarse, tints, strict=True)]
    ).astype("uint8")


def write_records(folder, labels):
    """Two files, and the decoded videos by name."""
    decoded = {}
    for file in range(2):
        with tf.io.TFRecordWriter(f"{folder}/test-{file}.tfrecord") as writer:
            for number in range(file, len(labels), 2):
                name = f"some/folder/V{9 - number}.mp4"
                example = tf.train.SequenceExample()
                example.context.feature[features.LABEL_INDEX].int64_list.value.extend(labels[number])
                example.context.feature[features.DATA_PATH].bytes_list.value.append(name.encode())
                jpegs = [tf.io.encode_jpeg(frame).numpy() for frame in pixels_of(number)]
                for jpeg in jpegs:
                    example.feature_lists.feature_list[features.ENCODED].feature.add().bytes_list.value.append(jpeg)
                decoded[name] = np.stack([tf.io.decode_jpeg(jpeg).numpy() for jpeg in jpegs]), labels[number]
                writer.write(example.SerializeToString())
    return dict(sorted(decoded.items()))


def make_run(folder, kind):
    """A run's folder: a checkpoint of step 5 of a network with weights that say something, and its configuration."""
    experiment = exp_factory.get_exp_config(EXPERIMENTS[kind])
    config = experiment.task
    for data in (config.train_data, config.validation_data):
        data.feature_shape, data.num_classes, data.temporal_stride = (FRAMES, TRAINED, TRAINED, 3), CLASSES, STRIDE
        data.min_image_size, data.max_image_size, data.global_batch_size = SIDE, SIDE, 4
    config.validation_data.input_path = f"{folder}/test-*.tfrecord"
    backbone = config.model.backbone.video_resnet
    backbone.width, backbone.block_counts, backbone.temporal_stride = 4, (1, 1, 1, 1), 2
    backbone.non_local.override({"res3": (0,), "res4": ()})
    backbone.group_frames.res3 = 2
    config.init_checkpoint, config.losses.l2_weight_decay = None, 0.0
    experiment.runtime.distribution_strategy = "one_device"
    train_utils.serialize_config(experiment, str(folder))
    model = task_factory.get_task(config).build_model()
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if "gamma" in variable.name:  # of the last norm of a block 0: no input would reach res5
            variable.assign(np.ones(variable.shape))
    # Scores that differ from video to video: features of such a network differ little.
    clips = (np.stack([pixels_of(number)[:FRAMES, :TRAINED, :TRAINED] for number in range(5)]) - 114.75) / 57.375
    seen = model.backbone(clips.astype("float32"), training=False)["5"].numpy().mean(axis=(1, 2, 3))
    kernel = rng.normal(size=(seen.shape[1], CLASSES))
    kernel *= 1.5 / ((seen - seen.mean(axis=0)) @ kernel).std()
    model.layers[-1].set_weights([kernel, -seen.mean(axis=0) @ kernel])
    tf.train.Checkpoint(model=model, global_step=tf.Variable(5, dtype=tf.int64)).save(f"{folder}/ckpt")
    return model


class Run:
    def __init__(self, folder, kind, labels):
        self.folder, self.kind = str(folder), kind
        self.decoded = write_records(folder, labels)
        self.model = make_run(folder, kind)

    def evaluate(self, **arguments):
        return evaluate.evaluate(EXPERIMENTS[self.kind], self.folder, **arguments)

    def params(self, clips=None, crops=None, protocol=None, **runtime):
        params = train.load_experiment(EXPERIMENTS[self.kind], self.folder)
        answers.of(params.task).set_views(clips, crops, protocol)
        params.runtime.override(runtime)
        return params

    def predictions(self):
        return predictions.load(f"{self.folder}/test/predictions.npz")

    def places(self, clips):
        """The scores of each place of clips, uint8 (N, T, H, W, 3), from res5 on in NumPy: (N, places, classes)."""
        if not hasattr(self, "_free"):
            # The trained network takes clips of the size of training: the same weights for any.
            self._free = task_factory.get_task(self.params(protocol="paper").task).build_model()
            self._free.set_weights(self.model.get_weights())
        x = (np.asarray(clips, "float32") - 114.75) / 57.375
        last = self._free.backbone(x, training=False)["5"].numpy().astype(np.float64)
        kernel, bias = self.model.layers[-1].get_weights()
        scores = []
        for top in range(last.shape[2] - 1):
            for left in range(last.shape[3] - 1):
                logits = last[:, :, top : top + 2, left : left + 2].mean(axis=(1, 2, 3)) @ kernel + bias
                exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
                softmax = exponentials / exponentials.sum(axis=1, keepdims=True)
                scores.append(softmax if self.kind == "one" else 1 / (1 + np.exp(-logits)))
        return np.stack(scores, axis=1)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("one"), "one", ONE)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("many"), "many", MANY)


@pytest.fixture(scope="module")
def official(one):
    """The result of the official test of `one`, with two clips, and what it printed."""
    (pathlib.Path(one.folder) / "labels.txt").write_text("\n".join("abcdefg"))
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        result = one.evaluate(clips=2, out=f"{one.folder}/out.json")
    return result, printed.getvalue()


def clips_of(frames, count, starts):
    length = len(frames)
    for j in range(count):
        if starts == "wrapped":
            yield frames[[(int(j * length / count) + k * STRIDE) % length for k in range(FRAMES)]]
        else:
            start = round(j * max(length - (FRAMES - 1) * STRIDE - 1, 0) / (count - 1))
            yield frames[[min(start + k * STRIDE, length - 1) for k in range(FRAMES)]]


def crops_of(clip):
    height, width = clip.shape[1:3]
    for k in range(3):
        top, left = (height - SIDE) // 2 * k, (width - SIDE) // 2 * k
        yield clip[:, top : top + SIDE, left : left + SIDE]


def restated(run, count, starts, combine, crops=crops_of):
    """The scores of every video, in order of their names."""
    rows = []
    for frames, _ in run.decoded.values():
        views = [crop for clip in clips_of(frames, count, starts) for crop in crops(clip)]
        rows.append(combine(run.places(views).mean(axis=1), axis=0))
    return np.array(rows)


def test_the_official_test_of_one_label_and_its_files(one, official):
    result, printed = official
    got = one.predictions()
    assert got.videos.tolist() == list(one.decoded) == [f"some/folder/V{n}.mp4" for n in range(5, 10)]
    expected = restated(one, 2, "wrapped", np.mean)
    np.testing.assert_allclose(got.scores, expected, atol=2e-5)
    assert np.ptp(expected, axis=0).max() > 0.05, "the videos are told apart"
    true = [own[0] for _, own in one.decoded.values()]
    assert got.labels.argmax(axis=1).tolist() == true
    ranked = np.argsort(-got.scores, axis=1)
    assert result["accuracy"] == np.mean(ranked[:, 0] == true)
    assert result["top_5_accuracy"] == np.mean([t in row[:5] for t, row in zip(true, ranked, strict=True)])
    about = {"protocol": "official", "clips": 2, "crops": 3, "combine": "mean", "step": 5}
    assert about.items() <= result.items() and result["best_metric"] == "accuracy"
    folder = pathlib.Path(one.folder) / "test"
    assert (
        json.loads((folder / "result.json").read_text()) == json.loads((folder / "../out.json").read_text()) == result
    )
    assert str(folder) in printed and "5/5 videos" in printed and "videos/s  ETA 0:00:00" in printed
    assert sorted(path.name for path in folder.iterdir()) == [
        "classes.csv", "confusion.csv", "confusion.png", "mistakes.csv", "predictions.npz", "result.json",
    ]  # fmt: skip
    rows = list(csv.DictReader((folder / "classes.csv").open()))
    assert [row["name"] for row in rows] == list("abcdefg") and rows[3]["videos"] == "2" and rows[1]["accuracy"] == ""
    table = list(csv.reader((folder / "confusion.csv").open()))
    assert sum(int(cell) for row in table[1:] for cell in row[1:]) == 5
    assert cv2.imread(str(folder / "confusion.png")).std() > 5
    summary = evaluate.summary(result)
    assert (
        summary.startswith(f"accuracy {result['accuracy']:.4g}  top_5_accuracy") and "2 clip(s) x 3 crop(s)" in summary
    )

    again = evaluate.score_again(f"{folder}/predictions.npz", f"{one.folder}/again")
    assert again == result
    for name in ("result.json", "classes.csv", "mistakes.csv", "confusion.csv"):
        assert (folder / name).read_text() == (folder / "../again" / name).read_text()


def test_places_are_scored_before_they_are_averaged(one):
    """An average over all of res5 would be another number, and so would one of the views' logits."""
    frames, _ = one.decoded["some/folder/V5.mp4"]
    crop = next(crops_of(next(clips_of(frames, 2, "wrapped"))))
    params = one.params(2, 3)
    task = task_factory.get_task(params.task)
    model = task.build_model()
    model.set_weights(one.model.get_weights())
    clip = ((crop.astype("float32") - 114.75) / 57.375)[np.newaxis]
    slid = task.build_test_model(model)(clip).numpy()
    np.testing.assert_allclose(slid[0], one.places(crop[np.newaxis])[0].mean(axis=0), atol=2e-5)
    pooled = tf.nn.softmax(model({"image": clip}, training=False)).numpy()
    assert np.abs(slid - pooled).max() > 1e-3
    # Where nothing slides both are one.
    small = clip[:, :, :TRAINED, :TRAINED]
    shape = (FRAMES, TRAINED, TRAINED, 3)
    same = sliding.slid(one.model, shape, shape, tf.nn.softmax)(small)
    by_window = sliding.slid(one.model, shape, (None, *shape[1:]), tf.nn.softmax)(small)
    np.testing.assert_allclose(same, tf.nn.softmax(one.model({"image": small}, training=False)), atol=1e-6)
    np.testing.assert_allclose(by_window, same, atol=1e-6)


def test_the_paper_s_test_sees_whole_frames_of_any_size(one):
    result = one.evaluate(clips=2, protocol="paper", out_dir=f"{one.folder}/whole")
    got = predictions.load(f"{one.folder}/whole/predictions.npz")
    expected = restated(one, 2, "spread", np.mean, crops=lambda clip: [clip])
    np.testing.assert_allclose(got.scores, expected, atol=2e-5)
    assert (result["protocol"], result["crops"]) == ("paper", 1) and "multiply_adds" not in result


def test_several_labels_take_the_maximum_over_views_and_the_exact_map(many):
    result = many.evaluate(clips=2)
    got = many.predictions()
    np.testing.assert_allclose(got.scores, restated(many, 2, "spread", np.max), atol=2e-5)
    labels = np.zeros((5, CLASSES), bool)
    for row, (_, own) in zip(labels, many.decoded.values(), strict=True):
        row[own] = True
    np.testing.assert_array_equal(got.labels, labels)
    aps = []
    for c in range(CLASSES):
        order = [i for i in np.argsort(-got.scores[:, c], kind="stable") if labels[i].any()]
        hits = np.array([labels[i, c] for i in order])
        if hits.any():
            aps.append((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())
    assert result["mean_average_precision"] == pytest.approx(np.mean(aps), rel=1e-12)
    assert "1 of no class left out" in result["notes"][0] and "2 of 7 classes" in result["notes"][1]
    assert {"protocol": "spread", "combine": "max"}.items() <= result.items()

    # Its own submission, with the labels of the records, is the same result; with a video less that one is last.
    path = f"{many.folder}/test/submission.txt"
    lines = pathlib.Path(path).read_text().splitlines(keepends=True)
    assert [line.split()[0] for line in lines] == ["V5", "V6", "V7", "V8", "V9"]
    records = f"{many.folder}/test-*.tfrecord"
    again = evaluate.score_again(path, input_path=records)
    for metric in ("mean_average_precision", "weighted_average_precision", "mean_average_precision_slowfast", "loss"):
        assert again[metric] == result[metric]
    less = pathlib.Path(many.folder) / "less.txt"
    less.write_text("".join(lines[1:]))
    assert evaluate.score_again(str(less), out_dir=f"{many.folder}/less", input_path=records)["videos_missing"] == 1
    rescored = evaluate.score_again(f"{many.folder}/less/predictions.npz")
    assert rescored["mean_average_precision"] != result["mean_average_precision"] and "loss" not in rescored
    less.write_text("".join(lines) + lines[0].replace("V5", "V1"))
    with pytest.raises(errors.UserError, match="has 1 videos that --input_path .* does not, as V1"):
        evaluate.score_again(str(less), input_path=records)
    with pytest.raises(errors.UserError, match="has no labels: give --input_path"):
        evaluate.score_again(path)


def test_every_video_is_scored_once_whatever_the_replicas(one, official, two_replicas, monkeypatch):
    """Five videos on two replicas: the last batch is of one video, so that one replica has none."""
    params = one.params(2, 3)
    # Two videos a replica at once; alone, each was scored in two parts.
    params.task.validation_data.global_batch_size = 24
    monkeypatch.setattr(predict.workers, "strategy", lambda _: two_replicas)
    scored = predict.predict(params, one.folder, "mean")
    alone = one.predictions()
    assert scored.videos.tolist() == alone.videos.tolist()
    np.testing.assert_array_equal(scored.labels, alone.labels)
    np.testing.assert_allclose(scored.scores, alone.scores, atol=1e-5)


def test_files_that_come_twice_and_damaged_ones_are_refused(one, tmp_path):
    pattern = f"{one.folder}/test-*.tfrecord"
    with pytest.raises(errors.UserError, match="must match each file once, and .*test-1.tfrecord is matched twice"):
        one.evaluate(input_path=f"{pattern},{one.folder}/test-1.tfrecord")
    with pytest.raises(errors.UserError, match="input_path must match files"):
        one.evaluate(input_path=f"{tmp_path}/*.tfrecord")
    content = pathlib.Path(f"{one.folder}/test-1.tfrecord").read_bytes()
    (tmp_path / "cut.tfrecord").write_bytes(content[:-9])
    with pytest.raises(errors.UserError, match="cut.tfrecord is not a whole TFRecord file"):
        one.evaluate(input_path=f"{tmp_path}/cut.tfrecord")
    assert sorted(test_videos.labels(pattern)) == [(name, own) for name, (_, own) in one.decoded.items()]


@pytest.mark.slow
def test_a_video_that_comes_twice_is_refused(one, tmp_path):
    shutil.copy(f"{one.folder}/test-1.tfrecord", tmp_path / "copy.tfrecord")
    with pytest.raises(errors.UserError, match=r"hold the video some/folder/V\d.mp4 more than once"):
        one.evaluate(protocol="centre", input_path=f"{one.folder}/test-*.tfrecord,{tmp_path}/copy.tfrecord")


FLAGS_THAT_DO_NOT_GO_TOGETHER = """
from absl import flags
from keras_nonlocal import errors
from keras_nonlocal.commands import evaluate
for given in ([], ["--predictions=p.npz", "--model_dir=runs"]):
    flags.FLAGS.unparse_flags()
    flags.FLAGS(["evaluate", *given])
    try:
        evaluate.main(None)
    except errors.UserError as error:
        print(error)
"""


def test_the_command_says_which_flags_go_together():
    # In a process of its own: other modules define flags of the same names.
    program = [sys.executable, "-c", FLAGS_THAT_DO_NOT_GO_TOGETHER]
    one, two = subprocess.run(program, capture_output=True, text=True, check=True).stdout.splitlines()
    assert one.startswith("--experiment is required, unless --predictions")
    assert two.startswith("--model_dir does not go with --predictions")


WORKER = """
import sys
from keras_nonlocal.tfm import evaluate, experiments
evaluate.evaluate({experiment!r}, {folder!r}, clips=2, out_dir=sys.argv[1])
"""


@pytest.mark.slow
def test_two_workers_score_every_video_once_and_the_first_writes(one, official, tmp_path):
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(2):
            ports.append(stack.enter_context(socket.socket()))
            ports[-1].bind(("localhost", 0))
        addresses = [f"localhost:{each.getsockname()[1]}" for each in ports]
    shutil.copytree(one.folder, tmp_path / "run")
    config = tmp_path / "run" / "params.yaml"
    config.write_text(
        config.read_text().replace("one_device", "multi_worker_mirrored").replace(one.folder, str(tmp_path / "run"))
    )
    code = WORKER.format(experiment=EXPERIMENTS["one"], folder=str(tmp_path / "run"))
    workers = []
    for index in range(2):
        cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, "TF_CONFIG": json.dumps(cluster)}
        command_line = [sys.executable, "-c", code, str(tmp_path / f"out{index}")]
        workers.append(
            subprocess.Popen(command_line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        )
    try:
        printed = [worker.communicate(timeout=600)[0].decode() for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], printed
    assert "5/5 videos" in printed[0] and "videos/s" not in printed[1] and not (tmp_path / "out1").exists()
    together, alone = predictions.load(tmp_path / "out0" / "predictions.npz"), one.predictions()
    assert together.videos.tolist() == alone.videos.tolist()
    np.testing.assert_allclose(together.scores, alone.scores, atol=1e-5)
