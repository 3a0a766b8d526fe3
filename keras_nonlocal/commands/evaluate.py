"""Tests a trained model of any task, videos in several views; writes the scores of every video, tables and pictures.

Of a detector's test it writes what was found in COCO's format.

    keras-nonlocal evaluate --experiment=non_local_c2d_kinetics400 --model_dir=runs/non_local_c2d \
        --input_path='records/test-*.tfrecord' --out=runs/non_local_c2d/test.json

    keras-nonlocal evaluate --predictions=runs/non_local_c2d/test/predictions.npz --out_dir=again

    keras-nonlocal evaluate --predictions=runs/mask_rcnn/test/segm.json --annotations=instances_val2017.json
"""

from absl import flags

from keras_nonlocal import errors
from keras_nonlocal.commands import experiment_flags
from keras_nonlocal.tfm import evaluate
from keras_nonlocal.tfm.inputs import views

experiment_flags.define_run(required=False)
flags.adopt_module_key_flags(experiment_flags)
flags.DEFINE_string("input_path", None, "Records to evaluate on; default those of task.validation_data.")
flags.DEFINE_enum("protocol", None, list(views.PROTOCOLS), "Where clips and crops are; default the task's own.")
flags.DEFINE_integer("clips", None, "Clips a video; default what the protocol says.", lower_bound=1)
flags.DEFINE_enum("crops", None, ["1", "3"], "Crops a clip: the centre, or three; default what the protocol says.")
flags.DEFINE_enum("combine", None, list(views.COMBINE), "Of the scores of a video's views; default the task's own.")
flags.DEFINE_string("out", None, "JSON file to write; default none.")
flags.DEFINE_string("out_dir", None, "Folder for what is found or scored, tables, pictures; default MODEL_DIR/test.")
flags.DEFINE_string(
    "predictions", None, "Score these again, without a model: a predictions.npz, a submission .txt or results .json."
)
flags.DEFINE_string("annotations", None, "In COCO's format: what --predictions of a detector are scored against.")
flags.DEFINE_list("sigmas", None, "Of the keypoints in --predictions, one each; default those of COCO's person.")
FLAGS = flags.FLAGS


def main(_):
    if FLAGS.predictions:
        _check_given(False, "experiment", "model_dir", "protocol", "clips", "crops", "combine")
        result = evaluate.score_again(
            FLAGS.predictions, FLAGS.out_dir, FLAGS.out, FLAGS.input_path, FLAGS.annotations, _sigmas()
        )
    else:
        for name in ("annotations", "sigmas"):
            if FLAGS[name].value is not None:
                raise errors.UserError(f"--{name} goes with --predictions: leave it out, or give that too.")
        _check_given(True, "experiment", "model_dir")
        experiment_flags.register()
        result = evaluate.evaluate(
            FLAGS.experiment,
            FLAGS.model_dir,
            FLAGS.input_path,
            FLAGS.clips,
            FLAGS.crops and int(FLAGS.crops),
            FLAGS.out,
            FLAGS.protocol,
            FLAGS.combine,
            FLAGS.out_dir,
        )
    print(evaluate.summary(result))


def _check_given(wanted, *names):
    for name in names:
        if (FLAGS[name].value is not None) != wanted:
            rule = (
                "is required, unless --predictions is given."
                if wanted
                else "does not go with --predictions: leave it out."
            )
            raise errors.UserError(f"--{name} {rule}")


def _sigmas():
    try:
        return FLAGS.sigmas and [float(sigma) for sigma in FLAGS.sigmas]
    except ValueError as error:
        raise errors.UserError(f"--sigmas are numbers, separated by commas. Received: {FLAGS.sigmas}") from error
