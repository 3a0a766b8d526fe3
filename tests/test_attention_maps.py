"""Attention rows out of models of either Keras, and the arrows of Fig. 3."""

import keras
import numpy as np
import pytest
import tf_keras
from matplotlib.patches import ConnectionPatch

import keras_nonlocal
from keras_nonlocal.analysis import attention_maps, plot
from keras_nonlocal.tfm import layers as tfm_layers


def model_with_block(package, layers, **arguments):
    inputs = package.Input((4, 6, 8, 3))
    x = package.layers.Conv3D(5, 1)(inputs)
    x = layers.NonLocal3D(name="block", kernel_initializer="he_normal", **arguments)(x)
    return package.Model(inputs, package.layers.GlobalAveragePooling3D()(x))


@pytest.mark.parametrize(
    ("package", "layers"), [(keras, keras_nonlocal), (tf_keras, tfm_layers)], ids=["keras", "tf_keras"]
)
def test_rows_are_the_layers_own(package, layers):
    model = model_with_block(package, layers)
    clip = np.random.default_rng(0).normal(size=(4, 6, 8, 3)).astype("float32")
    found = attention_maps.attention_map(model, "block", clip)
    features = model.layers[1](clip[None])
    _, expected = model.get_layer("block")(features, return_attention_scores=True)
    assert (found.query_grid, found.key_grid) == ((4, 6, 8), (4, 3, 4))
    np.testing.assert_allclose(found.weights, expected[0], rtol=1e-5)
    row = found.row(3, 2, 5)
    np.testing.assert_allclose(row.reshape(-1), expected[0][3 * 48 + 2 * 8 + 5], rtol=1e-5)
    keys = found.strongest(3, 2, 5, count=7)
    assert [weight for _, weight in keys] == sorted(row.reshape(-1), reverse=True)[:7]
    assert all(row[key] == np.float32(weight) for key, weight in keys)


def test_a_block_may_be_in_a_model_inside():
    inner = model_with_block(keras, keras_nonlocal)
    inputs = keras.Input((4, 6, 8, 3))
    model = keras.Model(inputs, keras.layers.Dense(2)(inner(inputs)))
    clip = np.random.default_rng(0).normal(size=(4, 6, 8, 3)).astype("float32")
    (path,) = attention_maps.find_blocks(model)
    assert path == f"{inner.name}/block"
    expected = attention_maps.attention_map(inner, "block", clip).weights
    np.testing.assert_allclose(attention_maps.attention_map(model, path, clip).weights, expected, rtol=1e-5)


def test_blocks_are_found_in_order_and_wrong_ones_are_named():
    model = model_with_block(keras, keras_nonlocal)
    assert attention_maps.find_blocks(model) == ["block"]
    clip = np.zeros((4, 6, 8, 3), "float32")
    with pytest.raises(ValueError, match=r"\['block'\]. Received: block='res3'"):
        attention_maps.attention_map(model, "res3", clip)
    with pytest.raises(ValueError, match="extent 'space'"):
        attention_maps.attention_map(model_with_block(keras, keras_nonlocal, extent="space"), "block", clip)


def test_shares_are_of_the_absolute_weights():
    weights = np.array([[0.5, 0.5, 0, 0], [-1, 0, 1, 2], [0, 0, 0, 0], [0, 0.25, 0, 0.75]])  # 2 x 1 x 2 each
    attention = attention_maps.AttentionMap(weights, (2, 1, 2), (2, 1, 2))
    np.testing.assert_array_equal(attention.share_of_other_frames(), [[[0, 0.75]], [[0, 0.25]]])
    np.testing.assert_array_equal(attention.share([[[True, False]], [[False, False]]]), [[[0.5, 0.25]], [[0, 0]]])
    pooled = attention_maps.AttentionMap(np.full((4, 2), [0.25, 0.75]), (4, 1, 1), (2, 1, 1))
    np.testing.assert_array_equal(pooled.share_of_other_frames().reshape(-1), [0.75, 0.75, 0.25, 0.25])


def test_a_picture_shows_the_query_its_keys_and_how_much_each_has():
    weights = np.zeros((2 * 4 * 4, 2 * 2 * 2))
    row = weights[np.ravel_multi_index((1, 3, 0), (2, 4, 4))]
    row[np.ravel_multi_index(([0, 1], [0, 1], [1, 1]), (2, 2, 2))] = 0.75, 0.25
    attention = attention_maps.AttentionMap(weights, (2, 4, 4), (2, 2, 2))
    figure = plot.draw_attention(np.zeros((2, 40, 40, 3), "uint8"), attention, (1, 3, 0), count=1)
    (arrow,) = (artist for artist in figure.artists if isinstance(artist, ConnectionPatch))
    assert arrow.xy1 == (5.0, 35.0) and arrow.xy2 == (30.0, 10.0)
    assert arrow.coords1 is figure.axes[1].transData and arrow.coords2 is figure.axes[0].transData
    assert figure.axes[0].get_title() == "t = 0: 75 % of the attention"
    heat = [axis.images[1].get_array()[..., 3] for axis in figure.axes]
    assert heat[0][0, 1] == pytest.approx(3 * heat[1][1, 1]) and np.count_nonzero(heat) == 2
