"""Damaged checkpoints are passed over, and files get their names when they are whole."""

import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from keras_nonlocal import errors
from keras_nonlocal.tfm import train
from keras_nonlocal.tfm.runs import checkpoints


@pytest.fixture
def saved(tmp_path):
    """A folder with checkpoints of the steps 1 to 3, whose weights are their step."""
    step, weights = tf.Variable(0, dtype=tf.int64), tf.Variable(tf.zeros([300]))
    checkpoint = checkpoints.WholeCheckpoint(global_step=step, model=weights)
    manager = checkpoints.Manager(checkpoint, None, directory=str(tmp_path), max_to_keep=5)
    for number in (1, 2, 3):
        step.assign(number)
        weights.assign(tf.fill([300], float(number)))
        manager.save(checkpoint_number=number)
    return tmp_path


def cut(folder, step):
    path = folder / f"ckpt-{step}.data-00000-of-00001"
    path.write_bytes(path.read_bytes()[:-600])


def flip(folder, step):
    path = folder / f"ckpt-{step}.data-00000-of-00001"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_index(folder, step):
    path = folder / f"ckpt-{step}.index"
    path.write_bytes(path.read_bytes()[:20])


def lose_index(folder, step):
    (folder / f"ckpt-{step}.index").unlink()


def lose_data(folder, step):
    (folder / f"ckpt-{step}.data-00000-of-00001").unlink()


DAMAGES = [cut, flip, cut_index, lose_index, lose_data]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(saved, damage, capsys):
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    damage(saved, 3)
    damaged = {path.name: path.read_bytes() for path in saved.iterdir() if path.name.startswith("ckpt-3")}
    # Who only reads leaves the files where they are.
    assert train.latest_checkpoint(str(saved)) == f"{saved}/ckpt-2"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"checkpoint {saved}/ckpt-3 is damaged (") and line.endswith("the one before is taken")
    assert damaged.keys() < {path.name for path in saved.iterdir()}

    said = []
    path = checkpoints.newest(str(saved), said.append, set_aside=True)
    assert path == f"{saved}/ckpt-2" == tf.train.latest_checkpoint(str(saved)) and checkpoints.step_of(path) == 2
    assert len(said) == 1 and said[0].endswith("is taken; its files are set aside as damaged-*")
    assert {name: (saved / f"damaged-{name}").read_bytes() for name in damaged} == damaged
    assert not list(saved.glob("ckpt-3*"))
    for name in ("ckpt-1.index", "ckpt-2.data-00000-of-00001"):
        assert (saved / name).read_bytes() == before[name]
    # A run that goes on restores it, saves the step again and sweeps as before.
    step, weights = tf.Variable(0, dtype=tf.int64), tf.Variable(tf.zeros([300]))
    checkpoint = checkpoints.WholeCheckpoint(global_step=step, model=weights)
    manager = checkpoints.Manager(checkpoint, path, directory=str(saved), max_to_keep=2)
    assert manager.restore_or_initialize() == path and set(weights.numpy()) == {2.0}
    manager.save(checkpoint_number=3)
    assert [os.path.basename(each) for each in manager.checkpoints] == ["ckpt-2", "ckpt-3"]
    # The same damage once more finds another name.
    damage(saved, 3)
    checkpoints.newest(str(saved), said.append, set_aside=True)
    assert len(list(saved.glob("damaged2-ckpt-3.*"))) == len(damaged)


def test_all_damaged_is_an_error(saved):
    for step, damage in ((1, flip), (2, lose_index), (3, cut)):
        damage(saved, step)
    names = {path.name for path in saved.iterdir()}
    with pytest.raises(errors.UserError, match="no checkpoint in .* can be read, all 3 are damaged: train anew in"):
        checkpoints.newest(str(saved), lambda line: None, set_aside=True)
    assert names == {path.name for path in saved.iterdir()}


@pytest.mark.parametrize("content", [None, "", "garbage {"])
def test_without_the_file_that_names_them_they_are_found(saved, content):
    (saved / "checkpoint").unlink()
    if content is not None:
        (saved / "checkpoint").write_text(content)
    lose_index(saved, 3)
    assert checkpoints.newest(str(saved), pytest.fail) == f"{saved}/ckpt-2"


def test_an_evaluation_restores_what_was_found(saved):
    cut(saved, 3)
    weights = tf.Variable(tf.zeros([300]))
    checkpoint = checkpoints.WholeCheckpoint(model=weights)
    manager = checkpoints.Manager(checkpoint, f"{saved}/ckpt-2", directory=str(saved), max_to_keep=5)
    assert manager.latest_checkpoint == f"{saved}/ckpt-3"
    manager.restore_or_initialize()
    assert set(weights.numpy()) == {2.0}


def test_the_format_is_tensorflows(saved):
    weights = tf.Variable(tf.zeros([300]))
    tf.train.Checkpoint(model=weights).read(f"{saved}/ckpt-3").expect_partial().assert_existing_objects_matched()
    np.testing.assert_array_equal(weights, np.full(300, 3))
    assert sorted(path.name for path in saved.iterdir()) == [
        "checkpoint", *(f"ckpt-{n}.{ending}" for n in (1, 2, 3) for ending in ("data-00000-of-00001", "index"))
    ]  # fmt: skip


def test_a_full_disk_leaves_no_half_written_file(small_disk, tmp_path):
    folder = tmp_path / "disk"
    weights = tf.Variable(tf.zeros([2000]))
    checkpoint = checkpoints.WholeCheckpoint(model=weights)
    manager = checkpoints.Manager(checkpoint, None, directory=str(folder), max_to_keep=9)
    with pytest.raises(errors.UserError, match="cannot be written to .*: make room there and run the same command"):
        for number in range(1, 9):
            manager.save(checkpoint_number=number)
    assert 1 < number < 9
    state = tf.train.get_checkpoint_state(str(folder))
    assert state.model_checkpoint_path.endswith(f"ckpt-{number - 1}")
    for path in folder.glob("*.index"):
        assert checkpoints.damage(str(path)[: -len(".index")]) is None
    assert not [path for path in folder.iterdir() if "tmp" in path.name]


def test_what_is_said_of_the_best_is_written_after_it(tmp_path):
    best = checkpoints.BestCheckpoint(str(tmp_path / "best"), "accuracy", "higher")
    checkpoint = checkpoints.WholeCheckpoint(model=tf.Variable(1.0))
    assert best.maybe_export_checkpoint(checkpoint, {"accuracy": tf.constant(0.5), "map": {}}, 10)
    first = (pathlib.Path(best.best_ckpt_logs_path).read_text(), best.best_ckpt_path)
    again = checkpoints.BestCheckpoint(str(tmp_path / "best"), "accuracy", "higher")
    assert not again.maybe_export_checkpoint(checkpoint, {"accuracy": 0.5}, 20)
    assert (pathlib.Path(best.best_ckpt_logs_path).read_text(), best.best_ckpt_path) == first

    class Killed(Exception):
        pass

    def die(*_, **__):
        raise Killed

    checkpoint.save = checkpoint._write = die
    with pytest.raises(Killed):
        again.maybe_export_checkpoint(checkpoint, {"accuracy": 0.9}, 30)
    assert pathlib.Path(best.best_ckpt_logs_path).read_text() == first[0]
