import multiprocessing
import os
import pathlib
import shutil
import signal
import threading
import time

import pytest
import tensorflow as tf

from keras_nonlocal.errors import UserError
from keras_nonlocal.serving import publish


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A SavedModel with a variable, as TensorFlow writes it."""

    class Scale(tf.Module):
        def __init__(self):
            super().__init__()
            self.factor = tf.Variable(2.0)

        @tf.function(input_signature=[tf.TensorSpec([None, 3], name="x")])
        def serve(self, x):
            return {"y": self.factor * x}

    path = tmp_path_factory.mktemp("saved") / "model"
    module = Scale()
    tf.saved_model.save(module, str(path), signatures=module.serve)
    return path


@pytest.fixture
def write(saved):
    return lambda path: shutil.copytree(saved, path, dirs_exist_ok=True)


def test_numbers_versions_from_one(tmp_path, write):
    base = tmp_path / "saved_models" / "clips"
    assert [publish.publish(write, base) for _ in range(2)] == [str(base / "1"), str(base / "2")]
    assert sorted(os.listdir(base)) == ["1", "2"]
    loaded = tf.saved_model.load(str(base / "2"))
    assert loaded.signatures["serving_default"](x=tf.ones([1, 3]))["y"].numpy().tolist() == [[2.0, 2.0, 2.0]]


def test_next_version_follows_the_highest(tmp_path, write):
    for name in ("00000007", "tmp", "0.5", "-3", "99999999999999999999"):
        (tmp_path / "clips" / name).mkdir(parents=True)
    assert publish.publish(write, tmp_path / "clips").endswith("/8")


def test_chosen_version(tmp_path, write):
    assert publish.publish(write, tmp_path / "clips", version=20240131).endswith("/20240131")


@pytest.mark.parametrize("existing", ["3", "003"])
def test_never_overwrites(tmp_path, write, existing):
    (tmp_path / "clips" / existing).mkdir(parents=True)
    with pytest.raises(UserError, match="version 3 exists already"):
        publish.publish(write, tmp_path / "clips", version=3)
    assert os.listdir(tmp_path / "clips") == [existing]
    assert not os.listdir(tmp_path / "clips" / existing)


@pytest.mark.parametrize("version", [0, -1, 2**63, "2", 1.0, True])
def test_bad_version(tmp_path, write, version):
    with pytest.raises(UserError, match="version must be an integer"):
        publish.publish(write, tmp_path / "clips", version=version)


def test_base_path_must_be_a_models_directory(tmp_path, saved, write):
    with pytest.raises(UserError, match="names a version"):
        publish.publish(write, tmp_path / "clips" / "3")
    with pytest.raises(UserError, match="is itself a SavedModel"):
        publish.publish(write, saved)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file"):
        publish.publish(write, tmp_path / "file")


def test_failing_write_leaves_nothing(tmp_path, write):
    def fail(path):
        write(path)
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        publish.publish(fail, tmp_path / "clips")
    assert os.listdir(tmp_path / "clips") == []


def test_broken_results_are_not_published(tmp_path, write):
    def truncate(path):
        write(path)
        index = os.path.join(path, "variables", "variables.index")
        os.truncate(index, os.path.getsize(index) // 2)

    with pytest.raises(UserError, match="no saved_model.pb"):
        publish.publish(lambda path: None, tmp_path / "clips")
    with pytest.raises(UserError, match="cannot be loaded for serving"):
        publish.publish(truncate, tmp_path / "clips")
    assert os.listdir(tmp_path / "clips") == []


def test_readers_never_see_a_partial_version(tmp_path, write):
    base = tmp_path / "clips"
    partial, done = [], threading.Event()

    def watch():
        while not done.is_set():
            for path in publish.versions(base).values():
                if not (path / "variables" / "variables.index").exists():
                    partial.append(path)

    def write_slowly(path):
        write(path)
        time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(5):
        publish.publish(write_slowly, base)
    done.set()
    watcher.join()
    assert not partial
    assert sorted(publish.versions(base)) == [1, 2, 3, 4, 5]


def test_publishers_at_the_same_time_get_versions_of_their_own(tmp_path, write):
    paths = []
    threads = [
        threading.Thread(target=lambda: paths.append(publish.publish(write, tmp_path / "clips"))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path[-1] for path in paths) == ["1", "2", "3", "4"]
    assert sorted(os.listdir(tmp_path / "clips")) == ["1", "2", "3", "4"]


def test_killed_publisher_leaves_no_version_and_its_rest_is_removed(tmp_path, write):
    base = tmp_path / "clips"
    reader, writer = os.pipe()

    def stay_in_the_middle(path):
        pathlib.Path(path, "saved_model.pb").write_bytes(b"half")
        os.write(writer, b"writing")
        time.sleep(60)

    # Of TensorFlow, whose threads a fork leaves behind, nothing runs in the child.
    process = multiprocessing.get_context("fork").Process(target=publish.publish, args=(stay_in_the_middle, base))
    process.start()
    try:
        assert os.read(reader, 7) == b"writing"
        (temp,) = os.listdir(base)
        # A live publisher's work is left alone.
        publish.publish(write, base)
        assert sorted(os.listdir(base)) == sorted([temp, "1"])
    finally:
        process.kill()
        process.join()
        os.close(reader)
        os.close(writer)
    assert process.exitcode == -signal.SIGKILL
    assert sorted(publish.versions(base)) == [1]
    publish.publish(write, base)
    assert sorted(os.listdir(base)) == ["1", "2"]


def test_others_may_read_what_is_published(tmp_path, write):
    previous = os.umask(0o022)
    try:
        path = publish.publish(write, tmp_path / "clips")
    finally:
        os.umask(previous)
    assert os.stat(path).st_mode & 0o777 == 0o755


class TestCheckServable:
    def test_refuses_a_keras_3_model_in_a_plain_module(self, tmp_path):
        keras = pytest.importorskip("keras")
        module = tf.Module()
        module.model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(2)])
        module.serve = tf.function(
            lambda x: {"y": module.model(x)}, input_signature=[tf.TensorSpec([None, 4], name="x")]
        )
        tf.saved_model.save(module, str(tmp_path / "plain"), signatures={"serving_default": module.serve})
        tf.saved_model.load(str(tmp_path / "plain"))  # Python sees nothing wrong
        with pytest.raises(UserError, match=r"'serving_default' .* would not load its variables .*dense\w*/bias"):
            publish.check_servable(tmp_path / "plain")
        module.model.export(str(tmp_path / "exported"), verbose=False)
        publish.check_servable(tmp_path / "exported")

    def test_wants_the_default_signature(self, tmp_path):
        module = tf.Module()
        module.serve = tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec([None], name="x")])
        tf.saved_model.save(module, str(tmp_path), signatures={"other": module.serve})
        with pytest.raises(UserError, match="no signature 'serving_default'; it has .*'other'"):
            publish.check_servable(tmp_path)

    def test_refuses_garbage(self, tmp_path):
        (tmp_path / "saved_model.pb").write_bytes(b"\xff" * 100)
        with pytest.raises(UserError, match="cannot be loaded for serving"):
            publish.check_servable(tmp_path)


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path, small_disk):
    class Large(tf.Module):
        def __init__(self):
            self.weights = tf.Variable(tf.random.normal([100, 1000]))

        @tf.function(input_signature=[tf.TensorSpec([None, 100], tf.float32)])
        def serve(self, x):
            return x @ self.weights

    module = Large()

    def write(directory):
        tf.saved_model.save(module, directory, signatures=module.serve)

    base = tmp_path / "disk" / "model"
    with pytest.raises(UserError, match="nothing was published.*make room"):
        publish.publish(write, base)
    assert list(base.iterdir()) == []
    small_disk(4000)
    assert publish.publish(write, base) == str(base / "1")
