"""A trained model in, a model out, of either Keras."""

from keras_nonlocal.surgery.folding import fold_norms
from keras_nonlocal.surgery.inflate import inflate
from keras_nonlocal.surgery.insert import insert
from keras_nonlocal.surgery.masked import masked

__all__ = ["fold_norms", "inflate", "insert", "masked"]
