"""A trained model in, a model out, of either Keras."""

from keras_nonlocal.surgery.folding import fold_norms
from keras_nonlocal.surgery.masked import masked

__all__ = ["fold_norms", "masked"]
