"""The whole way on real footage, command by command: what `make demo-video` runs.

    keras-nonlocal demo_video --work_dir=demo_video_work --seed=0

Composes clips in which the camera pans, tilts and zooms over real footage, of one label (Kinetics list) and of several
with times (Charades list), writes them as TFRecords, trains C2D, I3D and a non-local I3D, kills such trainings by
SIGKILL and compares what they end with bit for bit, evaluates by the official protocols, exports, serves, queries over
REST and gRPC, and ends with tables and curves. Running it again goes on where it stopped.
"""

from absl import flags

from keras_nonlocal.demo import video_chain

flags.DEFINE_string("work_dir", "demo_video_work", "Folder for everything; the results go to WORK_DIR/seedN.")
flags.DEFINE_integer("seed", 0, "Draws the training clips, initial weights and augmentation; the test clips stay.")
flags.DEFINE_string("export_dir", "saved_models", "Where the models camera and camera_actions are published.")
FLAGS = flags.FLAGS


def main(_):
    video_chain.run_chain(FLAGS.work_dir, FLAGS.seed, FLAGS.export_dir)
