"""Publishes a trained model as saved_models/NAME/VERSION, ready for TensorFlow Serving.

    keras-nonlocal export --experiment=non_local_c2d_kinetics400 --model_dir=runs/non_local_c2d \
        --export_dir=saved_models/non_local_c2d --labels=records/labels.txt
    keras-nonlocal export --model=model.keras --export_dir=saved_models/model
"""

import dataclasses
import importlib

from absl import flags

from keras_nonlocal import errors, export
from keras_nonlocal.commands import experiment_flags

experiment_flags.define_run(required=False)
flags.adopt_module_key_flags(experiment_flags)
flags.DEFINE_string(
    "model",
    None,
    "Instead of a run: a .keras or .h5 file of Keras 3 or tf_keras, or a folder that model.save of tf_keras wrote.",
)
flags.DEFINE_string("export_dir", None, "saved_models/NAME; the next free version in it is written.", required=True)
flags.DEFINE_string("labels", None, "File of class names, one a line, to keep beside the model.")
flags.DEFINE_bool("fold_norms", True, "Fold batch norms into convolutions, but a detector's; answers are checked.")
flags.DEFINE_bool("finite", False, "Refuse to answer with NaN or infinity, which over REST are no valid JSON.")
flags.DEFINE_bool("explain", True, "With the signature `explain`, where the model has non-local blocks.")
flags.DEFINE_string("explain_block", None, "The block that it is of, by its path or name. Default: the last.")
flags.DEFINE_integer("explain_top_k", 20, "How many keys of each query it answers, at most.", lower_bound=1)
flags.DEFINE_bool(
    "padded",
    False,
    "With the signature `padded`, for inputs of several sizes in one batch: a second graph, which takes time to load.",
)
flags.DEFINE_bool(
    "portable",
    False,
    "Evaluate non-local blocks by what LiteRT, ONNX and OpenVINO run too; prints what memory it takes.",
)
flags.DEFINE_bool("verify", True, "Publish only what answers as the model did; keep what it was verified by beside it.")
flags.DEFINE_list("batch_sizes", ["1"], "Of the warm-up requests: the allowed_batch_sizes of a server that batches.")
FLAGS = flags.FLAGS


def main(_):
    experiment_flags.register()
    run = [name for name in ("experiment", "model_dir") if FLAGS[name].value is not None]
    if FLAGS.model is None and len(run) < 2:
        raise errors.UserError("give --experiment and --model_dir of a training run, or --model, a saved Keras model")
    if FLAGS.model is not None and run:
        raise errors.UserError(f"--model is exported without --{run[0]}: leave one of them out")
    options = {field.name: FLAGS[field.name].value for field in dataclasses.fields(export.Options)}
    options["batch_sizes"] = _batch_sizes()
    if FLAGS.model is not None:
        try:
            path = export.export_model(export.load_model(FLAGS.model), FLAGS.export_dir, **options)
        except errors.UserError:
            raise
        except ValueError as error:  # of a model that a SavedModel cannot hold
            raise errors.UserError(f"--model={FLAGS.model}: {error}") from error
    else:
        tfm_export = importlib.import_module("keras_nonlocal.tfm.export")  # which not every model needs
        path = tfm_export.export_run(FLAGS.experiment, FLAGS.model_dir, FLAGS.export_dir, **options)
    print("published", path)


def _batch_sizes():
    if not all(size.isdecimal() and int(size) > 0 for size in FLAGS.batch_sizes):
        raise errors.UserError(f"--batch_sizes must be positive integers. Received: {','.join(FLAGS.batch_sizes)}")
    return [int(size) for size in FLAGS.batch_sizes]
