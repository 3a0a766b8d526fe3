"""Test results of a trained model, of any task: what `keras-nonlocal evaluate` calls."""

import json

from official.core import task_factory

from keras_nonlocal import errors, files
from keras_nonlocal.tfm import train
from keras_nonlocal.tfm.tasks import answers


def evaluate(
    experiment: str,
    model_dir: str,
    input_path: str | None = None,
    clips: int | None = None,
    crops: int | None = None,
    out: str | None = None,
) -> dict:
    """Evaluates the newest checkpoint of a training run on all records.

    Of videos several views are scored each, by a softmax or a sigmoid for each class as the task does, and averaged.

    Args:
      experiment: name of the registered experiment.
      model_dir: folder of the training run.
      input_path: pattern of the records. Default: the validation data of the run.
      clips: clips a video, spread evenly over it. Default 10.
      crops: 1 (centre) or 3 (left, centre, right) crops a clip. Default 1.
      out: JSON file for the result. Default none.

    Returns:
      A dict: the metrics of the task, `metrics` with the names of those that say most, `best_metric` with the name of
      the one that runs are compared by (None where the task names none), step, parameters, input_path; multiply_adds
      of one view where it is one array; of videos also clips and crops.

    Raises:
      UserError: if there is no such run or there are no such records, or for views of what is no video.
    """
    params = train.load_experiment(experiment, model_dir)
    of_task = answers.of(params.task)
    views = of_task.set_views(clips, crops)
    data = {"drop_remainder": False, **({"input_path": input_path} if input_path else {})}
    params.override({"task": {"validation_data": data}, "trainer": {"validation_steps": -1}}, is_strict=True)
    params.lock()
    # The test is no point of the run's validation curve.
    metrics = train.run(params, "eval", model_dir, save_summary=False)
    best_metric, _ = of_task.best_metric or (None, None)
    model = task_factory.get_task(params.task).build_model()
    result = {
        **metrics,
        "metrics": of_task.shown(metrics),
        "best_metric": best_metric,
        **_size(model, of_task.input_shape(params.task.validation_data)),
        **views,
        "input_path": params.task.validation_data.input_path,
    }
    if out:
        try:
            files.write_text(out, json.dumps(result, indent=1) + "\n")
        except OSError as error:
            raise errors.UserError(f"--out {out} cannot be written ({errors.first_line(error)})") from error
    return result


def _size(model, input_shape):
    costs = train.cost_of_example(model, input_shape)
    if costs is None:
        return {"parameters": train.parameters(model)}
    return {"parameters": costs.parameters, "multiply_adds": costs.multiply_adds}


def summary(result: dict) -> str:
    """One line for people of what evaluate returns."""
    metrics = "  ".join(f"{name} {result[name]:.4g}" for name in result["metrics"])
    line = f"{metrics} at step {result['step']}"
    if "clips" in result:
        line += f", {result['clips']} clip(s) x {result['crops']} crop(s) a video"
    line += f"; {result['parameters']:,} parameters"
    return line + (f", {result['multiply_adds'] / 1e9:.4f} GMACs a view" if "multiply_adds" in result else "")
