"""Prints the whole configuration of an experiment, as training would take it, and of a paper's row what it is.

    python training/show_config.py --experiment=paper_nl_i3d_r50_5_128x1 --params_override=runtime.num_gpus=4

What it prints is a YAML file that `training/train.py --config_file` takes.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Its lines are not for people; its errors are exceptions.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # oneDNN's kernels, off by default on CPUs without AVX-512

import yaml  # noqa: E402
from absl import app, flags  # noqa: E402
from official.common import flags as tfm_flags  # noqa: E402

from keras_nonlocal import console, errors  # noqa: E402
from keras_nonlocal.demo import experiments  # noqa: E402, F401  (registers the demo's)
from keras_nonlocal.tfm import train  # noqa: E402
from keras_nonlocal.tfm.experiments import paper  # noqa: E402

tfm_flags.define_flags()
flags.mark_flags_as_required(["experiment"])
FLAGS = flags.FLAGS


@errors.exit_on_user_error
def main(_):
    console.quiet(FLAGS)
    params = train.parse_experiment(FLAGS)
    if FLAGS.experiment in paper.names():
        print("\n".join(paper.about(FLAGS.experiment)))
    print(yaml.safe_dump(params.as_dict(), sort_keys=False), end="")


if __name__ == "__main__":
    app.run(main)
