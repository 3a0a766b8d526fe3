"""The whole way on annotated photos, command by command: what `make demo-coco` runs.

    keras-nonlocal demo_coco --work_dir=demo_coco_work --seed=0

Writes photos that installed packages bring, with what people annotated in them, as records; trains a RetinaNet, a Mask
R-CNN and a keypoint R-CNN with non-local blocks until they know them by heart, evaluates, exports, serves, asks what is
in the photos, and ends with a table and pictures. Running it again goes on where it stopped.
"""

from absl import flags

from keras_nonlocal.demo import coco_chain

flags.DEFINE_string("work_dir", "demo_coco_work", "Folder for everything; the results go to WORK_DIR/seedN.")
flags.DEFINE_integer("seed", 0, "Draws the initial weights and the mirroring.")
flags.DEFINE_string("export_dir", "saved_models", "Where the models coco_retinanet and so on are published.")
FLAGS = flags.FLAGS


def main(_):
    coco_chain.run_chain(FLAGS.work_dir, FLAGS.seed, FLAGS.export_dir)
