"""The C2D and I3D graphs: the paper's sizes and counts, both Keras, and what non-local blocks may not change."""

import types

import keras
import numpy as np
import pytest
import tf_keras

from keras_nonlocal import layers, models
from keras_nonlocal.models import video_resnet
from keras_nonlocal.tfm import layers as tfm_layers

FIVE_BLOCKS = {"res3": [1, 3], "res4": [1, 3, 5]}
SMALL = dict(block_counts=(1, 2, 2, 2), width=4)


def kernels_in_millions(model):
    return sum(np.prod(w.shape) for w in model.weights if w.name == "kernel") / 1e6


def small_model(package, ours, shape=(8, 48, 48, 3), **arguments):
    inputs = package.Input(shape)
    endpoints = video_resnet.video_resnet(package, ours, inputs, **{**SMALL, **arguments})
    return package.Model(inputs, endpoints)


def randomize(model, seed=0):
    """Random weights everywhere, so that no zero gamma hides a branch."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        layer.set_weights(
            [
                rng.uniform(0.5, 1.5, w.shape) if "variance" in str(v.name) else rng.normal(0, 0.3, w.shape)
                for w, v in zip(layer.get_weights(), layer.weights, strict=True)
            ]
        )
    return model


def copy_weights(source, target):
    for layer in source.layers:
        if layer.weights:
            target.get_layer(layer.name).set_weights(layer.get_weights())


def clips(shape=(2, 8, 48, 48, 3)):
    return np.random.default_rng(1).normal(size=shape).astype("float32")


def test_c2d_r101_has_the_papers_43_2_million_weights():
    model = models.C2D(101, input_shape=(32, 224, 224, 3), temporal_stride=8)
    assert kernels_in_millions(model) == pytest.approx(43.2, rel=0.005)


def test_five_blocks_add_7_358_million_parameters():
    plain, non_local = models.C2D(50), models.C2D(50, non_local=FIVE_BLOCKS)
    counted = [np.prod(w.shape) for w in non_local.weights if "nonlocal" in w.path and "moving" not in w.path]
    assert sum(counted) == 2 * 526_592 + 3 * 2_101_760
    assert non_local.count_params() - plain.count_params() == sum(counted) + 2 * (2 * 512 + 3 * 1024)


@pytest.mark.parametrize(
    ("temporal_stride", "stem", "frames", "expected"),
    [
        (8, "official", 32, [(16, 112), (8, 55), (8, 55), (4, 55), (4, 28), (4, 14), (4, 7)]),
        (2, "official", 8, [(8, 112), (8, 55), (8, 55), (4, 55), (4, 28), (4, 14), (4, 7)]),
        (2, "slowfast", 8, [(8, 112), (8, 56), (8, 56), (4, 56), (4, 28), (4, 14), (4, 7)]),
        (8, "paper", 32, [(16, 112), (8, 56), (8, 56), (4, 56), (4, 28), (4, 14), (4, 7)]),
    ],
)
def test_sizes_of_table_1(temporal_stride, stem, frames, expected):
    arguments = dict(temporal_stride=temporal_stride, stem=stem, width=4)
    model = models.C2D(50, input_shape=(frames, 224, 224, 3), **arguments)
    names = ["conv1", "pool1", "res2_2_relu", "pool2", "res3_3_relu", "res4_5_relu", "res5_2_relu"]
    assert [model.get_layer(name).output.shape[1:3] for name in names] == expected
    assert all(model.get_layer(name).output.shape[2] == model.get_layer(name).output.shape[3] for name in names)


def test_i3d_inflates_every_second_block():
    model = models.I3D(50, width=4)
    inflated = [
        name.rsplit("_", 1)[0]
        for name in (layer.name for layer in model.layers)
        if name.endswith("branch2a") and model.get_layer(name).kernel_size[0] == 3
    ]
    expected = ["res2_0", "res2_1", "res2_2", "res3_0", "res3_2", "res4_0", "res4_2", "res4_4", "res5_1"]
    assert inflated == expected
    assert model.get_layer("conv1").kernel_size == (5, 7, 7)
    assert models.I3D(50, width=4, inflate="3x3x3").get_layer("res3_2_branch2b").kernel_size == (3, 3, 3)


@pytest.mark.parametrize("inflate", [None, "3x1x1"])
def test_both_flavours_compute_the_same(inflate):
    arguments = dict(inflate=inflate, non_local={"res3": [1], "res4": [0]})
    ours = randomize(small_model(keras, layers, **arguments))
    theirs = small_model(tf_keras, tfm_layers, **arguments)
    copy_weights(ours, theirs)
    a, b = ours.predict(clips(), verbose=0), theirs.predict(clips(), verbose=0)
    for level in "2345":
        scale = np.abs(a[level]).max()
        np.testing.assert_allclose(a[level] / scale, b[level] / scale, atol=1e-5)


@pytest.mark.parametrize(("package", "ours"), [(keras, layers), (tf_keras, tfm_layers)])
def test_the_norms_compute_what_keras_own_do(package, ours):
    own = types.SimpleNamespace(**{**vars(ours), "BatchNormalization": package.layers.BatchNormalization})
    a, b = small_model(package, ours), small_model(package, own)
    assert any(isinstance(layer, ours.BatchNormalization) for layer in a.layers)
    assert not any(isinstance(layer, ours.BatchNormalization) for layer in b.layers)
    randomize(a)
    b.set_weights(a.get_weights())
    for training in (True, False):  # training moves the statistics that are used after it
        found, expected = a(clips(), training=training), b(clips(), training=training)
        for level in "2345":
            scale = np.abs(expected[level]).max()
            np.testing.assert_allclose(found[level] / scale, expected[level] / scale, atol=1e-5)


@pytest.mark.parametrize(("name", "pad"), [("conv1", 3), ("res3_0_branch2b", 1)])
def test_strided_convolutions_pad_symmetrically(name, pad):
    # The tap before the centre by `pad` must see x[2 i - pad] on an even size; TensorFlow's SAME sees x[2 i - pad + 1].
    model = small_model(keras, layers, shape=(2, 52, 52, 3))
    before = keras.Model(model.input, model.get_layer(f"{name}_pad").input)
    after = keras.Model(model.input, model.get_layer(name).output)
    layer = model.get_layer(name)
    kernel = np.zeros(layer.kernel.shape, "float32")
    kernel[0, 0, 0, 0, 0] = 1
    layer.set_weights([kernel])
    clip = clips((1, 2, 52, 52, 3))
    x, y = (np.asarray(part(clip))[..., 0] for part in (before, after))
    assert x.shape[2] % 2 == 0
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    size = y.shape[2]
    assert np.array_equal(y, padded[:, :, : 2 * size : 2, : 2 * size : 2])


def test_non_local_blocks_change_nothing_until_trained():
    plain = randomize(small_model(keras, layers))
    inserted = small_model(keras, layers, non_local={"res2": [0], "res3": [0, 1], "res4": [1], "res5": [0]})
    copy_weights(plain, inserted)
    a, b = plain(clips()), inserted(clips())
    assert all(np.array_equal(a[level], b[level]) for level in "2345")


def test_c2d_frames_do_not_meet_but_in_pooling():
    model = randomize(small_model(keras, layers))
    x = clips((1, 8, 48, 48, 3))
    changed = x.copy()
    changed[:, :2] += 1  # both frames of the first step after pool2
    a, b = model(x)["5"], model(changed)["5"]
    assert np.array_equal(np.asarray(a)[:, 1:], np.asarray(b)[:, 1:])
    assert not np.allclose(np.asarray(a)[:, 0], np.asarray(b)[:, 0])
    non_local = randomize(small_model(keras, layers, non_local={"res3": [0]}))
    a, b = non_local(x)["5"], non_local(changed)["5"]
    assert not np.allclose(np.asarray(a)[:, 1:], np.asarray(b)[:, 1:])


def test_sizes_may_be_unknown():
    model = randomize(small_model(keras, layers, shape=(None, None, None, 3), non_local={"res3": [1]}))
    fixed = small_model(keras, layers, non_local={"res3": [1]})
    fixed.set_weights(model.get_weights())
    np.testing.assert_allclose(model(clips())["5"], fixed(clips())["5"], rtol=1e-5, atol=1e-5)
    assert model(clips((1, 6, 64, 40, 3)))["5"].shape[1:-1] == (3, 2, 2)


def test_saves_and_loads(tmp_path):
    model = models.C2D(50, input_shape=(8, 48, 48, 3), classes=5, non_local={"res3": [0]}, **SMALL)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert np.array_equal(model(clips()), loaded(clips()))


def test_integers_of_numpy_are_integers():
    counts = tuple(np.int64(n) for n in SMALL["block_counts"])
    placement = dict(non_local={"res3": np.array([1])}, group_frames={"res3": np.int32(2), "res4": None})
    model = small_model(keras, layers, block_counts=counts, **placement)
    assert model.get_layer("res3_1_nonlocal").group_frames == 2
    assert video_resnet.checked_placement({"res3": range(2)}, counts)["res3"] == (0, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(non_local={"res6": [0]}), "`non_local` must be one of .*res6"),
        (dict(non_local={"res3": [4]}), "from 0 to 3. Received: res3: \\[4\\]"),
        (dict(non_local={"res3": [1, 1]}), "each once"),
        (dict(non_local={"res3": [-1]}), "Received: res3: \\[-1\\]"),
        (dict(non_local={"res3": ...}), "from 0 to 3. Received: res3: Ellipsis"),
        (dict(non_local={"res3": None}), "from 0 to 3. Received: res3: None"),
        (dict(non_local={"res3": 1}), "from 0 to 3. Received: res3: 1"),
        (dict(non_local={"res3": "13"}), "from 0 to 3. Received: res3: 13"),
        (dict(non_local={"res3": ["1"]}), "Received: res3: \\['1'\\]"),
        (dict(non_local={"res3": [1.0]}), "Received: res3: \\[1.0\\]"),
        (dict(non_local={"res3": [True]}), "Received: res3: \\[True\\]"),
        (dict(non_local={"res3": [[1]]}), "Received: res3: \\[\\[1\\]\\]"),
        (dict(non_local={3: [1]}), "`non_local` must be one of .*=3"),
        (dict(non_local=["res3"]), "`non_local` must be a dictionary of lists.*Received: non_local=\\['res3'\\]"),
        (dict(group_frames={"res9": 4}), "`group_frames` must be one of .*res9"),
        (dict(group_frames={"res9": None}), "`group_frames` must be one of .*res9"),
        (dict(group_frames=4), "`group_frames` must be a dictionary of frames.*Received: group_frames=4"),
        (dict(group_frames={"res3": 0}), "`group_frames\\['res3'\\]` must be a positive integer. Received: .*=0"),
        (dict(group_frames={"res3": 4.0}), "must be a positive integer. Received: .*=4.0"),
        (dict(group_frames={"res3": "4"}), "must be a positive integer. Received: .*='4'"),
        (dict(non_local_block="gaussian"), "`non_local_block` must be a dictionary of arguments of NonLocal3D"),
        (dict(inflate="1x3x1"), "`inflate` must be .*1x3x1"),
        (dict(temporal_stride=4), "`temporal_stride` must be 2 or 8. Received: temporal_stride=4"),
        (dict(stem="resnet"), "`stem` must be one of .*resnet"),
        (dict(block_counts=(1, 2)), "`block_counts` must be 4 positive integers"),
        (dict(block_counts=4), "`block_counts` must be 4 positive integers"),
        (dict(depth=[50]), "`depth` must be one of .*Received: depth=\\[50\\]"),
        (dict(depth=18), "`depth` must be one of \\[50, 101\\]. Received: depth=18"),
        (dict(classes=0), "`classes` must be a positive integer"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    inflate = arguments.pop("inflate", None)
    with pytest.raises(ValueError, match=message):
        if inflate:
            models.I3D(inflate=inflate, **arguments)
        else:
            models.C2D(**{"width": 4, **arguments})
