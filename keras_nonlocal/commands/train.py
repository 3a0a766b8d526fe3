"""Trains or evaluates a registered experiment with tf-models-official's trainer.

    keras-nonlocal train --experiment=non_local_c2d_kinetics400 --mode=train_and_eval \
        --model_dir=runs/non_local_c2d --config_file=kinetics400

Ctrl-C and SIGTERM finish the step, save a checkpoint and end with 130 or 143; a second Ctrl-C ends at once. Running the
same command again goes on from the last checkpoint. An unknown key in a configuration is an error.
`--verbosity=0` adds tf-models-official's own log. `--explain=clip.mp4` has TensorBoard show what the non-local blocks
attend to in a video or photo, before training and after each evaluation.
"""

from absl import flags

from keras_nonlocal import errors
from keras_nonlocal.commands import experiment_flags
from keras_nonlocal.tfm import train

experiment_flags.define("mode", "model_dir")
flags.adopt_module_key_flags(experiment_flags)
flags.DEFINE_integer(
    "seed", None, "Of initial weights and all that is drawn. Default: that of the run in --model_dir, or a new one."
)
flags.DEFINE_bool("deterministic", False, "Use only operations that give the same bits each time; may be slower.")
flags.DEFINE_string(
    "explain",
    None,
    "Video, JPEG or PNG file; what blocks attend to in it is shown by TensorBoard after each evaluation.",
)
FLAGS = flags.FLAGS


def main(_):
    params = experiment_flags.params()
    look = None
    if FLAGS.explain is not None:
        if FLAGS.mode != "train_and_eval":
            raise errors.UserError(f"--explain goes with --mode=train_and_eval. Received: --mode={FLAGS.mode}")
        from keras_nonlocal.tfm import explain  # which needs what serving and plots do

        look = explain.Explanation(params, FLAGS.explain, FLAGS.model_dir)
    train.run(params, FLAGS.mode, FLAGS.model_dir, FLAGS.seed, deterministic=FLAGS.deterministic, look=look)
