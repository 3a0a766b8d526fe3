"""One training on one device, on several and by several workers: the same weights; and workers that are lost."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.core import exp_factory, task_factory

from keras_nonlocal import cluster, errors, processes
from keras_nonlocal.demo import experiments as demo_experiments  # noqa: F401  (registers them)
from keras_nonlocal.tfm import trainer as trainers
from keras_nonlocal.tfm.runs import loop, stopping

TESTS = pathlib.Path(__file__).parent
sys.path.append(str(TESTS.parent / "benchmarks"))

import killing  # noqa: E402

# Commands that need no TensorFlow.
SLEEP = "import time; print('here', flush=True); time.sleep(600)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP
FAIL = "import sys, time; time.sleep(0.3); sys.exit(3)"
DIE = "import os, time; time.sleep(0.3); os.kill(os.getpid(), 9)"
SEES_THAT = "import sys, time; time.sleep(1); print('worker 0 is gone'); sys.exit(75)"


def together(grace=60, **programs):
    commands = {name: [sys.executable, "-c", code] for name, code in programs.items()}
    return processes.together(commands, dict.fromkeys(commands, os.environ), grace)


@pytest.mark.parametrize(("code", "expected"), [(FAIL, 3), (DIE, 137)], ids=["fails", "dies"])
def test_the_first_to_fail_counts_and_the_others_may_say_what_they_saw(capfd, code, expected):
    assert together(first=code, second=SEES_THAT) == ("first", expected)
    assert "       second | worker 0 is gone" in capfd.readouterr().out


def test_the_others_are_killed_when_they_do_not_end():
    assert together(grace=1, first=FAIL, second=DEAF) == ("first", 3)  # which would sleep for ten minutes
    assert together(first="", second="") is None


SAVES = """
import os, signal, sys, time
def stop(number, frame):
    time.sleep(2)
    print("saved", flush=True)
    sys.exit(128 + number)
signal.signal(signal.SIGINT, stop)
signal.signal(signal.SIGTERM, stop)
time.sleep(1)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_passed_on_and_waited_for(capfd, number):
    asks = f"{SAVES}\nos.kill(os.getppid(), {int(number)})\ntime.sleep(600)"
    # Longer than the others have when one fails.
    assert together(grace=0, asks=asks, b=f"{SAVES}\ntime.sleep(600)") in (("asks", 128 + number), ("b", 128 + number))
    assert sorted(capfd.readouterr().out.split()) == ["asks", "b", "saved", "saved", "|", "|"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ant:2222", "bee", 0], "--hosts lists host:port"),
        (["ant:2222", "bee:70000", 0], "--hosts lists host:port"),
        (["ant:2222", "ant:2222", 0], "must name each worker once"),
        (["ant:2222", "bee:2222", 2], "--index says which of --hosts this machine is, 0 to 1. Received: 2"),
        (["ant:2222", "bee:2222", None], "--index says which"),
    ],
)
def test_hosts_are_checked(arguments, message):
    with pytest.raises(errors.UserError, match=re.escape(message)):
        cluster.join(arguments[:2], arguments[2], ["train"])
    for command in ([], ["prepare_videos", "--out=x"]):
        with pytest.raises(errors.UserError, match="launch runs train or evaluate"):
            cluster.launch(2, command)


def test_the_place_of_a_worker_is_that_of_tf_config(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert cluster.place() == (0, 1)
    monkeypatch.setenv("TF_CONFIG", cluster._text(["a:1", "b:1", "c:1"], 2))
    assert cluster.place() == (2, 3)
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    assert (resolver.task_id, resolver.task_type, resolver.cluster_spec().num_tasks("worker")) == (2, "worker", 3)
    chief = '{"cluster": {"chief": ["a:1"], "worker": ["b:1"]}, "task": {"type": "worker", "index": 0}}'
    monkeypatch.setenv("TF_CONFIG", chief)
    assert cluster.place() == (1, 2)
    monkeypatch.setenv("TF_CONFIG", "[1")
    with pytest.raises(errors.UserError, match="TF_CONFIG must be the JSON that .*: unset it"):
        cluster.place()


def test_hosts_run_the_command_in_place(monkeypatch):
    ran = []
    monkeypatch.setattr(os, "execve", lambda *arguments: ran.append(arguments))
    cluster.join(["ant:2222", "bee:2222"], 1, ["train", "--mode=train"])
    ((program, command, environment),) = ran
    assert program == command[0] == sys.executable and command[-2:] == ["train", "--mode=train"]
    assert environment["TF_CONFIG"] == cluster._text(["ant:2222", "bee:2222"], 1)


# What trains: a tiny network with all that could tell devices apart, on records of real digits.


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    killing.write_records(folder)
    return folder


def settings(records, batch=4):
    """Dropout, corrected momentum under a rate that falls, norms that see all replicas' clips."""
    return {
        "task.train_data.input_path": f"{records}/records/train-*.tfrecord",
        "task.validation_data.input_path": f"{records}/records/validation-*.tfrecord",
        "task.train_data.global_batch_size": batch,
        "task.validation_data.global_batch_size": batch,
        "task.model.backbone.video_resnet.width": 4,
        "task.model.backbone.video_resnet.block_counts": [1, 1, 1, 1],
        "task.model.backbone.video_resnet.non_local.res3": [0],
        "task.model.backbone.video_resnet.non_local.res4": [],
        "task.model.dropout_rate": 0.5,
        "task.model.norm_activation.use_sync_bn": True,
        "trainer.optimizer_config.learning_rate.cosine.initial_learning_rate": 0.05,
        "trainer.optimizer_config.learning_rate.cosine.decay_steps": 12,
    }


def params_of(values):
    params = exp_factory.get_exp_config("non_local_c2d_demo")
    for name, value in {**values, "task.train_data.seed": 3}.items():
        *path, last = name.split(".")
        part = params
        for key in path:
            part = getattr(part, key)
        part.override({last: value})
    assert params.trainer.optimizer_config.optimizer.type == "corrected_sgd"
    params.lock()
    return params


@pytest.fixture
def launched(tmp_path):
    """Starts `launch --workers=2 -- train` and gives the process; what it prints goes to tmp_path / "log"."""
    started = []

    def start(run, experiment="sums", mode="train", workers=2, **values):
        overrides = ",".join(f"{key}={value}".replace(" ", "") for key, value in values.items())
        flags = ["--register=workers_end", f"--experiment={experiment}", f"--mode={mode}", "--seed=3"]
        flags += [f"--model_dir={tmp_path / run}", f"--params_override={overrides}"]
        (tmp_path / f"{run}_end").mkdir(exist_ok=True)
        environment = {**os.environ, "END_FOLDER": str(tmp_path / f"{run}_end")}
        environment["PYTHONPATH"] = os.pathsep.join([str(TESTS), str(TESTS.parent)])
        launch = ["launch", f"--workers={workers}", "--"] if workers > 1 else []
        command = processes.command(*launch, "train", *flags)
        with open(tmp_path / "log", "w") as log:
            started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        return started[-1]

    yield start
    for process in started:
        process.terminate()
        process.wait()


def ends(folder):
    """The weights that each worker ended with."""
    return [dict(np.load(path)) for path in sorted(folder.glob("*.npz"))]


def assert_same_bits(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], name)


def wait_for(process, log, pattern):
    """The match in what a process has printed, when it is there."""
    while process.poll() is None:
        if match := re.search(pattern, log.read_text()):
            return match
        time.sleep(0.05)
    raise AssertionError(log.read_text())


def pid_of(process, index):
    """The number of a worker's process."""
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for child in children:
        environment = pathlib.Path(f"/proc/{child}/environ").read_text()
        if f'"index": {index}' in environment:
            return int(child)
    raise AssertionError(children)


def test_two_workers_end_with_the_same_weights(launched, tmp_path):
    process = launched("run", mode="train_and_eval", **{"trainer.validation_interval": 10})
    assert process.wait() == 0, (tmp_path / "log").read_text()
    printed = (tmp_path / "log").read_text()
    assert re.search(r"^ +worker 0 \| train +20/20 ", printed, re.M) and "worker 1 | train  " not in printed
    assert "a new run, seed 3" in printed and "2 replica(s)" in printed
    first, second = ends(tmp_path / "run_end")
    assert_same_bits(first, second)


def trained(params, strategy, steps):
    """The weights that our trainer ends with, by their number."""
    tf.config.optimizer.set_experimental_options({"remapping": False})  # as train.run does
    tf_keras.utils.set_random_seed(3)
    with strategy.scope():
        task = task_factory.get_task(params.task)
        model = task.build_model()
        optimizer = task.create_optimizer(params.trainer.optimizer_config, params.runtime)
        stop, waited = stopping.Stopping(sys.stdout), loop.host_seconds()
        trainer = trainers.Trainer(params, task, model, optimizer, evaluate=False, stop=stop, waited=waited)
    trainer.train(tf.constant(steps))
    return {str(index): weight.numpy() for index, weight in enumerate(model.weights)}


def assert_close(found, expected, rounding):
    """Equal but for what adding float32 numbers in another order makes of them."""
    assert found.keys() == expected.keys() and len(found) > 40
    for name, value in expected.items():
        scale = max(np.abs(value).max(), 1e-3)
        np.testing.assert_allclose(found[name] / scale, value / scale, rtol=0, atol=rounding, err_msg=name)


@pytest.mark.slow
def test_two_devices_train_as_one(records, two_replicas):
    """With oneDNN, one run in several has other gradients of conv1 and res2, by up to a few percent; why is open."""
    params = params_of(settings(records))
    one = trained(params, tf.distribute.get_strategy(), 4)
    two = trained(params, two_replicas, 4)
    assert_close(two, one, 3e-4)  # without synchronised norms or dropout: 1


@pytest.mark.slow
def test_two_workers_train_videos_as_one(launched, records, tmp_path):
    """With dropout, synchronised norms, records in an order of their own, and the best checkpoint kept."""
    log, steps = tmp_path / "log", {"train_steps": 4, "steps_per_loop": 1, "summary_interval": 1}
    steps |= {"checkpoint_interval": 4, "validation_interval": 2}
    values = {**settings(records), **{f"trainer.{key}": value for key, value in steps.items()}}
    for run, workers in (("one", 1), ("two", 2)):
        process = launched(run, "non_local_c2d_demo", "train_and_eval", workers, **values)
        assert process.wait() == 0, log.read_text()
        assert (tmp_path / run / "best" / "info.json").exists()
    ((one,), (first, second)) = ends(tmp_path / "one_end"), ends(tmp_path / "two_end")
    assert_same_bits(first, second)
    assert_close(first, one, 1e-2)  # rounding that has grown; see test_two_devices_train_as_one
    assert len(list((tmp_path / "two" / "train").glob("events*"))) == 1


@pytest.mark.slow
def test_a_lost_worker_stops_the_others_and_leaves_no_trace(launched, tmp_path):
    log = tmp_path / "log"
    values = {"trainer.train_steps": 300, "trainer.checkpoint_interval": 10, "task.seconds": 0.03}
    assert launched("whole", **values).wait() == 0, log.read_text()
    for victim, step in ((1, 20), (0, 60)):
        process = launched("killed", **values)
        wait_for(process, log, rf"worker 0 \| train +{step}/300")
        os.kill(pid_of(process, victim), signal.SIGKILL)
        assert process.wait(150) == 137, log.read_text()
        printed, other = log.read_text(), f"worker {1 - victim}"
        assert f"worker {victim} was the first to end, with exit code 137" in printed
        assert re.search(rf"{other} \| {other} of 2 stops, another one is gone \(.*\): see", printed), printed
        assert "Traceback" not in printed
    assert launched("killed", **values).wait() == 0, log.read_text()
    assert re.search(r"worker 0 \| going on from step [1-9]\d+ of 300", log.read_text())
    (expected, _), killed = ends(tmp_path / "whole_end"), ends(tmp_path / "killed_end")
    for end in killed:
        assert_same_bits(end, expected)


@pytest.mark.slow
@pytest.mark.parametrize("asked", [0, 1])
def test_sigterm_to_one_worker_stops_all_at_the_same_step(launched, tmp_path, asked):
    log = tmp_path / "log"
    process = launched("run", **{"trainer.train_steps": 10_000, "task.seconds": 0.02})
    wait_for(process, log, r"train +20/")
    os.kill(pid_of(process, asked), signal.SIGTERM)
    assert process.wait() == 143, log.read_text()
    printed = log.read_text()
    saved = re.search(r"worker 0 \| stopped by SIGTERM at step (\d+) of 10000, saved as (\S+): run", printed)
    assert saved and tf.train.latest_checkpoint(str(tmp_path / "run")) == saved[2]
    assert f"worker 1 | stopped by SIGTERM at step {saved[1]} of 10000, saved by the first worker: run" in printed
    assert "Traceback" not in printed
    first, second = ends(tmp_path / "run_end")
    assert_same_bits(first, second)
    end = int(saved[1]) + 10
    assert launched("run", **{"trainer.train_steps": end}).wait() == 0, log.read_text()
    assert f"going on from step {saved[1]} of {end}" in log.read_text()
    assert launched("whole", **{"trainer.train_steps": end}).wait() == 0, log.read_text()
    assert_same_bits(ends(tmp_path / "run_end")[0], ends(tmp_path / "whole_end")[0])


@pytest.mark.slow
def test_a_worker_that_stands_still_is_noticed(launched, tmp_path):
    process = launched("run", **{"trainer.train_steps": 100_000, "task.seconds": 0.02})
    wait_for(process, tmp_path / "log", r"train +20/")
    os.kill(pid_of(process, 1), signal.SIGSTOP)
    assert process.wait(300) == 75, "by heartbeats, and the one that stands still is killed a minute later"
    assert "worker 0 of 2 stops, another one is gone" in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_workers_that_disagree_are_told(launched, tmp_path, monkeypatch):
    """Folders that they do not share: one would go on from a checkpoint, the other from nothing."""
    assert launched("run", workers=1, **{"trainer.train_steps": 5}).wait() == 0
    addresses, running = cluster._free_addresses(2), []
    for index, run in enumerate(("run", "elsewhere")):
        monkeypatch.setenv("TF_CONFIG", cluster._text(addresses, index))
        running.append(launched(run, workers=1, **{"trainer.train_steps": 10}))
    assert [process.wait(300) for process in running] == [1, 1]
    expected = "the last checkpoint's step is 5 on the first worker, and not on all: give all of them the same --model_"
    assert expected in (tmp_path / "log").read_text()
