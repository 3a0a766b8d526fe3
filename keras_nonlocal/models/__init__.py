"""The paper's video networks for Keras 3; for tf_keras they are a backbone, see keras_nonlocal.tfm."""

from keras_nonlocal.models.c2d import C2D, I3D
from keras_nonlocal.models.registry import describe, get, list

__all__ = ["C2D", "I3D", "describe", "get", "list"]
