"""What a training remembers, refuses, notices and shows; how it ends by signals is in test_stopping."""

import fcntl
import os
import pathlib

import pytest
import sums  # noqa: F401  (registers the experiment)
import tensorflow as tf
import tf_keras
from official.core import exp_factory

from keras_nonlocal import errors
from keras_nonlocal.demo import curves
from keras_nonlocal.tfm import train
from keras_nonlocal.tfm.runs import divergence


def run(folder, mode="train", seed=None, **settings):
    params = exp_factory.get_exp_config("sums")
    for name, value in settings.items():
        for key in reversed(name.split("__")):
            value = {key: value}
        params.override(value)
    return train.run(params, mode, str(folder), seed)


def seed_of(folder):
    return train.load_experiment("sums", str(folder)).task.train_data.seed


def test_the_seed_is_kept_and_changes_are_told(tmp_path, capsys):
    folder = tmp_path / "run"
    run(folder, trainer__train_steps=5)
    seed = seed_of(folder)
    assert isinstance(seed, int) and f"a new run, seed {seed}" in capsys.readouterr().out
    run(folder, trainer__train_steps=7)
    printed = capsys.readouterr()
    assert f"going on from step 5 of 7, {folder}/ckpt-5, seed {seed}" in printed.out and seed_of(folder) == seed
    assert "not the same run" not in printed.err
    run(folder, trainer__train_steps=9, seed=seed + 1, task__train_data__global_batch_size=4)
    assert (
        "not the same run as without the change: task.train_data.global_batch_size was 8 and is 4, "
        f"task.train_data.seed was {seed} and is {seed + 1}" in capsys.readouterr().err
    )
    run(tmp_path / "other", trainer__train_steps=5)
    assert seed_of(tmp_path / "other") != seed


def test_a_damaged_newest_checkpoint_is_trained_again(tmp_path, capsys):
    folder = tmp_path / "run"
    run(folder, seed=3)
    whole = tf.train.load_checkpoint(f"{folder}/ckpt-20")
    data = folder / "ckpt-20.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-100])
    with pytest.raises(Exception):  # noqa: B017  (whichever: it cannot be read)
        [whole.get_tensor(name) for name in whole.get_variable_to_shape_map()]
    assert run(folder, "eval")["step"] == 15, "an evaluation takes the one before, and leaves the files"
    assert data.exists()
    capsys.readouterr()
    run(folder, seed=3)
    printed = capsys.readouterr()
    assert f"going on from step 15 of 20, {folder}/ckpt-15" in printed.out
    assert f"checkpoint {folder}/ckpt-20 is damaged" in printed.err and (folder / f"damaged-{data.name}").exists()
    assert train.latest_checkpoint(str(folder)) == f"{folder}/ckpt-20"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "the loss is nan at step 12; "),
        ({"task__explosion": 1e6}, r"the loss is \d.*e\+1\d at step 12; "),
    ],
    ids=["nan", "explosion"],
)
def test_a_training_that_diverges_stops_and_saves_nothing_of_it(tmp_path, settings, message):
    # The mean of the loop would be an explosion at the end of step 15.
    with pytest.raises(errors.UserError, match=f"has diverged, {message}the last good checkpoint is .*: lower the"):
        run(tmp_path, "train_and_eval", task__bad_step=12, trainer__checkpoint_interval=1, **settings)
    assert tf.train.latest_checkpoint(str(tmp_path)) == f"{tmp_path}/ckpt-10"


def test_weights_of_no_number_are_seen_before_the_loss_shows_them():
    model = tf_keras.Sequential([tf_keras.layers.BatchNormalization(input_shape=(3,))])
    divergence.check(None, model, 12, None)
    model.layers[0].moving_variance.assign([1.0, float("inf"), 1.0])
    with pytest.raises(errors.UserError, match="weights are not finite after step 12; no checkpoint had been saved"):
        divergence.check(None, model, 12, None)


def test_one_training_at_a_time(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with open(folder / "training.lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(errors.UserError, match=f"another training is running in --model_dir {folder}: wait for"):
            run(folder)
    assert os.listdir(folder) == ["training.lock"]
    run(folder, trainer__train_steps=5)


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.UserError, match="--model_dir .*/file/run cannot be written to .*: give another one"):
        run(tmp_path / "file" / "run")


def test_a_cut_params_file_is_named(tmp_path):
    run(tmp_path, trainer__train_steps=5)
    path = pathlib.Path(tmp_path / "params.yaml")
    path.write_text("task: {")
    with pytest.raises(errors.UserError, match="params.yaml is damaged .*: remove it, and name --seed"):
        run(tmp_path)


def test_tensorboard_shows_speed_and_waiting(tmp_path):
    run(tmp_path, task__seconds=0.03)
    steps, shares = curves.read(f"{tmp_path}/train", "waiting_for_data")
    assert steps == [10, 15, 20] and all(0 < share <= 1 for share in shares)
    for name in ("training_loss", "learning_rate", "steps_per_second"):
        assert curves.read(f"{tmp_path}/train", name)[0] == [5, 10, 15, 20]
    steps, rates = curves.read(f"{tmp_path}/train", "examples_per_second")
    assert steps == [10, 15, 20] and all(rate > 0 for rate in rates)
