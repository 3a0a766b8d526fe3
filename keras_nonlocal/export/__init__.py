"""SavedModels for TensorFlow Serving: the signatures of a model of either Keras, and what writes and publishes them."""

from keras_nonlocal.export.saved_model import publish, write
from keras_nonlocal.export.signatures import Signature

__all__ = ["Signature", "publish", "write"]
