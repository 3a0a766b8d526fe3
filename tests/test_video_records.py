"""Videos to TFRecords: what a record holds, which videos are bad, and the script. Real files only."""

import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from video_files import DATA, FOOTAGE, write_video

from keras_nonlocal import features
from keras_nonlocal.data.records import plan, split
from keras_nonlocal.data.video import examples, lists
from keras_nonlocal.errors import UserError

SCRIPT = pathlib.Path(__file__).parents[1] / "training/prepare_videos.py"
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def bar_over(colour):
    """4 frames of 64x48 in one colour, with a white bar that moves right with time."""
    frames = np.broadcast_to(np.array(colour, np.uint8), (4, 48, 64, 3)).copy()
    for t in range(4):
        frames[t, :, 16 * t : 16 * (t + 1)] = 255
    return frames


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    for number in range(6):
        label = list(COLOURS)[number % 3]
        write_video(folder / f"{label}{number:02d}.mp4", bar_over(COLOURS[label]))
    return folder


class Job:
    """6 small videos of 3 classes and a folder to write to."""

    def __init__(self, folder, originals):
        self.videos = folder / "videos"
        self.out = folder / "out"
        self.csv = folder / "list.csv"
        shutil.copytree(originals, self.videos)
        self.names = sorted(path.name for path in self.videos.iterdir())
        self.list(self.names)

    def list(self, names):
        rows = [f"{name},{name.rstrip('.mp4').rstrip('0123456789')}" for name in names]
        self.csv.write_text("\n".join(["path,label", *rows]) + "\n")

    def plan(self, shards=2, **options):
        videos, labels = lists.read_list(self.csv, self.videos)
        return plan.Plan("train", videos, labels, examples.VideoExamples(str(self.videos), **options), shards)

    def run(self, out=None, workers=1, **options):
        return split.write(self.plan(**options), str(out or self.out), workers)

    def command(self, *flags):
        paths = [f"--csv={self.csv}", f"--videos={self.videos}", f"--out={self.out}"]
        return [sys.executable, str(SCRIPT), *paths, "--split=train", *flags]

    def shards(self, out=None):
        return {path.name: path.read_bytes() for path in (out or self.out).glob("*.tfrecord")}

    def times(self):
        return {path.name: path.stat().st_mtime_ns for path in self.out.glob("*.tfrecord")}

    def shard_of(self, name):
        """The shard that holds, or should hold, this video."""
        (shard,) = [shard for shard in self.plan().shards("") if name in [video.name for video in shard.items]]
        return shard.file


@pytest.fixture
def job(tmp_path, originals):
    return Job(tmp_path, originals)


def read(*paths):
    return [tf.train.SequenceExample.FromString(r.numpy()) for r in tf.data.TFRecordDataset(list(map(str, paths)))]


def text(example, key):
    return example.context.feature[key].bytes_list.value[0].decode()


def frames(example):
    jpegs = example.feature_lists.feature_list[features.ENCODED].feature
    return np.stack([tf.io.decode_jpeg(jpeg.bytes_list.value[0]).numpy() for jpeg in jpegs])


# What a record holds.


def test_a_record_holds_frames_and_context(job):
    job.run()
    found = {text(e, "clip/data_path"): e for e in read(*sorted(job.out.glob("*.tfrecord")))}
    assert sorted(found) == job.names
    labels = (job.out / "labels.txt").read_text().splitlines()
    assert labels == ["blue", "green", "red"]
    for name, example in found.items():
        label = text(example, "clip/label/string")
        assert name.startswith(label)
        context = example.context.feature
        assert labels[context["clip/label/index"].int64_list.value[0]] == label
        assert context["image/height"].int64_list.value[:] == [48]
        assert context["image/width"].int64_list.value[:] == [64]
        assert context["image/frame_rate"].float_list.value[:] == [25.0]
        assert text(example, "image/format") == "jpeg"
        decoded = frames(example).astype(int)
        assert decoded.shape == (4, 48, 64, 3)
        for t in range(4):  # The bar says which frame it is, the colour beside it that RGB is RGB.
            bar = decoded[t, :, 16 * t + 4 : 16 * t + 12].mean((0, 1))
            other = (16 * t + 32) % 64
            beside = decoded[t, :, other + 4 : other + 12].mean((0, 1))
            assert bar.min() > 200
            assert np.abs(beside - COLOURS[label]).max() < 50


def test_tfm_reads_the_records(job):
    from official.vision.dataloaders import video_input

    job.run()
    for record in tf.data.TFRecordDataset(str(job.out / "train-00000-of-00002.tfrecord")):
        decoded = video_input.Decoder().decode(record)
        example = tf.train.SequenceExample.FromString(record.numpy())
        assert decoded["image/encoded"].shape == [4]
        assert decoded["clip/label/index"].numpy() == example.context.feature["clip/label/index"].int64_list.value
        clip = video_input.process_image(
            decoded["image/encoded"], False, num_frames=4, stride=1, min_resize=32, crop_size=32
        )
        assert clip.shape == [4, 32, 32, 3]


@pytest.mark.parametrize("short_side, height, width", [(72, 72, 88), (0, 144, 176), (320, 144, 176)])
def test_short_side_only_shrinks(job, short_side, height, width):
    shutil.copy(FOOTAGE / "carphone_pristine.mp4", job.videos / "red.mp4")
    job.list(["red.mp4"])
    report = job.run(shards=1, short_side=short_side)
    (example,) = read(job.out / "train-00000-of-00001.tfrecord")
    assert frames(example).shape == (120, height, width, 3) and report["frames"] == 120
    assert example.context.feature["image/height"].int64_list.value[0] == height
    assert example.context.feature["image/width"].int64_list.value[0] == width


def test_jpeg_quality_is_used(job):
    shutil.copy(FOOTAGE / "carphone_distorted.mp4", job.videos / "red.mp4")
    job.list(["red.mp4"])
    sizes = [job.run(job.out / str(q), shards=1, jpeg_quality=q)["shards"][0]["bytes"] for q in (20, 95)]
    assert sizes[0] < 0.5 * sizes[1]


def test_a_video_too_long_for_a_record_is_bad(job, monkeypatch):
    monkeypatch.setattr(examples, "MAX_RECORD_BYTES", 2000)
    report = job.run()
    assert len(report["bad"]) == 6 and "cut it into clips" in report["bad"][0]["reason"]


# Bad videos, and what a rerun keeps.


def test_bad_videos_are_reported_and_the_good_ones_kept(job):
    (job.videos / "red00.mp4").unlink()
    (job.videos / "green01.mp4").write_bytes(b"nonsense")
    shutil.copy(DATA / "av1.mp4", job.videos / "blue02.mp4")
    report = job.run()
    assert (report["videos"], report["written"], report["frames"]) == (6, 3, 12)
    reasons = {bad["name"]: bad["reason"] for bad in report["bad"]}
    assert reasons["red00.mp4"].startswith("no such file")
    assert reasons["green01.mp4"].startswith("is not a video")
    assert "codec AV01" in reasons["blue02.mp4"]
    checked = split.check(job.plan(), str(job.out / "checked"), workers=1)
    assert all(checked[key] == report[key] for key in ("videos", "written", "frames", "labels"))
    assert {bad["name"]: bad["reason"] for bad in checked["bad"]} == reasons


def test_truncated_videos_can_be_accepted_later_and_refused_again(job):
    data = (DATA / "h264_50_frames.mp4").read_bytes()
    (job.videos / "red00.mp4").write_bytes(data[: len(data) * 6 // 10])
    refused = job.run()
    assert "only 28 of the 50 frames" in refused["bad"][0]["reason"] and refused["truncated"] == []
    shard, times = job.shard_of("red00.mp4"), job.times()

    accepted = job.run(keep_truncated=True)
    assert accepted["bad"] == [] and accepted["written"] == 6 and accepted["frames"] == 5 * 4 + 28
    assert [video["name"] for video in accepted["truncated"]] == ["red00.mp4"]
    assert {name for name, time in job.times().items() if time != times[name]} == {shard}

    assert job.run() == refused


def test_options_that_decide_bytes_make_another_plan(job):
    job.run()
    with pytest.raises(UserError, match="jpeg_quality was 95 and is 80, short_side was 320 and is 32"):
        job.run(jpeg_quality=80, short_side=32)


def test_a_folder_of_an_earlier_version_is_resumed():
    """Its shards say by this digest what they are of."""
    videos = [lists.LabelledVideo(f"{name}.mp4", f"/videos/{name}.mp4", ("walk",), (1,)) for name in "ba"]
    planned = plan.Plan("train", videos, ["run", "walk"], examples.VideoExamples("/videos"), shards=2)
    assert planned.id == "635794307698edb89caaa3ab12a9106ffcb0848b4c79b7c1d6bc4055b164a991"


@pytest.mark.parametrize(
    "options, says",
    [({"jpeg_quality": 101}, "--jpeg_quality must be 1 to 100"), ({"short_side": -1}, "--short_side must be 0")],
)
def test_impossible_options(job, options, says):
    with pytest.raises(UserError, match=says):
        job.plan(**options)


# The script. Each run of it loads TensorFlow, so the default tests have one that meets it all: workers, a bad video,
# the summary, an error and the exit code.


def test_the_script_prints_a_summary_and_exits_with_1_for_bad_videos(job):
    (job.videos / "red00.mp4").unlink()
    done = subprocess.run(job.command("--shards=2", "--workers=2"), capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "no --labels: the 3 classes are those of the list itself",
        f"5 of 6 videos are good, 20 frames, {sum(map(len, job.shards().values())) / 1e6:.1f} MB",
        "1 are bad, 1 of them missing: the report says why",
        f"shards: {job.out}/train-*-of-00002.tfrecord (2)",
        f"used: {job.out}/train-used.txt (their names: accuracies compare on equal lists)",
        f"labels: {job.out}/labels.txt (3 classes)",
        f"report: {job.out}/train-report.json",
    ]
    assert f"bad video: {job.videos}/red00.mp4: no such file" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: 1 of 6 videos are bad and 0 may be")
    assert "Traceback" not in done.stderr and "tensorflow" not in done.stderr.lower()


@pytest.mark.slow
def test_the_script_as_a_module_checks_without_writing_records(job):
    (job.videos / "red00.mp4").write_bytes(b"nonsense")
    command = [
        sys.executable,
        "-m",
        "training.prepare_videos",
        *job.command("--check", "--max_bad=1", "--workers=1")[2:],
    ]
    done = subprocess.run(command, cwd=SCRIPT.parents[1], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in job.out.iterdir()] == ["train-check.json"]
    report = json.loads((job.out / "train-check.json").read_text())
    assert (report["videos"], report["written"], report["frames"]) == (6, 5, 20)
    assert [bad["name"] for bad in report["bad"]] == ["red00.mp4"]


@pytest.mark.slow
def test_the_script_prints_user_errors_without_a_traceback(job):
    done = subprocess.run([*job.command(), "--labels=/no/labels.txt"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert (
        done.stderr == "error: labels file /no/labels.txt cannot be read (No such file or directory); check the path\n"
    )
