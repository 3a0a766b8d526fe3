"""keras_nonlocal for tf_keras and tf-models-official. Importing it registers backbones, tasks and experiments."""

try:
    import official  # noqa: F401
    import tf_keras  # noqa: F401
except ImportError as error:
    raise ImportError(
        "keras_nonlocal.tfm needs tf_keras and tf-models-official: pip install 'keras_nonlocal[tfm]'."
    ) from error

from keras_nonlocal.tfm import backbones, experiments, layers, tasks

__all__ = ["backbones", "experiments", "layers", "tasks"]
