"""Non-local neural networks (Wang, Girshick, Gupta, He, CVPR 2018) for Keras 3; for tf_keras see keras_nonlocal.tfm."""

from keras_nonlocal import analysis, models, surgery, weights
from keras_nonlocal._version import __version__
from keras_nonlocal.analysis import cost, plot
from keras_nonlocal.analysis.advise import advise
from keras_nonlocal.analysis.attention_maps import attention_maps
from keras_nonlocal.layers import BatchNormalization, Conv3D, MaxPooling3D, NonLocal1D, NonLocal2D, NonLocal3D
from keras_nonlocal.surgery import inflate, insert

__all__ = [
    "BatchNormalization",
    "Conv3D",
    "MaxPooling3D",
    "NonLocal1D",
    "NonLocal2D",
    "NonLocal3D",
    "__version__",
    "advise",
    "analysis",
    "attention_maps",
    "cost",
    "inflate",
    "insert",
    "models",
    "plot",
    "surgery",
    "weights",
]
