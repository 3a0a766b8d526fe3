"""What `import keras_nonlocal` gives: the names that programs may rely on, and what an editor shows of them."""

import inspect
from typing import get_args

import keras
import pytest

import keras_nonlocal
from keras_nonlocal import analysis, export, models, serving, surgery, weights
from keras_nonlocal.analysis import attended
from keras_nonlocal.export import explain
from keras_nonlocal.layers import non_local
from keras_nonlocal.ops import attend, pairwise
from keras_nonlocal.serving import client as serving_client
from keras_nonlocal.tfm import layers as tfm_layers

LAYERS = ("NonLocal1D", "NonLocal2D", "NonLocal3D")
# Modules whose functions, and classes' methods, say what they take and give.
ANALYSES = (
    attended,
    analysis.advise,
    analysis.attention_maps,
    analysis.attention_numbers,
    analysis.blocks,
    analysis.cost,
    analysis.plot,
    analysis.receptive_field,
    analysis.summaries,
)
ANNOTATED = (keras_nonlocal, tfm_layers, export, models, surgery, explain, serving_client, *ANALYSES)


def callables():
    """Every public function, and of every public class the methods that are the package's own."""
    for module in ANNOTATED:
        for name in getattr(module, "__all__", sorted(vars(module))):
            value = getattr(module, name)
            if name.startswith("_") or not getattr(value, "__module__", "").startswith(module.__name__):
                continue
            is_layer = hasattr(value, "get_config")  # which has many methods that only Keras calls
            found = [value] if inspect.isfunction(value) else inspect.getmembers_static(value, inspect.isfunction)
            for each in found:
                method, function = each if isinstance(each, tuple) else ("", each)
                wanted = method in ("__init__", "call") if is_layer else not method.startswith("_")
                if wanted and function.__module__.startswith("keras_nonlocal"):
                    yield pytest.param(function, id=f"{module.__name__}.{name}.{method}".rstrip("."))


def public(module):
    return {name for name in module.__all__ if hasattr(module, name)}


def test_the_public_names():
    layers = {*LAYERS, "BatchNormalization", "Conv3D", "MaxPooling3D"}
    rooms = {"analysis", "cost", "models", "plot", "surgery", "weights"}
    functions = {"advise", "attention_maps", "inflate", "insert"}
    assert public(keras_nonlocal) == {*layers, *rooms, *functions, "__version__"}
    assert public(export) == {"Options", "Signature", "convert", "export_model", "load_model", "publish", "write"}
    assert public(surgery) == {"fold_norms", "inflate", "insert", "masked"}
    tools = {"advise", "attention_maps", "attention_numbers", "blocks", "cost", "plot", "receptive_field", "summaries"}
    assert public(analysis) == tools
    assert public(models) == {"C2D", "I3D", "describe", "get", "list"}
    assert public(serving) == {"Client"}
    assert public(weights) == {"Checkpoint", "CheckpointError", "build", "load", "read"}
    assert keras_nonlocal.cost is analysis.cost
    assert keras_nonlocal.plot is analysis.plot
    assert keras_nonlocal.attention_maps is analysis.attention_maps.attention_maps


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("home", [keras_nonlocal, tfm_layers], ids=["keras", "tf_keras"])
def test_a_signature_shows_every_argument(home, name):
    layer_class = getattr(home, name)
    shown = inspect.signature(layer_class).parameters
    base = keras.layers.Layer().get_config()
    assert set(layer_class().get_config()) - set(base) - {"dtype", "batch_input_shape"} <= set(shown)
    assert shown["pairwise"].default == "embedded_gaussian"
    assert shown["pool_size"].default == ((1, 2, 2) if name == "NonLocal3D" else 2)


@pytest.mark.parametrize("function", callables())
def test_a_signature_says_what_it_takes_and_gives(function):
    signature = inspect.signature(function)
    said = [parameter.annotation for name, parameter in signature.parameters.items() if name != "self"]
    assert inspect.Signature.empty not in [*said, signature.return_annotation]


def test_choices_are_spelled_out():
    """An editor lists what an argument may be: the same as the layer takes."""
    arguments = inspect.signature(keras_nonlocal.NonLocal3D).parameters
    assert get_args(arguments["pairwise"].annotation) == tuple(pairwise.FORMS)
    assert get_args(arguments["extent"].annotation) == non_local.EXTENTS[3]
    implementations = {name for form in pairwise.FORMS.values() for name in attend.implementations(form)}
    assert set(get_args(arguments["implementation"].annotation)) == implementations
