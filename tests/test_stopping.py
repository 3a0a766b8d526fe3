"""Trainings that are interrupted, terminated and killed: how they end, and that nobody sees it in the weights."""

import pathlib
import random
import re
import signal
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

TESTS = pathlib.Path(__file__).parent
sys.path.append(str(TESTS.parent / "benchmarks"))

import killing  # noqa: E402
import zygote  # noqa: E402


@pytest.fixture(scope="module")
def commands():
    with zygote.Zygote("sums", path=str(TESTS)) as each:
        yield each


@pytest.fixture
def train(commands, tmp_path):
    """Starts trainings of `sums`, in tmp_path / run unless told otherwise."""

    def start(run="run", mode="train", seed=7, deterministic=False, **settings):
        overrides = ",".join(f"{key}={value}" for key, value in settings.items())
        return commands.start(
            "train", tmp_path / "log", register="sums", experiment="sums", mode=mode, model_dir=tmp_path / run,
            seed=seed, params_override=overrides, deterministic=deterministic,
        )  # fmt: skip

    return start


def wait_for(life, pattern):
    """What a life has printed when the pattern is in it."""
    while life.is_alive():
        if re.search(pattern, life.printed()):
            return
        time.sleep(0.02)
    raise AssertionError(life.printed())


def learned(folder):
    """The tensors that a run ended with: weights, what the optimizer keeps, and the step."""
    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(folder)))
    names = [name for name in reader.get_variable_to_shape_map() if not name.startswith(("_CHECK", "save_counter"))]
    assert len(names) > 8
    return {name: reader.get_tensor(name) for name in names}


def assert_same_bits(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], name)


@pytest.mark.parametrize("asked", [False, True])
def test_deterministic_is_set_before_the_model_is_made(train, asked):
    life = train(deterministic=asked)
    assert life.wait() == 0
    assert f"deterministic: {asked}\n" in life.printed()


SLOW = {"task.seconds": 0.02, "trainer.steps_per_loop": 10_000, "trainer.train_steps": 10_000}
SLOW |= {"trainer.summary_interval": 10_000}


def test_sigterm_saves_within_a_loop_and_the_rerun_ends_as_if_nothing_had_been(train, tmp_path):
    life = train(**SLOW)
    wait_for(life, "a new run, seed 7")
    time.sleep(1.5)  # somewhere in the loop or before it
    life.send(signal.SIGTERM)
    assert life.wait() == 143
    printed = life.printed()
    stopped = re.search(r"stopped by SIGTERM at step (\d+) of 10000, saved as (\S+): run the same command", printed)
    assert stopped and "Traceback" not in printed
    step = int(stopped[1])
    assert step < 9_000 and tf.train.latest_checkpoint(str(tmp_path / "run")) == stopped[2]
    assert learned(tmp_path / "run")["global_step/.ATTRIBUTES/VARIABLE_VALUE"] == step
    settings = {"trainer.train_steps": step + 7}
    life = train(seed=7, mode="train_and_eval", **settings)
    assert life.wait() == 0 and f"going on from step {step} of {step + 7}, {stopped[2]}, seed 7" in life.printed()
    assert train("whole", **settings).wait() == 0
    assert_same_bits(learned(tmp_path / "run"), learned(tmp_path / "whole"))


def test_ctrl_c_leaves_an_evaluation_which_the_rerun_does(train, tmp_path):
    settings = {"trainer.train_steps": 10, "trainer.checkpoint_interval": 100}
    life = train(mode="train_and_eval", **settings, **{"task.seconds": 0.8})
    wait_for(life, "train +10/10")
    life.send(signal.SIGINT)
    assert life.wait() == 130
    printed = life.printed()
    assert "SIGINT: stopping after this step; Ctrl-C now ends it at once" in printed and "Traceback" not in printed
    assert "stopped by SIGINT at step 10 of 10, saved as" in printed and "eval " not in printed
    life = train(mode="train_and_eval", **settings)
    assert life.wait() == 0
    assert "going on from step 10 of 10" in life.printed() and "eval       10  loss" in life.printed()
    assert (tmp_path / "run" / "best" / "info.json").exists()
    life = train(mode="train_and_eval", **settings)
    assert life.wait() == 0 and "eval " not in life.printed(), "it has been done"


def test_a_second_ctrl_c_ends_at_once(train, tmp_path):
    life = train(**(SLOW | {"task.seconds": 30}))
    wait_for(life, "a new run")
    life.send(signal.SIGINT)
    wait_for(life, "SIGINT: stopping")
    life.send(signal.SIGINT)
    assert life.wait() == 130 and life.printed().splitlines()[-1] == "stopped at once"
    assert not list((tmp_path / "run").glob("*ckpt*"))


def test_killed_runs_end_with_the_weights_of_an_uninterrupted_one(train, tmp_path):
    settings = {"trainer.train_steps": 40, "trainer.steps_per_loop": 2, "trainer.checkpoint_interval": 4}
    settings |= {"trainer.summary_interval": 2, "trainer.validation_interval": 20}
    for step in (10, 26):
        life = train(**settings)
        wait_for(life, f"train +{step}/")
        life.send(signal.SIGKILL)
        assert life.wait() == -signal.SIGKILL
    assert train(**settings).wait() == 0
    # Evaluations in between change nothing.
    assert train("whole", mode="train_and_eval", **settings).wait() == 0
    assert_same_bits(learned(tmp_path / "run"), learned(tmp_path / "whole"))
    assert not list((tmp_path / "run").glob(".*tmp*"))


def test_a_full_disk_is_one_sentence_and_the_rerun_goes_on(train, small_disk, tmp_path):
    small_disk(200)
    life = train("disk/run", **{"trainer.train_steps": 300, "trainer.max_to_keep": 300})
    assert life.wait() == 1
    printed = life.printed()
    assert "Traceback" not in printed and "make room there and run the same command again" in printed.splitlines()[-1]
    step = int(tf.train.latest_checkpoint(str(tmp_path / "disk" / "run")).rsplit("-", 1)[1])
    small_disk(4000)
    life = train("disk/run", **{"trainer.train_steps": step + 5})
    assert life.wait() == 0 and f"going on from step {step} of {step + 5}" in life.printed()


@pytest.mark.slow
def test_kills_of_a_real_training_leave_no_trace(tmp_path):
    found = killing.kill(tmp_path, 4, random.Random(0))
    assert (found.kills, found.half_written, found.damaged) == (4, [], 0)
    assert max(found.lost) <= killing.SAVE_EVERY
    assert found.divergences == []
