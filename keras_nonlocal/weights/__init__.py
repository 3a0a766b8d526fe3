"""The peers' trained weights in our networks: the official Caffe2 code's, SlowFast's, mmaction2's, and safetensors."""

from keras_nonlocal.weights.building import build
from keras_nonlocal.weights.formats.values import CheckpointError
from keras_nonlocal.weights.loading import load
from keras_nonlocal.weights.reading import Checkpoint, read

__all__ = ["Checkpoint", "CheckpointError", "build", "load", "read"]
