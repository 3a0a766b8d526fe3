"""Folding of batch norms in models of both flavours: what is folded, what is not, and that the outputs stay."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from blocks import FLAVOURS, FORMS, random_model

from keras_nonlocal import models, surgery
from keras_nonlocal.layers import folding
from keras_nonlocal.layers.batch_norm import FusedBatchNormMixin
from keras_nonlocal.layers.non_local import NonLocalMixin
from keras_nonlocal.tfm.backbones import video_resnet as video_backbones

flavours = pytest.mark.parametrize("flavour", FLAVOURS)
SMALL = dict(block_counts=(1, 2, 1, 1), width=4)
CLIP = (4, 24, 24, 3)


def clips(shape=CLIP, batch=2, seed=1):
    return np.random.default_rng(seed).normal(size=(batch, *shape)).astype("float32")


def layers_of(model):
    """All layers, those of models inside too."""
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from layers_of(layer)


def names(model):
    """A sequential model does not list its input layer."""
    return [layer.name for layer in layers_of(model) if type(layer).__name__ != "InputLayer"]


def norms(model, flavour):
    own = FLAVOURS[flavour].keras.layers.BatchNormalization
    found = [layer for layer in layers_of(model) if isinstance(layer, own)]
    blocks = [layer for layer in layers_of(model) if isinstance(layer, NonLocalMixin)]
    inside = [block.norm for block in blocks if block.norm is not None]
    return [layer.name for layer in found + inside]


def check(model, x, flavour, tolerance=1e-5, left=()):
    """Folds, and checks outputs, names, that the model is as before, and which norms are left."""
    before, expected = model.get_weights(), model(x, training=False)
    calls = [len(layer._inbound_nodes) for layer in layers_of(model)]
    folded = surgery.fold_norms(model)
    found = folded(x, training=False)
    tf.nest.assert_same_structure(expected, found)
    for a, b in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
        assert a.dtype == b.dtype
        a, b = (np.asarray(tf.cast(value, tf.float32)) for value in (a, b))
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())
        assert np.abs(b).max() > 1e-3
    assert sorted(norms(folded, flavour)) == sorted(left)
    assert (folded.name, folded.output_names) == (model.name, model.output_names)
    assert [x._keras_history[0].name for x in folded.inputs] == [x._keras_history[0].name for x in model.inputs]
    assert [x.shape for x in tf.nest.flatten(folded.output)] == [x.shape for x in tf.nest.flatten(model.output)]
    assert names(folded) == names(model)
    assert [len(layer._inbound_nodes) for layer in layers_of(model)] == calls
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    for a, b in zip(*map(tf.nest.flatten, (model(x, training=False), expected)), strict=True):
        np.testing.assert_allclose(tf.cast(a, tf.float32), tf.cast(b, tf.float32), rtol=1e-6, atol=1e-6)
    return folded


@flavours
def test_the_video_networks_are_left_without_norms(flavour):
    arguments = dict(non_local={"res2": [0], "res3": [1]}, **SMALL)
    if flavour == "keras":
        model = models.I3D(input_shape=(None, None, None, 3), inflate="3x3x3", include_top=False, **arguments)
    else:
        model = video_backbones.VideoResNet(inflate="3x1x1", **arguments)
    random_model(model)
    folded = check(model, clips(), flavour)
    assert folded.count_params() < model.count_params()
    assert not any(isinstance(layer, FusedBatchNormMixin) for layer in folded.layers)
    other = clips((6, 40, 32, 3), 1)  # sizes may be unknown
    for a, b in zip(*map(tf.nest.flatten, (folded(other), model(other))), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())


@flavours
@pytest.mark.parametrize("pairwise", FORMS)
def test_every_form_of_the_block(flavour, pairwise):
    package = FLAVOURS[flavour]
    inputs = package.keras.Input((5, 6, 8))
    layer = package.layers.NonLocal2D(pairwise, 3, use_out_bias=pairwise != "gaussian", name="block")
    model = random_model(package.keras.Model(inputs, layer(inputs)))
    folded = check(model, clips((5, 6, 8)), flavour)
    block = folded.get_layer("block")
    assert block.norm is None and block.use_out_bias and block.pairwise == pairwise
    assert {**block.get_config(), "norm": "batch_norm", "use_out_bias": layer.use_out_bias} == layer.get_config()


@flavours
def test_a_block_at_its_start_stays_the_identity(flavour):
    package = FLAVOURS[flavour]
    inputs = package.keras.Input((4, 4, 6))
    folded = surgery.fold_norms(package.keras.Model(inputs, package.layers.NonLocal2D()(inputs)))
    assert np.array_equal(folded(clips((4, 4, 6))), clips((4, 4, 6)))


def linear_layers(layers, ours):
    """Every kind of layer that takes a norm, as (layer, rank of its input)."""
    return [
        (layers.Dense(5), 2),
        (layers.Dense(5, use_bias=False), 4),
        (layers.Conv1D(4, 3, padding="causal"), 3),
        (layers.Conv2D(6, 3, strides=2, groups=2), 4),
        (layers.Conv3D(4, 2, use_bias=False, padding="same"), 5),
        (layers.Conv1DTranspose(5, 3), 3),
        (layers.Conv2DTranspose(5, 3, strides=2, use_bias=False), 4),
        (layers.Conv3DTranspose(5, 2), 5),
        (layers.DepthwiseConv1D(3, depth_multiplier=2), 3),
        (layers.DepthwiseConv2D(3, depth_multiplier=3, use_bias=False), 4),
        (layers.SeparableConv1D(5, 3, depth_multiplier=2), 3),
        (layers.SeparableConv2D(5, 3), 4),
        (ours.Conv3D(4, (1, 3, 3), strides=(1, 2, 2), use_bias=False), 5),
    ]


@flavours
@pytest.mark.parametrize("index", range(13))
def test_every_linear_layer_takes_a_norm(flavour, index):
    package = FLAVOURS[flavour].keras
    layer, rank = linear_layers(package.layers, FLAVOURS[flavour].layers)[index]
    shape = (6,) * (rank - 2) + (4,)
    inputs = package.Input(shape)
    options = [{}, {"scale": False}, {"center": False, "epsilon": 0.1}, {"axis": rank - 1}][index % 4]
    x = package.layers.BatchNormalization(**options)(layer(inputs))
    check(random_model(package.Model(inputs, package.layers.ReLU()(x))), clips(shape, 3), flavour)


def ways_not_to_fold(flavour):
    """Models as {name: (model, norms that stay)}."""
    package = FLAVOURS[flavour].keras
    layers = package.layers

    def conv(name="conv", **options):
        return layers.Conv2D(4, 3, padding="same", name=name, **options)

    def norm(name="norm", **options):
        return layers.BatchNormalization(name=name, **options)

    def model(build):
        inputs = package.Input((5, 5, 4), name="image")
        return random_model(package.Model(inputs, build(inputs), name="network"))

    shared, shared_norm = conv("shared"), norm("shared_norm")

    def used_twice(x):
        x = conv()(x)
        return layers.Add(name="sum")([norm()(x), x])

    def used_by_operation(x):
        x = conv()(x)
        return norm()(x) * x

    def two_norms(x):
        x = conv()(x)
        return [norm("a")(x), norm("b")(x)]

    class Own(layers.Conv2D):
        pass

    return {
        "after the input": (model(norm()), ["norm"]),
        "after an activation": (model(lambda x: norm()(conv(activation="relu")(x))), ["norm"]),
        "after a pooling": (model(lambda x: norm()(layers.MaxPooling2D(name="pool")(conv()(x)))), ["norm"]),
        "a shared convolution": (model(lambda x: norm("b")(shared(norm("a")(shared(x))))), ["a", "b"]),
        "a shared norm": (model(lambda x: shared_norm(conv("b")(shared_norm(conv("a")(x))))), ["shared_norm"]),
        "used twice": (model(used_twice), ["norm"]),
        "used by an operation": (model(used_by_operation), ["norm"]),
        "two norms": (model(two_norms), ["a", "b"]),
        "an output too": (model(lambda x: [(y := conv()(x)), norm()(y)]), ["norm"]),
        "another axis": (model(lambda x: norm(axis=1)(conv()(x))), ["norm"]),
        "always training": (model(lambda x: norm(momentum=1.0)(conv()(x), training=True)), ["norm"]),
        "a subclass": (model(lambda x: norm()(Own(4, 3, name="own")(x))), ["norm"]),
    }


WAYS = [
    "after the input", "after an activation", "after a pooling", "a shared convolution", "a shared norm", "used twice",
    "used by an operation", "two norms", "an output too", "another axis", "always training", "a subclass",
]  # fmt: skip


@flavours
@pytest.mark.parametrize("way", WAYS)
def test_what_cannot_be_folded_stays(flavour, way):
    ways = ways_not_to_fold(flavour)
    assert list(ways) == WAYS
    model, left = ways[way]
    check(model, clips((5, 5, 4)), flavour, left=left)


@flavours
def test_a_subclass_of_our_convolution_stays(flavour):
    class Own(FLAVOURS[flavour].layers.Conv3D):
        pass

    package = FLAVOURS[flavour].keras
    inputs = package.Input((2, 5, 5, 3))
    norm = package.layers.BatchNormalization(name="norm")
    model = package.Model(inputs, norm(Own(4, (1, 3, 3), name="own")(inputs)))
    check(random_model(model), clips((2, 5, 5, 3)), flavour, left=["norm"])


@flavours
def test_folds_what_is_called_in_other_ways(flavour):
    package = FLAVOURS[flavour].keras
    layers = package.layers
    inputs = [package.Input((5, 5, 4), name=name) for name in ("a", "b")]
    frozen = layers.BatchNormalization(name="frozen", trainable=False)
    x = frozen(layers.Conv2D(4, 1)(inputs[0]), training=False)
    y = layers.BatchNormalization(dtype="float32")(layers.Conv2D(4, 3, padding="same")(inputs[1]))
    x = layers.BatchNormalization()(layers.Dense(3)(2 * x + y))  # operations between layers
    model = random_model(package.Model({"a": inputs[0], "b": inputs[1]}, {"x": x, "sum": y[..., :2] - 1.0}))
    folded = check(model, {"a": clips((5, 5, 4)), "b": clips((5, 5, 4), seed=2)}, flavour)
    assert folded.get_layer("frozen").name == "frozen"


def nested(flavour):
    """Models in models: one called twice, and a sequential one."""
    package = FLAVOURS[flavour].keras
    layers = package.layers
    inputs = package.Input((6, 6, 3), name="inner_image")
    x = layers.ReLU()(layers.BatchNormalization(name="inner_norm")(layers.Conv2D(3, 3, padding="same")(inputs)))
    inner = package.Model(inputs, {"features": x, "mean": layers.GlobalAveragePooling2D()(x)}, name="inner")
    head = package.Sequential(
        [package.Input((3,)), layers.Dense(4), layers.BatchNormalization(name="head_norm")], name="head"
    )
    image = package.Input((6, 6, 3), name="image")
    first = inner(image)
    second = inner(first["features"])
    x = layers.BatchNormalization(name="between")(second["features"])  # behind a model, which is no convolution
    return random_model(package.Model(image, [head(second["mean"]), x], name="outer"))


@flavours
def test_models_inside_models(flavour):
    folded = check(nested(flavour), clips((6, 6, 3)), flavour, left=["between"])
    assert folded.get_layer("inner").name == "inner" and len(folded.get_layer("inner")._inbound_nodes) >= 2


@flavours
def test_a_model_inside_that_always_trains_keeps_its_norms(flavour):
    package = FLAVOURS[flavour].keras
    layers = package.layers
    inputs = package.Input((6, 6, 3))
    x = layers.BatchNormalization(name="norm", momentum=1.0)(layers.Conv2D(3, 3)(inputs))
    inner = package.Model(inputs, x, name="inner")
    image = package.Input((6, 6, 3))
    for training, left in ((True, ["norm"]), (False, [])):
        model = random_model(package.Model(image, layers.ReLU(name="relu")(inner(image, training=training))))
        check(model, clips((6, 6, 3)), flavour, left=left)


@flavours
def test_a_sequential_model(flavour):
    package = FLAVOURS[flavour].keras
    layers = package.layers
    model = package.Sequential(
        [package.Input((6, 6, 3)), layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU()]
    )
    x = clips((6, 6, 3))
    random_model(model)
    folded = surgery.fold_norms(model)
    assert norms(folded, flavour) == []
    np.testing.assert_allclose(folded(x), model(x), rtol=1e-5, atol=1e-5)


@flavours
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "float64"])
def test_dtypes_are_kept(flavour, policy):
    package = FLAVOURS[flavour]
    layers = package.keras.layers
    inputs = package.keras.Input((3, 6, 6, 4), dtype="float64" if policy == "float64" else "float32")
    x = layers.Conv3D(8, (1, 3, 3), dtype=policy, name="conv")(inputs)
    x = package.layers.BatchNormalization(dtype=policy)(x)
    x = package.layers.NonLocal3D(dtype=policy, name="block")(layers.ReLU(dtype=policy)(x))
    model = random_model(package.keras.Model(inputs, x))
    x = clips((3, 6, 6, 4)).astype("float64" if policy == "float64" else "float32")
    folded = check(model, x, flavour, {"mixed_bfloat16": 3e-2, "mixed_float16": 4e-3, "float64": 1e-12}[policy])
    for name in ("conv", "block"):
        assert [v.dtype for v in folded.get_layer(name).weights][0] == model.get_layer(name).weights[0].dtype
        assert folded.get_layer(name).dtype_policy.name == policy


def folded_model(flavour):
    """A small model with a convolution and a block of ours, folded."""
    package = FLAVOURS[flavour]
    inputs = package.keras.Input(CLIP)
    x = package.layers.Conv3D(4, (1, 3, 3), strides=(1, 2, 2))(inputs)
    x = package.layers.NonLocal3D()(package.layers.BatchNormalization()(x))
    return surgery.fold_norms(random_model(package.keras.Model(inputs, x)))


@flavours
def test_training_and_folding_again_change_nothing(flavour):
    folded = folded_model(flavour)
    weights = folded.get_weights()
    np.testing.assert_array_equal(folded(clips(), training=True), folded(clips(), training=False))
    again = check(folded, clips(), flavour)
    for found in (folded, again):
        assert all(np.array_equal(x, y) for x, y in zip(weights, found.get_weights(), strict=True))


@flavours
def test_saves_and_loads(flavour, tmp_path):
    folded = folded_model(flavour)
    folded.save(tmp_path / "model.keras")
    loaded = FLAVOURS[flavour].keras.models.load_model(tmp_path / "model.keras")
    folded.export(str(tmp_path / "saved"))
    served = tf.saved_model.load(str(tmp_path / "saved"))
    graph = served.signatures["serving_default"].graph
    assert not [op.name for op in graph.get_operations() if "BatchNorm" in op.type]
    for found in (loaded, served.serve):
        np.testing.assert_allclose(found(clips()), folded(clips()), rtol=1e-5, atol=1e-5)


def test_a_compiled_model_with_a_loss_of_its_own():
    model = nested("keras")
    model.compile("sgd", loss=lambda y, p: keras.ops.mean(p))
    check(model, clips((6, 6, 3)), "keras", left=["between"])


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.norm = keras.layers.BatchNormalization()

    def call(self, x):
        return self.norm(x)


def test_models_that_are_not_functional_are_named():
    with pytest.raises(ValueError, match="`model` must be a functional model.*Received: model of class Subclassed"):
        surgery.fold_norms(Subclassed())
    with pytest.raises(ValueError, match="Received: model of class Sequential"):
        surgery.fold_norms(tf_keras.Sequential([tf_keras.layers.Dense(2)]))
    for wrong in (tf.Module(), keras.layers.Dense(2), None):
        with pytest.raises(TypeError, match="`model` must be a model of keras or tf_keras"):
            surgery.fold_norms(wrong)


@pytest.mark.parametrize("change", [lambda block: block.out.enable_lora(2), lambda block: block.theta.quantize("int8")])
def test_a_block_that_keras_has_changed_inside_is_named(change):
    inputs = keras.Input((4, 4, 6))
    model = keras.Model(inputs, FLAVOURS["keras"].layers.NonLocal2D(name="block")(inputs))
    change(model.get_layer("block"))
    with pytest.raises(ValueError, match="'block', with other weights .* fold the norms before that"):
        surgery.fold_norms(model)


@flavours
def test_the_linear_activation_is_keras_own(flavour):
    def linear(x):
        return x * x

    layers = FLAVOURS[flavour].keras.layers
    assert folding.takes_norm(layers.Dense(2)) and folding.takes_norm(layers.Dense(2, activation="linear"))
    assert not folding.takes_norm(layers.Dense(2, activation=linear))
