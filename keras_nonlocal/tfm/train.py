"""Training and evaluation with tfm's train_lib: what `training/train.py` calls."""

import contextlib
import os
import sys
import time

import tensorflow as tf
import tf_keras
from official.common import distribute_utils
from official.core import exp_factory, task_factory, train_lib, train_utils
from official.modeling import hyperparams, performance

from keras_nonlocal import errors
from keras_nonlocal.analysis import cost
from keras_nonlocal.tfm import experiments
from keras_nonlocal.tfm.tasks import video_input

# What an evaluation prints of COCO's metrics.
DETECTION_METRICS = ("AP", "AP50", "AP75", "mask_AP", "mask_AP50", "mask_AP75")


def parse_experiment(flags):
    """The locked experiment of tfm's flags --experiment, --config_file and --params_override.

    Raises:
      UserError: for an experiment, a file or a key that does not exist.
    """
    for path in flags.config_file or []:
        if not tf.io.gfile.exists(path):
            raise errors.UserError(f"--config_file {path} does not exist.")
    _base_experiment(flags.experiment)
    try:
        return train_utils.parse_configuration(flags)
    except (KeyError, ValueError) as error:
        raise errors.UserError(f"the configuration of experiment {flags.experiment!r} is refused: {error}") from error


def load_experiment(experiment, model_dir):
    """The experiment that a model was trained with, from its params.yaml.

    Raises:
      UserError: if there is none.
    """
    path = os.path.join(model_dir, "params.yaml")
    if not tf.io.gfile.exists(path):
        raise errors.UserError(f"{path} does not exist: give the --model_dir of a training run.")
    return hyperparams.override_params_dict(_base_experiment(experiment), path, is_strict=True)


def _base_experiment(name):
    try:
        return exp_factory.get_exp_config(name)
    except LookupError as error:
        raise errors.UserError(
            f"--experiment {name} is not registered: choose one of {', '.join(experiments.NAMES)}, one "
            "that `python -m training.tables` lists, or one of tf-models-official's own."
        ) from error


def latest_checkpoint(model_dir):
    """The newest checkpoint below model_dir. Raises UserError if there is none."""
    path = tf.train.latest_checkpoint(model_dir)
    if not path:
        raise errors.UserError(f"{model_dir} holds no checkpoint: train first, with this --model_dir.")
    return path


def run(params, mode, model_dir, seed=None, save_summary=True):
    """Trains, evaluates or both, and prints how it goes.

    A run that was cut off goes on from its last checkpoint when it is started again with the same model_dir.

    Args:
      params: an ExperimentConfig.
      mode: "train", "eval" or "train_and_eval".
      model_dir: where checkpoints, TensorBoard logs and params.yaml are.
      seed: of initial weights and of what is drawn while training; None draws anew each time.
      save_summary: whether TensorBoard gets the scalars. Default True.

    Returns:
      The metrics of the last evaluation as a dict of floats; empty for "train".

    Raises:
      UserError: for data that is not there or does not fit the configuration.
    """
    if seed is not None:
        tf_keras.utils.set_random_seed(seed)
    _check_data(params, mode)
    if "train" not in mode:
        latest_checkpoint(model_dir)
    # Grappler's remapper stumbles over the gradient of a padded convolution, gives up and says so on the console.
    tf.config.optimizer.set_experimental_options({"remapping": False})
    if params.runtime.mixed_precision_dtype:
        performance.set_mixed_precision_policy(params.runtime.mixed_precision_dtype)
    strategy = distribute_utils.get_distribution_strategy(
        distribution_strategy=params.runtime.distribution_strategy,
        all_reduce_alg=params.runtime.all_reduce_alg,
        num_gpus=params.runtime.num_gpus,
        tpu_address=params.runtime.tpu,
    )
    metrics = {}
    task, trainer = _build(params, mode, model_dir, strategy)
    if "train" in mode:
        train_utils.serialize_config(params, model_dir)
    _print_start(params, mode, model_dir, trainer, strategy)
    console = sys.stdout
    try:
        # Orbit prints its log besides logging it, several lines a step and without the time left: ours takes its place.
        with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet):
            train_lib.run_experiment(
                distribution_strategy=strategy,
                task=task,
                mode=mode,
                params=params,
                model_dir=model_dir,
                trainer=trainer,
                save_summary=save_summary,
                train_actions=[_TrainProgress(trainer.global_step, params.trainer.train_steps, console)],
                eval_actions=[_EvalProgress(trainer.global_step, metrics, console)],
            )
    except tf.errors.DataLossError as error:
        raise errors.UserError(
            f"a file of task.*_data.input_path is not a whole TFRecord file ({errors.first_line(error)}): let it match "
            "*.tfrecord files only, and write a damaged one again with training/prepare_videos.py."
        ) from error
    except tf.errors.InvalidArgumentError as error:
        if video_input.LABEL_ERROR in error.message:
            raise errors.UserError(
                f"task.*_data.num_classes is {params.task.train_data.num_classes}, but in the records "
                f"{_own_words(error, video_input.LABEL_ERROR)}: set it to the number of lines of labels.txt beside the "
                "records."
            ) from error
        for words in (video_input.FRAME_ERROR, "Invalid JPEG data"):
            if words in error.message:
                raise errors.UserError(
                    f"the records of task.*_data.input_path cannot be decoded, {_own_words(error, words)}: write them "
                    "again with training/prepare_videos.py."
                ) from error
        raise
    return metrics


def _build(params, mode, model_dir, strategy):
    # tfm's Mask R-CNN writes there when it is built.
    is_new = not tf.io.gfile.exists(model_dir)
    tf.io.gfile.makedirs(model_dir)
    with strategy.scope():
        task = task_factory.get_task(params.task, logging_dir=model_dir)
        try:
            trainer = train_utils.create_trainer(
                params,
                task,
                train="train" in mode,
                evaluate="eval" in mode,
                checkpoint_exporter=train_lib.maybe_create_best_ckpt_exporter(params, model_dir),
            )
        except ValueError as error:
            if is_new:
                tf.io.gfile.rmtree(model_dir)
            raise errors.UserError(f"the configuration cannot be built: {errors.first_line(error)}") from error
    return task, trainer


def _check_data(params, mode):
    wanted = {"train": params.task.train_data, "eval": params.task.validation_data}
    for part, data in wanted.items():
        if part in mode and not data.tfds_name and not _matches(data.input_path):
            key = "train_data" if part == "train" else "validation_data"
            raise errors.UserError(
                f"task.{key}.input_path {data.input_path!r} matches no file: write the records with "
                "training/prepare_videos.py, or correct it in --config_file or --params_override."
            )


def _matches(input_path):
    patterns = input_path.split(",") if isinstance(input_path, str) else input_path or []
    return all(pattern and tf.io.gfile.glob(pattern) for pattern in patterns)


def _print_start(params, mode, model_dir, trainer, strategy):
    print(
        f"{mode}: {_size(trainer.model, params.task)}; {strategy.num_replicas_in_sync} replica(s), in {model_dir} "
        f"(curves: tensorboard --logdir={model_dir})",
        flush=True,
    )
    checkpoint = tf.train.latest_checkpoint(model_dir)
    if checkpoint and "train" in mode:
        step = train_utils.read_global_step_from_checkpoint(checkpoint)
        print(f"going on from step {step} of {params.trainer.train_steps}, {checkpoint}", flush=True)


def _size(model, task):
    """Parameters and what one example of training costs, if it is known how large that is."""
    try:
        return str(cost.cost(model, getattr(task.train_data, "feature_shape", None)))
    except ValueError:
        return f"{model.count_params():,} parameters"


class _TrainProgress:
    """Prints step, loss, accuracy, rate and the time left after every loop of steps."""

    def __init__(self, global_step, train_steps, console):
        self._global_step = global_step
        self._train_steps = train_steps
        self._console = console
        self._last = None

    def __call__(self, output):
        step, now = int(self._global_step.numpy()), time.monotonic()
        values = _floats(output)
        line = f"train {step:>7}/{self._train_steps}" + shown(values)
        if self._last:
            # The first loop also builds the graph: its rate says nothing.
            rate = (step - self._last[0]) / (now - self._last[1])
            left = round((self._train_steps - step) / rate)
            line += f"  {rate:.2f} steps/s  ETA {left // 3600}:{left // 60 % 60:02}:{left % 60:02}"
        self._last = step, now
        print(line, file=self._console, flush=True)


class _EvalProgress:
    """Prints and keeps the metrics of an evaluation."""

    def __init__(self, global_step, metrics, console):
        self._global_step = global_step
        self._metrics = metrics
        self._console = console

    def __call__(self, output):
        self._metrics.update(_floats(output), step=int(self._global_step.numpy()))
        print(f"eval  {self._metrics['step']:>7}" + shown(self._metrics), file=self._console, flush=True)


def _floats(output):
    values = {name: float(value) for name, value in output.items() if not isinstance(value, dict)}
    for old, new in (("training_loss", "loss"), ("validation_loss", "loss")):
        if old in values:
            values[new] = values.pop(old)
    return values


def shown(values):
    """Metrics as text, those that say most, each after two spaces."""
    if "AP" in values:  # of a detector, whose loss tfm does not compute in an evaluation
        return "".join(f"  {name} {values[name]:.4g}" for name in DETECTION_METRICS if name in values)
    names = ["loss", *sorted(name for name in values if "accuracy" in name or "precision" in name), "learning_rate"]
    return "".join(f"  {name} {values[name]:.4g}" for name in names if name in values)


def _own_words(error, start):
    """What an assertion says from there on, out of the graph's message."""
    line = error.message[error.message.find(start) :].split("\n")[0].split("'")[0]
    return line.replace("] [", " ").strip(" ]")
