"""Training and evaluation of any task with tfm's train_lib: what `keras-nonlocal train` calls."""

import contextlib
import dataclasses
import functools
import os
import secrets
import sys
import tempfile
from collections.abc import Callable
from typing import TextIO

import tensorflow as tf
import tf_keras
from official.core import base_task, exp_factory, task_factory, train_utils
from official.core import config_definitions as cfg
from official.modeling import hyperparams, performance

from keras_nonlocal import errors
from keras_nonlocal.analysis import cost
from keras_nonlocal.tfm import experiments
from keras_nonlocal.tfm import trainer as trainers
from keras_nonlocal.tfm.runs import checkpoints, divergence, folder, loop, progress, stopping, workers
from keras_nonlocal.tfm.tasks import answers

# Where in the folder of a run its best checkpoint is kept, unless the configuration names another place.
BEST = "best"
ONE_FOLDER = "give all of them the same --model_dir, on a disk that they share"


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
      UserError: if there is none, or it is of another experiment.
    """
    path = os.path.join(model_dir, "params.yaml")
    if not tf.io.gfile.exists(path):
        raise errors.UserError(f"{path} does not exist: give the --model_dir of a training run.")
    try:
        return hyperparams.override_params_dict(_base_experiment(experiment), path, is_strict=True)
    except (KeyError, TypeError) as error:  # which is how hyperparams says it
        raise errors.UserError(
            f"{path} is not of --experiment={experiment} ({errors.first_line(error)}): give the one that was trained."
        ) from error


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
    """The newest checkpoint in model_dir that can be read; says so if a newer one is damaged.

    Raises:
      UserError: if there is none.
    """
    path = checkpoints.newest(model_dir, _say)
    if not path:
        raise errors.UserError(f"{model_dir} holds no checkpoint: train first, with this --model_dir.")
    return path


def _say(line):
    print(line, file=sys.stderr, flush=True)


def _say_nothing(line):
    pass


@workers.explained()
def run(
    params: cfg.ExperimentConfig,
    mode: str,
    model_dir: str,
    seed: int | None = None,
    save_summary: bool = True,
    deterministic: bool = False,
    watch: Callable[[base_task.Task], None] | None = None,
    look: Callable[[tf_keras.Model, int], None] | None = None,
) -> dict[str, float]:
    """Trains, evaluates or both, and prints how it goes.

    A run that was cut off goes on from its last checkpoint when it is started again with the same model_dir. When it
    both trains and evaluates, `model_dir/best` keeps the checkpoint that was best in its task's metric, or in that of
    the trainer's configuration.

    Args:
      params: an ExperimentConfig.
      mode: "train", "eval" or "train_and_eval".
      model_dir: where checkpoints, TensorBoard logs and params.yaml are.
      seed: of initial weights and of what is drawn while training. None takes task.train_data.seed of params, then that
        of the run in model_dir, then a new one, which params.yaml keeps.
      save_summary: whether TensorBoard gets the scalars. Default True.
      deterministic: whether TensorFlow may only use operations that give the same bits each time, from here on and
        everywhere in the process. Default False.
      watch: called with the task before anything runs. Default nothing is.
      look: called with the network and the step, first and after each evaluation. Default nothing is.

    Returns:
      The metrics of the last evaluation as a dict of floats; empty for "train".

    Raises:
      UserError: for data that is not there or does not fit the configuration, a folder that another training is in or
        that cannot be written to, checkpoints that are all damaged, and a training that diverges.
      Stopped: after Ctrl-C or SIGTERM and a last checkpoint, or when another worker is lost.
    """
    of_task = answers.of(params.task)
    _check_data(params.task, mode, of_task.records_from)
    params = _as_run(params, mode, of_task.best_metric)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    # Grappler's remapper stumbles over the gradient of a padded convolution, gives up and says so on the console.
    tf.config.optimizer.set_experimental_options({"remapping": False})
    if params.runtime.mixed_precision_dtype:
        performance.set_mixed_precision_policy(params.runtime.mixed_precision_dtype)
    strategy = workers.strategy(params.runtime)
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(stopping.Stopping(sys.stdout))
        is_first = strategy.extended.should_checkpoint
        scratch = stack.enter_context(tempfile.TemporaryDirectory())
        own_dir = model_dir if is_first else scratch
        console = sys.stdout if is_first else stack.enter_context(open(os.devnull, "w"))
        waited = None if deterministic else loop.host_seconds()
        worker = _Worker(is_first, model_dir, own_dir, scratch, console, waited)
        if "train" not in mode:
            start = latest_checkpoint(model_dir)
            if seed is not None or deterministic:
                tf_keras.utils.set_random_seed(seed or 0)
            return _run(params, mode, worker, start, strategy, of_task, stop, save_summary, watch, look)
        is_new = not tf.io.gfile.exists(model_dir)
        if is_first:
            stack.enter_context(folder.locked(model_dir))
            folder.sweep(model_dir)
        say = _say if is_first else _say_nothing
        before = folder.remembered(model_dir)
        start = checkpoints.newest(model_dir, say, set_aside=is_first)
        workers.check_same(strategy, "the last checkpoint's step", checkpoints.step_of(start), ONE_FOLDER)
        params = _with_seed(params, seed, before, strategy)
        tf_keras.utils.set_random_seed(params.task.train_data.seed)
        if start and (changes := folder.changes(model_dir, params, strategy.num_replicas_in_sync)):
            say(f"not the same run as without the change: {', '.join(changes)}")
        try:
            return _run(params, mode, worker, start, strategy, of_task, stop, save_summary, watch, look)
        except _CannotBeBuilt as error:
            if is_new and is_first:
                tf.io.gfile.rmtree(model_dir)
            raise errors.UserError(f"the configuration cannot be built: {error}") from error


@dataclasses.dataclass(frozen=True)
class _Worker:
    """What one of the workers of a run, or its only one, has of its own.

    All save, as what each has its own of is averaged then, and say the same; the first one's is kept and shown. In
    `waited` its trainer counts the time it waits for data, if it does.
    """

    is_first: bool
    model_dir: str
    own_dir: str
    scratch: str
    console: TextIO
    waited: tf.Variable | None


class _CannotBeBuilt(ValueError):
    pass


def _run(params, mode, worker, start, strategy, of_task, stop, save_summary, watch, look):
    """Builds, restores and runs what the arguments of run have been made to."""
    metrics, model_dir, is_first, console = {}, worker.model_dir, worker.is_first, worker.console
    task, trainer = _build(params, mode, worker, strategy, checkpoints.step_of(start), stop)
    if watch:
        watch(task)
    if "train" in mode and is_first:
        folder.remember(params, model_dir, strategy.num_replicas_in_sync)
    _print_start(params, mode, model_dir, trainer, strategy, of_task, start)
    after_evaluation = progress.EvalProgress(trainer.global_step, metrics, of_task, console)
    after_loop = progress.TrainProgress(trainer.global_step, params.trainer.train_steps, of_task, console)

    def show():
        if look and is_first:
            look(trainer.model, int(trainer.global_step.numpy()))

    def end_loop(output):
        step = int(trainer.global_step.numpy())
        if params.trainer.recovery_max_trials == 0:
            good = runner.checkpoint_manager.latest_checkpoint
            divergence.check(trainer.divergence, trainer.model, step, good)
        after_loop(output)
        if stopping.asked_anywhere(stop, strategy):
            raise _saved(stop, runner.controller, params.trainer.train_steps, is_first)

    def end_evaluation(output):
        after_evaluation(output)
        if "train" in mode and is_first:
            folder.remember_evaluation(metrics, model_dir)
        show()

    try:
        # Orbit prints its log besides logging it, several lines a step and without the time left: ours takes its place.
        with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet):
            runner = checkpoints.Runner(
                start=start,
                directory=worker.own_dir,
                distribution_strategy=strategy,
                task=task,
                mode=mode,
                params=params,
                model_dir=model_dir,
                trainer=trainer,
                save_summary=save_summary and is_first,
                train_actions=[end_loop],
                eval_actions=[end_evaluation],
                controller_cls=loop.Controller,
            )
            show()
            with strategy.scope():
                if mode == "train":
                    runner.controller.train(steps=params.trainer.train_steps)
                elif mode == "eval":
                    runner.controller.evaluate(steps=params.trainer.validation_steps)
                elif mode == "train_and_eval":
                    metrics.update(folder.last_evaluation(model_dir))
                    _train_and_evaluate(runner.controller, params.trainer, metrics.get("step"))
                else:
                    runner.run()
    except stopping.Interrupted:
        if "train" not in mode:
            raise stop.stopped("while evaluating: run the same command again") from None
        raise _saved(stop, runner.controller, params.trainer.train_steps, is_first) from None
    except tf.errors.OpError as error:
        if message := of_task.explain(error):
            raise errors.UserError(message) from error
        raise
    return metrics


def _train_and_evaluate(controller, trainer, evaluated):
    """As orbit's, but evaluates at multiples of the interval wherever a run goes on, and what a killed run did not."""
    interval = trainer.validation_interval or trainer.train_steps
    step = int(controller.global_step.numpy())
    is_due = step % interval == 0 or step == trainer.train_steps
    if step and is_due and step != evaluated:
        controller.evaluate(steps=trainer.validation_steps)
    while step < trainer.train_steps:
        end = min(step - step % interval + interval, trainer.train_steps)
        controller.train(steps=end, checkpoint_at_completion=False)
        controller.evaluate(steps=trainer.validation_steps)
        step = end
    controller.save_checkpoint()


def _saved(stop, controller, train_steps, is_first):
    """Saves a checkpoint and gives the exception to end with."""
    controller.save_checkpoint()
    step = int(controller.global_step.numpy())
    saved = f"saved as {controller.checkpoint_manager.latest_checkpoint}" if is_first else "saved by the first worker"
    return stop.stopped(f"at step {step} of {train_steps}, {saved}: run the same command again to go on")


def _build(params, mode, worker, strategy, first_step, stop):
    with strategy.scope():
        # tfm's Mask R-CNN takes the annotations that it finds there, of whatever records, for those of its own.
        task = task_factory.get_task(params.task, logging_dir=worker.scratch)
        # What is read and drawn depends on the step alone; the inputs are built with the trainer.
        task.first_step = first_step
        settings, best = params.trainer, None
        if settings.best_checkpoint_export_subdir and settings.best_checkpoint_eval_metric:
            best = checkpoints.BestCheckpoint(
                os.path.join(worker.own_dir, settings.best_checkpoint_export_subdir),
                settings.best_checkpoint_eval_metric,
                settings.best_checkpoint_metric_comp,
            )
            if not worker.is_first:
                best.compare_with(os.path.join(worker.model_dir, settings.best_checkpoint_export_subdir))
        try:
            trainer = train_utils.create_trainer(
                trainers.with_scaled_rate(params),
                task,
                train="train" in mode,
                evaluate="eval" in mode,
                checkpoint_exporter=best,
                trainer_cls=functools.partial(trainers.Trainer, stop=stop, waited=worker.waited),
            )
        except ValueError as error:
            raise _CannotBeBuilt(errors.first_line(error)) from error
    return task, trainer


def _with_seed(params, seed, before, strategy):
    """The configuration with the seed of the run."""
    known = [seed, params.task.train_data.seed, folder.seed_of(before)]
    found = next((each for each in known if each is not None), None)
    first = workers.of_first(strategy, secrets.randbelow(2**31) if found is None else found)
    found = first if found is None else found
    workers.check_same(strategy, "--seed", found, "give all of them the same")
    task = params.task.replace(train_data=params.task.train_data.replace(seed=found))
    params = params.replace(task=task)
    params.lock()
    return params


def _as_run(params, mode, best_metric):
    """The configuration as we run it: with what the best checkpoint is best in, of which a test keeps none."""
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
    # TensorFlow's answer to SIGTERM saves and trains on; ours ends.
    settings["preemption_on_demand_checkpoint"] = False
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


def _print_start(params, mode, model_dir, trainer, strategy, of_task, start):
    costs = cost_of_example(trainer.model, of_task.input_shape(params.task.train_data))
    print(
        f"{mode}: {costs or f'{parameters(trainer.model):,} parameters'}; "
        f"{strategy.num_replicas_in_sync} replica(s), in {model_dir} (curves: tensorboard --logdir={model_dir})"
    )
    if "train" in mode:
        steps, seed = params.trainer.train_steps, params.task.train_data.seed
        from_where = f"going on from step {trainer.task.first_step} of {steps}, {start}" if start else "a new run"
        print(f"{from_where}, seed {seed}", flush=True)


def parameters(model: tf_keras.Model) -> int:
    """How many numbers a model learns, built or not: a RetinaNet's parts are built and it is not."""
    return sum(variable.shape.num_elements() for variable in model.trainable_variables)


def cost_of_example(model: tf_keras.Model, input_shape: tuple[int, ...] | None) -> cost.Cost | None:
    """What one example costs; None if it is more than an array, or the model cannot be walked through."""
    try:
        return None if input_shape is None else cost.cost(model, input_shape)
    except ValueError:
        return None
