"""Mixed precision: near the float32 layer, its weights in float32, its normalisation in float32, nothing overflows."""

import blocks
import covering
import layer_cases
import numpy as np
import pytest
import tensorflow as tf

POLICIES = {"mixed_bfloat16": 2**-8, "mixed_float16": 2**-11}  # and the relative size of one rounding
SOFTMAX_FORMS = ("gaussian", "embedded_gaussian")


@pytest.fixture(params=blocks.FLAVOURS)
def flavour(request):
    return request.param


def _pair(flavour, case, policy):
    """The same block in float32 and under a policy."""
    layers = case.layer(flavour), case.layer(flavour, dtype=policy)
    for layer in layers:
        layer.build((None,) * (case.rank + 1) + (layer_cases.CHANNELS,))
        blocks.randomise(layer)
    return layers


def _float32(tensor):
    return tf.cast(tensor, tf.float32).numpy()


@covering.parametrize(case=layer_cases.CASES, policy=POLICIES, flavour=blocks.FLAVOURS)
def test_near_float32(flavour, case, policy):
    exact, mixed = _pair(flavour, case, policy)
    x, mask = case.x(), case.mask()
    z, attention = mixed(x, mask=mask, return_attention_scores=True)
    expected, expected_attention = exact(x, mask=mask, return_attention_scores=True)
    assert z.dtype == policy.removeprefix("mixed_")
    assert attention.dtype == "float32"
    assert all(weight.dtype == "float32" for weight in mixed.weights)
    rounding = POLICIES[policy]
    blocks.close(_float32(z), expected, 16 * rounding)
    blocks.close(attention, expected_attention, 16 * rounding)
    if mixed.pairwise in SOFTMAX_FORMS:
        sums = np.sum(attention, axis=-1)
        valid = sums != 0  # a query that sees no valid key
        np.testing.assert_allclose(sums[valid], 1, atol=1e-3)


@covering.parametrize(strength=1, case=layer_cases.CASES, policy=POLICIES, flavour=blocks.FLAVOURS)
def test_gradients_near_float32(flavour, case, policy):
    exact, mixed = _pair(flavour, case, policy)
    x, mask = case.x(), case.mask()
    r = np.random.default_rng(3).normal(size=x.shape).astype("float32")
    found = []
    for layer in (exact, mixed):

        def in_float32(content, layer=layer, **kwargs):
            return tf.cast(layer(content, **kwargs), tf.float32)

        sources = blocks.trainable(blocks.variables(layer))
        found.append(blocks.gradients(in_float32, x, sources, r, mask=mask))
    for name, gradient in found[0].items():
        assert found[1][name].dtype == "float32"
        assert np.isfinite(found[1][name]).all(), name
        blocks.close(found[1][name], gradient, 32 * POLICIES[policy])


@covering.parametrize(form=blocks.FORMS, policy=POLICIES, flavour=blocks.FLAVOURS)
def test_numbers_beyond_float16(flavour, form, policy):
    """Scores beyond 65504, and sums of as many keys: both are taken in float32."""
    layer = blocks.make(flavour, 1, pairwise=form, inner_channels=8, pool_size=None, dtype=policy)
    layer.build((None, None, 8))
    weights = blocks.randomise(layer)
    for name in ("theta", "phi"):
        if f"{name}/kernel" in weights:
            weights[f"{name}/kernel"] = np.eye(8)
    blocks.assign(layer, weights)
    x = (blocks.inputs(1, positions=(64,), channels=8) * 200).astype("float16").astype("float32")
    assert (x[0] @ x[0].T).max() > 3 * 65504
    z, attention = layer(x, return_attention_scores=True)
    assert np.isfinite(attention).all()
    if form in SOFTMAX_FORMS:
        assert np.isfinite(_float32(z)).all()
        np.testing.assert_allclose(np.sum(attention, axis=-1), 1, atol=1e-3)
        with tf.GradientTape() as tape:
            x = tf.constant(x)
            tape.watch(x)
            loss = tf.reduce_mean(tf.cast(layer(x), tf.float32))
        assert np.isfinite(tape.gradient(loss, x)).all()


@covering.parametrize(policy=POLICIES, flavour=blocks.FLAVOURS)
def test_scaled_scores_are_not_rounded(flavour, policy):
    """Where theta and phi are x, the attention is as exact as float32."""
    layer, weights = blocks.make_random(flavour, 1, inner_channels=blocks.CHANNELS, pool_size=None, dtype=policy)
    for name in ("theta", "phi"):
        weights |= {f"{name}/kernel": np.eye(blocks.CHANNELS), f"{name}/bias": np.zeros(blocks.CHANNELS)}
    blocks.assign(layer, weights)
    x = tf.cast(2 * blocks.inputs(1), policy.removeprefix("mixed_"))
    _, attention = layer(x, return_attention_scores=True)
    _, expected = blocks.oracle_block(tf.cast(x, "float64").numpy(), weights, 1, pool_size=None)
    blocks.close(attention, expected[:, 0], 1e-5)


@covering.parametrize(policy=POLICIES, flavour=blocks.FLAVOURS)
def test_symbolic_dtypes(flavour, policy):
    inputs = blocks.FLAVOURS[flavour].keras.Input((4, 4, blocks.CHANNELS), dtype="float32")
    z, attention = blocks.make(flavour, 2, dtype=policy)(inputs, return_attention_scores=True)
    assert (z.dtype, attention.dtype) == (policy.removeprefix("mixed_"), "float32")


@pytest.mark.parametrize("policy", POLICIES)
def test_ten_thousand_keys_share_the_attention(flavour, policy):
    """In 16 bits a sum of ten thousand equal weights would stop growing long before its end."""
    layer = blocks.make(flavour, 1, pairwise="gaussian", pool_size=None, dtype=policy)
    x = np.ones((1, 10_000, 2), "float32")
    layer.build(x.shape)
    blocks.assign(layer, {**blocks.randomise(layer), "g/kernel": np.ones((2, 1)), "g/bias": np.zeros(1)})
    one = blocks.make(flavour, 1, pairwise="gaussian", pool_size=None, dtype=policy)
    one.build(x.shape)
    blocks.assign(one, {name: variable.numpy() for name, variable in blocks.variables(layer).items()})
    # Equal positions: y_i = g whatever their number.
    blocks.close(_float32(layer(x)[:, :1]), _float32(one(x[:, :1])), 4 * POLICIES[policy])


@covering.parametrize(norm=("batch_norm", None), policy=POLICIES, flavour=blocks.FLAVOURS)
def test_identity_at_the_start(flavour, policy, norm):
    layer = blocks.make(flavour, 3, norm=norm, dtype=policy)
    x = tf.cast(blocks.inputs(3), policy.removeprefix("mixed_"))
    for training in (False, True):
        np.testing.assert_array_equal(_float32(layer(x, training=training)), _float32(x))


@pytest.mark.parametrize("policy", POLICIES)
def test_global_policy_and_fit(flavour, policy):
    module = blocks.FLAVOURS[flavour].keras
    module.mixed_precision.set_global_policy(policy)
    try:
        x = module.Input((4, 4, 8))
        model = module.Model(x, module.layers.Activation("linear", dtype="float32")(blocks.make(flavour, 2)(x)))
        data = blocks.inputs(2, batch=8, positions=(4, 4), channels=8).astype("float32")
        model.compile(module.optimizers.SGD(0.1), "mse")
        losses = model.fit(data, 2 * data, epochs=8, batch_size=8, verbose=0).history["loss"]
    finally:
        module.mixed_precision.set_global_policy("float32")
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    assert all(weight.dtype == "float32" for weight in model.layers[1].weights)


@pytest.mark.parametrize("policy", POLICIES)
def test_saved_with_its_policy(flavour, policy, tmp_path):
    module = blocks.FLAVOURS[flavour].keras
    case = layer_cases.CASES[0]
    model = case.model(flavour, dtype=policy)
    model.save(tmp_path / "model.keras")
    again = module.models.load_model(tmp_path / "model.keras")
    assert again.layers[-1].compute_dtype == policy.removeprefix("mixed_")
    layer_cases.equal(layer_cases.outputs(again, case), layer_cases.outputs(model, case))
