"""Checkpoints that are whole under their name, the newest of them that can be read, and the best one."""

import json
import os
import re
from collections.abc import Callable

import orbit
import tensorflow as tf
from official.core import train_lib, train_utils

from keras_nonlocal import errors, files
from keras_nonlocal.tfm.runs import folder, workers

DAMAGED = "damaged"


def newest(model_dir: str, say: Callable[[str], None], set_aside: bool = False) -> str | None:
    """The newest checkpoint of a folder that can be read, every number of it.

    Args:
      model_dir: the folder.
      say: called with a line for each damaged one.
      set_aside: give damaged ones another name, and have the folder name only the others. Default False.

    Returns:
      Its path without ending, or None if the folder has no checkpoint.

    Raises:
      UserError: if there are some and none can be read.
    """
    paths, are_named = _newest_first(model_dir)
    for index, path in enumerate(paths):
        reason = damage(path)
        if reason is None:
            if set_aside and (index or not are_named):
                # Before the files move: a process killed in between leaves names that have files.
                _name_only(model_dir, [each for each in paths[index:] if tf.io.gfile.exists(f"{each}.index")])
                for each in paths[:index]:
                    _set_aside(each)
            return path
        older = "the one before is taken" if index + 1 < len(paths) else "there is none before it"
        aside = f"; its files are set aside as {DAMAGED}-*" if set_aside and index + 1 < len(paths) else ""
        say(f"checkpoint {path} is damaged ({reason}): {older}{aside}")
    if paths:
        raise errors.UserError(
            f"no checkpoint in {model_dir} can be read, all {len(paths)} are damaged: train anew in another folder, or "
            "remove them and the file named checkpoint to begin again in this one."
        )
    return None


def _newest_first(model_dir):
    """The paths of checkpoints, and whether the folder's own file names them."""
    try:
        state = tf.train.get_checkpoint_state(model_dir)
    except ValueError:  # an empty file
        state = None
    if state and state.model_checkpoint_path:
        others = [path for path in state.all_model_checkpoint_paths if path != state.model_checkpoint_path]
        return [state.model_checkpoint_path, *reversed(others)], True
    # Without the file that names them the run would start over in silence.
    found = [path.removesuffix(".index") for path in tf.io.gfile.glob(os.path.join(model_dir, "*ckpt-*.index"))]
    found = [path for path in found if not os.path.basename(path).startswith(DAMAGED)]
    return sorted(found, key=lambda path: int(re.search(r"-(\d+)$", path)[1]), reverse=True), False


def damage(path: str) -> str | None:
    """What is wrong with a checkpoint, None if every tensor can be read and has the checksum that was written."""
    try:
        reader = tf.train.load_checkpoint(path)
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    # A cut file is an IndexError, a flipped bit a DataLossError, a file that is gone a NotFoundError, cut tables are
    # others.
    except (tf.errors.OpError, IndexError, ValueError, RuntimeError) as error:
        return errors.first_line(error)
    return None


def differing(path: str, other: str) -> tuple[list[str], int]:
    """What two checkpoints of one training hold that is not the same bit for bit.

    Args:
      path: of one, without ending.
      other: of the other.

    Returns:
      The names of the tensors that differ, sorted, and how many there are: weights, what the optimizer keeps, the step.
    """
    readers = [tf.train.load_checkpoint(each) for each in (path, other)]
    # How often a run was saved depends on where it was stopped; what the objects are called is no number.
    names = {name for reader in readers for name in reader.get_variable_to_shape_map()}
    names = sorted(name for name in names if not name.startswith(("save_counter/", "_CHECKPOINTABLE_OBJECT_GRAPH")))
    held = [
        {name: reader.get_tensor(name).tobytes() for name in names if reader.has_tensor(name)} for reader in readers
    ]
    return [name for name in names if held[0].get(name) != held[1].get(name)], len(names)


def _name_only(model_dir, newest_first):
    """Writes what a CheckpointManager reads, with times later than the one up to which it keeps all for good."""
    names = [os.path.basename(path) for path in reversed(newest_first)]
    times = [tf.io.gfile.stat(f"{path}.index").mtime_nsec / 1e9 for path in reversed(newest_first)]
    lines = [f'model_checkpoint_path: "{names[-1]}"']
    lines += [f'all_model_checkpoint_paths: "{name}"' for name in names]
    lines += [f"all_model_checkpoint_timestamps: {time!r}" for time in times]
    lines += [f"last_preserved_timestamp: {min(times) - 1!r}"]
    folder.write_text(os.path.join(model_dir, "checkpoint"), "\n".join(lines) + "\n")


def _set_aside(path):
    directory, name = os.path.split(path)
    there = f"{DAMAGED}-{name}"
    count = 1
    while tf.io.gfile.glob(os.path.join(directory, f"{there}.*")):
        count += 1
        there = f"{DAMAGED}{count}-{name}"
    for file in tf.io.gfile.glob(f"{path}.*"):
        tf.io.gfile.rename(file, os.path.join(directory, there + file[len(path) :]))


def step_of(path: str | None) -> int:
    """The step that a checkpoint was saved at, 0 without one."""
    return int(train_utils.read_global_step_from_checkpoint(path)) if path else 0


class WholeCheckpoint(tf.train.Checkpoint):
    """A checkpoint whose files get their names when they are whole, and on disk.

    TensorFlow writes the index straight under its name, and forces nothing to disk.
    """

    def _write(self, file_prefix, options=None):
        # What a CheckpointManager calls: it has no public seam before it names the new checkpoint.
        path = str(file_prefix)
        if not folder.is_local(path):
            return super()._write(path, options)
        options = options or tf.train.CheckpointOptions()
        callbacks, options.experimental_write_callbacks = options.experimental_write_callbacks, None
        aside = files.temporary_path(path)
        name = os.path.basename(path)
        try:
            super()._write(os.path.join(aside, name), options)
            files.sync_tree(aside)
            # The index last: without it there is no checkpoint of that name.
            for file in sorted(os.listdir(aside), key=lambda each: each.endswith(".index")):
                os.replace(os.path.join(aside, file), os.path.join(os.path.dirname(path), file))
            files.sync(os.path.dirname(path))
            for callback in callbacks or ():
                callback(path)
        except (OSError, tf.errors.OpError) as error:
            # What each worker has its own of is averaged when it is saved.
            if workers.is_loss(error):
                raise
            raise folder.cannot_write(os.path.dirname(path), error) from error
        finally:
            folder.remove(aside)
        return path


class Manager(tf.train.CheckpointManager):
    """tfm's manager of a run's checkpoints, which starts from the one that was found to be whole.

    Args:
      checkpoint: what is saved.
      start: the path to restore; None starts anew.
      **settings: those of tf.train.CheckpointManager.
    """

    def __init__(self, checkpoint: tf.train.Checkpoint, start: str | None, **settings):
        super().__init__(checkpoint, **settings)
        self._start = start

    def restore_or_initialize(self):
        # An evaluation passes over a damaged one and leaves it where it is; the other workers of a run have folders of
        # their own, in which there is none.
        if self._start in (None, self.latest_checkpoint):
            return super().restore_or_initialize()
        self.checkpoint.restore(self._start)
        return self._start


class Runner(train_lib.OrbitExperimentRunner):
    """tfm's runner, whose checkpoints are managed by a Manager.

    Args:
      start: the checkpoint to start from, or None.
      directory: where they are saved.
      **settings: those of OrbitExperimentRunner.
    """

    def __init__(self, start: str | None, directory: str, **settings):
        self._start, self._directory = start, directory
        super().__init__(**settings)

    def _maybe_build_checkpoint_manager(self):
        return Manager(
            self.trainer.checkpoint,
            self._start,
            directory=self._directory,
            max_to_keep=self.params.trainer.max_to_keep,
            step_counter=self.trainer.global_step,
            checkpoint_interval=self.params.trainer.checkpoint_interval,
            init_fn=self.trainer.initialize,
        )


class BestCheckpoint(train_utils.BestCheckpointExporter):
    """tfm's keeper of the best checkpoint, which survives being killed: what it says of it is written after it."""

    def compare_with(self, export_dir: str) -> None:
        """Lets a checkpoint be the best only if it is better than that of another folder, which stays as it is."""
        path = os.path.join(export_dir, os.path.basename(self.best_ckpt_logs_path))
        if tf.io.gfile.exists(path):
            with tf.io.gfile.GFile(path) as file:
                self._best_ckpt_logs = json.load(file)

    def maybe_export_checkpoint(self, checkpoint, eval_logs, global_step, write_logs=True):
        is_best = super().maybe_export_checkpoint(checkpoint, eval_logs, global_step, write_logs=False)
        if is_best and write_logs:
            self.export_best_eval_metric(eval_logs, global_step)
        return is_best

    def export_best_eval_metric(self, eval_logs, global_step):
        scalars = {
            name: value for name, value in eval_logs.items() if not isinstance(value, dict) and tf.rank(value) == 0
        }
        logs = {name: float(orbit.utils.get_value(value)) for name, value in scalars.items()}
        logs["best_ckpt_global_step"] = float(global_step)
        folder.write_text(self.best_ckpt_logs_path, json.dumps(logs, indent=4) + "\n")
