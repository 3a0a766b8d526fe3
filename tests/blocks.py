"""What the tests of the layers share: both flavours, random weights, and the way from a layer to the oracle."""

import types

import keras
import numpy as np
import oracle
import pytest
import tensorflow as tf
import tf_keras

import keras_nonlocal.tfm.layers
from keras_nonlocal import layers as keras_layers

FLAVOURS = {
    "keras": types.SimpleNamespace(name="keras", keras=keras, layers=keras_layers),
    "tf_keras": types.SimpleNamespace(name="tf_keras", keras=tf_keras, layers=keras_nonlocal.tfm.layers),
}
# What both do alike, by code that they share, is tested with one of them in the default run.
ONE_FLAVOUR = ("keras", pytest.param("tf_keras", marks=pytest.mark.slow))
FORMS = ("gaussian", "embedded_gaussian", "dot_product", "unembedded_dot_product", "concatenation")
POSITIONS = {1: (7,), 2: (5, 4), 3: (4, 3, 5)}  # odd sizes, whose last position pooling drops
CHANNELS = 6


def make(flavour, rank, **kwargs):
    """A NonLocal layer of this flavour and rank."""
    return getattr(FLAVOURS[flavour].layers, f"NonLocal{rank}D")(**kwargs)


def variables(layer):
    """The variables of a built layer by the names the oracle uses."""
    named = {} if layer.w_f is None else {"w_f": layer.w_f}
    for name in ("theta", "phi", "g", "out"):
        projection = getattr(layer, name)
        if projection is not None:
            named[f"{name}/kernel"] = projection.kernel
            if projection.use_bias:
                named[f"{name}/bias"] = projection.bias
    if layer.norm is not None:
        for attribute in ("gamma", "beta", "moving_mean", "moving_variance"):
            named[f"norm/{attribute}"] = getattr(layer.norm, attribute)
    return named


def trainable(named):
    """Those of `variables` that gradients are taken of."""
    return {name: variable for name, variable in named.items() if not name.startswith("norm/moving")}


def random_weights(shapes, seed=0):
    """Weights of these shapes with which no part of the block vanishes: gammas of both signs, biases, statistics."""
    generator = np.random.default_rng(seed)
    weights = {}
    for name, shape in shapes.items():
        values = generator.normal(size=shape)
        if name.endswith("kernel"):
            values /= np.sqrt(shape[0])
        elif name.endswith("moving_variance"):
            values = generator.uniform(0.5, 1.5, shape)
        elif name != "norm/gamma":
            values *= 0.5
        weights[name] = values
    return weights


def randomise(layer, seed=0):
    """Gives a built layer random weights and returns them."""
    named = variables(layer)
    weights = random_weights({name: tuple(variable.shape) for name, variable in named.items()}, seed)
    assign(layer, weights)
    return weights


def assign(layer, weights):
    """Gives a built layer all of its weights."""
    named = variables(layer)
    assert named.keys() == weights.keys()
    for name, variable in named.items():
        variable.assign(weights[name])


def make_random(flavour, rank, channels=CHANNELS, seed=0, **kwargs):
    """A built layer with random weights, and these weights."""
    layer = make(flavour, rank, **kwargs)
    layer.build((None,) * (rank + 1) + (channels,))
    return layer, randomise(layer, seed)


def random_model(model, seed=0):
    """A model with random weights and statistics everywhere: gammas of both signs, large means."""
    rng = np.random.default_rng(seed)
    weights = []
    for value, variable in zip(model.get_weights(), model.weights, strict=True):
        name = getattr(variable, "path", variable.name)
        if "variance" in name:
            weights.append(rng.uniform(0.3, 3, value.shape))
        elif value.ndim > 1:
            weights.append(rng.normal(size=value.shape) / np.sqrt(np.prod(value.shape[:-1])))
        else:
            weights.append(rng.normal(size=value.shape))
    model.set_weights(weights)
    return model


def inputs(rank, batch=2, positions=None, channels=CHANNELS, seed=1):
    """Random float64 inputs."""
    return np.random.default_rng(seed).normal(size=(batch, *(positions or POSITIONS[rank]), channels))


def random_mask(shape, seed=2):
    """A mask of which about a third is False, and not all of any example."""
    mask = np.random.default_rng(seed).random(shape) > 0.35
    mask.reshape(shape[0], -1)[:, 0] = True
    return mask


def expand_mask(mask, x):
    """(B, T) -> (B, *positions) of x; None stays None."""
    if mask is None:
        return None
    return np.broadcast_to(mask.reshape(mask.shape + (1,) * (x.ndim - 1 - mask.ndim)), x.shape[:-1])


def oracle_block(x, weights, rank, mask=None, training=False, **kwargs):
    """oracle.block under the arguments and defaults of the layers."""
    kwargs = {"pool_size": (1, 2, 2) if rank == 3 else 2, **kwargs}
    if isinstance(kwargs["pool_size"], int):
        kwargs["pool_size"] = (kwargs["pool_size"],) * rank
    for argument in ("inner_channels", "norm", "use_bias", "use_out_bias"):  # the weights say these
        kwargs.pop(argument, None)
    return oracle.block(x, weights, mask=expand_mask(mask, x), training=training, **kwargs)


def close(actual, expected, tolerance):
    """Asserts equality up to tolerance times the largest expected number."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * max(1.0, np.abs(expected).max(initial=0)))


def gradients(layer, x, sources, cotangent, **kwargs):
    """The gradients of sum(layer(x) * cotangent) in x and in the variables of a dict, as a dict with "x" added."""
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(layer(x, **kwargs) * cotangent)
    # A Keras 3 variable holds the one of TensorFlow as its value.
    sources = {name: v if isinstance(v, tf.Variable) else v.value for name, v in sources.items()}
    found = tape.gradient(loss, {"x": x, **sources})
    return {name: None if gradient is None else gradient.numpy() for name, gradient in found.items()}
