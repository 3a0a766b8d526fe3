"""Precise batch norm beside NumPy over the same batches, and that a run does not notice it."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf
import tiny_task
from official.core import train_lib, train_utils

from keras_nonlocal import errors

STEPS = 3
PRECISE = {"trainer.precise_norm_steps": STEPS}


def norms(model):
    return [layer for layer in model.submodules if hasattr(layer, "moving_variance")]


def statistics(model):
    """{name of a norm: (mean, variance)}."""
    return {norm.name: (norm.moving_mean.numpy(), norm.moving_variance.numpy()) for norm in norms(model)}


def seen_by_norms(model, images):
    """{name of a norm: what it is given of images in training}, (N, channels)."""
    seen = {}
    for norm in norms(model):

        def call(inputs, training=None, mask=None, norm=norm, original=norm.call):
            seen[norm.name] = np.asarray(inputs, "float64").reshape(-1, inputs.shape[-1])
            return original(inputs, training=training, mask=mask)

        norm.call = call
    try:
        model.backbone(images, training=True)
    finally:
        for norm in norms(model):
            del norm.call
    return seen


def expected_statistics(model, first_step, replicas=1):
    """The mean of means, and the variance of all batches together, by the activations of every batch."""
    # Where the fused kernel runs a batch's variance is over n - 1; the one in the non-local block does without.
    ddof = {norm.name: int(bool(norm.fused)) for norm in norms(model)}
    assert set(ddof.values()) == {0, 1}
    moments = {norm.name: [] for norm in norms(model)}
    for step in range(first_step, first_step + STEPS):
        for images in np.split(tiny_task.clips(step)[0], replicas):
            for name, x in seen_by_norms(model, images).items():
                moments[name].append((x.mean(0), x.var(0, ddof=ddof[name]) + x.mean(0) ** 2))
    found = {name: np.mean(pairs, axis=0) for name, pairs in moments.items()}
    return {name: (first, second - first**2) for name, (first, second) in found.items()}


def assert_close(found, expected):
    assert found.keys() == expected.keys() and len(found) > 10
    for name, pair in expected.items():
        np.testing.assert_allclose(found[name][0], pair[0], rtol=2e-4, atol=2e-5, err_msg=name)
        np.testing.assert_allclose(found[name][1], pair[1], rtol=2e-3, atol=2e-6, err_msg=name)


def weights(model):
    return [w.numpy() for w in model.weights]


def local_values(strategy, model):
    """What each replica holds of each moving average."""
    return [
        [copy.numpy() for copy in strategy.experimental_local_results(variable)]
        for norm in norms(model)
        for variable in (norm.moving_mean, norm.moving_variance)
    ]


@pytest.mark.slow
def test_the_statistics_are_those_of_the_batches():
    trainer = tiny_task.trainer(tiny_task.experiment(**PRECISE))
    before = weights(trainer.model)
    trainer._precise_norm.put_in(7)
    found = statistics(trainer.model)
    trainer._precise_norm.put_back()
    for a, b in zip(weights(trainer.model), before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert_close(found, expected_statistics(trainer.model, 7))
    assert trainer.task.first_step == 0


@pytest.mark.slow
def test_replicas_average_theirs_and_get_their_own_back(two_replicas):
    trainer = tiny_task.trainer(tiny_task.experiment(**PRECISE), two_replicas)
    trainer.train(tf.constant(2))
    before = local_values(two_replicas, trainer.model)
    assert any((first != second).any() for first, second in before), "each has averages of its own"
    with two_replicas.scope():
        trainer._precise_norm.put_in(2)
    found = statistics(trainer.model)
    with two_replicas.scope():
        trainer._precise_norm.put_back()
    np.testing.assert_equal(local_values(two_replicas, trainer.model), before)
    alone = tiny_task.trainer(tiny_task.experiment(**PRECISE))
    alone.model.set_weights([w.numpy() for w in trainer.model.weights])
    assert_close(found, expected_statistics(alone.model, 2, replicas=2))


def run(folder, **settings):
    """Trains with evaluations every two steps as the runner does, and returns the trainer."""
    params = tiny_task.experiment(
        **{
            "trainer.steps_per_loop": 1,
            "trainer.checkpoint_interval": 1,
            "trainer.validation_interval": 2,
            "trainer.best_checkpoint_export_subdir": "best",
            "trainer.best_checkpoint_eval_metric": "validation_loss",
            "trainer.best_checkpoint_metric_comp": "lower",
            **settings,
        }
    )
    tf.random.set_seed(0)
    exporter = train_lib.maybe_create_best_ckpt_exporter(params, str(folder))
    trainer = tiny_task.trainer(params, checkpoint_exporter=exporter)
    runner = train_lib.OrbitExperimentRunner(
        tf.distribute.get_strategy(), trainer.task, "train_and_eval", params, str(folder), trainer=trainer
    )
    runner.controller.train_and_evaluate(params.trainer.train_steps, -1, params.trainer.validation_interval)
    return trainer


def restored(params, path):
    trainer = tiny_task.trainer(params, seed=1)
    tf.train.Checkpoint(model=trainer.model).read(path).expect_partial().assert_existing_objects_matched()
    return trainer.model


def test_a_run_goes_on_as_if_it_had_not_been_evaluated(tmp_path):
    precise, plain = run(tmp_path / "precise", **PRECISE), run(tmp_path / "plain")
    of_step = "ckpt-{}".format
    for step in (1, 2, 3):
        checkpoints = [str(tmp_path / name / of_step(step)) for name in ("precise", "plain")]
        a, b = (tf.train.load_checkpoint(path) for path in checkpoints)
        for name in set(a.get_variable_to_shape_map()) - {"_CHECKPOINTABLE_OBJECT_GRAPH"}:
            np.testing.assert_array_equal(a.get_tensor(name), b.get_tensor(name), err_msg=f"{name} at step {step}")
    # The last checkpoint, and the best whichever that is, hold the precise statistics of their weights.
    last = restored(precise.config, str(tmp_path / "precise" / of_step(4)))
    assert_close(statistics(last), expected_statistics(last, 4))
    best = tf.train.latest_checkpoint(str(tmp_path / "precise" / "best"))
    step = train_utils.read_global_step_from_checkpoint(best)
    assert step in (2, 4)
    assert_close(statistics(restored(precise.config, best)), expected_statistics(restored(precise.config, best), step))
    assert not np.array_equal(statistics(precise.model)["conv1_bn"][0], statistics(plain.model)["conv1_bn"][0]), (
        "at the end the precise ones stay"
    )
    for a, b in zip(precise.model.trainable_variables, plain.model.trainable_variables, strict=True):
        np.testing.assert_array_equal(a, b)
    assert pathlib.Path(tmp_path / "plain" / "best").exists()


def test_frozen_norms_keep_what_they_have():
    frozen = {"task.model.backbone.video_resnet.norm_frozen": True}
    trainer = tiny_task.trainer(tiny_task.experiment(**PRECISE, **frozen))
    before = weights(trainer.model)
    trainer._precise_norm.put_in(0)
    np.testing.assert_equal(weights(trainer.model), before)


def test_a_task_without_such_statistics_is_named():
    class Other(tiny_task.Task):
        norm_step = property()  # as a task that has none

    params = tiny_task.experiment(**PRECISE)
    task = Other(params.task)
    with pytest.raises(errors.UserError, match="trainer.precise_norm_steps is 3, and Other cannot"):
        trainer = tiny_task.trainers.Trainer
        optimizer = task.create_optimizer(params.trainer.optimizer_config)
        trainer(params, task, task.build_model(), optimizer, stop=None, waited=None)


def test_a_test_of_a_checkpoint_reads_no_training_data():
    trainer = tiny_task.trainer(tiny_task.experiment(**PRECISE), train=False)
    before = weights(trainer.model)
    trainer.evaluate(tf.constant(-1))
    np.testing.assert_equal(weights(trainer.model), before)
