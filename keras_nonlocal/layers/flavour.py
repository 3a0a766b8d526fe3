"""What layers of both Kerases share: that they are used inside their own, on TensorFlow, and freeze what they make."""

import importlib
import os
import sys
from typing import Any

import tensorflow as tf

HOMES = {"keras": "keras_nonlocal", "tf_keras": "keras_nonlocal.tfm.layers"}
FLAVOURS = tuple(HOMES)


def imported():
    """The Keras packages that this process has imported, so that nobody need import the other one."""
    return [sys.modules[name] for name in FLAVOURS if name in sys.modules]


def home(keras):
    """The module with our layers for a Keras, imported when it is asked for: that of tf_keras comes with an extra."""
    return importlib.import_module(HOMES[keras.__name__])


class FlavourMixin:
    """Refuses the other Keras and other backends; put before a layer of keras or tf_keras, with `_keras` set."""

    _keras = None  # the Keras package that the layer belongs to

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        backend = self._keras.backend.backend()  # of tf_keras always TensorFlow
        if backend != "tensorflow":
            raise RuntimeError(
                f"keras_nonlocal.{type(self).__name__} computes with TensorFlow, but Keras runs on the backend "
                f"{backend!r}: set the environment variable KERAS_BACKEND=tensorflow before keras is imported. "
                f"Received: KERAS_BACKEND={os.environ.get('KERAS_BACKEND', '')!r}"
            )
        super().__init__(*args, **kwargs)

    def __call__(self, inputs, *args, **kwargs):
        self._check_flavour(inputs)
        return super().__call__(inputs, *args, **kwargs)

    def _freeze_sublayers(self):
        """To be called at the end of a build that makes sublayers and weights: in a frozen layer these would train."""
        if not self.trainable:
            # Either Keras hands it on to the sublayers that there are, but only where the attribute changes.
            self.trainable = True
            self.trainable = False

    def _check_flavour(self, inputs):
        # Keras would take the other's tensors and layers all the same, and lose the weights without a word.
        ours, name = self._keras.__name__, type(self).__name__
        (other,) = (flavour for flavour in FLAVOURS if flavour != ours)
        if type(inputs).__module__.split(".")[0] == other and type(inputs).__name__.endswith("KerasTensor"):
            where = f"was called on a symbolic tensor of {other}"
        elif _is_calling(other):
            where = f"was called inside a layer or model of {other}, which would not train or save its weights"
        else:
            return
        raise TypeError(f"This {name} is a {ours} layer and {where}: use {HOMES[other]}.{name}.")


def _is_calling(flavour):
    """Whether a layer of that Keras is being called. Neither Keras says so in public; tests hold that this is found."""
    if flavour == "keras":
        state = sys.modules.get("keras.src.backend.common.global_state")
        return state is not None and state.get_global_attribute("current_call_ctx") is not None
    utils = sys.modules.get("tf_keras.src.engine.base_layer_utils")
    return utils is not None and utils.call_context().in_call


def check_float_tensor(inputs):
    """Raises ValueError for inputs that are no dense tensor of floats."""
    symbolic = type(inputs).__name__ in ("RaggedKerasTensor", "SparseKerasTensor")  # of tf_keras
    flagged = getattr(inputs, "ragged", False) or getattr(inputs, "sparse", False)  # of Keras 3
    if symbolic or flagged or isinstance(inputs, tf.RaggedTensor | tf.SparseTensor | tf.IndexedSlices):
        raise ValueError(
            "`inputs` must be a dense tensor: make ragged ones dense with `.to_tensor()`, and say which positions are "
            f"valid with `mask`. Received: inputs={inputs!r:.200}"
        )
    dtype = getattr(inputs, "dtype", None)
    if dtype is not None and not tf.as_dtype(dtype).is_floating:
        raise ValueError(
            "`inputs` must be features of a floating dtype: cast them first, as with tf.cast(inputs, tf.float32). "
            f"Received: inputs of dtype {tf.as_dtype(dtype).name}"
        )
