"""The chain of `make demo-video`, small: footage to records, training, SIGKILL, going on, test result and export."""

import csv
import json
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
import yaml

from keras_nonlocal import configs, processes
from keras_nonlocal.demo import camera, video_chain
from keras_nonlocal.tfm.runs import checkpoints
from keras_nonlocal.tfm.scoring import predictions

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import zygote  # noqa: E402

STEPS, SAVE_EVERY = 9, 4
TINY = {"block_counts": [1, 1, 1, 1], "width": 4, "non_local": {"res3": [0], "res4": []}}
# The backbone's weights and momentum, the classifier's, the optimizer's own numbers, the step.
HELD = {"backbone", "model", "optimizer", "global_step"}
# The non-local blocks of Charades' recipe see 4 positions in time of res3, an eighth of the frames.
FRAMES = {"kinetics": 8, "charades": 32}


@pytest.fixture(scope="module")
def composed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("camera") / "clips"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(camera, "FILES", ("carphone_pristine.mp4", "carphone_distorted.mp4"))  # small ones
        camera.write(folder, {"train": 21, "test": 7}, {"train": 12, "test": 8})
    return folder


@pytest.fixture(scope="module")
def commands():
    with zygote.Zygote() as each:
        yield each


def small(config, folder, records, **trainer):
    """A configuration file of the demo with a smaller network and fewer steps."""
    settings = yaml.safe_load(pathlib.Path(configs.path(config)).read_text())
    task = settings["task"]
    task["init_checkpoint"] = None
    task["model"]["backbone"]["video_resnet"] = TINY
    for part in ("train", "validation"):
        task[f"{part}_data"] |= {"feature_shape": [FRAMES[records], 32, 32, 3], "global_batch_size": 4}
        task[f"{part}_data"]["input_path"] = f"{folder}/{records}/{'train' if part == 'train' else 'test'}-*.tfrecord"
    settings["trainer"] |= {"train_steps": STEPS, "steps_per_loop": 1, "summary_interval": 1}
    settings["trainer"] |= {"validation_interval": STEPS, "checkpoint_interval": SAVE_EVERY, "precise_norm_steps": 0}
    path = folder / f"{config}.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def tensors(folder):
    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(folder)))
    names = [name for name in reader.get_variable_to_shape_map() if name.split("/")[0] in HELD]
    assert {name.split("/")[0] for name in names} == HELD
    return {name: reader.get_tensor(name).tobytes() for name in names}


@pytest.mark.parametrize("name", ["i3d", pytest.param("charades", marks=pytest.mark.slow)])
def test_from_footage_to_a_published_model_through_a_kill(composed, commands, tmp_path, name):
    experiment, config, records = video_chain.RUNS[name]
    several = records == "charades"

    def run(command, **flags):
        code, printed = commands.run(command, tmp_path / "log", **flags)
        assert code == 0, printed
        return printed

    for split in ("train", "test"):
        listed = {"list": composed / "kinetics.csv"}
        if several:
            listed = {"list": composed / f"charades_{split}.csv", "labels": composed / "classes.txt"}
        run("prepare_videos", videos=composed / records, out=tmp_path / records, split=split, short_side=0, shards=2,
            workers=1, **listed)  # fmt: skip
    training = {"experiment": experiment, "config_file": small(config, tmp_path, records), "seed": 3}
    run("train", mode="train", model_dir=tmp_path / "whole", **training)
    life = commands.start("train", tmp_path / "log", mode="train", model_dir=tmp_path / "killed", **training)
    while life.is_alive() and not re.search(r"^train +[67]/", life.printed(), re.M):
        time.sleep(0.005)
    life.send(signal.SIGKILL)
    assert life.wait() == -signal.SIGKILL, life.printed()
    printed = run("train", mode="train", model_dir=tmp_path / "killed", **training)
    assert re.search(r"^going on from step [1-7] of 9, ", printed, re.M), printed
    whole, killed = tensors(tmp_path / "whole"), tensors(tmp_path / "killed")
    assert whole.keys() == killed.keys() and [each for each in whole if whole[each] != killed[each]] == []

    run("evaluate", experiment=experiment, model_dir=tmp_path / "killed",
        input_path=f"{tmp_path}/{records}/test-*.tfrecord")  # fmt: skip
    result = json.loads((tmp_path / "killed" / "test" / "result.json").read_text())
    scored = predictions.load(tmp_path / "killed" / "test" / "predictions.npz")
    assert (result["step"], result["clips"], result["crops"]) == (STEPS, 10, 3)
    videos = [pathlib.Path(video).stem.split("_")[0] for video in scored.videos]
    if several:
        assert (result["protocol"], result["combine"]) == ("spread", "max")
        rows = csv.DictReader((composed / "charades_test.csv").open())
        codes = {row["id"]: {int(each[1:4]) for each in row["actions"].split(";") if each} for row in rows}
        wanted = np.array([[c in codes[video] for c in range(len(camera.ACTIONS))] for video in videos])
        np.testing.assert_array_equal(scored.labels, wanted)
        labelled, precisions = wanted.any(axis=1), []
        for scores, own in zip(scored.scores[labelled].T, wanted[labelled].T, strict=True):
            hits = own[np.argsort(-scores, kind="stable")]
            precisions += [(np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean()] if hits.any() else []
        assert result["mean_average_precision"] == pytest.approx(np.mean(precisions), rel=1e-12)
    else:
        assert result["protocol"] == "official"
        labels = {row["youtube_id"]: row["label"] for row in csv.DictReader((composed / "kinetics.csv").open())}
        wanted = [camera.LABELS.index(labels[video]) for video in videos]
        assert len(videos) == 7 and result["accuracy"] == np.mean(scored.scores.argmax(axis=1) == wanted)

    run("export", experiment=experiment, model_dir=tmp_path / "killed", export_dir=tmp_path / "published",
        labels=tmp_path / records / "labels.txt", fold_norms=several)  # fmt: skip
    assert (tmp_path / "published" / "1" / "saved_model.pb").exists()


def test_a_move_played_backward_is_its_opposite():
    """Along a ramp the brightness says where the window is; what moves back is as fast as what moves forth."""
    ramps = {"pan": np.arange(176)[None, :, None], "tilt": np.arange(144)[:, None, None]}
    for (label, opposite), ramp in (
        (("pan left", "pan right"), ramps["pan"]),
        (("tilt up", "tilt down"), ramps["tilt"]),
        (("zoom in", "zoom out"), ramps["pan"]),
    ):
        footage = [np.broadcast_to(ramp, (50, 144, 176, 3)).astype(np.uint8)]
        seen = {}
        for each in (label, opposite):
            clip = camera.compose(footage, [(each, 0, 39)], 40, np.random.default_rng(5)).astype(float)
            width = np.ptp(clip.mean(axis=(1, 3)), axis=1)
            seen[each] = width if "zoom" in each else clip.mean(axis=(1, 2, 3))
        assert (
            np.ptp(seen[label]) > 20 and np.all(np.diff(seen[label]) < 0.3) and np.all(np.diff(seen[opposite]) > -0.3)
        )
        np.testing.assert_allclose(seen[label] - seen[label][-1], (seen[opposite] - seen[opposite][0])[::-1], atol=1.5)


def test_what_stands_still_stands_still_and_what_is_dark_is_dark():
    rng = np.random.default_rng(0)
    footage = [np.broadcast_to(rng.integers(60, 200, (144, 176, 3)), (50, 144, 176, 3)).astype(np.uint8)]
    clip = camera.compose(footage, [(camera.STILL, 0, 59), (camera.DARK, 10, 20)], 60, rng)
    same = [np.array_equal(frame, clip[0]) for frame in clip]
    assert same == [not 10 <= i <= 20 for i in range(60)]
    np.testing.assert_allclose(clip[10], 0.35 * clip[0], atol=0.51)


def test_splits_share_no_moment_and_footage_runs_either_way():
    parts = sorted(camera.MOMENTS.values())
    assert all(last < first for (_, last), (first, _) in zip(parts, parts[1:], strict=False))
    # Frame n of the footage is n grey; 25 frames are played back and forth to fill 60.
    footage = [np.broadcast_to(np.arange(0, 250, 10)[:, None, None, None], (25, 144, 176, 3)).astype(np.uint8)]
    clips = [camera.compose(footage, [], 60, np.random.default_rng(i))[:, 0, 0, 0].astype(int) for i in range(20)]
    assert all(np.all(np.abs(np.diff(clip)) == 10) for clip in clips)
    assert 3 < sum(clip[1] > clip[0] for clip in clips) < 17


def test_lists_say_what_was_composed(composed):
    rows = list(csv.DictReader((composed / "charades_train.csv").open()))
    assert len(rows) == 12 and any(not row["actions"] for row in rows)
    for row in rows:
        for action in filter(None, row["actions"].split(";")):
            code, first, last = action.split()
            assert 0 <= float(first) < float(last) <= float(row["length"]) and int(code[1:]) < len(camera.ACTIONS)
        assert (composed / "charades" / f"{row['id']}.mp4").stat().st_size > 1000


LIFE = """
import pathlib, sys, time
lives = pathlib.Path(sys.argv[-1])
lives.write_text(lives.read_text() + "x" if lives.exists() else "x")
for step in (5, 10, 15):
    print("train", f"   {step}/15  loss 1", flush=True)
    time.sleep(0.2)
"""


def test_a_training_is_killed_at_its_steps_and_run_again(tmp_path, capsys):
    def line(name):
        return [sys.executable, "-c", LIFE, str(tmp_path / name)]

    seconds = processes.side_by_side({"left": line("left"), "killed": line("killed")}, {"killed": (5, 7)})
    assert list(seconds) == ["left", "killed"]
    assert [(tmp_path / name).read_text() for name in ("left", "killed")] == ["x", "xxx"]
    printed = capsys.readouterr().out
    assert re.findall(r"SIGKILL after step (\d+)", printed) == ["5", "10"]


def test_checkpoints_that_differ_in_a_bit_are_told(tmp_path):
    value = tf.Variable([1.0, 2.0])
    checkpoint = tf.train.Checkpoint(backbone=tf.Module(), global_step=tf.Variable(3))
    checkpoint.backbone.value = value
    one = checkpoint.save(f"{tmp_path}/one")
    same = checkpoint.save(f"{tmp_path}/same")
    value[1].assign(np.nextafter(np.float32(2), np.float32(3)))
    other = checkpoint.save(f"{tmp_path}/other")
    assert checkpoints.differing(one, same) == ([], 2)
    assert checkpoints.differing(one, other) == (["backbone/value/.ATTRIBUTES/VARIABLE_VALUE"], 2)


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_the_demo_sees_the_order_of_frames_and_survives_kills(tmp_path):
    arguments = [f"--work_dir={tmp_path}", "--seed=0", f"--export_dir={tmp_path / 'published'}"]
    done = subprocess.run(
        [sys.executable, "training/demo_video.py", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    work = tmp_path / "seed0"

    def result(path):
        return json.loads((work / path / "result.json").read_text())

    assert result("c2d/test")["accuracy"] < camera.ORDER_BLIND < result("i3d/test_spread")["accuracy"] - 0.1
    assert result("charades/test")["mean_average_precision"] > 0.5
    for name in video_chain.KILLS:
        assert json.loads((work / f"{name}.json").read_text())["differing"] == []
    assert done.stdout.count("SIGKILL after step") == sum(map(len, video_chain.KILLS.values()))
    assert (work / "curves.png").stat().st_size > 10_000
    assert all((tmp_path / "published" / name / "1").is_dir() for name in ("camera", "camera_actions"))
