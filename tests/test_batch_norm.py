"""The batch norm of both flavours against their own: outputs, gradients, moving statistics, files, ways to run.

The own layer is the oracle; numbers, never shapes alone.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from blocks import FLAVOURS, close

SHAPES = [(5, 3), (3, 7, 4), (2, 5, 3, 4), (2, 3, 5, 7, 6), (2, 1, 3, 2, 3, 4), (1, 2), (1, 1, 1, 1, 3)]
WEIGHTS = ("gamma", "beta", "moving_mean", "moving_variance")
flavours = pytest.mark.parametrize("flavour", FLAVOURS)


def data(shape, seed=0, dtype="float32"):
    return (np.random.default_rng(seed).normal(size=shape) * 2 + 3).astype(dtype)


def pair(flavour, shape, **options):
    """Our layer and the flavour's own, built, with the same random weights."""
    flavour = FLAVOURS[flavour]
    ours, own = (layers.BatchNormalization(name="bn", **options) for layers in (flavour.layers, flavour.keras.layers))
    rng = np.random.default_rng(1)
    weights = {name: rng.normal(size=shape[-1:]) for name in WEIGHTS}
    weights["moving_variance"] = rng.uniform(0.5, 2, shape[-1:])
    for layer in (ours, own):
        layer.build((None, *shape[1:]))
        for name in WEIGHTS:
            if getattr(layer, name) is not None:
                getattr(layer, name).assign(weights[name])
    return ours, own


def statistics(layer):
    return {name: np.asarray(getattr(layer, name)) for name in ("moving_mean", "moving_variance")}


def run(layer, x, training=True, jit_compile=None, call=None, **arguments):
    """Output and gradients of one call in a tf.function, as a dict."""
    sources = [getattr(v, "value", v) if not isinstance(v, tf.Variable) else v for v in layer.trainable_variables]
    cotangent = tf.constant(data(x.shape, seed=2), tf.float32)

    @tf.function(jit_compile=jit_compile, input_signature=call)
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=training, **arguments)
            loss = tf.reduce_sum(tf.cast(y, tf.float32) * cotangent)
        gradients = tape.gradient(loss, [x, *sources])
        return {"y": y, "dx": gradients[0], **{f"d{i}": gradient for i, gradient in enumerate(gradients[1:])}}

    return {name: np.asarray(tf.cast(value, tf.float32)) for name, value in step(tf.constant(x)).items()}


def agree(ours, own, tolerance):
    assert ours.keys() == own.keys()
    for name, expected in own.items():
        close(ours[name], expected, tolerance)


def kernels(layer, shape, dtype="float32", training=True, **arguments):
    """How often a call runs the fused kernel."""
    function = tf.function(lambda x: layer(x, training=training, **arguments))
    graph = function.get_concrete_function(tf.TensorSpec(shape, dtype)).graph
    return sum(op.type == "FusedBatchNormV3" for op in graph.get_operations())


@flavours
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_numbers_are_the_own_layers(flavour, shape, training):
    ours, own = pair(flavour, shape, momentum=0.7, epsilon=1e-2)
    assert kernels(ours, shape, training=training) == 1
    for step in range(3):
        x = data(shape, seed=step)
        agree(run(ours, x, training), run(own, x, training), 5e-5)
        if step in (0, 2):
            agree(statistics(ours), statistics(own), 1e-5)


@flavours
def test_the_defaults_and_missing_parameters(flavour):
    shape = (3, 4, 2, 5)
    for options in ({}, {"scale": False}, {"center": False}, {"scale": False, "center": False}):
        ours, own = pair(flavour, shape, **options)
        agree(run(ours, data(shape)), run(own, data(shape)), 2e-5)
        agree(statistics(ours), statistics(own), 1e-5)


@flavours
def test_a_frozen_layer_uses_and_keeps_its_moving_statistics(flavour):
    shape = (2, 3, 2, 4, 3)
    ours, own = pair(flavour, shape)
    before = statistics(ours)
    ours.trainable = own.trainable = False
    agree(run(ours, data(shape), True), run(own, data(shape), True), 2e-5)
    assert all(np.array_equal(value, before[name]) for name, value in statistics(ours).items())
    ours.trainable = True
    run(ours, data(shape), True)
    assert not np.allclose(statistics(ours)["moving_mean"], before["moving_mean"])


@flavours
def test_sizes_may_be_unknown(flavour):
    shape = (2, 3, 4, 5, 6)
    for known in ((None,) * 4 + (6,), (None, 3, None, None, 6), (2, None, 4, 5, 6)):
        ours, own = pair(flavour, shape)
        assert kernels(ours, known) == 1
        signature = [tf.TensorSpec(known, tf.float32)]
        agree(run(ours, data(shape), call=signature), run(own, data(shape)), 2e-5)
        agree(statistics(ours), statistics(own), 1e-5)
        traced = tf.function(lambda x, layer=ours: layer(x, training=True), input_signature=signature)
        assert traced.get_concrete_function().output_shapes.as_list() == list(known)


@flavours
def test_an_empty_batch_leaves_the_statistics(flavour):
    for batch in (0, None):
        ours, _ = pair(flavour, (2, 3, 4))
        before = statistics(ours)
        found = run(ours, data((0, 3, 4)), call=[tf.TensorSpec([batch, 3, 4], tf.float32)])
        assert found["y"].shape == found["dx"].shape == (0, 3, 4)
        assert np.array_equal(found["d0"], np.zeros(4)) and np.array_equal(found["d1"], np.zeros(4))
        assert all(np.array_equal(value, before[name]) for name, value in statistics(ours).items())


@flavours
@pytest.mark.parametrize("shape", [(4, 9, 5), (2, 3, 4, 4, 5)], ids=str)
def test_16_bit_inputs_have_32_bit_statistics(flavour, shape):
    for dtype, tolerance in (("bfloat16", 2e-2), ("float16", 2e-3)):
        policy = f"mixed_{dtype}"
        ours, own = pair(flavour, shape, dtype=policy)
        assert ours.compute_dtype == dtype and ours.moving_mean.dtype == "float32"
        x = data(shape)
        assert kernels(ours, shape) == 1 and ours(x, training=False).dtype == dtype
        for training in (True, False):
            agree(run(ours, x, training), run(own, x, training), tolerance)
        # The mean of 16-bit numbers, but not one of 16 bits.
        agree(statistics(ours), statistics(own), 1e-5)


@flavours
def test_large_16_bit_numbers_do_not_overflow(flavour):
    ours, _ = pair(flavour, (4, 9, 5), dtype="mixed_float16", momentum=0.0)
    x = data((4, 9, 5)) * 5e3
    ours(x, training=True)
    np.testing.assert_allclose(statistics(ours)["moving_variance"], x.reshape(-1, 5).var(0), rtol=1e-2)


@flavours
def test_what_the_kernel_cannot_do_is_left_to_the_own_layer(flavour):
    shape = (3, 5, 4)
    mask = tf.constant(np.random.default_rng(3).random(shape[:-1]) > 0.4)
    cases = [
        (pair(flavour, shape), dict(mask=mask), "float32"),
        (pair(flavour, shape, synchronized=True), {}, "float32"),
        (pair(flavour, shape, dtype="float64"), {}, "float64"),
    ]
    for (ours, own), arguments, dtype in cases:
        assert kernels(ours, shape, dtype, **arguments) == 0
        x = data(shape, dtype=dtype)
        agree(run(ours, x, **arguments), run(own, x, **arguments), 1e-6)
        agree(statistics(ours), statistics(own), 1e-6)


@flavours
def test_channels_on_another_axis_are_left_to_the_own_layer(flavour):
    package = FLAVOURS[flavour]
    ours, own = package.layers.BatchNormalization(axis=1), package.keras.layers.BatchNormalization(axis=1)
    x = data((4, 3, 5))
    np.testing.assert_array_equal(ours(x, training=True), own(x, training=True))
    agree(statistics(ours), statistics(own), 1e-7)


@flavours
def test_renorm_is_left_to_the_own_layer(flavour):
    ours, own = pair(flavour, (3, 5, 4), renorm=True)
    assert kernels(ours, (3, 5, 4)) == 0
    agree(run(ours, data((3, 5, 4))), run(own, data((3, 5, 4))), 1e-6)


def test_options_of_tf_keras_are_left_to_it():
    package = FLAVOURS["tf_keras"]
    x = data((4, 3, 5))
    for options in ({"virtual_batch_size": 2}, {"axis": [1, 2]}):
        ours, own = (f.layers.BatchNormalization(**options) for f in (package, package.keras))
        np.testing.assert_array_equal(ours(x, training=True), own(x, training=True))
    ours, own = pair("tf_keras", (2, 3, 4, 5), fused=False)
    agree(run(ours, data((2, 3, 4, 5))), run(own, data((2, 3, 4, 5))), 2e-5)
    agree(statistics(ours), statistics(own), 1e-5)


def test_tf_keras_takes_training_as_a_tensor():
    ours, own = pair("tf_keras", (2, 3, 4))
    call = [tf.function(lambda x, training, layer=layer: layer(x, training=training)) for layer in (ours, own)]
    for training in (True, False):
        a, b = (function(data((2, 3, 4)), tf.constant(training)) for function in call)
        close(a, b, 1e-5)
        agree(statistics(ours), statistics(own), 1e-6)


@flavours
@pytest.mark.parametrize("shape", [(3, 7, 4), (2, 3, 5, 7, 6)], ids=str)
def test_xla(flavour, shape):
    for training in (True, False):
        ours, own = pair(flavour, shape, momentum=0.7)
        agree(run(ours, data(shape), training, jit_compile=True), run(own, data(shape), training), 5e-5)
        agree(statistics(ours), statistics(own), 1e-5)


@flavours
def test_second_derivatives(flavour):
    ours, own = pair(flavour, (3, 4, 5))
    found = []
    for layer in (ours, own):
        x = tf.constant(data((3, 4, 5)))
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = tf.reduce_sum(layer(x, training=True) ** 3)
            slope = inner.gradient(y, x)
            loss = tf.reduce_sum(slope**2)
        found.append(outer.gradient(loss, x))
    close(*found, 1e-3)


@flavours
@pytest.mark.parametrize("shape", [(4, 3, 5), (4, 2, 3, 3, 5)], ids=str)
def test_mirrored_replicas_average_their_statistics(flavour, shape, two_replicas):
    found = []
    for which in ("layers", "keras"):
        package = FLAVOURS[flavour]
        layers = package.layers if which == "layers" else package.keras.layers
        with two_replicas.scope():
            layer = layers.BatchNormalization(momentum=0.6, name="bn")
            layer.build((None, *shape[1:]))
        batches = [data(shape, seed=seed) for seed in (0, 1)]
        values = two_replicas.experimental_distribute_values_from_function(
            lambda context, batches=batches: tf.constant(batches[context.replica_id_in_sync_group])
        )

        @tf.function
        def step(values, layer=layer):
            return two_replicas.run(lambda x: layer(x, training=True), [values])

        for _ in range(2):
            outputs = two_replicas.experimental_local_results(step(values))
        found.append({**statistics(layer), **{f"y{i}": np.asarray(y) for i, y in enumerate(outputs)}})
    agree(*found, 1e-5)
    assert not np.allclose(found[0]["moving_mean"], 0)


def model(flavour, layers, shape=(3, 4, 4, 2)):
    package = FLAVOURS[flavour].keras
    inputs = package.Input(shape)
    x = package.layers.Conv3D(5, 1, name="conv")(inputs)
    x = layers.BatchNormalization(momentum=0.8, name="bn")(x)
    x = package.layers.GlobalAveragePooling3D(name="pool")(package.layers.ReLU(name="relu")(x))
    return package.Model(inputs, package.layers.Dense(1, name="dense")(x))


def both_models(flavour):
    """Networks with our norm and with the own one, of the same weights."""
    package = FLAVOURS[flavour]
    ours, own = model(flavour, package.layers), model(flavour, package.keras.layers)
    ours.set_weights(own.get_weights())
    return ours, own


@flavours
def test_fit(flavour):
    x, y = data((12, 3, 4, 4, 2)), data((12, 1))
    found = []
    for network in both_models(flavour):
        network.compile(FLAVOURS[flavour].keras.optimizers.SGD(0.05, momentum=0.9), "mse", run_eagerly=False)
        network.fit(x, y, batch_size=5, epochs=3, shuffle=False, verbose=0)
        found.append({str(i): w for i, w in enumerate([*network.get_weights(), network.predict(x, verbose=0)])})
    agree(*found, 1e-4)


@flavours
def test_configuration_and_variables_are_the_own_layers(flavour):
    options = dict(momentum=0.9, epsilon=1e-4, center=False, gamma_initializer="zeros", name="bn")
    package = FLAVOURS[flavour]
    ours, own = (layers.BatchNormalization(**options) for layers in (package.layers, package.keras.layers))
    assert ours.get_config() == own.get_config()
    assert type(ours).from_config(ours.get_config()).get_config() == own.get_config()
    ours, own = both_models(flavour)

    def listed(network):
        return [(getattr(v, "path", v.name), tuple(v.shape), v.dtype, v.trainable) for v in network.variables]

    assert listed(ours) == listed(own)


@flavours
@pytest.mark.parametrize("file", ["weights.weights.h5", "checkpoint"])
def test_files_go_both_ways(flavour, file, tmp_path):
    x = data((2, 3, 4, 4, 2))
    for source, target in ((0, 1), (1, 0)):
        networks = both_models(flavour)
        networks[source](x, training=True)
        networks[target].set_weights([np.zeros_like(w) for w in networks[target].get_weights()])
        path = str(tmp_path / f"{source}{file}")
        if file == "checkpoint":
            saved = tf.train.Checkpoint(model=networks[source]).write(path)
            tf.train.Checkpoint(model=networks[target]).read(saved).assert_existing_objects_matched()
        else:
            networks[source].save_weights(path)
            networks[target].load_weights(path)
        for a, b in zip(networks[source].get_weights(), networks[target].get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


@flavours
def test_a_model_file_brings_the_layer_back(flavour, tmp_path):
    x, (network, _) = data((2, 3, 4, 4, 2)), both_models(flavour)
    network(x, training=True)
    network.save(tmp_path / "model.keras")
    loaded = FLAVOURS[flavour].keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.get_layer("bn")) is FLAVOURS[flavour].layers.BatchNormalization
    np.testing.assert_array_equal(loaded(x), network(x))


@flavours
def test_saved_model(flavour, tmp_path):
    x, (network, _) = data((2, 3, 4, 4, 2)), both_models(flavour)
    network(x, training=True)
    network.export(str(tmp_path / "exported"))
    served = tf.saved_model.load(str(tmp_path / "exported"))
    close(served.serve(x), network(x), 1e-6)


def test_tf_keras_saved_model_trains_on(tmp_path):
    x, (network, _) = data((2, 3, 4, 4, 2)), both_models("tf_keras")
    network.save(str(tmp_path / "saved"), save_format="tf")
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    close(loaded(x, training=True), network(x, training=True), 1e-5)
    close(loaded(x, training=False), network(x, training=False), 1e-5)


def test_keras_runs_under_a_stateless_scope():
    layer, _ = pair("keras", (3, 7, 4))
    x = data((3, 7, 4))
    values = [v.value for v in layer.non_trainable_variables]
    trainable = [v.value for v in layer.trainable_variables]
    before = statistics(layer)
    y, moved = layer.stateless_call(trainable, values, x, training=True)
    assert all(np.array_equal(value, before[name]) for name, value in statistics(layer).items())
    close(y, layer(x, training=True), 1e-6)
    agree(dict(zip(("moving_mean", "moving_variance"), map(np.asarray, moved), strict=True)), statistics(layer), 1e-6)
    assert keras.backend.backend() == "tensorflow"
