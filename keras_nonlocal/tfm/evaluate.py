"""Test accuracy of a trained model on several views a video: what `training/evaluate.py` calls."""

from official.core import task_factory

from keras_nonlocal.analysis import cost
from keras_nonlocal.data.records import writer
from keras_nonlocal.tfm import train


def evaluate(experiment, model_dir, input_path=None, clips=10, crops=1, out=None):
    """Evaluates the newest checkpoint of a training run; softmax is taken for each view and then averaged.

    Args:
      experiment: name of the registered experiment.
      model_dir: folder of the training run.
      input_path: pattern of the records. Default: the validation data of the run.
      clips: clips a video, spread evenly over it. Default 10.
      crops: 1 (centre) or 3 (left, centre, right) crops a clip. Default 1.
      out: JSON file for the result. Default none.

    Returns:
      A dict: accuracy, loss, step, parameters, multiply_adds (of one view), clips, crops, input_path.

    Raises:
      UserError: if there is no such run or there are no such records.
    """
    params = train.load_experiment(experiment, model_dir)
    views = {"num_test_clips": clips, "num_test_crops": crops, "drop_remainder": False}
    if input_path:
        views["input_path"] = input_path
    params.override({"task": {"validation_data": views}}, is_strict=True)
    params.lock()
    # The test is no point of the run's validation curve.
    metrics = train.run(params, "eval", model_dir, save_summary=False)
    model = task_factory.get_task(params.task).build_model()
    costs = cost.cost(model, params.task.validation_data.feature_shape)
    result = {
        "accuracy": metrics["accuracy"],
        "loss": metrics["loss"],
        "step": metrics["step"],
        "parameters": costs.parameters,
        "multiply_adds": costs.multiply_adds,
        "clips": clips,
        "crops": crops,
        "input_path": params.task.validation_data.input_path,
    }
    if out:
        writer.write_json(out, result)
    return result


def summary(result):
    """One line for people."""
    return (
        f"accuracy {result['accuracy']:.4f} at step {result['step']}, {result['clips']} clip(s) x {result['crops']} "
        f"crop(s) a video; {result['parameters']:,} parameters, {result['multiply_adds'] / 1e9:.4f} GMACs a view"
    )
