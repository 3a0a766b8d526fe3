"""Compiled by XLA, as on TPUs, the layer is what it is without."""

import blocks
import covering
import layer_cases
import numpy as np
import pytest
import tensorflow as tf


@pytest.fixture(params=blocks.FLAVOURS)
def flavour(request):
    return request.param


# Every case, by one of the Kerases.
@covering.parametrize(strength=1, case=layer_cases.CASES, training=(False, True), flavour=blocks.FLAVOURS)
def test_outputs_and_gradients(flavour, case, training):
    """In float64, where another order of summation does not show."""
    layer = case.layer(flavour, dtype="float64")
    x = tf.constant(case.x(), "float64")
    layer.build(x.shape)
    blocks.randomise(layer)
    variables = [v if isinstance(v, tf.Variable) else v.value for v in layer.trainable_weights]
    r = np.random.default_rng(3).normal(size=x.shape)

    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            z, attention = layer(x, mask=case.mask(), training=training, return_attention_scores=True)
            loss = tf.reduce_sum(z * r)
        return [z, attention, *tape.gradient(loss, [x, *variables])]

    expected = [value.numpy() for value in step(x)]
    compiled = tf.function(step, jit_compile=True)(x)
    for one, other in zip(expected[:2], compiled[:2], strict=True):
        blocks.close(other, one, 1e-12)
    # Some gradients are sums that cancel out: what is left is rounding.
    largest = max(np.abs(gradient).max() for gradient in expected[2:])
    for one, other in zip(expected[2:], compiled[2:], strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-11 * largest)


def test_sizes_known_at_compile_time_only(flavour):
    """A graph traced with open sizes compiles once for each size it meets."""
    layer, _ = blocks.make_random(flavour, 3)
    spec = tf.TensorSpec([None, None, None, None, blocks.CHANNELS], "float32")
    compiled = tf.function(layer, input_signature=[spec], jit_compile=True)
    for positions in ((4, 3, 5), (2, 4, 4)):
        x = blocks.inputs(3, positions=positions).astype("float32")
        blocks.close(compiled(x), layer(x), 1e-5)


@pytest.mark.parametrize("flavour", [pytest.param("keras", marks=pytest.mark.slow), "tf_keras"])
def test_fit(flavour):
    module = blocks.FLAVOURS[flavour].keras
    case = layer_cases.CASES[0]
    losses = []
    for jit_compile in (False, True):
        model = case.model(flavour, unknown=False)
        model.set_weights([0.3 * np.ones_like(weight) for weight in model.get_weights()])
        model.compile(module.optimizers.SGD(0.01), "mse", jit_compile=jit_compile)
        losses.append(model.fit(case.x(), case.x(), epochs=3, verbose=0).history["loss"])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


@covering.parametrize(strength=1, pairwise=(blocks.FORMS[0], blocks.FORMS[2], blocks.FORMS[4]), flavour=blocks.FLAVOURS)
def test_fit_with_a_last_batch_of_one(flavour, pairwise):
    """Five examples in batches of four, through a block that knows none of its sizes."""
    case = layer_cases.Case("", 2, {"pairwise": pairwise, "norm": None}, (5, 4))
    x = blocks.inputs(2, batch=5, channels=layer_cases.CHANNELS).astype("float32")
    module = blocks.FLAVOURS[flavour].keras
    models, weights = [case.model(flavour) for _ in range(2)], []
    models[1].set_weights(models[0].get_weights())
    for model, jit_compile in zip(models, (False, True), strict=True):
        model.compile(module.optimizers.SGD(0.01), "mse", jit_compile=jit_compile)
        model.fit(x, x, batch_size=4, shuffle=False, verbose=0)
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        blocks.close(other, one, 1e-5)
