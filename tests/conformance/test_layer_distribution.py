"""Two replicas of a tf.distribute strategy do what one device does on the whole batch."""

import blocks
import layer_cases
import numpy as np
import pytest
import tensorflow as tf


@pytest.fixture(params=blocks.FLAVOURS)
def flavour(request):
    return request.param


def _model(flavour, case, **kwargs):
    module = blocks.FLAVOURS[flavour].keras
    model = case.model(flavour, **kwargs)
    model.set_weights([0.5 * weight for weight in model.get_weights()])
    model.compile(module.optimizers.SGD(0.05), "mse")
    return model


def _data(case):
    x = case.x()
    return tf.data.Dataset.from_tensors(((x, case.mask()) if case.masked else x, 0.5 * x)).unbatch().batch(2)


# Without batch statistics, of which each replica has its own, two replicas of one example are one of two.
@pytest.mark.parametrize("case", layer_cases.cases(first=1, only=lambda case: case.kwargs.get("norm", "") is None))
def test_two_replicas_train_like_one(flavour, case, two_replicas):
    with two_replicas.scope():
        distributed = _model(flavour, case)
    single = _model(flavour, case)
    single.set_weights(distributed.get_weights())
    before = single.get_weights()
    for model in (single, distributed):
        model.fit(_data(case), epochs=2, verbose=0)
    moved = [np.abs(one - other).max() for one, other in zip(before, single.get_weights(), strict=True)]
    assert min(moved) > 0
    for one, other in zip(single.get_weights(), distributed.get_weights(), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-6)


def test_synchronised_statistics_are_those_of_the_whole_batch(flavour, two_replicas):
    case = layer_cases.CASES[0]
    with two_replicas.scope():
        distributed = _model(flavour, case, norm_synchronized=True)
    single = _model(flavour, case)
    single.set_weights(distributed.get_weights())
    for model in (single, distributed):
        model.fit(_data(case), epochs=1, verbose=0)
    for one, other in zip(single.get_weights(), distributed.get_weights(), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("case", layer_cases.cases(first=2))
def test_replicas_predict_like_one(flavour, case, two_replicas):
    with two_replicas.scope():
        model = case.model(flavour)
    inputs = tf.data.Dataset.from_tensors((tuple(case.model_inputs()),) if case.masked else case.x()).unbatch().batch(2)
    np.testing.assert_allclose(
        model.predict(inputs, verbose=0), layer_cases.outputs(model, case)[0], rtol=1e-5, atol=1e-6
    )
