"""Outputs stay the same to the last bit through every way of saving, loading and copying a layer."""

import blocks
import covering
import layer_cases
import numpy as np
import pytest
import tensorflow as tf
import ways


def _zeroed(model):
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    return model


# Every way, and every case in one way.
@covering.parametrize(strength=1, way=ways.ALL, case=layer_cases.CASES)
def test_outputs_survive(way, case, tmp_path):
    model = case.model(way.flavour)
    again = way(model, tmp_path, lambda: _zeroed(case.model(way.flavour)))
    assert again is not model
    layer_cases.equal(layer_cases.outputs(again, case), layer_cases.outputs(model, case))


@pytest.mark.parametrize("case", layer_cases.cases(first=2))
def test_export_of_keras(case, tmp_path):
    """The SavedModel that model.export writes, called as a server calls it; every size is open."""
    model = case.model("keras")
    model.export(tmp_path / "exported", verbose=False)
    served = tf.saved_model.load(tmp_path / "exported")
    arguments = case.model_inputs()
    expected = layer_cases.outputs(model, case)
    # An exported graph is compiled as a whole, so it may round otherwise than the eager model.
    np.testing.assert_allclose(served.serve(arguments), expected[0], rtol=1e-5, atol=1e-6)
    # `serve` of other sizes than the model was tried on.
    bigger = [np.concatenate([part, part], axis=1) for part in (arguments if case.masked else [arguments])]
    bigger = bigger if case.masked else bigger[0]
    np.testing.assert_allclose(served.serve(bigger), model(bigger, training=False), rtol=1e-5, atol=1e-6)


EVALUATIONS = (
    {},
    {"implementation": "one_piece"},
    {"pairwise": "dot_product"},
    {"pairwise": "concatenation", "implementation": "sorted"},
)


@covering.parametrize(strength=1, kwargs=EVALUATIONS, flavour=blocks.FLAVOURS)
def test_gradients_through_an_export(flavour, kwargs, tmp_path, caplog):
    """As fine-tuning and saliency take them; loading says nothing of gradients that were lost."""
    model = layer_cases.Case("", 2, kwargs, (5, 4)).model(flavour)
    model.export(str(tmp_path / "exported"))
    caplog.clear()
    served = tf.saved_model.load(str(tmp_path / "exported"))
    assert "custom gradient" not in caplog.text
    x = tf.constant(blocks.inputs(2, channels=layer_cases.CHANNELS), "float32")

    def gradient(function):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(function(x) ** 2)
        return tape.gradient(loss, x)

    blocks.close(gradient(served.serve), gradient(model), 1e-4)


@pytest.mark.parametrize("flavour", blocks.FLAVOURS)
def test_attention_scores_survive(flavour, tmp_path):
    case = layer_cases.CASES[0]
    model = case.model(flavour, scores=True)
    module = blocks.FLAVOURS[flavour].keras
    expected = layer_cases.outputs(model, case)
    assert expected[1].shape == (2, 60, 8)
    for way in (ways.keras_file, ways.h5_file, ways.clone):
        layer_cases.equal(layer_cases.outputs(way(model, tmp_path, module, None), case), expected)


def _two_blocks(flavour, shared):
    """x through two blocks, of the same weights if shared, with the attention of the last."""
    module = blocks.FLAVOURS[flavour].keras
    first = blocks.make(flavour, 2, name="one")
    second = first if shared else blocks.make(flavour, 2, name="two", pairwise="concatenation")
    x = module.Input((None, None, layer_cases.CHANNELS))
    y = module.layers.MaxPooling2D()(first(x))
    model = module.Model(x, second(y))
    for seed, layer in enumerate({id(layer): layer for layer in (first, second)}.values()):
        blocks.randomise(layer, seed)
    return model


@covering.parametrize(
    way=(ways.keras_file, ways.h5_file, ways.weights_h5, ways.checkpoint, ways.clone),
    shared=(False, True),
    flavour=blocks.FLAVOURS,
)
def test_more_than_one_block(flavour, way, shared, tmp_path):
    model = _two_blocks(flavour, shared)

    def fresh():
        return _zeroed(_two_blocks(flavour, shared))

    assert len(model.weights) == (12 if shared else 12 + 13)
    again = way(model, tmp_path, blocks.FLAVOURS[flavour].keras, fresh)
    assert len(again.weights) == len(model.weights)
    x = blocks.inputs(2, channels=layer_cases.CHANNELS).astype("float32")
    np.testing.assert_array_equal(again(x), model(x))


@pytest.mark.parametrize("flavour", blocks.FLAVOURS)
def test_subclassed_and_sequential_models(flavour, tmp_path):
    module = blocks.FLAVOURS[flavour].keras
    x = blocks.inputs(2, channels=layer_cases.CHANNELS).astype("float32")

    class Subclassed(module.Model):
        def __init__(self):
            super().__init__()
            self.block = blocks.make(flavour, 2)

        def call(self, inputs):
            return self.block(inputs)

    for make in (Subclassed, lambda: module.Sequential([blocks.make(flavour, 2, name="block")])):
        model, again = make(), make()
        model(x), again(x)
        blocks.randomise(model.layers[-1])
        model.save_weights(tmp_path / "model.weights.h5")
        again.load_weights(tmp_path / "model.weights.h5")
        np.testing.assert_array_equal(again(x), model(x))
        assert np.abs(model(x) - x).max() > 0.1


@pytest.mark.parametrize("flavour", blocks.FLAVOURS)
def test_trained_state_survives(flavour, tmp_path):
    """A model saved in the middle of training goes on as if it had not been."""
    module = blocks.FLAVOURS[flavour].keras
    case = layer_cases.CASES[2]
    x = case.x()
    model = case.model(flavour)
    model.compile(module.optimizers.Adam(0.01), "mse")
    model.fit(x, x, epochs=2, verbose=0, shuffle=False)
    model.save(tmp_path / "model.keras")
    again = module.models.load_model(tmp_path / "model.keras")
    for one in (model, again):
        one.fit(x, x, epochs=2, verbose=0, shuffle=False)
    for mine, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(other, mine, rtol=1e-5, atol=1e-6)
