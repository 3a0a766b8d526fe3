"""Publishes a trained video classifier as saved_models/NAME/VERSION, ready for TensorFlow Serving.

    python saved_models/export.py --experiment=non_local_c2d_kinetics400 --model_dir=runs/non_local_c2d \
        --export_dir=saved_models/non_local_c2d --labels=records/labels.txt
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Its lines are not for people; its errors are exceptions.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # oneDNN's kernels, off by default on CPUs without AVX-512

from absl import app, flags

from keras_nonlocal import console, errors
from keras_nonlocal.demo import experiments  # noqa: F401  (registers the demo's)
from keras_nonlocal.tfm import export

flags.DEFINE_string("experiment", None, "Registered experiment that was trained.", required=True)
flags.DEFINE_string("model_dir", None, "Folder of the training run; its newest checkpoint is exported.", required=True)
flags.DEFINE_string("export_dir", None, "saved_models/NAME; the next free version in it is written.", required=True)
flags.DEFINE_string("labels", None, "File of class names, one a line, to keep beside the model.")
flags.DEFINE_bool("fold_norms", True, "Fold batch norms into the convolutions before them; the answers are checked.")
FLAGS = flags.FLAGS


@errors.exit_on_user_error
def main(_):
    console.quiet(FLAGS)
    path = export.export_run(FLAGS.experiment, FLAGS.model_dir, FLAGS.export_dir, FLAGS.labels, FLAGS.fold_norms)
    print("published", path)


if __name__ == "__main__":
    app.run(main)
