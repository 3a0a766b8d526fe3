"""keras_nonlocal for tf_keras and tf-models-official. Importing it registers backbones, tasks and experiments."""

from keras_nonlocal import errors

with errors.needs_extra("tfm"):
    import official  # noqa: F401
    import tf_keras  # noqa: F401

from keras_nonlocal.tfm import backbones, experiments, layers, tasks  # noqa: E402

__all__ = ["backbones", "experiments", "layers", "tasks"]
