"""Flags of the commands that take an experiment; flags.adopt_module_key_flags makes them a command's own."""

import importlib

from absl import flags

from keras_nonlocal import configs, errors

FLAGS = flags.FLAGS


def define(*required):
    """tfm's own flags, of which these are required, and --register."""
    with errors.needs_extra("tfm"):  # which those that take any model do without
        from official.common import flags as tfm_flags

    tfm_flags.define_flags()
    _define_register()
    flags.mark_flags_as_required(["experiment", *required])
    for name in ("config_file", "experiment", "model_dir", "mode", "params_override", "tpu"):
        flags.declare_key_flag(name)


def define_run(required=True):
    """The flags of commands that take a finished run: --experiment, --model_dir and --register."""
    flags.DEFINE_string("experiment", None, "Registered experiment that was trained.", required=required)
    flags.DEFINE_string(
        "model_dir", None, "Folder of the training run, whose newest checkpoint is taken.", required=required
    )
    _define_register()


def _define_register():
    flags.DEFINE_multi_string(
        "register", [], "Module that registers experiments, such as keras_nonlocal.demo.experiments."
    )


def register():
    """Imports the modules of --register. Raises UserError for one that is not there."""
    for name in FLAGS.register:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # a fault inside the module
            raise errors.UserError(
                f"--register {name}: there is no such module; is its folder in PYTHONPATH?"
            ) from None


def params():
    """The locked configuration that the flags ask for; UserError for one that is not there."""
    from keras_nonlocal.tfm import train

    register()
    FLAGS.config_file = [configs.path(each) for each in FLAGS.config_file or []]
    return train.parse_experiment(FLAGS)
