"""Networks of clips made of networks of images, of both flavours: on a still clip they answer as on the image."""

import re

import numpy as np
import pytest
import tensorflow as tf
from blocks import FLAVOURS, random_model

import keras_nonlocal
from keras_nonlocal.surgery.inflate import inflated_kernel

flavours = pytest.mark.parametrize("flavour", FLAVOURS)


def network(flavour, top=True):
    """Every layer that is inflated, with a nested model, a non-local block and an input that is no image."""
    package, ours = FLAVOURS[flavour].keras, FLAVOURS[flavour].layers
    layers = package.layers
    image, number = package.Input((17, 18, 3), name="image"), package.Input((2,), name="number")
    x = layers.ZeroPadding2D(((1, 2), (0, 1)), name="border")(layers.Rescaling(0.5, 0.1, name="scaled")(image))
    x = layers.Conv2D(6, 3, strides=2, use_bias=False, name="stem")(x)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(axis=3, name="norm")(x))
    x = layers.MaxPooling2D(2, strides=1, padding="same", name="maxima")(x)
    inside = package.Input((None, None, 6))
    y = layers.Conv2D(4, 1, activation="relu", name="reduce")(inside)
    y = layers.Conv2D(6, 3, padding="same", name="conv")(layers.LayerNormalization(name="layer_norm")(y))
    x = package.Model(inside, layers.Add(name="sum")([inside, y]), name="block")(x)
    x = ours.NonLocal2D("dot_product", 3, name="attention")(x)
    x = layers.Concatenate(axis=3, name="both")([x, layers.Activation("tanh", name="tanh")(x + 0.5 * x)])
    x = layers.AveragePooling2D((2, 1), name="means")(layers.SpatialDropout2D(0.5, name="dropped")(x))
    x = layers.Cropping2D(((1, 0), (0, 1)), name="cut")(layers.UpSampling2D((1, 2), name="wide")(x))
    x = layers.Dense(5, activation="softmax", name="positions")(x)
    outputs = [x]
    if top:
        means, most = layers.GlobalAveragePooling2D(name="pooled")(x), layers.GlobalMaxPooling2D(name="most")(x)
        outputs += [layers.Dense(4, name="top")(layers.Concatenate(name="all")([means, most, number]))]
    model = random_model(package.Model([image, number] if top else image, outputs))
    gamma = model.get_layer("attention").norm.gamma
    gamma.assign(gamma / 100)  # the dot products are large, and would saturate all that follows
    return model


def images(batch=2):
    return np.random.default_rng(1).normal(size=(batch, 17, 18, 3)).astype("float32")


def still(x, frames):
    return np.repeat(x[:, None], frames, axis=1)


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=0, atol=2e-6 * np.abs(b).max())


@flavours
@pytest.mark.parametrize("frames", [4, None])
def test_a_still_clip_is_answered_as_the_image(flavour, frames, tmp_path):
    package = FLAVOURS[flavour].keras
    model = network(flavour)
    model.get_layer("stem").trainable = False
    kernels = {"stem": 5, "conv": 3, "reduce": 3} if frames is None else None
    video = keras_nonlocal.inflate(model, frames, kernels)
    x, number = images(), np.array([[1, -2], [0.5, 3]], "float32")
    for length in (4, 1) if frames is None else (4,):
        (positions, scores), (expected, top) = video([still(x, length), number]), model([x, number])
        close(positions, still(np.asarray(expected), length))
        close(scores, top)
    assert np.abs(top).max() > 0.1
    sizes = [tuple(x.shape) for x in video.inputs]
    assert sizes == [(None, frames, 17, 18, 3), (None, 2)]
    assert not video.get_layer("stem").trainable and video.get_layer("block").get_layer("conv").trainable
    kernel = (5 if frames is None else 1, 3, 3, 3, 6)
    assert tuple(video.get_layer("stem").kernel.shape) == kernel
    kinds = {"stem": "Conv3D", "norm": "BatchNormalization", "maxima": "MaxPooling3D", "attention": "NonLocal3D"}
    for name, kind in kinds.items():
        assert type(video.get_layer(name)) is getattr(FLAVOURS[flavour].layers, kind)
    path = str(tmp_path / "video.keras")
    video.save(path)
    loaded = package.models.load_model(path)
    tf.nest.map_structure(np.testing.assert_array_equal, loaded([still(x, 4), number]), video([still(x, 4), number]))


@flavours
def test_the_mean_over_time_is_the_image_within_the_clip(flavour):
    model = network(flavour, top=False)
    video = keras_nonlocal.inflate(model, 7, {"stem": 3, "reduce": 3}, how="average")
    spread = np.asarray(video.get_layer("stem").kernel)
    np.testing.assert_allclose(spread.sum(0), model.get_layer("stem").kernel, rtol=1e-6)
    assert np.array_equal(spread[0], spread[2]) and np.abs(spread[0]).max() > 0.1
    part = FLAVOURS[flavour].keras.Model(video.inputs[0], video.get_layer("attention").input)
    image = FLAVOURS[flavour].keras.Model(model.inputs[0], model.get_layer("attention").input)
    x = images(1)
    found, expected = np.asarray(part(still(x, 7))), np.asarray(image(x))
    close(found[:, 2:-2], still(expected, 3))
    assert np.abs(found[:, 0] - expected).max() > 1e-2  # at the ends zeros come in, as documented


@flavours
def test_frames_meet_where_kernels_or_blocks_bring_them_together(flavour):
    """Each frame for itself, but for the block: a change of the last frame reaches the first through it alone."""
    model = network(flavour, top=False)
    clip = np.random.default_rng(4).normal(size=(1, 4, 17, 18, 3)).astype("float32")
    other = clip.copy()
    other[:, 3] += 1
    video = keras_nonlocal.inflate(model, 4)
    assert np.abs(np.subtract(video(clip), video(other)))[:, 0].max() > 1e-4
    video.get_layer("attention").norm.gamma.assign(np.zeros(6))
    np.testing.assert_array_equal(video(clip)[:, 0], video(other)[:, 0])


def test_kernels_over_time():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 2, 4))
    average, centre = (inflated_kernel(kernel, 5, how) for how in ("average", "centre"))
    assert average.shape == centre.shape == (5, 3, 3, 2, 4)
    np.testing.assert_allclose(average, np.stack([kernel / 5] * 5), rtol=1e-6)
    assert np.array_equal(centre[2], kernel) and not centre[[0, 1, 3, 4]].any()


def refused(package):
    """{name of a layer: (the layer, what the error says)}."""
    layers = package.layers
    return {
        "depthwise": (layers.DepthwiseConv2D(3), "'depthwise' (DepthwiseConv2D), which has no form in 3D"),
        "transposed": (layers.Conv2DTranspose(3, 3), "'transposed' (Conv2DTranspose), which has no form"),
        "grouped": (layers.Conv2D(4, 3, groups=2), "with groups=2 and dilation_rate=(1, 1)"),
        "dilated": (layers.Conv2D(4, 3, dilation_rate=2), "with groups=1 and dilation_rate=(2, 2)"),
        "flat": (layers.Flatten(), "'flat' (Flatten)"),
        "rows": (layers.BatchNormalization(axis=1), "'rows' (BatchNormalization), with axis="),
        "smooth": (layers.UpSampling2D(2, interpolation="bilinear"), "with interpolation='bilinear'"),
    }  # fmt: skip


@flavours
@pytest.mark.parametrize("name", ["depthwise", "transposed", "grouped", "dilated", "flat", "rows", "smooth"])
def test_what_has_no_form_in_3d_is_named(flavour, name):
    package = FLAVOURS[flavour].keras
    layer, said = refused(package)[name]
    made = type(layer).from_config({**layer.get_config(), "name": name})
    model = package.Sequential([package.Input((6, 6, 4)), made])
    with pytest.raises(ValueError, match=re.escape(said)) as raised:
        keras_nonlocal.inflate(model)
    assert "\n" not in str(raised.value)


@flavours
def test_arguments_out_of_range(flavour):
    package = FLAVOURS[flavour].keras
    layers = package.layers
    model = package.Sequential([package.Input((6, 6, 4)), layers.Conv2D(4, 3, name="conv"), layers.ReLU(name="relu")])
    for arguments, said in (
        ({"frames": 0}, "`frames` must be a positive integer"),
        ({"how": "mean"}, "`how` must be one of 'centre', 'average'"),
        ({"kernel_frames": {"conv": 2}}, "`kernel_frames` must be odd numbers of frames. Received: 2 for 'conv'"),
        ({"kernel_frames": {"cnv": 3}}, "Received: kernel_frames='cnv'; names like it: ['conv']"),
        ({"kernel_frames": {"*": 3}}, "`kernel_frames` must name convolutions only. Received: '*', which 'relu'"),
    ):
        with pytest.raises(ValueError, match=re.escape(said)):
            keras_nonlocal.inflate(model, **arguments)
    flat = package.Sequential([package.Input((6,)), layers.Dense(2)])
    with pytest.raises(ValueError, match="`model` must take images"):
        keras_nonlocal.inflate(flat)


@flavours
def test_a_function_of_two_images_is_one_of_two_clips(flavour):
    """Operations between tensors too, if they work position by position; others are refused."""
    package = FLAVOURS[flavour].keras
    a, b = package.Input((4, 4, 3), name="a"), package.Input((4, 4, 3), name="b")
    model = package.Model([a, b], (a - b) * 2.0)
    x = images()[:, :4, :4]
    close(keras_nonlocal.inflate(model, 3)([still(x, 3), still(x[::-1], 3)]), still(np.asarray(model([x, x[::-1]])), 3))
    with pytest.raises(ValueError, match=r"`model` must be of layers that can be inflated over time.*getitem|get_item"):
        keras_nonlocal.inflate(package.Model(a, a[:, 1:]))
