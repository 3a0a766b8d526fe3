"""Prints the whole configuration of an experiment, as training would take it, and of a paper's row what it is.

    keras-nonlocal show_config --experiment=paper_nl_i3d_r50_5_128x1 --params_override=runtime.num_gpus=4

What it prints is a YAML file that `keras-nonlocal train --config_file` takes.
"""

import yaml
from absl import flags

from keras_nonlocal.commands import experiment_flags
from keras_nonlocal.tfm.experiments import paper

experiment_flags.define()
flags.adopt_module_key_flags(experiment_flags)
FLAGS = flags.FLAGS


def main(_):
    params = experiment_flags.params()
    if FLAGS.experiment in paper.names():
        print("\n".join(paper.about(FLAGS.experiment)))
    print(yaml.safe_dump(params.as_dict(), sort_keys=False), end="")
