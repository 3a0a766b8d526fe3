"""Writes a checkpoint that starts a network with non-local blocks from one without, or a video network from images.

    python training/warm_start.py --experiment=non_local_i3d_kinetics400 --checkpoint=resnet50.weights.h5 \
        --out=runs/starts/non_local_i3d

Then train with `task.init_checkpoint: runs/starts/non_local_i3d` and `task.init_checkpoint_modules: backbone`. It
prints for every variable where it came from, or that it is new.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Its lines are not for people; its errors are exceptions.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # oneDNN's kernels, off by default on CPUs without AVX-512

from absl import app, flags  # noqa: E402
from official.common import flags as tfm_flags  # noqa: E402

from keras_nonlocal import console, errors  # noqa: E402
from keras_nonlocal.tfm import train, warm_start  # noqa: E402

tfm_flags.define_flags()
flags.DEFINE_string("checkpoint", None, "tfm checkpoint, or .h5 or .keras file of keras.applications.", required=True)
flags.DEFINE_string("out", None, "Folder to make for the new checkpoint.", required=True)
flags.mark_flags_as_required(["experiment"])
FLAGS = flags.FLAGS


@errors.exit_on_user_error
def main(_):
    console.quiet(FLAGS)
    params = train.parse_experiment(FLAGS)
    report = warm_start.write(params.task.model, FLAGS.checkpoint, FLAGS.out)
    print("\n".join(report.lines()))
    print(f"in {FLAGS.out}: train with task.init_checkpoint: {FLAGS.out}, task.init_checkpoint_modules: backbone")


if __name__ == "__main__":
    app.run(main)
