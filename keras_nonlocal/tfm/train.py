"""Training and evaluation of any task with tfm's train_lib: what `keras-nonlocal train` calls."""

import contextlib
import os
import sys
import time

import tensorflow as tf
import tf_keras
from official.common import distribute_utils
from official.core import config_definitions as cfg
from official.core import exp_factory, task_factory, train_lib, train_utils
from official.modeling import hyperparams, performance

from keras_nonlocal import errors
from keras_nonlocal.analysis import cost
from keras_nonlocal.tfm import experiments
from keras_nonlocal.tfm import trainer as trainers
from keras_nonlocal.tfm.tasks import answers

# Where in the folder of a run its best checkpoint is kept, unless the configuration names another place.
BEST = "best"


def parse_experiment(flags) -> cfg.ExperimentConfig:
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


def load_experiment(experiment: str, model_dir: str) -> cfg.ExperimentConfig:
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
            f"--experiment {name} is not registered: choose one of {', '.join(experiments.NAMES)}, one that "
            "`keras-nonlocal tables` lists, one of tf-models-official's own, or one that a module of --register "
            "registers."
        ) from error


def latest_checkpoint(model_dir: str) -> str:
    """The newest checkpoint below model_dir. Raises UserError if there is none."""
    path = tf.train.latest_checkpoint(model_dir)
    if not path:
        raise errors.UserError(f"{model_dir} holds no checkpoint: train first, with this --model_dir.")
    return path


def run(
    params: cfg.ExperimentConfig, mode: str, model_dir: str, seed: int | None = None, save_summary: bool = True
) -> dict[str, float]:
    """Trains, evaluates or both, and prints how it goes.

    A run that was cut off goes on from its last checkpoint when it is started again with the same model_dir. When it
    both trains and evaluates, `model_dir/best` keeps the checkpoint that was best in its task's metric, or in that of
    the trainer's configuration.

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
    of_task = answers.of(params.task)
    _check_data(params.task, mode, of_task.records_from)
    params = _with_best_checkpoint(params, mode, of_task.best_metric)
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
    _print_start(params, mode, model_dir, trainer, strategy, of_task)
    console = sys.stdout
    try:
        # Orbit prints its log besides logging it, several lines a step and without the time left: ours takes its place.
        with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet):
            runner = train_lib.OrbitExperimentRunner(
                distribution_strategy=strategy,
                task=task,
                mode=mode,
                params=params,
                model_dir=model_dir,
                trainer=trainer,
                save_summary=save_summary,
                train_actions=[_TrainProgress(trainer.global_step, params.trainer.train_steps, of_task, console)],
                eval_actions=[_EvalProgress(trainer.global_step, metrics, of_task, console)],
            )
            if mode in ("train", "eval", "train_and_eval"):
                with strategy.scope():
                    _run_controller(runner.controller, mode, params.trainer)
            else:
                runner.run()
    except tf.errors.OpError as error:
        if message := of_task.explain(error):
            raise errors.UserError(message) from error
        raise
    return metrics


def _run_controller(controller, mode, trainer):
    """What the runner does in these modes, without the count of operations at its end.

    We have counted them, and TensorFlow's profiler writes lines on the console that no setting turns off.
    """
    if mode == "train":
        controller.train(steps=trainer.train_steps)
    elif mode == "eval":
        controller.evaluate(steps=trainer.validation_steps)
    else:
        controller.train_and_evaluate(
            train_steps=trainer.train_steps,
            eval_steps=trainer.validation_steps,
            eval_interval=trainer.validation_interval,
        )


def _build(params, mode, model_dir, strategy):
    # tfm's Mask R-CNN writes there when it is built.
    is_new = not tf.io.gfile.exists(model_dir)
    tf.io.gfile.makedirs(model_dir)
    with strategy.scope():
        task = task_factory.get_task(params.task, logging_dir=model_dir)
        try:
            trainer = train_utils.create_trainer(
                trainers.with_scaled_rate(params),
                task,
                train="train" in mode,
                evaluate="eval" in mode,
                checkpoint_exporter=train_lib.maybe_create_best_ckpt_exporter(params, model_dir),
                trainer_cls=trainers.Trainer,
            )
        except ValueError as error:
            if is_new:
                tf.io.gfile.rmtree(model_dir)
            raise errors.UserError(f"the configuration cannot be built: {errors.first_line(error)}") from error
    return task, trainer


def _with_best_checkpoint(params, mode, best_metric):
    """The configuration with what the best checkpoint is best in; a test keeps none."""
    trainer = params.trainer
    if mode == "eval":
        settings = {"best_checkpoint_export_subdir": ""}
    elif mode == "train" or trainer.best_checkpoint_eval_metric or best_metric is None:
        settings = {}
    else:
        metric, comparison = best_metric
        settings = {
            "best_checkpoint_export_subdir": trainer.best_checkpoint_export_subdir or BEST,
            "best_checkpoint_eval_metric": "validation_loss" if metric == "loss" else metric,
            "best_checkpoint_metric_comp": comparison,
        }
    params = params.replace(trainer=trainer.replace(**settings))
    params.lock()
    return params


def _check_data(task, mode, records_from):
    wanted = {"train": "train_data", "eval": "validation_data"}
    for part, key in wanted.items():
        data = getattr(task, key)
        if part in mode and not data.tfds_name and not _matches(data.input_path):
            raise errors.UserError(
                f"task.{key}.input_path {data.input_path!r} matches no file: write the records with {records_from}, or "
                "correct it in --config_file or --params_override."
            )


def _matches(input_path):
    patterns = input_path.split(",") if isinstance(input_path, str) else input_path or []
    return all(pattern and tf.io.gfile.glob(pattern) for pattern in patterns)


def _print_start(params, mode, model_dir, trainer, strategy, of_task):
    costs = cost_of_example(trainer.model, of_task.input_shape(params.task.train_data))
    print(
        f"{mode}: {costs or f'{parameters(trainer.model):,} parameters'}; "
        f"{strategy.num_replicas_in_sync} replica(s), in {model_dir} (curves: tensorboard --logdir={model_dir})",
        flush=True,
    )
    checkpoint = tf.train.latest_checkpoint(model_dir)
    if checkpoint and "train" in mode:
        step = train_utils.read_global_step_from_checkpoint(checkpoint)
        print(f"going on from step {step} of {params.trainer.train_steps}, {checkpoint}", flush=True)


def parameters(model: tf_keras.Model) -> int:
    """How many numbers a model learns, built or not: a RetinaNet's parts are built and it is not."""
    return sum(variable.shape.num_elements() for variable in model.trainable_variables)


def cost_of_example(model: tf_keras.Model, input_shape: tuple[int, ...] | None) -> cost.Cost | None:
    """What one example costs; None if it is more than an array, or the model cannot be walked through."""
    try:
        return None if input_shape is None else cost.cost(model, input_shape)
    except ValueError:
        return None


class _TrainProgress:
    """Prints step, loss, metrics, rate and the time left after every loop of steps."""

    def __init__(self, global_step, train_steps, of_task, console):
        self._global_step = global_step
        self._train_steps = train_steps
        self._of_task = of_task
        self._console = console
        self._last = None

    def __call__(self, output):
        step, now = int(self._global_step.numpy()), time.monotonic()
        line = f"train {step:>7}/{self._train_steps}" + _as_text(self._of_task, _floats(output))
        if self._last:
            # The first loop also builds the graph: its rate says nothing.
            rate = (step - self._last[0]) / (now - self._last[1])
            left = round((self._train_steps - step) / rate)
            line += f"  {rate:.2f} steps/s  ETA {left // 3600}:{left // 60 % 60:02}:{left % 60:02}"
        self._last = step, now
        print(line, file=self._console, flush=True)


class _EvalProgress:
    """Prints and keeps the metrics of an evaluation."""

    def __init__(self, global_step, metrics, of_task, console):
        self._global_step = global_step
        self._metrics = metrics
        self._of_task = of_task
        self._console = console

    def __call__(self, output):
        self._metrics.update(_floats(output), step=int(self._global_step.numpy()))
        print(
            f"eval  {self._metrics['step']:>7}" + _as_text(self._of_task, self._metrics), file=self._console, flush=True
        )


def _floats(output):
    # A learning rate that never changes is a variable, on several replicas one that float() does not take.
    values = {name: float(tf.convert_to_tensor(value)) for name, value in output.items() if not isinstance(value, dict)}
    for old, new in (("training_loss", "loss"), ("validation_loss", "loss")):
        if old in values:
            values[new] = values.pop(old)
    return values


def _as_text(of_task, values):
    return "".join(f"  {name} {values[name]:.4g}" for name in of_task.shown(values))
