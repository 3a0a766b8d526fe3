"""Does it help a detector? Objects whose class another object decides, near or far, without and with a block in res4.

    keras-nonlocal study_coco --work_dir=study_coco_work

Three networks for each seed; running it again goes on where it stopped. The table and the picture are
WORK_DIR/study_coco.md and WORK_DIR/study_coco.png; docs/coco_study.md says what is in them.
"""

from absl import flags

from keras_nonlocal.demo import study_coco

flags.DEFINE_string("work_dir", "study_coco_work", "Folder for everything.")
flags.DEFINE_integer("seeds", 3, "How many.", lower_bound=2, upper_bound=5)
flags.DEFINE_integer("steps", study_coco.STEPS, "Of each training.", lower_bound=50)
flags.DEFINE_integer("images", study_coco.COUNTS["train"], "To train on.", lower_bound=16)
flags.DEFINE_enum("split", "test", ["validation", "test"], "What is scored; settings are chosen on validation.")
FLAGS = flags.FLAGS


def main(_):
    study_coco.run_study(FLAGS.work_dir, FLAGS.seeds, FLAGS.steps, FLAGS.images, FLAGS.split)
