"""What `import keras_nonlocal` gives: the names that programs may rely on, and what an editor shows of them."""

import inspect

import keras
import pytest

import keras_nonlocal
from keras_nonlocal import analysis, models, surgery, weights
from keras_nonlocal.tfm import layers as tfm_layers

LAYERS = ("NonLocal1D", "NonLocal2D", "NonLocal3D")


def public(module):
    return {name for name in module.__all__ if hasattr(module, name)}


def test_the_public_names():
    layers = {*LAYERS, "BatchNormalization", "Conv3D", "MaxPooling3D"}
    rooms = {"analysis", "cost", "models", "surgery", "weights"}
    assert public(keras_nonlocal) == {*layers, *rooms, "__version__"}
    assert public(surgery) == {"fold_norms"}
    assert public(analysis) == {"attention_maps", "cost"}
    assert public(models) == {"C2D", "I3D", "describe", "get", "list"}
    assert public(weights) == {"Checkpoint", "CheckpointError", "build", "load", "read"}
    assert keras_nonlocal.cost is analysis.cost


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("home", [keras_nonlocal, tfm_layers], ids=["keras", "tf_keras"])
def test_a_signature_shows_every_argument(home, name):
    layer_class = getattr(home, name)
    shown = inspect.signature(layer_class).parameters
    base = keras.layers.Layer().get_config()
    assert set(layer_class().get_config()) - set(base) - {"dtype", "batch_input_shape"} <= set(shown)
    assert shown["pairwise"].default == "embedded_gaussian"
    assert shown["pool_size"].default == ((1, 2, 2) if name == "NonLocal3D" else 2)
