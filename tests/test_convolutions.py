"""Conv3D and MaxPooling3D of both flavours against their own: outputs, gradients, files, ways to run.

The own layer is the oracle; numbers, never shapes alone. Whichever kernels the machine has, the 2D forms are asked for.
"""

import itertools
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from blocks import FLAVOURS, close

from keras_nonlocal import layers
from keras_nonlocal.layers import convolutions

flavours = pytest.mark.parametrize("flavour", FLAVOURS)
SHAPE = (2, 5, 7, 6, 3)
KERNELS = [(1, 1, 1), (1, 3, 3), (3, 1, 1), (3, 3, 3), (2, 1, 3), (5, 2, 2)]
STRIDES = [(1, 1, 1), (1, 2, 2), (2, 1, 1), (2, 2, 2), (3, 1, 2)]
# One of each way to compute, for what takes its time.
KINDS = [
    ((1, 1, 1), (1, 2, 2), "same"),
    ((1, 3, 3), (2, 2, 2), "valid"),
    ((3, 1, 1), (2, 1, 1), "same"),
    ((3, 3, 3), (1, 2, 2), "same"),
    ((5, 2, 2), (2, 1, 1), "valid"),
]


def half(flavour, cases):
    """Every second case: what computes is the same for both flavours, so that each need not take them all."""
    return list(cases)[list(FLAVOURS).index(flavour) :: 2]


@pytest.fixture(autouse=True)
def eigen(monkeypatch):
    monkeypatch.setattr(convolutions, "_onednn", lambda: False)


def data(shape=SHAPE, seed=0, dtype="float64"):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def pair(flavour, kernel, strides=(1, 1, 1), padding="valid", shape=SHAPE, dtype="float64", **options):
    """Our Conv3D and the flavour's own, built, with the same random weights."""
    flavour = FLAVOURS[flavour]
    options = {"filters": 4, "kernel_size": kernel, "strides": strides, "padding": padding, "name": "conv", **options}
    ours, own = (kind.Conv3D(dtype=dtype, **options) for kind in (flavour.layers, flavour.keras.layers))
    for layer in (ours, own):
        layer.build((None, *shape[1:]))
        layer.set_weights([data(w.shape, seed=3 + i, dtype="float32") for i, w in enumerate(layer.get_weights())])
    return ours, own


def run(layer, x, jit_compile=None, signature=None):
    """Output and gradients of one call in a tf.function."""

    @tf.function(jit_compile=jit_compile, input_signature=signature, autograph=False)
    def step(x):
        sources = [getattr(v, "value", v) if not isinstance(v, tf.Variable) else v for v in layer.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = tf.reduce_sum(tf.cast(tf.sin(y), tf.float64))
        return [y, *tape.gradient(loss, [x, *sources])]

    return [np.asarray(tf.cast(value, tf.float64)) for value in step(tf.constant(x))]


def agree(ours, own, tolerance):
    assert [a.shape for a in ours] == [a.shape for a in own]
    for a, b in zip(ours, own, strict=True):
        if b.size:
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * (np.abs(b).max() + 1e-9))


def operations(layer, shape=SHAPE, dtype="float32"):
    """The kernels that a call runs."""
    graph = tf.function(layer.__call__).get_concrete_function(tf.TensorSpec(shape, dtype)).graph
    return {op.type for op in graph.get_operations()} & {"Conv2D", "Conv3D", "MatMul", "MaxPool", "MaxPool3D"}


@flavours
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_numbers_are_the_own_layers(flavour, kernel):
    for i, (padding, strides) in enumerate(half(flavour, itertools.product(["valid", "same"], STRIDES))):
        ours, own = pair(flavour, kernel, strides, padding, use_bias=i % 3 > 0, activation=[None, "relu"][i % 2])
        assert "Conv3D" not in operations(ours, dtype="float64")
        agree(run(ours, data()), run(own, data()), 1e-12)


@flavours
def test_float32(flavour):
    for kernel, strides, padding in half(flavour, KINDS):
        ours, own = pair(flavour, kernel, strides, padding, dtype="float32")
        agree(run(ours, data(dtype="float32")), run(own, data(dtype="float32")), 1e-5)


@flavours
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(flavour, policy):
    for kernel, strides, padding in half(flavour, KINDS):
        low, _ = pair(flavour, kernel, strides, padding, dtype=policy)
        full, _ = pair(flavour, kernel, strides, padding, dtype="float32")
        assert low(data(dtype="float32")).dtype == policy.removeprefix("mixed_") and low.kernel.dtype == "float32"
        agree(run(low, data(dtype="float32")), run(full, data(dtype="float32")), 0.1)


@flavours
def test_sizes_may_be_unknown(flavour):
    skips = ((1, 3, 3), (3, 1, 2), "same")  # frames that no window takes, which is a negative padding
    for kernel, strides, padding in half(flavour, [*KINDS, skips]):
        ours, own = pair(flavour, kernel, strides, padding)
        expected = run(own, data())
        for known in ((None,) * 4 + (3,), (2, None, 7, 6, 3), (None, 5, None, None, 3)):
            agree(run(ours, data(), signature=[tf.TensorSpec(known, "float64")]), expected, 1e-12)


@flavours
def test_static_sizes_are_known_in_the_graph(flavour):
    for kernel, strides, padding in half(flavour, KINDS):
        for known in (SHAPE, (None, *SHAPE[1:]), (None, None, *SHAPE[2:])):
            ours, own = pair(flavour, kernel, strides, padding)
            symbolic = FLAVOURS[flavour].keras.Input(known[1:], dtype="float64")
            assert tuple(ours(symbolic).shape) == tuple(own(symbolic).shape)
            traced = tf.function(ours.__call__).get_concrete_function(tf.TensorSpec(known, "float64"))
            assert traced.output_shapes.as_list() == list(ours.compute_output_shape(known))


@flavours
@pytest.mark.parametrize("known", [(0, *SHAPE[1:]), (None,) * 4 + (3,)], ids=str)
def test_an_empty_batch(flavour, known):
    for kernel, strides, padding in half(flavour, KINDS):
        ours, _ = pair(flavour, kernel, strides, padding, dtype="float32")
        found = run(ours, data((0, *SHAPE[1:]), dtype="float32"), signature=[tf.TensorSpec(known, "float32")])
        assert found[0].shape == tuple(ours.compute_output_shape((0, *SHAPE[1:])))
        assert not any(gradient.any() for gradient in found[2:])


@flavours
def test_xla(flavour):
    for kernel, strides, padding in half(flavour, KINDS):
        ours, own = pair(flavour, kernel, strides, padding, dtype="float32")
        x = data(dtype="float32")
        agree(run(ours, x, jit_compile=True), run(own, x), 1e-4)


@flavours
@pytest.mark.parametrize(
    "options",
    [dict(groups=3, filters=6), dict(dilation_rate=(1, 2, 2)), dict(dilation_rate=(2, 1, 1))],
    ids=str,
)
def test_the_rest_is_left_to_the_own_layer(flavour, options):
    ours, own = pair(flavour, (3, 3, 3), dtype="float32", **options)
    close(ours(data(dtype="float32")), own(data(dtype="float32")), 1e-5)
    assert operations(ours) == operations(own)


def test_channels_first_and_other_ranks_are_left_to_the_own_layer():
    own, ours = (
        kind.Conv3D(4, (1, 3, 3), data_format="channels_first", dtype="float32") for kind in (keras.layers, layers)
    )
    x = data((2, 3, 4, 5, 5), dtype="float32")
    own.build(x.shape)
    ours.build(x.shape)
    ours.set_weights(own.get_weights())
    close(ours(x), own(x), 1e-5)
    ours, own = pair("tf_keras", (1, 3, 3), dtype="float32")
    x = data((2, *SHAPE), dtype="float32")
    close(ours(x), own(x), 1e-5)


@flavours
def test_too_few_frames_are_refused_as_by_the_own_layer(flavour):
    short = data((2, 1, 7, 6, 3), dtype="float32")
    for kernel in ((3, 3, 3), (3, 1, 1)):
        for layer in pair(flavour, kernel, dtype="float32"):
            with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
                layer(short)
            unknown = tf.function(layer.__call__, input_signature=[tf.TensorSpec((None,) * 4 + (3,), "float32")])
            with pytest.raises(tf.errors.InvalidArgumentError):
                unknown(short)


@flavours
def test_with_onednn_the_own_convolution_runs(flavour, monkeypatch):
    monkeypatch.setattr(convolutions, "_onednn", lambda: True)
    ours, own = pair(flavour, (1, 3, 3), dtype="float32")
    assert operations(ours) == operations(own) == {"Conv3D"}
    pool = FLAVOURS[flavour].layers.MaxPooling3D(2)
    assert operations(pool) == {"MaxPool3D"}


@pytest.mark.slow
@pytest.mark.parametrize(("variable", "kernel"), [("0", "Conv2D"), ("1", "Conv3D")])
def test_tensorflow_says_whether_onednn_is_on(variable, kernel):
    code = (
        "import tensorflow as tf, keras_nonlocal\n"
        "layer = keras_nonlocal.layers.Conv3D(2, (1, 3, 3))\n"
        "graph = tf.function(layer.__call__).get_concrete_function(tf.TensorSpec((1, 4, 6, 6, 3))).graph\n"
        "print({op.type for op in graph.get_operations()} & {'Conv2D', 'Conv3D'})"
    )
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": variable}
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=300)
    assert process.stdout.strip() == f"{{'{kernel}'}}", process.stderr


@flavours
@pytest.mark.parametrize("pool", [(1, 2, 2), (2, 1, 1), (1, 3, 3), (2, 3, 3)], ids=str)
def test_pooling(flavour, pool):
    flavoured = FLAVOURS[flavour]
    x = data(dtype="float32")
    ways = [(None, "valid"), ((2, 2, 2), "valid"), ((2, 1, 1), "same"), ((1, 2, 2), "same")]
    for strides, padding in half(flavour, ways):
        ours, own = (kind.MaxPooling3D(pool, strides, padding) for kind in (flavoured.layers, flavoured.keras.layers))
        assert operations(ours) == {"MaxPool"}
        expected = run(own, x)
        agree(run(ours, x), expected, 1e-6)
        assert ours(x[:0]).shape == own(x)[:0].shape  # forward: the gradient of oneDNN's own kernels ends the process
        assert tuple(ours(flavoured.keras.Input(SHAPE[1:])).shape) == (None, *own(x).shape[1:])
    agree(run(ours, x, signature=[tf.TensorSpec((None,) * 5)]), expected, 1e-6)
    agree(run(ours, x, jit_compile=True), expected, 1e-6)


@flavours
def test_pooling_in_half_precision(flavour):
    x = data(dtype="float32")
    full = FLAVOURS[flavour].layers.MaxPooling3D((2, 3, 3), (1, 2, 2))(x)
    for dtype in ("float16", "bfloat16"):
        half = FLAVOURS[flavour].layers.MaxPooling3D((2, 3, 3), (1, 2, 2), dtype=dtype)(tf.cast(x, dtype))
        np.testing.assert_array_equal(half, tf.cast(full, dtype))


@flavours
def test_mirrored_replicas(flavour, two_replicas):
    x = data((4, *SHAPE[1:]), dtype="float32")
    found = []
    for which in ("layers", "keras"):
        flavoured = FLAVOURS[flavour]
        kinds = flavoured.layers if which == "layers" else flavoured.keras.layers
        with two_replicas.scope():
            layer = kinds.Conv3D(4, (1, 3, 3), (1, 2, 2), name="conv")
            layer.build((None, *SHAPE[1:]))
            layer.set_weights([data(w.shape, i, "float32") for i, w in enumerate(layer.get_weights())])
        halves = two_replicas.experimental_distribute_values_from_function(
            lambda context: tf.constant(np.split(x, 2)[context.replica_id_in_sync_group])
        )
        step = tf.function(lambda values, layer=layer: two_replicas.run(layer, [values]), autograph=False)
        found.append(np.concatenate(two_replicas.experimental_local_results(step(halves))))
    close(*found, 1e-5)


def networks(flavour):
    """A network of our convolutions and poolings, and the same of the flavour's own; the same random weights."""
    flavoured = FLAVOURS[flavour]
    found = []
    for kinds in (flavoured.layers, flavoured.keras.layers):
        inputs = flavoured.keras.Input((8, 16, 16, 3))
        x = kinds.Conv3D(4, (3, 5, 5), (2, 2, 2), "same", use_bias=False, name="conv1")(inputs)
        x = kinds.MaxPooling3D((2, 3, 3), (1, 2, 2), name="pool1")(x)
        x = kinds.Conv3D(5, (1, 3, 3), activation="relu", name="conv2")(x)
        found.append(flavoured.keras.Model(inputs, x, name="network"))
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=w.shape) for w in found[0].get_weights()]
    for network in found:
        network.set_weights(weights)
    return found


def clip():
    return data((1, 8, 16, 16, 3), dtype="float32")


@flavours
@pytest.mark.parametrize("file", ["network.weights.h5", "network.h5", "network.keras", "checkpoint"])
def test_files_with_keras_own_convolutions_still_load(flavour, file, tmp_path):
    ours, own = networks(flavour)
    expected = own(clip())
    path = str(tmp_path / file)
    ours.set_weights([np.zeros_like(w) for w in ours.get_weights()])
    if file == "checkpoint":
        saved = tf.train.Checkpoint(model=own).write(path)
        tf.train.Checkpoint(model=ours).read(saved).assert_existing_objects_matched().assert_consumed()
    elif file == "network.weights.h5":
        own.save_weights(path)
        ours.load_weights(path)
    else:
        own.save(path)
        loaded = FLAVOURS[flavour].keras.models.load_model(path)
        assert type(loaded.get_layer("conv1")) is FLAVOURS[flavour].keras.layers.Conv3D
        close(loaded(clip()), expected, 1e-6)
        if file.endswith(".h5"):
            ours.load_weights(path)
        else:
            ours.set_weights(loaded.get_weights())
    close(ours(clip()), expected, 1e-4)


@flavours
def test_a_model_file_brings_the_layers_back(flavour, tmp_path):
    ours, _ = networks(flavour)
    ours.save(tmp_path / "network.keras")
    loaded = FLAVOURS[flavour].keras.models.load_model(tmp_path / "network.keras")
    assert type(loaded.get_layer("conv1")) is FLAVOURS[flavour].layers.Conv3D
    assert type(loaded.get_layer("pool1")) is FLAVOURS[flavour].layers.MaxPooling3D
    np.testing.assert_array_equal(loaded(clip()), ours(clip()))


@pytest.mark.slow
@flavours
def test_saved_model(flavour, tmp_path):
    ours, own = networks(flavour)
    ours.export(str(tmp_path / "exported"))
    served = tf.saved_model.load(str(tmp_path / "exported"))
    close(served.serve(clip()), own(clip()), 1e-4)


@pytest.mark.slow
def test_saved_model_of_tf_keras_loads_with_and_without_the_layers(tmp_path):
    ours, _ = networks("tf_keras")
    ours.save(str(tmp_path / "saved"), save_format="tf")
    loaded = tf_keras.models.load_model(str(tmp_path / "saved"))
    close(loaded(clip()), ours(clip()), 1e-6)
    close(tf.saved_model.load(str(tmp_path / "saved"))(clip()), ours(clip()), 1e-6)


@flavours
def test_configuration_and_variables_are_the_own_layers(flavour):
    ours, own = networks(flavour)

    def listed(network):
        return [(getattr(v, "path", v.name), tuple(v.shape), v.trainable) for v in network.variables]

    assert listed(ours) == listed(own)
    for a, b in zip(ours.layers, own.layers, strict=True):
        assert (a.name, a.get_config()) == (b.name, b.get_config()) or "input" in a.name
