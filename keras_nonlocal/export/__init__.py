"""SavedModels for TensorFlow Serving: the signatures of a model of either Keras, and what writes and publishes them."""

from keras_nonlocal.export.loading import load_model
from keras_nonlocal.export.model import export_model
from keras_nonlocal.export.options import Options
from keras_nonlocal.export.saved_model import publish, write
from keras_nonlocal.export.signatures import Signature

__all__ = ["Options", "Signature", "export_model", "load_model", "publish", "write"]
