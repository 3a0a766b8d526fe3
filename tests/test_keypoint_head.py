"""The keypoint head: its size, its layers one by one, and non-local blocks that start as nothing."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from keras_nonlocal.tfm import layers
from keras_nonlocal.tfm.heads import keypoint
from keras_nonlocal.tfm.keypoints import targets

FOUR = (1, 3, 5, 7)


def parameters(layer):
    return sum(int(tf.size(weight)) for weight in layer.weights)


def small(**kwargs):
    return keypoint.KeypointHead(**{"num_keypoints": 3, "num_filters": 8, **kwargs})


def features(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def test_parameters_of_the_paper_s_head():
    head = keypoint.KeypointHead(17, non_local=FOUR)
    head(tf_keras.Input([None, 14, 14, 256]))
    assert sum(map(parameters, head.convs)) == 9 * 256 * 512 + 7 * 9 * 512 * 512 + 8 * 512 == 17_698_816
    assert [parameters(block) for block in head.blocks.values()] == [525_568] * 4
    assert parameters(head.deconv) == 16 * 512 * 17 + 17 == 139_281
    assert parameters(head) == 17_698_816 + 4 * 525_568 + 139_281


def test_weights_start_as_detectron_s():
    """N(0, 2 / fan out), not truncated; the fan out is height * width * channels out, or in for the deconvolution."""
    head = small(num_filters=64, num_convs=2)
    head(features(1, 1, 14, 14, 32))
    for layer, fan_out in ((head.convs[0], 9 * 64), (head.convs[1], 9 * 64), (head.deconv, 16 * 64)):
        kernel, bias = layer.get_weights()
        assert kernel.std() == pytest.approx(np.sqrt(2 / fan_out), rel=0.06) and not np.any(bias)
        assert np.abs(kernel).max() > 2.5 * kernel.std(), "a truncated normal ends at about 2.3"
    assert not np.allclose(*(conv.kernel[:, :, :32] for conv in head.convs)), "drawn each by itself"


def test_the_layers_one_by_one():
    """Convolutions with a ReLU, blocks after it, a deconvolution without one, and a bilinear map of twice the size."""
    head = small(num_convs=3, non_local=(1,), non_local_block={"norm": None, "kernel_initializer": "glorot_normal"})
    x = features(2, 5, 14, 14, 4)
    head(x)
    block = head.blocks["1"]
    block.out.kernel.assign(features(*block.out.kernel.shape, seed=1))
    y = x.reshape(10, 14, 14, 4)
    for i, conv in enumerate(head.convs):
        y = tf.nn.relu(tf.nn.conv2d(y, conv.kernel, 1, "SAME") + conv.bias)
        y = y if i != 1 else block(y)
    y = tf.nn.conv2d_transpose(y, head.deconv.kernel, [10, 28, 28, 3], 2, "SAME") + head.deconv.bias
    assert np.min(y) < 0
    # Between four neighbours at 1/4 and 3/4, those on the border twice: positions -0.25, 0.25, 0.75, 1.25, ...
    y = np.pad(y, [(0, 0), (1, 1), (1, 1), (0, 0)], "edge")
    for axis in (1, 2):
        before, here, after = (np.take(y, range(k, 28 + k), axis) for k in range(3))
        up = np.stack([0.25 * before + 0.75 * here, 0.75 * here + 0.25 * after], axis + 1)
        up = up.reshape(*y.shape[:axis], 56, *y.shape[axis + 1 :])
        y = up
    np.testing.assert_allclose(head(x), y.reshape(2, 5, 56, 56, 3), rtol=1e-4, atol=1e-4)


def test_a_head_with_blocks_starts_as_the_plain_one_to_the_last_bit_and_restores_its_checkpoints(tmp_path):
    plain, with_blocks = small(), small(non_local=FOUR, non_local_block={"norm": None})
    x = features(2, 3, 14, 14, 4)
    expected = plain(x)
    path = tf.train.Checkpoint(head=plain).write(str(tmp_path / "plain"))
    tf.train.Checkpoint(head=with_blocks).read(path).expect_partial()
    np.testing.assert_array_equal(with_blocks(x), expected)
    with_blocks.blocks["3"].out.kernel.assign_add(tf.ones_like(with_blocks.blocks["3"].out.kernel))
    assert np.abs(with_blocks(x) - expected).max() > 1e-3


def test_gradients_reach_all_of_the_blocks_once_their_w_z_moves():
    head = small(non_local=FOUR)
    x = features(2, 2, 14, 14, 4)
    labels = np.random.default_rng(1).integers(0, 56 * 56, (2, 2, 3)).astype("int32")

    def gradients():
        with tf.GradientTape() as tape:
            loss = targets.loss(head(x, training=True), labels, tf.ones([2, 2, 3]))
        return tape.gradient(loss, head.trainable_variables)

    assert len(gradients()) == 2 * 8 + 4 * 8 + 2
    at_start = {v.name: np.abs(g).max() for v, g in zip(head.trainable_variables, gradients(), strict=True)}
    assert all(size > 0 for name, size in at_start.items() if "/out/" in name and "kernel" in name)
    tf_keras.optimizers.SGD(0.1).apply_gradients(zip(gradients(), head.trainable_variables, strict=True))
    for variable, gradient in zip(head.trainable_variables, gradients(), strict=True):
        # A bias of phi moves all scores of a query alike, of which the softmax sees nothing.
        assert "phi/bias" in variable.name or np.abs(gradient).max() > 0, variable.name


def test_regions_do_not_see_each_other():
    head = small(num_convs=2, non_local=(0, 1), non_local_block={"norm": None, "kernel_initializer": "glorot_normal"})
    x = features(2, 3, 14, 14, 4)
    head(x)
    for block in head.blocks.values():
        block.out.kernel.assign(features(*block.out.kernel.shape))
    together = head(x)
    alone = tf.concat([head(x[:, i : i + 1]) for i in range(3)], axis=1)
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("compiled", [False, True])
def test_graphs_of_unknown_sizes(compiled):
    head = small(num_convs=2, non_local=(1,))
    x = features(2, 3, 14, 14, 4)
    expected = head(x)
    function = tf.function(
        head, input_signature=[tf.TensorSpec([None, None, 14, 14, 4])], jit_compile=compiled, autograph=False
    )
    np.testing.assert_allclose(function(x), expected, rtol=1e-5, atol=1e-6)
    assert head(tf_keras.Input([3, 14, 14, 4])).shape == (None, 3, 56, 56, 3)


def test_mixed_precision():
    """Convolutions in bfloat16; logits and loss in float32."""
    x = features(2, 3, 14, 14, 4)
    exact, mixed = small(num_convs=2, non_local=(1,)), small(num_convs=2, non_local=(1,), dtype="mixed_bfloat16")
    logits, half = exact(x), mixed(x)
    mixed.set_weights(exact.get_weights())
    half = mixed(x)
    assert mixed.convs[0].compute_dtype == mixed.blocks["1"].compute_dtype == mixed.deconv.compute_dtype == "bfloat16"
    assert half.dtype == tf.float32 and all(weight.dtype == tf.float32 for weight in mixed.weights)
    assert 0 < np.abs(half - logits).max() < 0.05 * np.abs(logits).max()
    labels, weights = np.full([2, 3, 3], 777, "int32"), tf.ones([2, 3, 3])
    losses = [targets.loss(maps, labels, weights) for maps in (logits, half)]
    assert losses[1].dtype == tf.float32 and float(losses[1]) == pytest.approx(float(losses[0]), rel=0.01)


def test_a_config_makes_the_head_again():
    arguments = {
        "num_keypoints": 5,
        "num_convs": 3,
        "num_filters": 6,
        "non_local": [0, 2],
        "non_local_block": {"norm": None, "pool_size": (1, 1), "inner_channels": 2},
        "kernel_regularizer": tf_keras.regularizers.l2(0.5),
        "name": "points",
    }
    head = keypoint.KeypointHead(**arguments)
    config = head.get_config()
    again = tf_keras.layers.deserialize(tf_keras.layers.serialize(head))
    assert set(arguments) < set(config) and again.get_config() == config
    assert again.name == "points" and again.blocks["2"].inner_channels == 2 and set(again.blocks) == {"0", "2"}
    head(features(1, 1, 14, 14, 4))
    assert len(head.losses) == 3 + 2 * 4 + 1, "every kernel decays, no bias does"


@pytest.mark.parametrize(
    "name, value",
    [
        ("num_keypoints", 0),
        ("num_convs", 0),
        ("num_filters", 2.5),
        ("non_local", (8,)),
        ("non_local", (-1,)),
        ("non_local", (1, 1)),
        ("non_local", ("res4",)),
    ],
)
def test_an_argument_out_of_range_is_named(name, value):
    with pytest.raises(ValueError, match=f"`{name}`.*Received: {name}="):
        small(**{name: value})
    with pytest.raises(ValueError, match="`pairwise`"):
        small(non_local=(0,), non_local_block={"pairwise": "nothing"})


def test_blocks_are_layers_of_ours():
    assert all(
        isinstance(block, layers.NonLocal2D) and block.norm is None for block in small(non_local=FOUR).blocks.values()
    )
