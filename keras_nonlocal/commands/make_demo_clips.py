"""Composes the demo's videos of returning digits, and lists them in the manner of Kinetics.

    keras-nonlocal make_demo_clips --out=demo_work/clips --seed=0

Writes OUT/videos/*.mp4, OUT/pairs.csv (two digits, "same" or "different") and OUT/digits.csv (one digit, 0 to 9).
"""

from absl import flags

from keras_nonlocal.demo import clips

flags.DEFINE_string("out", None, "Folder to write to.", required=True)
flags.DEFINE_integer("seed", 0, "Draws the training videos; validation and test videos are always the same.")
flags.DEFINE_integer("train_pairs", 6000, "Training videos of two digits.")
flags.DEFINE_integer("train_digits", 3000, "Training videos of one digit.")
flags.DEFINE_integer("validation_videos", 500, "Validation videos, of either kind.")
flags.DEFINE_integer("test_videos", 1000, "Test videos, of either kind.")
FLAGS = flags.FLAGS


def main(_):
    held_out = {"validation": FLAGS.validation_videos, "test": FLAGS.test_videos}
    paths = clips.write(
        FLAGS.out,
        clips={"train": FLAGS.train_pairs, **held_out},
        singles={"train": FLAGS.train_digits, **held_out},
        seed=FLAGS.seed,
    )
    print("wrote", *paths)
