"""The folder of a training run: one training at a time, and what is remembered of the run beside its checkpoints."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator

import tensorflow as tf
import yaml
from official.core import config_definitions as cfg
from official.core import train_utils
from official.modeling import hyperparams

from keras_nonlocal import errors, files

LOCK = "training.lock"
PARAMS = "params.yaml"
EVALUATION = "last_evaluation.json"
SURROUNDINGS = "surroundings.json"

# What changes the numbers of a run that goes on, beside the seed.
EXACT = (
    "task.train_data.global_batch_size",
    "task.train_data.input_path",
    "runtime.mixed_precision_dtype",
    "runtime.enable_xla",
)


def is_local(path: str) -> bool:
    """Whether a path is on a file system: others (gs://...) have no locks, and their files appear whole anyway."""
    return "://" not in path


@contextlib.contextmanager
def locked(model_dir: str) -> Iterator[None]:
    """Makes the folder, and keeps it from other trainings until the context or the process ends, however it ends.

    Raises:
      UserError: if another training is in it, or it cannot be written to.
    """
    path = os.path.join(model_dir, LOCK)
    try:
        tf.io.gfile.makedirs(model_dir)
        if not is_local(model_dir):
            yield
            return
        file = open(path, "a")
    except (OSError, tf.errors.OpError) as error:
        raise errors.UserError(
            f"--model_dir {model_dir} cannot be written to ({errors.first_line(error)}): give another one."
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise errors.UserError(
                f"another training is running in --model_dir {model_dir}: wait for it, stop it, or give another folder."
            ) from error
        yield


def remembered(model_dir: str) -> dict:
    """The configuration that the folder's run was last started with, empty for a new folder.

    Raises:
      UserError: if it cannot be read.
    """
    path = os.path.join(model_dir, PARAMS)
    if not tf.io.gfile.exists(path):
        return {}
    try:
        return hyperparams.read_yaml_to_params_dict(path).as_dict()
    except (yaml.YAMLError, ValueError, TypeError, AttributeError) as error:
        raise errors.UserError(
            f"{path} is damaged ({errors.first_line(error)}): remove it, and name --seed if the run had one."
        ) from error


def remember(params: cfg.ExperimentConfig, model_dir: str, replicas: int) -> None:
    """Writes the configuration as params.yaml, and beside it what else a run that goes on is compared in."""
    # tfm writes into a folder, and straight under the name.
    aside = os.path.join(model_dir, f".{PARAMS}.tmp-{os.getpid()}")
    try:
        train_utils.serialize_config(params, aside)
        tf.io.gfile.rename(os.path.join(aside, PARAMS), os.path.join(model_dir, PARAMS), overwrite=True)
    except tf.errors.OpError as error:
        raise cannot_write(model_dir, error) from error
    finally:
        remove(aside)
    write_text(os.path.join(model_dir, SURROUNDINGS), json.dumps(_surroundings(replicas), indent=1) + "\n")


def _surroundings(replicas):
    return {"replicas": replicas, "tensorflow": tf.__version__}


def changes(model_dir: str, params: cfg.ExperimentConfig, replicas: int) -> list[str]:
    """What makes a run that goes on another one than if nothing had been changed, each as "name was a and is b"."""
    before, now = remembered(model_dir), params.as_dict()
    names = (*EXACT, "task.train_data.seed") if before else ()
    pairs = [(name, _value(before, name), _value(now, name)) for name in names]
    surroundings = _read_json(os.path.join(model_dir, SURROUNDINGS))
    pairs += [(name, surroundings.get(name, new), new) for name, new in _surroundings(replicas).items()]
    return [f"{name} was {old!r} and is {new!r}" for name, old, new in pairs if old != new]


def _value(params, name):
    for key in name.split("."):
        params = params.get(key) if isinstance(params, dict) else None
    return list(params) if isinstance(params, tuple) else params


def seed_of(before: dict) -> int | None:
    """The seed in a configuration that was remembered."""
    return _value(before, "task.train_data.seed")


def last_evaluation(model_dir: str) -> dict[str, float]:
    """The metrics and the step of the run's last evaluation, empty if there was none."""
    return _read_json(os.path.join(model_dir, EVALUATION))


def _read_json(path):
    if not tf.io.gfile.exists(path):
        return {}
    with tf.io.gfile.GFile(path) as file:
        return json.load(file)


def remember_evaluation(metrics: dict[str, float], model_dir: str) -> None:
    """Keeps the metrics and the step of an evaluation."""
    write_text(os.path.join(model_dir, EVALUATION), json.dumps(metrics, indent=1) + "\n")


def write_text(path: str, text: str) -> None:
    """Writes a whole file of text beside the checkpoints."""
    try:
        if is_local(path):
            files.write_text(path, text)
        else:
            with tf.io.gfile.GFile(path, "w") as file:
                file.write(text)
    except (OSError, tf.errors.OpError) as error:
        raise cannot_write(os.path.dirname(path), error) from error


def cannot_write(model_dir: str, error: Exception) -> errors.UserError:
    """The disk is full, or something like it."""
    return errors.UserError(
        f"{model_dir} cannot be written to ({errors.first_line(error)}): make room there and run the same command "
        "again, it goes on from the last checkpoint."
    )


def sweep(model_dir: str) -> None:
    """Removes what a killed process had begun to write. Only under the lock: nobody else is writing."""
    for pattern in (".*.tmp-*", "*/.*.tmp-*"):
        for path in tf.io.gfile.glob(os.path.join(model_dir, pattern)):
            remove(path)


def remove(path: str) -> None:
    """Removes a file or a folder, if it is there."""
    with contextlib.suppress(tf.errors.NotFoundError):
        tf.io.gfile.rmtree(path) if tf.io.gfile.isdir(path) else tf.io.gfile.remove(path)
