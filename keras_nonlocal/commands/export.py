"""Publishes a trained video classifier or detector as saved_models/NAME/VERSION, ready for TensorFlow Serving.

    keras-nonlocal export --experiment=non_local_c2d_kinetics400 --model_dir=runs/non_local_c2d \
        --export_dir=saved_models/non_local_c2d --labels=records/labels.txt
"""

from absl import flags

from keras_nonlocal.commands import experiment_flags
from keras_nonlocal.tfm import export

experiment_flags.define_run()
flags.adopt_module_key_flags(experiment_flags)
flags.DEFINE_string("export_dir", None, "saved_models/NAME; the next free version in it is written.", required=True)
flags.DEFINE_string("labels", None, "File of class names, one a line, to keep beside the model.")
flags.DEFINE_bool(
    "fold_norms", True, "Fold a video classifier's batch norms into convolutions; answers are checked."
)
FLAGS = flags.FLAGS


def main(_):
    experiment_flags.register()
    path = export.export_run(FLAGS.experiment, FLAGS.model_dir, FLAGS.export_dir, FLAGS.labels, FLAGS.fold_norms)
    print("published", path)
