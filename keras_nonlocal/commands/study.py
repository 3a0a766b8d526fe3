"""Does it help? Trains the demo's networks with every form, number of blocks and extent, and several seeds.

    keras-nonlocal study --work_dir=study_work

Twelve networks for each seed, two at a time; running it again goes on where it stopped. The table and the picture are
WORK_DIR/study.md and WORK_DIR/study.png.
"""

from absl import flags

from keras_nonlocal.demo import study

flags.DEFINE_string("work_dir", "study_work", "Folder for everything.")
flags.DEFINE_integer("seeds", 3, "How many.", lower_bound=2, upper_bound=5)
flags.DEFINE_integer("steps", study.STEPS, "Of each training from its trunk.", lower_bound=50)
FLAGS = flags.FLAGS


def main(_):
    study.run_study(FLAGS.work_dir, FLAGS.seeds, FLAGS.steps)
