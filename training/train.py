"""Trains or evaluates a registered experiment with tf-models-official's trainer.

    python training/train.py --experiment=non_local_c2d_kinetics400 --mode=train_and_eval \
        --model_dir=runs/non_local_c2d --config_file=training/configs/kinetics400.yaml

Running the same command again goes on from the last checkpoint. An unknown key in a configuration is an error.
`--verbosity=0` adds tf-models-official's own log.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Its lines are not for people; its errors are exceptions.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # oneDNN's kernels, off by default on CPUs without AVX-512

from absl import app, flags  # noqa: E402
from official.common import flags as tfm_flags  # noqa: E402

from keras_nonlocal import console, errors  # noqa: E402
from keras_nonlocal.demo import experiments  # noqa: E402, F401  (registers the demo's)
from keras_nonlocal.tfm import train  # noqa: E402

tfm_flags.define_flags()
flags.DEFINE_integer("seed", None, "Of initial weights and augmentation. Threads still make runs differ a little.")
flags.mark_flags_as_required(["experiment", "mode", "model_dir"])
FLAGS = flags.FLAGS


@errors.exit_on_user_error
def main(_):
    console.quiet(FLAGS)
    params = train.parse_experiment(FLAGS)
    train.run(params, FLAGS.mode, FLAGS.model_dir, FLAGS.seed)


if __name__ == "__main__":
    app.run(main)
