"""SGD with momentum correction beside the official rule in float64, and gradient clipping, as configurations say it."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.core import base_task
from official.core import config_definitions as cfg
from official.modeling import optimization

from keras_nonlocal.tfm import optimizers

BOUNDARIES, RATES = [3, 6, 8], [0.1, 0.01, 0.2, 0.0005]
STEPWISE = {"type": "stepwise", "stepwise": {"boundaries": BOUNDARIES, "values": RATES}}


def build(optimizer=None, learning_rate=None, runtime=None):
    config = optimizers.OptimizationConfig(
        {
            "optimizer": {"type": "corrected_sgd", "corrected_sgd": optimizer or {}},
            "learning_rate": learning_rate or STEPWISE,
        }
    )
    return base_task.Task.create_optimizer(config, runtime)


def gradients(steps, sizes=((3, 2), (5,))):
    rng = np.random.default_rng(0)
    return [[rng.normal(size=size) for size in sizes] for _ in range(steps)]


def run(optimizer, all_gradients):
    """The weights after each step, and the variables."""
    variables = [tf.Variable(np.ones_like(g), dtype=tf.float32) for g in all_gradients[0]]
    path = []

    @tf.function
    def apply(*grads):
        optimizer.apply_gradients(list(zip(grads, variables, strict=True)))

    for grads in all_gradients:
        apply(*[tf.constant(g, tf.float32) for g in grads])
        path.append([variable.numpy() for variable in variables])
    return path, variables


def official(all_gradients, rates, momentum=0.9, nesterov=True):
    """Caffe2's update with its history rescaled wherever the rate differs from the one before, in float64."""
    weights = [np.ones_like(g) for g in all_gradients[0]]
    history = [np.zeros_like(g) for g in all_gradients[0]]
    path, before = [], rates[0]
    for grads, rate in zip(all_gradients, rates, strict=True):
        for i, gradient in enumerate(grads):
            old = history[i] * rate / before
            history[i] = momentum * old + rate * gradient
            weights[i] = weights[i] - ((1 + momentum) * history[i] - momentum * old if nesterov else history[i])
        path.append([w.copy() for w in weights])
        before = rate
    return path


def stepwise_rates(steps):
    return [RATES[np.searchsorted(BOUNDARIES, step)] for step in range(steps)]


@pytest.mark.parametrize("nesterov", [True, False])
def test_the_momentum_is_rescaled_where_the_rate_jumps(nesterov):
    grads = gradients(12)
    found, _ = run(build({"nesterov": nesterov}), grads)
    expected = official(grads, stepwise_rates(12), nesterov=nesterov)
    for got, want in zip(found, expected, strict=True):
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)
    plain, _ = run(tf_keras.optimizers.legacy.SGD(_schedule(), 0.9, nesterov), grads)
    assert np.abs(plain[-1][0] - expected[-1][0]).max() > 1e-3, "without it the weights are others"


def _schedule():
    return tf_keras.optimizers.schedules.PiecewiseConstantDecay(BOUNDARIES, RATES)


def test_a_smooth_schedule_is_corrected_at_every_step():
    grads = gradients(10)
    cosine = {"type": "cosine", "cosine": {"initial_learning_rate": 0.1, "decay_steps": 20}}
    found, _ = run(build(learning_rate=cosine), grads)
    rates = [0.05 * (1 + np.cos(np.pi * step / 20)) for step in range(10)]
    np.testing.assert_allclose(found[-1][0], official(grads, rates)[-1][0], rtol=1e-5, atol=1e-6)


def test_a_rate_that_comes_from_zero_is_not_divided_by():
    grads = gradients(4)
    rates = {"type": "stepwise", "stepwise": {"boundaries": [1, 2], "values": [0.1, 0.0, 0.1]}}
    found, _ = run(build(learning_rate=rates), grads)
    assert np.isfinite(found[-1][0]).all()
    np.testing.assert_allclose(found[1][0], official(grads[:2], [0.1, 0.1])[1][0], rtol=1e-5)
    # The gradients before are forgotten.
    np.testing.assert_allclose(found[3][0] - found[2][0], -0.19 * grads[3][0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss_scale", [128.0, None], ids=["fixed", "dynamic"])
def test_it_lives_inside_loss_scaling(loss_scale):
    runtime = cfg.RuntimeConfig(mixed_precision_dtype="float16", loss_scale=loss_scale)
    optimizer = build(runtime=runtime)
    assert isinstance(optimizer, tf_keras.mixed_precision.LossScaleOptimizer)
    grads, rates = gradients(10), stepwise_rates(10)
    applied = [step for step in range(10) if loss_scale or step != 5]
    if len(applied) < 10:
        grads[5][0][:] = np.inf  # a step that is skipped
    found, _ = run(optimizer, grads)
    expected = official([grads[step] for step in applied], [rates[step] for step in applied])
    np.testing.assert_allclose(found[-1][0], expected[-1][0], rtol=2e-5, atol=2e-6)


def test_a_checkpoint_of_plain_sgd_goes_on(tmp_path):
    """Also the other way: both keep the same variables."""
    grads = gradients(6)
    for new, old in ((build, _plain), (_plain, build)):
        first, then = old(), new()
        _, variables = run(first, grads[:4])
        tf.train.Checkpoint(optimizer=first, variables=variables).write(str(tmp_path / "ckpt"))
        _, others = run(then, grads[:1])
        restored = tf.train.Checkpoint(optimizer=then, variables=others).read(str(tmp_path / "ckpt"))
        restored.assert_consumed().assert_existing_objects_matched()
        assert int(then.iterations) == 4
        np.testing.assert_array_equal(then.get_slot(others[0], "momentum"), first.get_slot(variables[0], "momentum"))


def _plain():
    config = optimization.OptimizationConfig(
        {"optimizer": {"type": "sgd", "sgd": {"momentum": 0.9, "nesterov": True}}, "learning_rate": STEPWISE}
    )
    return base_task.Task.create_optimizer(config)


@pytest.mark.parametrize("clip", ["global_clipnorm", "clipnorm", "clipvalue"])
def test_gradients_are_clipped(clip):
    (grads,) = gradients(1)
    found, _ = run(build({"momentum": 0.0, clip: 0.5}), [grads])
    norm = np.sqrt(sum((g**2).sum() for g in grads))
    for weight, gradient in zip(found[0], grads, strict=True):
        clipped = {
            "global_clipnorm": gradient * 0.5 / norm,
            "clipnorm": gradient * 0.5 / np.sqrt((gradient**2).sum()),
            "clipvalue": np.clip(gradient, -0.5, 0.5),
        }[clip]
        np.testing.assert_allclose(weight, 1 - 0.1 * clipped, rtol=1e-5)
