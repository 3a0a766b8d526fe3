"""The whole way from video files to a served model, command by command: what `make demo` runs.

    keras-nonlocal demo --work_dir=demo_work --seed=0

Composes clips that ask "did the same digit come back?", writes them as TFRecords, trains the trunk on single digits and
then C2D and non-local C2D from it, evaluates, exports, serves, queries over REST and gRPC, and ends with a table and
pictures. Every command is printed before it runs and can be run by hand. Running it again goes on where it stopped.
"""

from absl import flags

from keras_nonlocal.demo import whole

flags.DEFINE_string("work_dir", "demo_work", "Folder for everything; the results go to WORK_DIR/seedN.")
flags.DEFINE_integer("seed", 0, "Draws the training clips, initial weights and augmentation; the test clips stay.")
flags.DEFINE_string("export_dir", "saved_models/same_digit", "Where the model is published.")
FLAGS = flags.FLAGS


def main(_):
    whole.run_demo(FLAGS.work_dir, FLAGS.seed, FLAGS.export_dir)
