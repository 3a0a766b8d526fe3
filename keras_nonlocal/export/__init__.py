"""A model of either Keras leaves it: as a SavedModel for TensorFlow Serving, or as a file of LiteRT or ONNX."""

from keras_nonlocal.export.conversion import convert
from keras_nonlocal.export.loading import load_model
from keras_nonlocal.export.model import export_model
from keras_nonlocal.export.options import Options
from keras_nonlocal.export.saved_model import publish, write
from keras_nonlocal.export.signatures import Signature

__all__ = ["Options", "Signature", "convert", "export_model", "load_model", "publish", "write"]
