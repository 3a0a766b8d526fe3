"""Models that take a mask: inputs of several sizes, padded into one batch, are answered as each of them alone."""

import numpy as np
import pytest
import tensorflow as tf
from blocks import FLAVOURS, FORMS, ONE_FLAVOUR, make_random, random_model

from keras_nonlocal import models, surgery
from keras_nonlocal.layers.non_local import EXTENTS
from keras_nonlocal.tfm import video_classifier
from keras_nonlocal.tfm.backbones import video_resnet as video_backbones

flavours = pytest.mark.parametrize("flavour", FLAVOURS)
one_flavour = pytest.mark.parametrize("flavour", ONE_FLAVOUR)
OPEN_CLIP = (None, None, None, 3)
# Odd and even, and each the largest along another axis.
CLIPS = ((4, 40, 33), (8, 37, 29), (5, 25, 41), (3, 24, 24))
IMAGES = ((12, 9), (7, 16), (11, 11), (16, 15))
SEQUENCES = ((20,), (13,), (8,), (17,))


def padded_batch(sizes, channels, garbage=np.nan, seed=1, longer=0):
    """Random examples of these sizes; all in one array, with garbage beyond their ends; and its mask."""
    rng = np.random.default_rng(seed)
    shape = tuple(np.max(sizes, 0) + longer)
    x, mask, alone = (
        np.full((len(sizes), *shape, channels), garbage, "float32"),
        np.zeros((len(sizes), *shape), bool),
        [],
    )
    for i, size in enumerate(sizes):
        box = (i, *map(slice, size))
        alone.append(rng.normal(size=(*size, channels)).astype("float32"))
        x[box], mask[box] = alone[-1], True
    return x, mask, alone


def check(model, sizes, tolerance=1e-5, call=None, **kwargs):
    """Each answer to a padded batch is that of the model to the example alone."""
    x, mask, alone = padded_batch(sizes, model.inputs[0].shape[-1], **kwargs)
    found = surgery.masked(model)([x, mask])
    for i, example in enumerate(alone):
        wanted = (call or model)(example[None])
        tf.nest.assert_same_structure(found, wanted)
        for y, z in zip(*map(tf.nest.flatten, (found, wanted)), strict=True):
            assert y.dtype == z.dtype
            y, z = np.array(tf.cast(y[i], tf.float64)), np.array(tf.cast(z[0], tf.float64))
            box = tuple(map(slice, z.shape))
            assert np.abs(z).max() > 1e-2
            np.testing.assert_allclose(y[box], z, rtol=0, atol=tolerance * np.abs(z).max())
            y[box] = 0
            assert not y.any()  # beyond the end of an output with positions
    return found


def video_network(flavour, inflate="3x1x1", non_local=None, stem="official", temporal_stride=2, **block):
    """A tiny C2D or I3D of either Keras with a classifier."""
    arguments = dict(
        block_counts=(1, 2, 1, 1),
        width=4,
        stem=stem,
        temporal_stride=temporal_stride,
        non_local=non_local or {"res2": [0], "res3": [0, 1], "res4": [0]},
        non_local_block=block,
    )
    if flavour == "keras":
        build = models.I3D if inflate else models.C2D
        return random_model(
            build(input_shape=OPEN_CLIP, classes=5, **arguments, **({"inflate": inflate} if inflate else {}))
        )
    backbone = video_backbones.VideoResNet(inflate=inflate, **arguments)
    return random_model(video_classifier.VideoClassifier(backbone, 5, OPEN_CLIP, dropout_rate=0.5))


def check_video_network(model, sizes=CLIPS, **kwargs):
    is_dict = isinstance(model.input, dict)
    check(model, sizes, call=(lambda clip: model({"image": clip})) if is_dict else None, **kwargs)


def test_a_video_network():
    check_video_network(video_network("keras", "3x3x3"))


@pytest.mark.slow
@flavours
@pytest.mark.parametrize("inflate", [None, "3x1x1", "3x3x3"])
@pytest.mark.parametrize("extent", EXTENTS[3])
@pytest.mark.parametrize("pairwise", FORMS)
def test_every_video_network(flavour, inflate, extent, pairwise):
    # Several blocks of x . x one behind another grow beyond all numbers.
    non_local = {"res3": [1]} if pairwise == "unembedded_dot_product" else None
    check_video_network(video_network(flavour, inflate, non_local, pairwise=pairwise, extent=extent))


@pytest.mark.slow
@flavours
@pytest.mark.parametrize("stem", ["official", "slowfast", "paper", "mmaction2"])
@pytest.mark.parametrize("temporal_stride", [2, 8])
def test_every_stem(flavour, stem, temporal_stride):
    sizes = ((17, 40, 33), (24, 37, 29), (16, 25, 41))
    check_video_network(video_network(flavour, stem=stem, temporal_stride=temporal_stride), sizes)


def test_the_sliding_window_of_the_official_test():
    """Its average pooling, softmax and average over places."""
    model = models.C2D(
        input_shape=OPEN_CLIP, classes=5, window=(1, 1, 1), block_counts=(1, 1, 1, 1), width=4, non_local={"res3": [0]}
    )
    check_video_network(random_model(model))


@flavours
@pytest.mark.parametrize("pairwise", FORMS)
@pytest.mark.parametrize("extent", EXTENTS[3])
def test_a_block_told_of_whole_windows(flavour, pairwise, extent):
    """Pooling leaves out what fills no window: of the padded example as of the one alone."""
    for options in ({}, {"pool_before_projection": False}, {"pool_size": (2, 3, 2)}, {"group_frames": 2}):
        if options.get("group_frames") and extent == "space":
            continue
        layer, _ = make_random(flavour, 3, channels=6, pairwise=pairwise, extent=extent, **options)
        sizes = ((4, 5, 3), (2, 3, 7), (4, 3, 4))
        x, mask, alone = padded_batch(sizes, 6)
        z = np.asarray(layer(x, mask=mask, whole_windows=True))
        for i, example in enumerate(alone):
            wanted = np.asarray(layer(example[None]))[0]
            np.testing.assert_allclose(z[(i, *map(slice, sizes[i]))], wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def images(layers, ours):
    """Models of images by name, as functions of their input."""

    def squeeze_and_excite(x):
        gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
        return layers.Multiply()([x, layers.Dense(4, "sigmoid")(gate)])

    def plain(x):
        x = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
        x = layers.BatchNormalization()(x)
        x = ours.NonLocal2D()(x)
        x = layers.Dropout(0.5)(x)
        return layers.Dense(3, "softmax")(layers.GlobalAveragePooling2D()(x))

    def branches(x):
        y = layers.DepthwiseConv2D(3, padding="same")(x)
        z = layers.SeparableConv2D(3, 3, dilation_rate=2, padding="same")(x)
        x = layers.Concatenate()([y, z, layers.LayerNormalization()(x)])
        x = layers.Conv2D(4, 1, strides=2, padding="same")(x)
        x = ours.NonLocal2D("dot_product", pool_size=None)(x)
        x = layers.Average()([x, layers.LeakyReLU()(x)])
        return layers.Flatten()(layers.GlobalMaxPooling2D(keepdims=True)(x))

    def poolings(x):
        x = layers.AveragePooling2D(3, strides=1, padding="same")(x)
        x = layers.MaxPooling2D(3, strides=1, padding="same")(x)
        x = layers.ZeroPadding2D(((1, 0), (2, 1)))(x)
        x = layers.Conv2D(4, 3, strides=2, dilation_rate=1)(x)
        return squeeze_and_excite(layers.Softmax()(x))

    def same_with_strides(x):
        x = layers.Conv2D(4, 2, strides=2, padding="same")(x)
        return ours.NonLocal2D("concatenation", pool_size=(1, 2))(layers.ReLU()(x))

    return {
        "plain": plain,
        "branches": branches,
        "poolings": poolings,
        "same with strides": same_with_strides,
        "squeeze and excite": squeeze_and_excite,
    }


def image_network(flavour, name="plain"):
    keras = FLAVOURS[flavour].keras
    inputs = keras.Input((None, None, 4), name="image")
    outputs = images(keras.layers, FLAVOURS[flavour].layers)[name](inputs)
    return random_model(keras.Model(inputs, outputs))


@one_flavour
@pytest.mark.parametrize("garbage", [1e30, pytest.param(np.inf, marks=pytest.mark.slow)])
def test_whatever_stands_in_the_padding_counts_for_nothing(flavour, garbage):
    check(image_network(flavour), IMAGES[:2], garbage=garbage, longer=5)


@flavours
@pytest.mark.parametrize("name", ["plain", "branches", "poolings", "same with strides", "squeeze and excite"])
def test_networks_of_images(flavour, name):
    check(image_network(flavour, name), IMAGES)


@flavours
def test_a_network_of_sequences(flavour):
    package = FLAVOURS[flavour]
    layers = package.keras.layers
    model = package.keras.Sequential(
        [
            package.keras.Input((None, 5), name="signal"),
            layers.Conv1D(6, 3, strides=3, padding="causal"),
            layers.AveragePooling1D(2, strides=1, padding="same"),
            package.layers.NonLocal1D("gaussian", name="block"),
            layers.ZeroPadding1D(1),
            layers.MaxPooling1D(3, strides=1),
            layers.SpatialDropout1D(0.5),
            layers.GlobalMaxPooling1D(),
            layers.Dense(2),
        ]
    )
    check(random_model(model), SEQUENCES)


@flavours
def test_strided_same_pooling_where_the_remainders_agree(flavour):
    keras = FLAVOURS[flavour].keras
    inputs = keras.Input((None, None, 4))
    x = keras.layers.MaxPooling2D(3, strides=2, padding="same")(inputs)
    x = keras.layers.AveragePooling2D(3, strides=2, padding="same")(x)
    model = random_model(keras.Model(inputs, keras.layers.Conv2D(2, 3, strides=2, padding="same")(x)))
    check(model, ((16, 24), (8, 16), (24, 8)))
    odd = padded_batch(((16, 9), (16, 16)), 4)[:2]
    wrong = "layer max_pooling2d.*padding=same and stride 2, begins elsewhere in W.*build the model with zero padding"
    with pytest.raises(tf.errors.InvalidArgumentError, match=wrong):
        surgery.masked(model)(list(odd))


@flavours
def test_models_inside_models_and_several_outputs(flavour):
    keras = FLAVOURS[flavour].keras
    layers = keras.layers
    inputs = keras.Input((6, 6, 3), name="inner_image")  # of one size: the masked model takes any
    x = layers.BatchNormalization()(layers.Conv2D(3, 3, padding="same")(inputs))
    inner = keras.Model(inputs, {"features": x, "mean": layers.GlobalAveragePooling2D()(x)}, name="inner")
    head = keras.Sequential([keras.Input((3,)), layers.Dense(4), layers.BatchNormalization()], name="head")
    image = keras.Input((6, 6, 3), name="image")
    first = inner(image)
    second = inner(first["features"])
    x = layers.BatchNormalization(name="frozen")(second["features"], training=False)
    model = random_model(keras.Model(image, [head(second["mean"]), x, first], name="outer"))
    calls = [len(layer._inbound_nodes) for layer in model.layers]
    check(model, ((6, 6), (6, 6)))
    masked = surgery.masked(model)
    x, mask, alone = padded_batch(((6, 6), (4, 5)), 3, longer=2)
    again = surgery.masked(model)([alone[1][None], np.ones((1, 4, 5), bool)])
    for y, z in zip(*map(tf.nest.flatten, (masked([x, mask]), again)), strict=True):
        y, z = np.asarray(y)[1], np.asarray(z)[0]
        np.testing.assert_allclose(y[tuple(map(slice, z.shape))], z, rtol=0, atol=1e-5)
    assert [len(layer._inbound_nodes) for layer in model.layers] == calls
    assert masked.name == "outer" and [x._keras_history[0].name for x in masked.inputs] == ["image", "mask"]


@flavours
def test_the_weights_are_the_models_own(flavour):
    model = image_network(flavour)
    masked = surgery.masked(model)
    assert len(masked.weights) == len(model.weights)
    x, mask, _ = padded_batch(IMAGES[:2], 4)
    before = np.asarray(masked([x, mask]))
    random_model(model, seed=3)
    after = np.asarray(masked([x, mask]))
    assert np.abs(after - before).max() > 0.01
    # For inference, whatever it is called with.
    np.testing.assert_array_equal(np.asarray(masked([x, mask], training=True)), after)


@flavours
def test_norms_that_are_folded_stay_folded(flavour):
    check(surgery.fold_norms(image_network(flavour)), IMAGES[:2])


@one_flavour
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "float64"])
def test_other_dtypes(flavour, policy):
    package = FLAVOURS[flavour]
    layers, dtype = package.keras.layers, "float64" if policy == "float64" else "float32"
    inputs = package.keras.Input((None, None, 4), dtype=dtype)
    x = layers.Conv2D(8, 3, padding="same", dtype=policy)(inputs)
    x = layers.MaxPooling2D(3, strides=1, padding="same", dtype=policy)(x)
    x = package.layers.NonLocal2D(dtype=policy)(x)
    x = layers.GlobalAveragePooling2D(dtype=policy)(x)
    check(
        random_model(package.keras.Model(inputs, x)),
        IMAGES,
        {"mixed_bfloat16": 3e-2, "mixed_float16": 4e-3, "float64": 1e-12}[policy],
    )


@flavours
def test_saves_and_loads(flavour, tmp_path):
    masked = surgery.masked(image_network(flavour))
    x, mask, _ = padded_batch(IMAGES[:2], 4)
    wanted = np.asarray(masked([x, mask]))
    masked.save(tmp_path / "model.keras")
    loaded = FLAVOURS[flavour].keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(np.asarray(loaded([x, mask])), wanted, rtol=0, atol=1e-6)


def refused(flavour):
    """Layers that are refused, as {name: (function of the input, what is said)}."""
    keras = FLAVOURS[flavour].keras
    layers = keras.layers

    class Own(layers.Conv2D):
        pass

    return {
        "flatten": (layers.Flatten(), "'flatten.*' of class Flatten, which may bring positions together.*global pool"),
        "reshape": (layers.Reshape((36, 4)), "of class Reshape"),
        "transposed": (layers.Conv2DTranspose(3, 3), "of class Conv2DTranspose"),
        "own": (Own(3, 3), "of class Own"),
        "operator": (lambda x: x + 1.0, "which may bring positions together"),
        "softmax": (layers.Softmax(axis=1), "of class Softmax, over axis 1"),
        "norm": (layers.BatchNormalization(axis=2), "of class BatchNormalization, over axis"),
        "training": (lambda x: layers.BatchNormalization()(x, training=True), "called with training=True"),
        "first": (layers.GlobalAveragePooling2D(data_format="channels_first"), "of channels first"),
        "other positions": (
            lambda x: layers.Add()([x, layers.UpSampling2D(6)(layers.GlobalMaxPooling2D(keepdims=True)(x))]),
            "of class Add, which puts padded inputs together with others",
        ),
        "attention": (
            lambda x: FLAVOURS[flavour].layers.NonLocal2D()(x, return_attention_scores=True)[1],
            "of class NonLocal2D, called with more than its inputs",
        ),
    }


@flavours
@pytest.mark.parametrize(
    "name",
    ["flatten", "reshape", "transposed", "own", "operator", "softmax", "norm", "training", "first", "other positions",
     "attention"],
)  # fmt: skip
def test_layers_that_cannot_be_told_are_named(flavour, name):
    keras = FLAVOURS[flavour].keras
    build, said = refused(flavour)[name]
    inputs = keras.Input((6, 6, 4))
    inner = keras.Model(inputs, build(inputs))
    outer = keras.Input((6, 6, 4))
    for model in (inner, keras.Model(outer, keras.layers.ReLU()(inner(outer)))):
        with pytest.raises(ValueError, match=f"`model` must be of layers that can be told.*Received: layer .*{said}"):
            surgery.masked(model)


@flavours
def test_other_models_are_refused(flavour):
    keras = FLAVOURS[flavour].keras
    inputs = [keras.Input((6, 6, 4)), keras.Input((6, 6, 4))]
    with pytest.raises(ValueError, match="one input.*Received: model of inputs .*6, 6, 4.*6, 6, 4"):
        surgery.masked(keras.Model(inputs, keras.layers.Add()(inputs)))
    with pytest.raises(ValueError, match="one input.*Received"):
        surgery.masked(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))

    class Own(keras.Model):
        pass

    with pytest.raises(ValueError, match="must be a functional model.*Received: model of class Own"):
        surgery.masked(Own())
    with pytest.raises(TypeError, match="`model` must be a model of keras or tf_keras"):
        surgery.masked(keras.layers.Dense(2))


def in_graph(masked, rank):
    """A masked model as a function of a graph, as it is served."""
    channels = masked.inputs[0].shape[-1]
    specs = tf.TensorSpec([None] * (rank + 1) + [channels]), tf.TensorSpec([None] * (rank + 1), tf.bool)
    return tf.function(lambda x, mask: masked([x, mask])).get_concrete_function(*specs)


@one_flavour
def test_masks_that_are_no_boxes_are_refused(flavour):
    keras = FLAVOURS[flavour].keras
    inputs = keras.Input((None, None, 4))
    masked = surgery.masked(keras.Model(inputs, FLAVOURS[flavour].layers.NonLocal2D()(inputs)))
    served = in_graph(masked, 2)
    x, mask, _ = padded_batch(((4, 5), (6, 3)), 4)
    hole, empty = mask.copy(), mask.copy()
    hole[1, 2, 1] = False
    empty[0] = False
    box = "`mask` must be True in a box at the start of every axis"
    wrong = [
        (empty, "`mask` must have a True for every example"),
        (np.zeros_like(mask), "`mask` must have a True for every example"),
        (hole, box),
        (mask[:, ::-1], box),
        (mask[:, :, ::-1], box),
        (mask[:, :4], "`mask` must be .batch, positions.* of the sizes of the inputs"),
        (mask[:1], "`mask` must be .batch, positions.* of the sizes of the inputs"),
    ]
    for bad, said in wrong:
        with pytest.raises(tf.errors.InvalidArgumentError, match=said):
            served(tf.constant(x), tf.constant(bad))
    np.testing.assert_array_equal(np.asarray(served(tf.constant(x), tf.constant(mask)))[~mask], 0)


@one_flavour
def test_examples_that_are_too_small_are_refused(flavour):
    package = FLAVOURS[flavour]
    layers, ours = package.keras.layers, package.layers

    def two_lengths(x):
        return layers.Add(name="sum")([layers.MaxPooling3D(2)(x), layers.MaxPooling3D(2, padding="same")(x)])

    builds = [
        (layers.MaxPooling3D((1, 3, 3), name="pool"), "layer pool needs H of at least 3"),
        (ours.Conv3D(4, (3, 1, 1), name="conv"), "layer conv needs T of at least 3"),
        (
            ours.NonLocal3D(pool_size=(1, 2, 4), name="block"),
            r"layer block, with pool_size=\(1, 2, 4\), has no key along",
        ),
        (ours.NonLocal3D(group_frames=2, pool_size=1, name="block"), "must divide the number of frames. Layer block"),
        (two_lengths, "layer sum gets inputs of different sizes"),
    ]
    good = padded_batch(((4, 4, 4), (6, 6, 4)), 4)[:2]
    small = padded_batch(((1, 1, 3), (6, 6, 4)), 4)[:2]
    odd = padded_batch(((3, 4, 4), (6, 6, 4)), 4)[:2]
    for build, said in builds:
        inputs = package.keras.Input((None, None, None, 4))
        served = in_graph(surgery.masked(package.keras.Model(inputs, build(inputs))), 3)
        served(*map(tf.constant, good))
        with pytest.raises(tf.errors.InvalidArgumentError, match=said):
            served(*map(tf.constant, odd if build is two_lengths else small))
