"""What queries attend to as a server says it: the rows of the block's attention, at places in the model's input."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from keras_nonlocal import layers as keras_layers
from keras_nonlocal import models
from keras_nonlocal.analysis import blocks
from keras_nonlocal.export import explain
from keras_nonlocal.tfm import layers as tfm_layers

KERASES = {"keras": (keras, keras_layers), "tf_keras": (tf_keras, tfm_layers)}
CLIP = (4, 20, 28, 2)


def clips(batch=2, shape=CLIP):
    return np.random.default_rng(0).normal(size=(batch, *shape)).astype("float32")


def clip_model(flavour, nested=False, sizes=CLIP, **arguments):
    """A model whose positions are at frames 0.5 + 2 i, and at pixels 2.5 + 4 i, two ways; (model, block)."""
    package, ours = KERASES[flavour]
    inputs = package.Input(sizes)
    block = ours.NonLocal3D(name="block", kernel_initializer="he_normal", **arguments)

    def trunk(x):
        x = package.layers.AveragePooling3D((2, 1, 1))(x)
        x = package.layers.Conv3D(5, (1, 4, 4), (1, 4, 4))(x)
        return block(x)

    if nested:
        inner = package.Input(sizes)
        x = package.Model(inner, trunk(inner), name="trunk")(inputs)
    else:
        x = trunk(inputs)
    return package.Model(inputs, package.layers.GlobalAveragePooling3D()(x)), block


def expected_of(model, block, x, cell):
    """The row of the whole attention of a cell of a (2, 5, 7) grid whose keys are pooled by 2 in space."""
    trunk = next((layer for layer in model.layers if layer.name == "trunk"), model)
    features = x
    for layer in trunk.layers[1 : trunk.layers.index(block)]:
        features = layer(features)
    _, attention = block(features, return_attention_scores=True)
    return attention.numpy()[:, np.ravel_multi_index(cell, (2, 5, 7))]


@pytest.mark.parametrize(
    ("flavour", "nested", "form"),
    [("keras", False, "embedded_gaussian"), ("keras", True, "dot_product"), ("tf_keras", True, "embedded_gaussian")],
)
def test_rows_of_the_attention_at_places_in_the_input(flavour, nested, form):
    model, block = clip_model(flavour, nested, pairwise=form)
    x = clips()
    # The second goes to the last row and column, the first frame.
    queries = np.array([[[2.4, 9.9, 3.1], [-9.0, 999.0, np.inf]]] * 2, "float32")
    answer = explain.Explain(model, "block", top_k=5)(x, queries)
    np.testing.assert_array_equal(answer["queries"], [[[2.5, 10, 2], [0.5, 18, 26]]] * 2)
    for number, cell in enumerate([(1, 2, 0), (0, 4, 6)]):
        row = expected_of(model, block, x, cell)
        order = np.argsort(-np.abs(row), axis=-1)[:, :5]
        found = answer["weights"][:, number].numpy()
        np.testing.assert_allclose(found, np.take_along_axis(row, order, axis=-1), rtol=1e-4, atol=1e-7)
        t, y, x_ = np.unravel_index(order, (2, 2, 3))
        centres = np.stack([0.5 + 2 * t, 4 + 8 * y, 4 + 8 * x_], axis=-1)  # of 2 x 2 positions, 8 x 8 pixels
        np.testing.assert_allclose(answer["positions"][:, number], centres)
        if form == "dot_product":
            assert found.min() < 0, "negative weights stay negative"


def test_nan_and_more_keys_than_there_are():
    model, block = clip_model("keras", extent="time")
    queries = np.full((1, 3, 3), np.nan, "float32")
    answer = explain.Explain(model, top_k=50)(clips(1), queries)
    np.testing.assert_array_equal(answer["queries"], [[[0.5, 2, 2]] * 3])
    assert answer["weights"].shape == (1, 3, 2)
    np.testing.assert_array_equal(np.sort(answer["positions"][0, 0], axis=0), [[0.5, 2, 2], [2.5, 2, 2]])
    np.testing.assert_allclose(np.sum(answer["weights"], axis=-1), 1, rtol=1e-6)


@pytest.mark.parametrize("sizes", [CLIP, (None, None, None, 2)], ids=["known", "unknown"])
def test_a_saved_one_is_small_and_plain(sizes, tmp_path):
    model, _ = clip_model("keras", sizes=sizes, pool_size=None)
    module = tf.Module()
    module.explain = explain.Explain(model, top_k=4)
    module.kept = [variable.value for variable in model.variables]
    specs = [tf.TensorSpec([None, *sizes], name="clip"), tf.TensorSpec([None, None, 3], name="queries")]
    concrete = tf.function(module.explain).get_concrete_function(*specs)
    if None not in sizes:
        shapes = {tuple(x.shape) for op in concrete.graph.get_operations() for x in op.outputs if x.shape.rank}
        assert (None, 2, 5, 7, 5) in shapes
        assert not [shape for shape in shapes if shape.count(70) > 1], "the N x M matrix is in the graph"
    assert not concrete.graph._functions
    types = {op.type for op in concrete.graph.get_operations()}
    assert not {kind for kind in types if "PyFunc" in kind or "Call" in kind or kind == "While"}
    tf.saved_model.save(tf.Module(), str(tmp_path / "empty"))
    module.explain = None
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=concrete)
    served = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"]
    for batch in (1, 3):
        x, queries = clips(batch), np.random.default_rng(1).uniform(0, 20, (batch, 2, 3)).astype("float32")
        answer = served(clip=tf.constant(x), queries=tf.constant(queries))
        expected = explain.Explain(model, top_k=4)(x, queries)
        assert answer.keys() == expected.keys() == {"queries", "positions", "weights"}
        for name, value in expected.items():
            np.testing.assert_allclose(answer[name], value, rtol=1e-5, atol=1e-6)
    for wrong in (np.zeros((2, 1, 3)), np.zeros((1, explain.MAX_QUERIES + 1, 3)), np.zeros((1, 1, 2))):
        with pytest.raises(tf.errors.InvalidArgumentError):
            served(clip=tf.constant(clips(1)), queries=tf.constant(wrong, tf.float32))


def test_inputs_that_are_nan_are_answered():
    model, _ = clip_model("keras")
    answer = explain.Explain(model, top_k=3)(np.full((1, *CLIP), np.nan, "float32"), np.zeros((1, 1, 3), "float32"))
    assert np.isfinite(answer["positions"]).all() and np.isnan(answer["weights"]).all()


def test_a_mask_that_is_an_input():
    inputs, mask = keras.Input((8, 8, 2)), keras.Input((8, 8), dtype="bool")
    block = keras_layers.NonLocal2D(pool_size=2)
    model = keras.Model([inputs, mask], block(inputs, mask=mask))
    valid = np.ones((1, 8, 8), bool)
    valid[:, :, 4:] = False
    answer = explain.Explain(model, top_k=8)([clips(1, (8, 8, 2)), valid], [[[0.5, 0.5]]])
    assert (answer["positions"][..., 1] < 4).numpy().all()  # the 8 keys of 16 that have any weight
    np.testing.assert_allclose(np.sum(answer["weights"]), 1, rtol=1e-6)


def test_images_and_sequences():
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, 2, "same")(inputs)
    image_model = keras.Model(inputs, keras_layers.NonLocal2D(pool_size=None)(x))
    for size, first in ((8, 1.5), (9, 0.5)):  # of even sizes TensorFlow pads behind only
        answer = explain.Explain(image_model)(clips(1, (size, size, 3)), [[[0.0, 5.0]]])
        second = 2 * round((5.0 - first) / 2) + first
        np.testing.assert_array_equal(answer["queries"], [[[first, second]]])
    package, ours = KERASES["tf_keras"]
    model = package.Sequential([package.Input((12, 3)), package.layers.Masking(), ours.NonLocal1D(name="block")])
    x = clips(1, (12, 3))
    x[:, 7:] = 0  # masked
    answer = explain.Explain(model, "block")(x, [[[3.2]]])
    np.testing.assert_array_equal(answer["queries"], [[[3]]])
    assert sorted(answer["positions"].numpy().reshape(-1)) == [0.5, 2.5, 4.5, 6.5, 8.5, 10.5]
    weights = dict(zip(answer["positions"].numpy().reshape(-1), answer["weights"].numpy().reshape(-1), strict=True))
    assert weights[8.5] == weights[10.5] == 0 and weights[6.5] > 0


def test_blocks_are_named_by_path_and_wrong_ones_are_listed():
    model, block = clip_model("keras", nested=True)
    assert blocks.paths(model) == {"trunk/block": block}
    assert explain.Explain(model).block is explain.Explain(model, "trunk/block").block is block
    with pytest.raises(ValueError, match=r"\['trunk/block'\]. Received: block='res5'"):
        explain.Explain(model, "res5")
    two = models.C2D(
        50, (2, 32, 32, 3), width=1, block_counts=(1, 1, 1, 1), non_local={"res2": [0], "res3": [0]}, include_top=False
    )
    assert explain.Explain(two).block.name == "res3_0_nonlocal"
    with pytest.raises(ValueError, match=r"`block` must name one non-local block of the model: \[\]"):
        explain.Explain(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]))
    with pytest.raises(ValueError, match="`top_k` must be a positive integer"):
        explain.Explain(model, top_k=0)


def test_backbones_and_classifiers_of_tfm():
    from keras_nonlocal.tfm.backbones import non_local_resnet, video_resnet
    from keras_nonlocal.tfm.video_classifier import VideoClassifier

    backbone = video_resnet.VideoResNet(width=1, block_counts=(1, 1, 1, 1), non_local={"res2": [0], "res3": [0]})
    model = VideoClassifier(backbone, 3, (None, None, None, 3))
    answer = explain.Explain(model, "res3_0_nonlocal", top_k=2)(clips(1, (4, 64, 64, 3)), [[[2.6, 20.0, 30.0]]])
    np.testing.assert_array_equal(answer["queries"], [[[2.5, 18.5, 26.5]]])  # frames are pooled in pairs behind res2
    resnet = non_local_resnet.NonLocalResNet(
        10,
        tf_keras.layers.InputSpec(shape=[None, 64, 64, 3]),
        depth_multiplier=0.1,
        non_local={"res3": [0], "res4": [0]},
    )
    assert len(blocks.paths(resnet)) == 2
    with pytest.raises(ValueError, match="must name one"):
        explain.Explain(resnet, "non_local")  # which both are called
    for path, stride in zip(blocks.paths(resnet), (8, 16), strict=True):
        answer = explain.Explain(resnet, path, top_k=2)(clips(1, (64, 64, 3)), [[[0.0, 0.0], [64.0, 64.0]]])
        first, last = answer["queries"][0].numpy()
        assert (last - first == (64 // stride - 1) * stride).all() and answer["weights"].shape == (1, 2, 2)
