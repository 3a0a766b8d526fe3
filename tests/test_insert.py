"""Non-local blocks put into trained models of both flavours: outputs stay to the last bit, and the rest stays too."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from blocks import FLAVOURS, random_model

import keras_nonlocal
from keras_nonlocal.analysis import blocks
from keras_nonlocal.layers.non_local import NonLocalMixin
from keras_nonlocal.surgery import functional, places

flavours = pytest.mark.parametrize("flavour", FLAVOURS)
AFTER = ["backbone/end", "film/motion", "sums", "steps"]
WORDS = 9


def rich_model(flavour):
    """Images by a nested model that is called twice, clips by a sequential one, masked words; two outputs."""
    package = FLAVOURS[flavour].keras
    layers = package.layers
    image, again = package.Input((8, 9, 3), name="image"), package.Input((None, None, 3), name="again")
    clip, words = package.Input((4, 6, 6, 3), name="clip"), package.Input((None,), name="words")
    x = package.Input((None, None, 3))
    y = layers.Conv2D(6, 3, padding="same", use_bias=False, name="conv")(x)
    y = layers.ReLU(name="end")(layers.BatchNormalization(name="norm")(y))
    backbone = package.Model(x, y, name="backbone")
    film = package.Sequential(
        [package.Input((4, 6, 6, 3)), layers.Conv3D(4, 2, name="motion"), layers.Activation("tanh", name="tanh")],
        name="film",
    )
    sums = layers.Add(name="sums")([backbone(image), layers.Conv2D(6, 1, name="shortcut")(image)])
    steps = layers.Embedding(WORDS, 6, mask_zero=True, name="embedding")(words)
    steps = layers.Dense(6, activation="tanh", name="steps")(steps)
    pooled = [
        layers.GlobalAveragePooling2D(name="of_sums")(sums),
        layers.GlobalMaxPooling2D(name="of_again")(backbone(again)),
        layers.GlobalAveragePooling3D(name="of_film")(film(clip)),
        layers.GlobalAveragePooling1D(name="of_steps")(steps),
    ]
    top = layers.Dense(5, name="top")(layers.Dropout(0.5, name="dropout")(layers.Concatenate(name="all")(pooled)))
    model = package.Model(
        {"image": image, "again": again, "clip": clip, "words": words}, {"scores": top, "map": sums}, name="rich"
    )
    return random_model(model)


def rich_inputs(seed=0):
    rng = np.random.default_rng(seed)
    shapes = {"image": (2, 8, 9, 3), "again": (2, 5, 7, 3), "clip": (2, 4, 6, 6, 3)}
    arrays = {name: rng.normal(size=shape).astype("float32") for name, shape in shapes.items()}
    words = rng.integers(1, WORDS, (2, 7))
    words[1, 4:] = 0
    return {**arrays, "words": words.astype("float32")}


def small_model(flavour, activation="relu"):
    layers = FLAVOURS[flavour].keras.layers
    return random_model(
        FLAVOURS[flavour].keras.Sequential(
            [
                FLAVOURS[flavour].keras.Input((6, 6, 3)),
                layers.Conv2D(4, 3, activation=activation, name="first"),
                layers.Conv2D(4, 3, padding="same", name="second"),
                layers.GlobalAveragePooling2D(name="pool"),
                layers.Dense(2, name="top"),
            ]
        )
    )


def small_images(batch=2):
    return np.random.default_rng(3).normal(size=(batch, 6, 6, 3)).astype("float32")


def same(a, b):
    tf.nest.map_structure(np.testing.assert_array_equal, a, b)


def wake(model):
    """Gives the norms of all blocks a gamma, as training would."""
    for block in blocks.paths(model).values():
        block.norm.gamma.assign(tf.ones_like(block.norm.gamma))


def loaded_layer_names(model):
    return sorted(path for path, place in places.find(model).items() if isinstance(place.layer, NonLocalMixin))


@pytest.fixture(scope="module", params=FLAVOURS)
def rich(request):
    model = rich_model(request.param)
    model.get_layer("shortcut").trainable = False
    model.get_layer("backbone").get_layer("norm").trainable = False
    return request.param, model, keras_nonlocal.insert(model, AFTER, inner_channels=2)


def test_outputs_stay_to_the_last_bit(rich):
    flavour, model, copy = rich
    x = rich_inputs()
    same(copy(x), model(x))
    assert np.abs(model(x)["scores"]).max() > 0.1
    added = {"backbone/end_nonlocal": 2, "film/motion_nonlocal": 3, "sums_nonlocal": 2, "steps_nonlocal": 1}
    found = blocks.paths(copy)
    assert {path: block.rank for path, block in found.items()} == added
    assert all(type(block).__module__ == FLAVOURS[flavour].layers.__name__ for block in found.values())
    assert copy.count_params() == model.count_params() + sum(block.count_params() for block in found.values())
    assert [functional.input_name(x) for x in copy.inputs] == [functional.input_name(x) for x in model.inputs]
    # Outputs do change once the blocks have learned something: they are really in the graph.
    before = [w.copy() for w in copy.get_weights()]
    wake(copy)
    assert all(np.abs(np.subtract(copy(x)[name], model(x)[name])).max() > 1e-6 for name in ("scores", "map"))
    copy.set_weights(before)


def test_what_was_frozen_stays_frozen_and_the_blocks_train(rich):
    _, model, copy = rich
    assert not copy.get_layer("shortcut").trainable and not copy.get_layer("backbone").get_layer("norm").trainable
    new = sum(len(block.trainable_weights) for block in blocks.paths(copy).values())
    assert new == 4 * 10  # kernels and biases of theta, phi, g and W_z, gamma and beta
    assert len(copy.trainable_weights) == len(model.trainable_weights) + new


def test_it_trains_and_leaves_the_original(rich):
    flavour, model, copy = rich
    x, weights, before = rich_inputs(), model.get_weights(), [w.copy() for w in copy.get_weights()]
    targets = {"scores": np.zeros((2, 5), "float32"), "map": np.zeros((2, 8, 9, 6), "float32")}

    def loss():  # without dropout
        return sum(float(np.mean(np.square(value))) for value in copy(x).values())

    copy.compile(FLAVOURS[flavour].keras.optimizers.SGD(1e-3), loss={"scores": "mse", "map": "mse"})
    start = loss()
    copy.fit(x, targets, epochs=3, verbose=0)
    assert loss() < start
    assert all(np.abs(block.norm.gamma).max() > 0 for block in blocks.paths(copy).values())
    same(weights, model.get_weights())
    copy.set_weights(before)


@pytest.mark.parametrize("form", ["model.keras", "model.h5", "x.weights.h5"])
def test_it_saves_and_loads(rich, tmp_path, form):
    flavour, model, copy = rich
    package, before = FLAVOURS[flavour].keras, [w.copy() for w in copy.get_weights()]
    random_model(copy, seed=5)
    path = str(tmp_path / form)
    if form == "x.weights.h5":
        copy.save_weights(path)
        loaded = keras_nonlocal.insert(model, AFTER, inner_channels=2)
        loaded.load_weights(path)
    elif form == "model.h5" and flavour == "keras":
        pytest.skip("the format of tf_keras")
    else:
        copy.save(path)
        loaded = package.models.load_model(path)
    same(loaded(rich_inputs()), copy(rich_inputs()))
    assert loaded_layer_names(loaded) == loaded_layer_names(copy)
    copy.set_weights(before)


CHOICES = {
    "a name": ("steps", ["steps"]),
    "the end of a path": ("end", ["backbone/end"]),
    "a model": ("film", ["film"]),
    "a pattern": ("s[tu]*s", ["sums", "steps"]),
    "a pattern of paths": ("backbone/*", ["backbone/conv", "backbone/norm", "backbone/end"]),
    "a function": (lambda layer: type(layer).__name__ == "Conv2D", ["backbone/conv", "shortcut"]),
    "a list": (["end", "backbone/e*", lambda layer: layer.name == "sums"], ["backbone/end", "sums"]),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_layers_are_chosen_by(rich, choice):
    after, expected = CHOICES[choice]
    assert sorted(place.path for place in places.choose(places.find(rich[1]), after)) == sorted(expected)


@flavours
def test_sequential_models_and_second_blocks(flavour):
    model = small_model(flavour)
    once = keras_nonlocal.insert(model, "first", pairwise="dot_product", norm=None)
    assert loaded_layer_names(once) == ["first_nonlocal"]
    assert once.get_layer("first_nonlocal").pairwise == "dot_product"
    random_model(once, seed=2)
    twice = keras_nonlocal.insert(once, "first", pool_size=None)
    assert loaded_layer_names(twice) == ["first_nonlocal", "first_nonlocal_1"]
    same(twice(small_images()), once(small_images()))


@flavours
def test_a_frozen_model_inside_stays_frozen_but_for_the_block(flavour):
    package = FLAVOURS[flavour].keras
    inner = small_model(flavour)
    inner.trainable = False
    inner.get_layer("top").trainable = True  # which the model around it overrules
    image = package.Input((6, 6, 3))
    model = package.Model(image, package.layers.Dense(3, name="new")(inner(image)))
    copy = keras_nonlocal.insert(model, "second")
    names = {getattr(weight, "path", weight.name).split("/")[-3:][0] for weight in copy.trainable_weights}
    assert len(copy.trainable_weights) == 2 + 10, names
    same(copy(small_images()), model(small_images()))


@flavours
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float64"])
def test_a_block_computes_as_the_layer_does(flavour, policy):
    package = FLAVOURS[flavour].keras
    image = package.Input((6, 6, 3))
    x = package.layers.Conv2D(4, 3, dtype=policy, name="first")(image)
    x = package.layers.Conv2D(4, 1, dtype="float32", name="second")(x)
    model = random_model(package.Model(image, x))
    copy = keras_nonlocal.insert(model, ["first", "second"])
    assert copy.get_layer("first_nonlocal").compute_dtype == policy.removeprefix("mixed_")
    assert copy.get_layer("second_nonlocal").compute_dtype == "float32"
    same(copy(small_images()), model(small_images()))


@flavours
def test_operations_and_lambdas_are_layers_like_others(flavour):
    package = FLAVOURS[flavour].keras
    image = package.Input((6, 6, 3))
    x = package.layers.Conv2D(3, 3, padding="same")(image)
    x = package.layers.Lambda(lambda x: x * 2, name="double")(x + image)
    model = random_model(package.Model(image, x))
    (operation,) = (path for path in places.find(model) if "add" in path)
    copy = keras_nonlocal.insert(model, [operation, "double"])
    assert len(blocks.paths(copy)) == 2
    same(copy(small_images()), model(small_images()))


@flavours
def test_masks_reach_the_block(flavour):
    """Padding counts for nothing in an awake block either."""
    package = FLAVOURS[flavour].keras
    words = package.Input((None,))
    x = package.layers.Embedding(WORDS, 6, mask_zero=True, name="embedding")(words)
    model = random_model(package.Model(words, package.layers.GlobalAveragePooling1D()(x)))
    copy = random_model(keras_nonlocal.insert(model, "embedding", pool_size=None))
    short = np.array([[3, 1, 4, 1]], "float32")
    padded = np.array([[3, 1, 4, 1, 0, 0, 0]], "float32")
    np.testing.assert_allclose(copy(padded), copy(short), rtol=1e-5, atol=1e-6)
    assert np.abs(np.subtract(copy(short), copy(short[:, :3]))).max() > 1e-2


def refused_models(package):
    """{name of an error: (model, after, arguments of the block, what the error says)}."""
    layers = package.layers

    class Inner(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.convolution = layers.Conv2D(4, 3, name="within")

        def call(self, inputs):
            return self.convolution(inputs)

    class Own(package.Model):
        def call(self, inputs):
            return inputs

    def model(*parts, shape=(6, 6, 3)):
        return package.Sequential([package.Input(shape), *parts])

    def conv(**options):
        return layers.Conv2D(4, 3, **{"name": "conv4_block1_out", **options})

    twice = package.Model(
        [a := package.Input((6, 6, 3)), b := package.Input((6, 6, 2))],
        [(act := layers.Activation("relu", name="act"))(a), act(b)],
    )
    end = layers.Dense(2, name="top")
    return {
        "unknown": (model(conv()), "conv4_block1_ot", {}, "names like it: ['conv4_block1_out']"),
        "far": (model(conv()), "zzz", {}, "`after` must name a layer of the model"),
        "flat": (model(layers.Flatten(), end), "top", {}, "shape (None, 2), not (batch, positions..., channels)"),
        "subclassed": (Own(), "top", {}, "`model` must be a functional model"),
        "inside": (model(Inner(name="inner")), "within", {}, "a layer inside 'inner' (Inner)"),
        "channels": (
            model(layers.ReLU(name="act"), shape=(6, 6, None)),
            "act",
            {},
            "shape (None, 6, 6, None), whose channels are not known",
        ),
        "small": (model(conv(), conv(name="b")), "*", {"pool_size": 3}, "too small for pool_size=(3, 3)"),
        "frames": (
            model(layers.Conv1D(4, 1, name="c"), shape=(7, 3)),
            "c",
            {"group_frames": 2, "pool_size": 1},
            "gives 7 frames, which group_frames=2 does not divide",
        ),
        "several channels": (twice, "act", {}, "several (rank, channels), [(4, 2), (4, 3)]"),
        "name": (model(conv()), "conv4_block1_out", {"name": "a"}, "`name` is made of the layer's"),
        "nothing": (model(conv()), [], {}, "`after` must choose at least one layer"),
        "no such layer": (model(conv()), lambda layer: False, {}, "`after` must choose at least one layer"),
        "form": (model(conv()), "conv4_block1_out", {"pairwise": "gauss"}, "`pairwise` must be one of"),
    }  # fmt: skip


@flavours
@pytest.mark.parametrize(
    "error",
    ["unknown", "far", "flat", "subclassed", "inside", "channels", "small", "frames", "several channels", "name"]
    + ["nothing", "no such layer", "form"],
)
def test_what_cannot_be_is_said_in_one_sentence(flavour, error):
    model, after, arguments, said = refused_models(FLAVOURS[flavour].keras)[error]
    with pytest.raises(ValueError, match=re.escape(said)) as raised:
        keras_nonlocal.insert(model, after, **arguments)
    assert "\n" not in str(raised.value)


def test_what_is_no_model_or_no_choice():
    with pytest.raises(TypeError, match="`model` must be a model of keras or tf_keras"):
        keras_nonlocal.insert("model", "top")
    with pytest.raises(TypeError, match="`after` must be the name of a layer"):
        keras_nonlocal.insert(small_model("keras"), 3)


@flavours
def test_what_a_layer_has_adapted_to_is_kept(flavour):
    package = FLAVOURS[flavour].keras
    norm = package.layers.Normalization(name="scaled")
    norm.adapt(small_images() * 3 + 1)
    model = package.Sequential([package.Input((6, 6, 3)), norm])
    same(keras_nonlocal.insert(model, "scaled")(small_images()), model(small_images()))


@flavours
def test_two_layers_of_one_name_are_told_apart(flavour):
    package = FLAVOURS[flavour].keras
    image = package.Input((6, 6, 3))
    a, b = (
        package.Sequential(
            [package.Input((6, 6, 3)), package.layers.Conv2D(3, 3, padding="same", name="conv")], name=name
        )
        for name in "ab"
    )
    model = random_model(package.Model(image, b(a(image))))
    with pytest.raises(ValueError, match=re.escape("['a/conv', 'b/conv']")):
        keras_nonlocal.insert(model, "conv")
    copy = keras_nonlocal.insert(model, ["a/conv", "b/conv"])
    assert list(blocks.paths(copy)) == ["a/conv_nonlocal", "b/conv_nonlocal"]
    same(copy(small_images()), model(small_images()))


def test_a_layer_that_cannot_be_copied_is_named():
    @keras.saving.register_keras_serializable("test_insert")
    class Forgetful(keras.layers.Layer):
        def __init__(self, units, **kwargs):
            super().__init__(**kwargs)
            self.units = units

        def get_config(self):
            return super().get_config()

        def call(self, inputs):
            return inputs * self.units

    model = keras.Sequential([keras.Input((6, 6, 3)), Forgetful(2, name="forgetful")])
    with pytest.raises(ValueError, match="'forgetful' is not: give Forgetful a `get_config`"):
        keras_nonlocal.insert(model, "forgetful")


APPLICATIONS = [
    *("ConvNeXtTiny", "DenseNet121", "EfficientNetB0", "EfficientNetV2B0", "InceptionResNetV2", "InceptionV3"),
    *("MobileNet", "MobileNetV2", "MobileNetV3Small", "NASNetMobile", "ResNet50", "ResNet50V2", "VGG16", "Xception"),
]


@pytest.mark.slow
@flavours
@pytest.mark.parametrize("name", APPLICATIONS)
def test_the_families_of_keras_applications(flavour, name, tmp_path):
    package = FLAVOURS[flavour].keras
    family = getattr(package.applications, name)
    model = family(weights=None, include_top=False, input_shape=(96, 96, 3), pooling="avg")
    legal = [path for path, place in places.find(model).items() if place.why_not() is None]
    chosen = [legal[len(legal) // 3], legal[2 * len(legal) // 3]]
    copy = keras_nonlocal.insert(model, chosen)
    x = np.random.default_rng(0).normal(size=(1, 96, 96, 3)).astype("float32")
    same(copy(x), model(x))
    assert len(blocks.paths(copy)) == 2
    wake(copy)
    path = str(tmp_path / "model.keras")
    copy.save(path)
    same(package.models.load_model(path)(x), copy(x))
