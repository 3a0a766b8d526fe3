"""Dropout as a function of seed and step."""

import numpy as np
import pytest
import tensorflow as tf

from keras_nonlocal.tfm import dropout

X = np.random.default_rng(0).uniform(1, 2, size=(8, 512)).astype("float32")


def dropped(seed, step, rate=0.5, x=X):
    with dropout.at(seed, step):
        return dropout.Dropout(rate)(x, training=True).numpy()


def test_the_mask_is_a_function_of_seed_and_step():
    first = dropped(7, 3)
    np.testing.assert_array_equal(first, dropped(7, tf.Variable(3, dtype=tf.int64)))
    np.testing.assert_array_equal(first, dropped(7, 3, x=-X) * -1)
    masks = [first != 0, dropped(7, 4) != 0, dropped(8, 3) != 0, dropped(3, 7) != 0]
    agreement = [np.mean(a == b) for i, a in enumerate(masks) for b in masks[:i]]
    assert all(0.45 < share < 0.55 for share in agreement), "independent of each other"
    assert all(0.45 < np.mean(rows == masks[0][0]) < 0.55 for rows in masks[0][1:]), "and so are the clips of a batch"


@pytest.mark.parametrize("rate", [0.25, 0.5])
def test_what_is_kept_makes_up_for_the_rest(rate):
    y = dropped(0, 0, rate)
    assert np.mean(y == 0) == pytest.approx(rate, abs=0.03)
    np.testing.assert_allclose(y[y != 0], X[y != 0] / (1 - rate), rtol=1e-6)


def test_nothing_is_dropped_in_evaluation_and_nothing_is_kept_by_the_layer():
    layer = dropout.Dropout(0.5)
    np.testing.assert_array_equal(layer(X), X)
    np.testing.assert_array_equal(dropout.Dropout(0.0)(X, training=True), X)
    with dropout.at(0, 0):
        layer(X, training=True)
    assert layer.weights == [] and len(tf.train.TrackableView(layer).descendants()) <= len(
        tf.train.TrackableView(dropout.Dropout(0.5)).descendants()
    )
    assert dropout.Dropout.from_config(layer.get_config()).rate == 0.5


@pytest.mark.parametrize("compiled", [False, True])
def test_a_graph_draws_anew_at_each_step(compiled):
    step = tf.Variable(0, dtype=tf.int64)
    layer = dropout.Dropout(0.5)

    @tf.function(jit_compile=compiled)
    def call(x):
        with dropout.at(5, step):
            return layer(x, training=True)

    for number in (0, 1):
        step.assign(number)
        np.testing.assert_array_equal(call(X), dropped(5, number))


def test_replicas_drop_what_one_device_does(two_replicas):
    layer = dropout.Dropout(0.5)
    with two_replicas.scope():
        step = tf.Variable(9, dtype=tf.int64)

    @tf.function
    def call(rows):
        def on_replica(x):
            with dropout.at(5, step):
                return layer(x, training=True)

        return two_replicas.run(on_replica, args=(rows,))

    halves = two_replicas.experimental_distribute_values_from_function(
        lambda context: tf.constant(np.split(X, 2)[context.replica_id_in_sync_group])
    )
    found = np.concatenate(two_replicas.experimental_local_results(call(halves)))
    np.testing.assert_array_equal(found, dropped(5, 9))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_mask_is_the_same_in_every_dtype(dtype):
    x = tf.cast(X, dtype)
    with dropout.at(1, 2):
        y = dropout.Dropout(0.5, dtype=dtype)(x, training=True)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y.numpy() != 0, dropped(1, 2) != 0)


def test_training_without_a_step_is_refused():
    with pytest.raises(tf.errors.InvalidArgumentError, match="within `dropout.at"):
        dropout.Dropout(0.5)(X, training=True)
    graph = tf.function(lambda x: dropout.Dropout(0.5)(x, training=True))
    graph.get_concrete_function(X)  # tracing alone is no fault: tf_keras does it when it saves
    with pytest.raises(tf.errors.InvalidArgumentError, match="within `dropout.at"):
        graph(X)


@pytest.mark.parametrize("rate", [-0.1, 1, 1.5])
def test_a_rate_out_of_range_is_named(rate):
    with pytest.raises(ValueError, match=f"`rate` must be .*Received: rate={rate}"):
        dropout.Dropout(rate)
