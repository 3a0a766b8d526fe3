"""Records of any items: what a rerun keeps, and what is left when a run dies. Texts, real files only."""

import dataclasses
import fcntl
import json
import multiprocessing
import os
import resource
import signal
import sys
import threading

import pytest
import tensorflow as tf
from text_items import Text, TextExamples, wait_until

from keras_nonlocal.data.records import plan, report, split
from keras_nonlocal.errors import UserError

LABELS = ["prose", "rhyme", "verse", "unused"]


class Job:
    """12 texts of some 5 kB and a folder to write to."""

    def __init__(self, folder):
        self.texts = folder / "texts"
        self.out = folder / "out"
        self.texts.mkdir()
        self.items = []
        for number in range(12):
            path = self.texts / f"{number:02d}.txt"
            path.write_text(f"text {number}\n" + f"{number:02d}" * 2500 + "\n")
            labels = ("prose",) if number % 2 else ("rhyme", "verse")
            self.items.append(Text(path.name, str(path), labels, {"author": number % 3}))

    def plan(self, split="train", items=None, labels=LABELS, shards=4, seed=0, **options):
        items = self.items if items is None else items
        return plan.Plan(split, items, labels, TextExamples(str(self.texts), **options), shards, seed)

    def run(self, out=None, workers=1, overwrite=False, **options):
        return split.write(self.plan(**options), str(out or self.out), workers, overwrite)

    def shards(self, out=None):
        return {path.name: path.read_bytes() for path in (out or self.out).glob("*.tfrecord")}

    def times(self):
        return {path.name: path.stat().st_mtime_ns for path in self.out.glob("*.tfrecord")}

    def redone(self, times):
        """The shards that are newer than these."""
        return {name for name, time in self.times().items() if time != times[name]}

    def temporary_files(self):
        return [path.name for path in self.out.iterdir() if ".tmp-" in path.name]

    def shard_of(self, name):
        """The shard that holds, or should hold, this text."""
        (shard,) = [shard for shard in self.plan().shards("") if name in [item.name for item in shard.items]]
        return shard.file


@pytest.fixture
def job(tmp_path):
    return Job(tmp_path)


def read(*paths):
    """[(name of the text, line), ...]"""
    examples = [tf.train.Example.FromString(r.numpy()) for r in tf.data.TFRecordDataset(list(map(str, paths)))]
    return [tuple(e.features.feature[key].bytes_list.value[0].decode() for key in ("name", "text")) for e in examples]


# Shards and reports.


def test_every_example_is_in_one_shard_and_items_mix(job):
    found = job.run()
    assert sorted(job.shards()) == [f"train-{shard:05d}-of-00004.tfrecord" for shard in range(4)]
    examples = read(*sorted(job.out.glob("*.tfrecord")))
    wanted = [(item.name, line) for item in job.items for line in open(item.path).read().splitlines()]
    assert sorted(examples) == sorted(wanted) and examples != wanted
    assert (job.out / "labels.txt").read_text().splitlines() == LABELS
    assert json.loads((job.out / "train-report.json").read_text()) == found
    assert [(shard["texts"], shard["written"], shard["lines"]) for shard in found["shards"]] == [(3, 3, 6)] * 4
    assert found["labels"] == {"prose": 6, "rhyme": 6, "verse": 6, "unused": 0}
    assert (found["texts"], found["written"], found["lines"], found["empty"], found["bad"]) == (12, 12, 24, [], [])
    size = sum(map(len, job.shards().values())) / 1e6
    assert report.summary(found, job.plan(), str(job.out)).splitlines() == [
        f"12 of 12 texts are good, 24 lines, {size:.1f} MB",
        f"shards: {job.out}/train-*-of-00004.tfrecord (4)",
        f"used: {job.out}/train-used.txt (their names: accuracies compare on equal lists)",
        f"labels: {job.out}/labels.txt (4 classes)",
        f"report: {job.out}/train-report.json",
    ]


def test_order_depends_on_the_seed_and_not_on_the_lists_order(job):
    job.run(job.out / "a")
    job.run(job.out / "b", items=job.items[::-1])
    job.run(job.out / "c", seed=1)
    assert job.shards(job.out / "a") == job.shards(job.out / "b") != job.shards(job.out / "c")


def test_worker_processes_write_the_same_bytes(job):
    job.run(job.out / "one", workers=1)
    job.run(job.out / "three", workers=3)
    assert job.shards(job.out / "one") == job.shards(job.out / "three")
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("label", ["wa\nlk", "wa\u2028lk", ""])
def test_a_class_name_that_is_not_one_line(job, label):
    with pytest.raises(UserError, match="is not one line, and labels.txt has one class a line"):
        job.plan(labels=["prose", label])


@pytest.mark.parametrize(
    "options, says",
    [
        ({"shards": 13}, "--shards=13 is more than the 12 texts of split train; use --shards=12 or less"),
        ({"shards": 0}, "--shards must be 1 to 99999"),
        ({"split": "a/b"}, "--split must be"),
    ],
)
def test_impossible_options(job, options, says):
    with pytest.raises(UserError, match=says):
        job.run(**options)
    assert not job.out.exists()


# Bad items.


def spoil(job):
    """Two bad texts and an empty one; of the second the first line is good."""
    (job.texts / "00.txt").unlink()
    (job.texts / "01.txt").write_bytes(b"good\n\xff\n")
    (job.texts / "02.txt").write_text("")


def test_bad_items_are_reported_and_leave_nothing_in_the_records(job, capsys):
    spoil(job)
    found = job.run()
    assert (found["texts"], found["written"], found["lines"], found["empty"]) == (12, 10, 18, ["02.txt"])
    reasons = {bad["name"]: bad["reason"] for bad in found["bad"]}
    assert reasons == {"00.txt": "no such file; write it", "01.txt": "is not UTF-8; save it as such"}
    assert {name for name, _ in read(*job.out.glob("*.tfrecord"))} == {item.name for item in job.items[3:]}
    printed = capsys.readouterr().err
    for name, reason in reasons.items():
        assert f"bad text: {job.texts / name}: {reason}" in printed
    assert "2 are bad, 1 of them missing: the report says why" in report.summary(found, job.plan(), str(job.out))
    with pytest.raises(UserError, match="2 of 12 texts are bad and 1 may be .*train-report.json"):
        report.check_bad(found, job.plan(), str(job.out), 1)
    report.check_bad(found, job.plan(), str(job.out), 2)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_check_writes_no_records(job, workers):
    spoil(job)
    found = split.check(job.plan(shards=99), str(job.out), workers)
    assert [path.name for path in job.out.iterdir()] == ["train-check.json"]
    assert json.loads((job.out / "train-check.json").read_text()) == found
    assert (found["texts"], found["written"], found["lines"], len(found["bad"])) == (12, 10, 18, 2)
    with pytest.raises(UserError, match="2 of 12 texts are bad and 0 may be .*train-check.json"):
        report.check_bad(found, job.plan(), str(job.out), 0)


def test_a_shard_with_bad_items_is_redone_only_when_one_of_them_changed(job):
    spoil(job)
    first = job.run()
    times = job.times()
    assert job.run() == first and job.redone(times) == set()
    (job.texts / "00.txt").write_text("here it is\n")
    assert [bad["name"] for bad in job.run()["bad"]] == ["01.txt"]
    assert job.redone(times) == {job.shard_of("00.txt")}
    (job.texts / "01.txt").write_text("good\ntoo\n")
    job.run()
    job.run(job.out / "never_bad")
    assert job.shards() == job.shards(job.out / "never_bad")


@pytest.mark.parametrize("error", ["OSError", "ConnectionResetError", "InvalidArgumentError"])
@pytest.mark.parametrize("workers", [1, 2])
def test_what_reading_raises_is_no_write_error(job, error, workers):
    (job.texts / "05.txt").write_text(f"good\nraise {error}\n")
    raised = (OSError, tf.errors.OpError) if workers == 1 else RuntimeError
    with pytest.raises(raised) as caught:
        job.run(workers=workers)
    assert error in (type(caught.value).__name__ if workers == 1 else str(caught.value))
    assert "cannot be written" not in str(caught.value)
    assert job.temporary_files() == [] and job.shard_of("05.txt") not in job.shards()


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


def replace_report(shard):
    shard.with_suffix(".json").write_text("[1]")


@pytest.mark.parametrize(
    "damage", [damage_nothing, remove_shard, shorten_shard, remove_report, shorten_report, replace_report]
)
def test_a_rerun_redoes_only_what_is_not_complete(job, damage):
    found = job.run()
    shards, times = job.shards(), job.times()
    damage(job.out / "train-00002-of-00004.tfrecord")
    assert job.run() == found and job.shards() == shards
    assert job.redone(times) == (set() if damage is damage_nothing else {"train-00002-of-00004.tfrecord"})


@pytest.mark.parametrize(
    "change, says",
    [
        ({"capitals": True}, "capitals was False and is True"),
        ({"seed": 7}, "seed was 0 and is 7"),
        ({"shards": 3}, "shards was 4 and is 3"),
    ],
)
def test_other_options_are_refused_or_overwrite(job, change, says):
    job.run()
    shards = job.shards()
    with pytest.raises(UserError, match=says) as raised:
        job.run(**change)
    assert "--overwrite" in str(raised.value) and job.shards() == shards
    job.run(**change, overwrite=True)
    job.run(job.out / "fresh", **change)
    assert job.shards() == job.shards(job.out / "fresh") != shards


def test_another_list_folder_or_kind_is_refused(job, tmp_path):
    job.run()
    with pytest.raises(UserError, match="the list of texts differs: 12 then, 11 now"):
        job.run(items=job.items[1:])
    with pytest.raises(UserError, match="the list of texts differs: 12 then, 12 now"):
        job.run(items=[dataclasses.replace(job.items[0], annotation={"author": 9}), *job.items[1:]])
    with pytest.raises(UserError, match="texts_dir was .*/texts and is .*/moved"):
        job.texts = job.texts.rename(tmp_path / "moved")
        job.run()
    path = job.out / "train-plan.json"
    path.write_text(path.read_text().replace("texts", "videos"))
    with pytest.raises(UserError, match="from another plan .it is not one of texts.; use another --out"):
        job.run()


def test_shards_of_unknown_origin_are_not_mixed_with_ours(job):
    job.out.mkdir()
    (job.out / "train-00000-of-00002.tfrecord").write_bytes(b"someone else's")
    with pytest.raises(UserError, match="from another plan"):
        job.run()
    job.run(overwrite=True)
    assert len(job.shards()) == 4


def test_splits_share_a_folder_when_their_classes_agree(job):
    job.run()
    job.run(split="val")
    assert len(job.shards()) == 8
    with pytest.raises(UserError, match="split train in .* has 4 classes .*--labels=.*labels.txt"):
        job.run(split="test", labels=LABELS[:3], overwrite=True)


def test_a_labels_file_of_the_users_is_not_replaced(job):
    job.out.mkdir()
    (job.out / "labels.txt").write_text("mine\n")
    with pytest.raises(UserError, match="lists other classes than this list of texts"):
        job.run()
    assert (job.out / "labels.txt").read_text() == "mine\n"


def test_two_runs_at_once_are_refused(job):
    job.out.mkdir()
    with open(job.out / ".train.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another run is writing split train"):
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


# Runs that die.


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_one_sentence_and_a_rerun_finishes(job, tmp_path, small_disk, workers):
    expected = job.run(job.out / "roomy")
    job.out = tmp_path / "disk"  # holds about two of the four shards
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\); make room"):
        job.run(workers=workers)
    assert job.temporary_files() == []
    whole = job.shards(tmp_path / "out" / "roomy")
    assert all(content == whole[name] for name, content in job.shards().items())
    small_disk(4000)
    assert job.run(workers=workers) == expected
    assert job.shards() == whole


def test_a_file_size_limit_is_reported_the_same_way(job):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(UserError, match=r"cannot be written \(File too large\)"):
            job.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert job.shards() == {} and job.temporary_files() == []


def test_a_folder_that_cannot_be_made(job):
    job.out.write_text("a file")
    with pytest.raises(UserError, match="cannot be made .*; use another --out"):
        job.run()


@pytest.fixture
def slow(job):
    """A job whose last shard waits in its second text, with one example in its first."""
    job.slow = job.plan().shards("")[-1].items[1].path
    with open(job.slow, "w") as file:
        file.write("good\nwait\n")
    return job


def is_midway(job):
    return len(job.shards()) == 3 and os.path.exists(f"{job.slow}.waits")


def go_on(job):
    """Whatever waits need not wait any more."""
    for item in job.items:
        open(f"{item.path}.go", "w").close()


def finish_and_compare(job):
    go_on(job)
    job.run()
    assert job.temporary_files() == []
    job.run(job.out / "uninterrupted")
    assert len(job.shards()) == 4 and job.shards() == job.shards(job.out / "uninterrupted")


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])  # 2 load TensorFlow once more.
def test_sigkill_midway_then_a_rerun_gives_the_same_bytes(slow, workers):
    context = multiprocessing.get_context("forkserver")  # Starts in milliseconds once there were workers.
    process = context.Process(target=split.write, args=(slow.plan(), str(slow.out), workers))
    process.start()
    wait_until(lambda: is_midway(slow))
    process.kill()
    process.join()
    assert len(slow.shards()) == 3 and len(slow.temporary_files()) == 1
    finish_and_compare(slow)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_polite_stop_cleans_up_and_says_how_to_go_on(slow, number, workers):
    def stop():
        wait_until(lambda: is_midway(slow))
        os.kill(os.getpid(), number)

    handler = signal.getsignal(number)
    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(UserError, match=f"stopped by {number.name}; rerun the same command to finish"):
        slow.run(workers=workers)
    thread.join()
    assert slow.temporary_files() == [] and len(slow.shards()) == 3
    assert not (slow.out / "train-report.json").exists() and not multiprocessing.active_children()
    assert signal.getsignal(number) is handler
    finish_and_compare(slow)


def test_a_stop_while_looking_for_a_file_is_no_missing_file(job, monkeypatch):
    stat = os.stat

    def stop(path, *args, **kwargs):
        # os.path.exists turns the ValueErrors it meets, such as our errors, into False.
        if str(path).endswith("00.txt") and sys._getframe(1).f_code is os.path.exists.__code__:
            os.kill(os.getpid(), signal.SIGTERM)
        return stat(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", stop)
    with pytest.raises(UserError, match="stopped by SIGTERM"):
        job.run()
    assert job.temporary_files() == [] and not (job.out / "train-report.json").exists()


def test_a_killed_worker_is_noticed(slow):
    def kill():
        wait_until(lambda: is_midway(slow))
        with open(f"{slow.slow}.waits") as file:
            os.kill(int(file.read()), signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    says = rf"died of signal SIGKILL while reading {slow.slow}; rerun .*, or without that text"
    with pytest.raises(UserError, match=says):
        slow.run(workers=2)
    thread.join()
    assert slow.temporary_files() == [] and not multiprocessing.active_children()
