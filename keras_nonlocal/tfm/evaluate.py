"""Test results of a trained model, of any task: what `keras-nonlocal evaluate` calls."""

import json
import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from official.core import input_reader, task_factory

from keras_nonlocal import cluster, errors, files
from keras_nonlocal.data import labels_file
from keras_nonlocal.skeleton import COCO_PERSON
from keras_nonlocal.tfm import predict, train
from keras_nonlocal.tfm.inputs import videos
from keras_nonlocal.tfm.scoring import coco_results, predictions, report, submission
from keras_nonlocal.tfm.tasks import answers

FOLDER = "test"


def evaluate(
    experiment: str,
    model_dir: str,
    input_path: str | None = None,
    clips: int | None = None,
    crops: int | None = None,
    out: str | None = None,
    protocol: str | None = None,
    combine: str | None = None,
    out_dir: str | None = None,
) -> dict:
    """Evaluates the newest checkpoint of a training run on all records.

    Of videos several views are scored each, by a softmax or a sigmoid for each class as the task does, and combined;
    the scores of every video, tables and pictures are written beside the result. Of images with objects, what was found
    is written in COCO's format: boxes, masks, keypoints.

    Args:
      experiment: name of the registered experiment.
      model_dir: folder of the training run.
      input_path: pattern of the records. Default: the validation data of the run.
      clips: clips a video. Default what the protocol says, 10 or 1.
      crops: 1 (centre) or 3 (along the longer side) crops a clip. Default what the protocol says.
      out: JSON file for the result. Default none.
      protocol: how clips and crops are placed, a key of keras_nonlocal.tfm.inputs.views.PROTOCOLS. Default the task's:
        "official", of several labels a video "spread".
      combine: "mean" or "max" of the scores of a video's views. Default the task's: the mean, of several labels a
        video the maximum.
      out_dir: folder for the scores of every video, tables and pictures, or for what was found in images. Default
        MODEL_DIR/test.

    Returns:
      A dict: the metrics of the task, `metrics` with the names of those that say most, `best_metric` with the name of
      the one that runs are compared by (None where the task names none), step, parameters, input_path; multiply_adds
      of one view where it is one array of one size; of videos also protocol, clips, crops, combine, and `notes` on
      what was left out.

    Raises:
      UserError: if there is no such run or there are no such records, or for views of what is no video.
    """
    params = train.load_experiment(experiment, model_dir)
    of_task = answers.of(params.task)
    views = of_task.set_views(clips, crops, protocol, combine)
    data = {"drop_remainder": False, **({"input_path": input_path} if input_path else {})}
    params.override({"task": {"validation_data": data}, "trainer": {"validation_steps": -1}}, is_strict=True)
    params.lock()
    best_metric, _ = of_task.best_metric or (None, None)
    data = params.task.validation_data
    shape = of_task.input_shape(data)
    if of_task.scoring is None:
        kept = of_task.kept_results()
        if kept:
            _check_alone()
            out_dir = _folder(out_dir, model_dir)
        elif out_dir:
            raise errors.UserError(
                "--out_dir is for the results of videos and detectors, which this task has none of: leave it out. "
                f"Received: {out_dir}"
            )
        # The test is no point of the run's validation curve.
        metrics = train.run(params, "eval", model_dir, save_summary=False, watch=kept and kept.watch)
        model = task_factory.get_task(params.task).build_model()
        result = {
            **metrics,
            "metrics": of_task.shown(metrics),
            "best_metric": best_metric,
            **_size(model, shape),
            **views,
            "input_path": data.input_path,
        }
        if kept:
            _write_found(out_dir, kept.results(), result)
    else:
        out_dir = _folder(out_dir, model_dir)
        scored = predict.predict(params, model_dir, views["combine"])
        about = {
            "best_metric": best_metric,
            "step": scored.step,
            "experiment": experiment,
            **_size(scored.model, shape),
            **views,
            "input_path": data.input_path,
        }
        classes = _class_names(data.input_path, scored.scores.shape[1])
        result = _written(
            predictions.Predictions(scored.videos, scored.labels, scored.scores, of_task.scoring, classes, about),
            out_dir if scored.first else None,
        )
        out = out if scored.first else None
    _write_json(out, result)
    return result


def score_again(
    path: str,
    out_dir: str | None = None,
    out: str | None = None,
    input_path: str | None = None,
    annotations: str | None = None,
    sigmas: Sequence[float] | None = None,
) -> dict:
    """The result of a test from the scores that it wrote, without the network.

    Args:
      path: a predictions.npz, a submission to Charades, whose name ends in .txt, or a detector's results in COCO's
        format, whose name ends in .json.
      out_dir: folder for the tables and pictures. Default none is written.
      out: JSON file for the result. Default none.
      input_path: pattern of the records, for the labels of a submission's videos.
      annotations: in COCO's format, for results in it.
      sigmas: of their keypoints; default COCO's of a person.

    Returns:
      As evaluate; of a submission or results in COCO's format only what follows from them.

    Raises:
      UserError: for a file that is neither, or a submission of other videos than those of the records.
    """
    if path.endswith(".json"):
        result = _found_again(path, out_dir, input_path, annotations, sigmas)
        _write_json(out, result)
        return result
    if annotations or sigmas:
        raise errors.UserError(
            f"--predictions {path} are no results in COCO's format, whose name ends in .json: leave --annotations and "
            "--sigmas out."
        )
    if path.endswith(".txt"):
        if not input_path:
            raise errors.UserError(f"--predictions {path} has no labels: give --input_path, the records of its videos.")
        scored = _submitted(path, input_path)
    elif input_path:
        raise errors.UserError(f"--predictions {path} holds the labels: leave --input_path out.")
    else:
        scored = predictions.load(path)
    result = _written(scored, out_dir)
    _write_json(out, result)
    return result


def _found_again(path, out_dir, input_path, annotations, sigmas):
    """The result of what a detector found."""
    if not annotations or input_path:
        raise errors.UserError(
            f"--predictions {path} is scored against --annotations, a file in COCO's format: give that, and no "
            "--input_path."
        )
    metrics = coco_results.score_file(path, annotations, sigmas or COCO_PERSON.sigmas)
    result = {**metrics, "metrics": list(metrics), "best_metric": next(iter(metrics)), "annotations": annotations}
    if out_dir:
        _write_found(out_dir, {}, result)
    return result


def _check_alone():
    """Each worker would sum up what it has read itself."""
    _, workers = cluster.place()
    if workers > 1:
        raise errors.UserError(f"a detector is tested by one worker, there are {workers}: evaluate without launch.")


def _write_found(out_dir, results, result):
    """The files of a detector's test, each whole; result.json last."""
    for path in coco_results.write(out_dir, results):
        print(f"{path} has what was found, in COCO's format", flush=True)
    _write_json(os.path.join(out_dir, report.RESULT), result, "--out_dir")


def _written(scored, out_dir):
    """The result of scores, after it was written to a folder, if there is one."""
    of_test = scored.score()
    values = {
        **of_test.metrics,
        "metrics": [name for name in of_test.metrics if name != "loss"],
        "notes": of_test.notes,
        **scored.about,
    }
    if out_dir:
        for note in report.write(out_dir, scored, of_test, values):
            print(note, flush=True)
        print(f"predictions, tables and pictures are in {out_dir}", flush=True)
    return values


def _submitted(path, input_path):
    """The predictions of a submission; videos that are missing in it are ranked last, as by the official rule."""
    given = submission.read(path)
    count = len(next(iter(given.values())))
    listed = sorted(videos.labels(input_path))
    ids = [videos.stem(name) for name, _ in listed]
    if len(set(ids)) < len(ids) or not all(ids):
        raise errors.UserError(f"the videos of --input_path {input_path} have no names, or two have the same one.")
    if unknown := sorted(set(given) - set(ids)):
        raise errors.UserError(
            f"--predictions {path} has {len(unknown)} videos that --input_path {input_path} does not, as {unknown[0]}: "
            "give the records of the same list."
        )
    labels = np.zeros([len(ids), count], bool)
    for row, (name, own) in zip(labels, listed, strict=True):
        if own and not 0 <= min(own) <= max(own) < count:
            raise errors.UserError(f"{name} has the classes {own}, but --predictions {path} scores 0 to {count - 1}.")
        row[own] = True
    scores = np.stack([given.get(each, np.full(count, -np.inf, np.float32)) for each in ids])
    missing = len(ids) - len(given)
    about = {"best_metric": "mean_average_precision", "input_path": input_path, "videos_missing": missing}
    return predictions.Predictions(
        np.array([name for name, _ in listed]), labels, scores, "many_labels", _class_names(input_path, count), about
    )


def _folder(out_dir, model_dir):
    if out_dir is None and "://" in model_dir:
        raise errors.UserError(f"give --out_dir, a folder on this machine: --model_dir {model_dir} is on none.")
    return out_dir or os.path.join(model_dir, FOLDER)


def _class_names(input_path, count):
    """What labels.txt beside the records says; None if there is none, or not for so many classes."""
    found = [os.path.join(os.path.dirname(path), "labels.txt") for path in input_reader.match_files(input_path)[:1]]
    if not found or not tf.io.gfile.exists(found[0]):
        return None
    names = labels_file.read(found[0])
    if len(names) != count:
        print(f"{found[0]} names {len(names)} classes, the network has {count}: they are shown by their numbers")
        return None
    return names


def _write_json(out, result, flag="--out"):
    if out:
        try:
            files.write_text(out, json.dumps(result, indent=1) + "\n")
        except OSError as error:
            raise errors.UserError(
                f"{flag} {out} cannot be written ({errors.first_line(error)}): give another one."
            ) from error


def _size(model, shape):
    costs = train.cost_of_example(model, shape)
    if costs is None:
        return {"parameters": train.parameters(model)}
    return {"parameters": costs.parameters, "multiply_adds": costs.multiply_adds}


def summary(result: dict) -> str:
    """A few lines for people of what evaluate returns."""
    line = "  ".join(f"{name} {result[name]:.4g}" for name in result["metrics"])
    if "step" in result:
        line += f" at step {result['step']}"
    if "clips" in result:
        line += f", {result['clips']} clip(s) x {result['crops']} crop(s) a video"
    if "parameters" in result:
        line += f"; {result['parameters']:,} parameters"
    if "multiply_adds" in result:
        line += f", {result['multiply_adds'] / 1e9:.4f} GMACs a view"
    return "\n".join([line, *result.get("notes", [])])
