"""Test results of a trained model, of any task: what `training/evaluate.py` calls."""

import json

from official.core import task_factory
from official.vision.configs import video_classification

from keras_nonlocal import errors, files
from keras_nonlocal.analysis import cost
from keras_nonlocal.tfm import train


def evaluate(experiment, model_dir, input_path=None, clips=None, crops=None, out=None):
    """Evaluates the newest checkpoint of a training run.

    Of videos several views are scored each, by a softmax or a sigmoid for each class as the task does, and averaged.

    Args:
      experiment: name of the registered experiment.
      model_dir: folder of the training run.
      input_path: pattern of the records. Default: the validation data of the run.
      clips: clips a video, spread evenly over it. Default 10.
      crops: 1 (centre) or 3 (left, centre, right) crops a clip. Default 1.
      out: JSON file for the result. Default none.

    Returns:
      A dict: the metrics of the task, step, parameters, input_path; of videos also clips, crops, and multiply_adds of
      one view.

    Raises:
      UserError: if there is no such run or there are no such records, or for views of what is no video.
    """
    params = train.load_experiment(experiment, model_dir)
    has_views = isinstance(params.task.validation_data, video_classification.DataConfig)
    if not has_views and (clips, crops) != (None, None):
        raise errors.UserError(
            f"--clips and --crops are for videos, and {experiment} has none. Received: clips={clips}, crops={crops}"
        )
    views = {"clips": clips or 10, "crops": crops or 1} if has_views else {}
    data = {"drop_remainder": False, **{f"num_test_{name}": number for name, number in views.items()}}
    if input_path:
        data["input_path"] = input_path
    params.override({"task": {"validation_data": data}}, is_strict=True)
    params.lock()
    # The test is no point of the run's validation curve.
    metrics = train.run(params, "eval", model_dir, save_summary=False)
    result = {
        **metrics,
        **_size(task_factory.get_task(params.task).build_model(), params.task, has_views),
        **views,
        "input_path": params.task.validation_data.input_path,
    }
    if out:
        try:
            files.write_text(out, json.dumps(result, indent=1) + "\n")
        except OSError as error:
            raise errors.UserError(f"--out {out} cannot be written ({errors.first_line(error)})") from error
    return result


def _size(model, task, has_views):
    if not has_views:  # a detector takes more than images
        return {"parameters": sum(int(variable.shape.num_elements()) for variable in model.trainable_variables)}
    costs = cost.cost(model, task.validation_data.feature_shape)
    return {"parameters": costs.parameters, "multiply_adds": costs.multiply_adds}


def summary(result):
    """One line for people."""
    line = f"{train.shown(result).strip()} at step {result['step']}"
    if "clips" in result:
        line += f", {result['clips']} clip(s) x {result['crops']} crop(s) a video"
    line += f"; {result['parameters']:,} parameters"
    return line + (f", {result['multiply_adds'] / 1e9:.4f} GMACs a view" if "multiply_adds" in result else "")
