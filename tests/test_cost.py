"""What things cost, against the paper, against sizes worked out by hand, and in both Keras."""

import math

import blocks
import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import keras_nonlocal
from keras_nonlocal import models
from keras_nonlocal.analysis import cost
from keras_nonlocal.demo import experiments  # noqa: F401  (registers them)
from keras_nonlocal.layers import convolutions
from keras_nonlocal.models import video_resnet
from keras_nonlocal.tfm import layers as tfm_layers

FLAVOURS = sorted(blocks.FLAVOURS)


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize(
    ("channels", "parameters"), [(256, 132_224), (512, 526_592), (1024, 2_101_760), (2048, 8_397_824)]
)
def test_the_parameters_of_a_block(flavour, channels, parameters):
    found = cost.cost(blocks.make(flavour, 3), (4, 6, 6, channels))
    assert found.parameters == parameters
    assert found.weights == 2 * channels**2
    assert found.not_counted == ()


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize(
    ("name", "arguments", "shape", "multiply_adds", "parameters", "weights"),
    [
        ("Conv1D", (8, 3, 2, "same"), (10, 4), 5 * 3 * 4 * 8, 3 * 4 * 8 + 8, 3 * 4 * 8),
        ("Conv2D", (8, 3), (10, 12, 4), 8 * 10 * 9 * 4 * 8, 9 * 4 * 8 + 8, 9 * 4 * 8),
        ("Conv3D", (8, (3, 1, 1)), (4, 5, 6, 4), 2 * 5 * 6 * 3 * 4 * 8, 3 * 4 * 8 + 8, 3 * 4 * 8),
        ("Conv2DTranspose", (8, 2, 2), (5, 5, 4), 25 * 4 * 4 * 8, 4 * 4 * 8 + 8, 4 * 4 * 8),
        ("DepthwiseConv2D", (3,), (10, 10, 4), 64 * 9 * 4, 9 * 4 + 4, 9 * 4),
        ("SeparableConv2D", (8, 3), (10, 10, 4), 64 * (9 * 4 + 4 * 8), 9 * 4 + 4 * 8 + 8, 9 * 4 + 4 * 8),
        ("Dense", (8,), (7, 4), 7 * 4 * 8, 4 * 8 + 8, 4 * 8),
    ],
)
def test_layers_of_keras(flavour, name, arguments, shape, multiply_adds, parameters, weights):
    layer = getattr(blocks.FLAVOURS[flavour].keras.layers, name)(*arguments)
    found = cost.cost(layer, shape)
    given = math.prod(layer.compute_output_shape((1, *shape)))
    assert (found.multiply_adds, found.parameters, found.weights) == (multiply_adds, parameters, weights)
    assert found.operations == multiply_adds + given  # the bias
    assert found.activation_bytes == 4 * (math.prod(shape) + given)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_groups(flavour):
    layer = blocks.FLAVOURS[flavour].keras.layers.Conv2D(8, 3, groups=4, padding="same", use_bias=False)
    found = cost.cost(layer, (10, 10, 16))
    assert (found.multiply_adds, found.operations, found.weights) == (100 * 9 * 4 * 8, 100 * 9 * 4 * 8, 9 * 4 * 8)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_batch_norm_is_no_weight_and_its_statistics_are_no_parameters(flavour):
    for layer in (
        blocks.FLAVOURS[flavour].keras.layers.BatchNormalization(),
        blocks.FLAVOURS[flavour].layers.BatchNormalization(),
    ):
        found = cost.cost(layer, (6, 5))
        assert (found.parameters, found.weights, found.multiply_adds, found.operations) == (10, 0, 0, 30)


def pairs_and_projections(n, keys, pairs, channels, inner, scores, before):
    projected = keys if before else n
    return (2 * n + 2 * projected) * channels * inner + scores + pairs * inner


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize(
    ("arguments", "keys", "pairs"),
    [
        ({}, 4 * 3 * 3, 4 * 36 * 4 * 9),
        ({"pool_size": None}, 4 * 36, (4 * 36) ** 2),
        ({"pool_before_projection": False}, 4 * 3 * 3, 4 * 36 * 4 * 9),
        ({"extent": "space"}, 4 * 3 * 3, 4 * 36 * 9),
        ({"extent": "time"}, 4 * 36, 36 * 4 * 4),
        ({"group_frames": 2}, 4 * 3 * 3, 2 * 72 * 18),
        ({"pairwise": "dot_product"}, 4 * 3 * 3, 4 * 36 * 4 * 9),
        ({"implementation": "dense"}, 4 * 3 * 3, 4 * 36 * 4 * 9),
    ],
)
def test_multiply_adds_of_a_block_are_its_definition_s(flavour, arguments, keys, pairs):
    n, channels, inner = 4 * 36, 16, 8
    found = cost.cost(blocks.make(flavour, 3, **arguments), (4, 6, 6, channels))
    before = arguments.get("pool_before_projection", True)
    assert found.multiply_adds == pairs_and_projections(n, keys, pairs, channels, inner, pairs * inner, before)


def test_multiply_adds_of_the_other_forms():
    n, m, channels, inner = 144, 36, 16, 8
    gaussian = cost.cost(keras_nonlocal.NonLocal3D("gaussian"), (4, 6, 6, channels))
    assert gaussian.multiply_adds == (n + m) * channels * inner + n * m * (channels + inner)
    assert gaussian.weights == 2 * channels * inner
    concatenation = cost.cost(keras_nonlocal.NonLocal3D("concatenation"), (4, 6, 6, channels))
    assert concatenation.multiply_adds == 2 * (n + m) * channels * inner + (n + m) * inner + n * m * inner
    assert concatenation.weights == 4 * channels * inner + 2 * inner


def test_other_ranks():
    assert cost.cost(keras_nonlocal.NonLocal1D(), (10, 4)).multiply_adds == (20 + 10) * 8 + 50 * 4
    assert cost.cost(keras_nonlocal.NonLocal2D(), (4, 4, 4)).multiply_adds == (32 + 8) * 8 + 16 * 4 * 4


def test_the_attention_is_the_memory_of_a_large_block():
    built = cost.cost(keras_nonlocal.NonLocal3D(implementation="dense"), (4, 28, 28, 64)).activation_bytes
    n, m = 4 * 28 * 28, 4 * 14 * 14
    # x, theta, phi, g and y beside it.
    assert built == 4 * (n * m + n * 64 + 2 * n * 32 + 2 * m * 32)
    auto = cost.cost(keras_nonlocal.NonLocal3D(), (16, 56, 56, 64)).activation_bytes
    assert auto < 2**26 + 4 * 16 * 56 * 56 * 64 * 4


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_memory_is_the_most_held_at_once(flavour):
    keras_of = blocks.FLAVOURS[flavour].keras
    x = inputs = keras_of.Input((8, 8, 1))
    x = keras_of.layers.Conv2D(4, 1)(x)  # 256 numbers, held for the sum
    y = keras_of.layers.Conv2D(16, 1)(x)  # 1024
    y = keras_of.layers.Conv2D(4, 1)(y)
    outputs = keras_of.layers.Add()([x, y])
    assert cost.cost(keras_of.Model(inputs, outputs)).activation_bytes == 4 * (256 + 1024 + 256)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_nested_models_and_sizes_that_are_given(flavour):
    flavoured = blocks.FLAVOURS[flavour]
    layers = flavoured.keras.layers

    def conv_net(name):
        inputs = flavoured.keras.Input((None, None, 3))
        x = layers.Conv2D(4, 3, padding="same", name=f"{name}_conv")(inputs)
        return flavoured.keras.Model(inputs, flavoured.layers.NonLocal2D(name=f"{name}_nl")(x), name=name)

    inner = conv_net("inner")
    inputs = flavoured.keras.Input((None, None, 3))
    outputs = layers.Dense(2, name="pred")(layers.GlobalAveragePooling2D()(inner(inputs)))
    model = flavoured.keras.Model(inputs, outputs)
    found = cost.cost(model, (8, 6, 3))
    parts = cost.by_layer(model, (8, 6, 3))
    assert [name for name in parts if "pool" not in name and "input" not in name] == ["inner_conv", "inner_nl", "pred"]
    assert found.multiply_adds == sum(part.multiply_adds for part in parts.values())
    assert parts["inner_conv"].multiply_adds == 48 * 27 * 4
    trained = sum(math.prod(w.shape) for w in model.trainable_weights)
    assert found.parameters == trained == sum(part.parameters for part in parts.values())
    with pytest.raises(ValueError, match=r"`input_shape` must say every size .* Received: \(None, None, 3\)"):
        cost.cost(model)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_counting_changes_nothing(flavour):
    flavoured = blocks.FLAVOURS[flavour]
    inputs = flavoured.keras.Input((8, 8, 3))
    x = flavoured.keras.layers.BatchNormalization()(flavoured.layers.NonLocal2D(name="nl")(inputs))
    model = flavoured.keras.Model(inputs, x)
    before = [set(vars(layer)) for layer in model.layers]
    weights = [np.array(w) for w in model.get_weights()]
    assert cost.cost(model) == cost.cost(model)
    assert [set(vars(layer)) for layer in model.layers] == before
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights(), strict=True))
    assert model.get_layer("nl").output.shape[1:] == (8, 8, 3)  # no node was added


def test_a_layer_called_twice_has_its_weights_once():
    shared = keras.layers.Dense(4, use_bias=False)
    inputs = keras.Input((4,))
    found = cost.cost(keras.Model(inputs, shared(shared(inputs))))
    assert (found.weights, found.multiply_adds) == (16, 32)


def test_tfm_blocks_are_looked_into():
    from official.vision.modeling.layers import nn_blocks

    block = nn_blocks.BottleneckBlock(4, 1, use_projection=True)
    found = cost.cost(block, (8, 8, 16))
    assert found.weights == 16 * 16 + 16 * 4 + 9 * 16 + 4 * 16
    assert found.multiply_adds == 64 * found.weights


def test_models_with_a_call_of_their_own():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3, use_bias=False)

        def call(self, x):
            return self.dense(x) + 1

    assert cost.cost(Net(), (5,)).multiply_adds == 15
    with pytest.raises(ValueError, match="`input_shape` must be given for Net"):
        cost.cost(Net())


def test_what_is_not_known_is_named():
    found = cost.cost(keras.Sequential([keras.Input((5, 4)), keras.layers.EinsumDense("abc,cd->abd", (5, 3))]))
    assert found.not_counted == ("EinsumDense",)
    assert "not counted: EinsumDense" in str(found)
    assert found.parameters == 12


def called(layers, name):
    """A layer that calls, with a tensor, a layer of that name; what is not known of it."""
    inner = {
        "Attention": lambda: layers.Attention(),
        "AdditiveAttention": lambda: layers.AdditiveAttention(),
        "Dot": lambda: layers.Dot(axes=2),
        "MultiHeadAttention": lambda: layers.MultiHeadAttention(2, 3),
    }[name]()

    class Caller(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def call(self, x):
            return self.inner(x, x) if name == "MultiHeadAttention" else self.inner([x, x])

    return Caller()


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("name", ["Attention", "AdditiveAttention", "Dot", "MultiHeadAttention"])
def test_attention_is_named(flavour, name):
    found = cost.cost(called(blocks.FLAVOURS[flavour].keras.layers, name), (4, 5))
    assert (found.multiply_adds, found.not_counted) == (0, (name,))


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_recurrent_layers_are_named(flavour):
    layers = blocks.FLAVOURS[flavour].keras.layers
    cases = {
        "keras": [
            (layers.RNN(layers.StackedRNNCells([layers.LSTMCell(3), layers.GRUCell(3)])), (4, 5), "RNN"),
            (layers.TimeDistributed(layers.LSTM(3)), (2, 4, 5), "LSTM"),
        ],
        "tf_keras": [
            (layers.Bidirectional(layers.LSTM(3)), (4, 5), "LSTM"),
            (layers.ConvLSTM2D(3, 3), (4, 6, 6, 2), "ConvLSTM2D"),
        ],
    }
    for layer, shape, name in [*cases[flavour], (layers.GRU(3, unroll=True), (4, 5), "GRU")]:
        found = cost.cost(layer, shape)
        assert (found.multiply_adds, found.not_counted) == (0, (name,)), name
        assert found.parameters == sum(math.prod(w.shape) for w in layer.weights)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_time_distributed_costs_its_layer_once_for_every_step(flavour):
    flavoured = blocks.FLAVOURS[flavour]
    layers = flavoured.keras.layers
    frame = flavoured.keras.Input((8, 8, 3))
    z = flavoured.layers.NonLocal2D()(layers.Conv2D(6, 3, padding="same", name="conv")(frame))
    network = flavoured.keras.Model(frame, layers.GlobalAveragePooling2D()(z))
    for inner, shape in ((network, (8, 8, 3)), (layers.Dense(3), (5,))):
        once = cost.cost(inner, shape)
        clip = flavoured.keras.Input((4, *shape))
        distributed = layers.TimeDistributed(inner)
        both = layers.Add()([distributed(clip), distributed(clip)])
        twice = cost.cost(flavoured.keras.Model(clip, both))
        assert (twice.multiply_adds, twice.weights) == (8 * once.multiply_adds, once.weights)
    found = cost.cost(distributed, (4, 5))
    assert (found.multiply_adds, found.operations) == (4 * once.multiply_adds, 4 * once.operations)
    assert (found.weights, found.parameters, found.not_counted) == (once.weights, once.parameters, ())
    assert found.activation_bytes >= 4 * once.activation_bytes
    nested = cost.cost(layers.TimeDistributed(distributed), (2, 4, 5))
    assert (nested.multiply_adds, nested.weights) == (8 * once.multiply_adds, once.weights)
    parts = cost.by_layer(layers.TimeDistributed(network), (4, 8, 8, 3))
    assert parts["conv"].multiply_adds == 4 * 64 * 27 * 6


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_layer_or_model_called_on_several_inputs(flavour):
    package = blocks.FLAVOURS[flavour].keras
    a, b = package.Input((5,)), package.Input((5,))
    shared = package.layers.Dense(3, use_bias=False)
    model = package.Sequential([package.Input((5,)), shared])
    found = cost.cost(package.Model([a, b], package.layers.Add()([model(a), model(b), shared(a)])))
    assert (found.multiply_adds, found.weights, found.parameters) == (45, 15, 15)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_layers_of_the_user_are_named_where_they_multiply(flavour):
    package = blocks.FLAVOURS[flavour].keras
    layers = package.layers

    class Dense(layers.Layer):  # not Keras' own
        def build(self, shape):
            self.kernel = self.add_weight(shape=(shape[-1], 3), name="kernel")

        def call(self, x):
            return tf.matmul(x, tf.convert_to_tensor(self.kernel))

    class Looping(layers.Layer):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def build(self, shape):
            self.dense.build((None, shape[-1]))

        def call(self, x):
            return tf.map_fn(lambda step: self.dense(step), x)

    class Around(layers.Layer):
        def build(self, shape):
            self.scale = self.add_weight(shape=(3, 3), name="scale")
            self.dense = layers.Dense(3, use_bias=False)
            self.dense.build(shape)

        def call(self, x):
            return tf.matmul(self.dense(x), tf.convert_to_tensor(self.scale))

    gram = layers.Lambda(lambda x: tf.matmul(x, x, transpose_b=True), output_shape=(4, 4))
    for layer, multiply_adds, names in [
        (Dense(), 0, ("Dense",)),
        (Looping(), 0, ("Dense",)),
        (Around(), 4 * 15, ("Around",)),
        (gram, 0, ("Lambda",)),
        (layers.Lambda(lambda x: 2 * x, output_shape=(4, 5)), 0, ()),
    ]:
        found = cost.cost(layer, (4, 5))
        assert (found.multiply_adds, found.not_counted) == (multiply_adds, names)


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("onednn", [True, False])
def test_our_convolution_costs_what_keras_own_does(flavour, onednn, monkeypatch):
    monkeypatch.setattr(convolutions, "_onednn", lambda: onednn)
    flavoured = blocks.FLAVOURS[flavour]
    for arguments in ((4, (1, 3, 3), (1, 2, 2)), (4, (3, 1, 1), 1, "same"), (4, 3, 2), (4, 1)):
        ours, own = (kinds.Conv3D(*arguments) for kinds in (flavoured.layers, flavoured.keras.layers))
        assert cost.cost(ours, (5, 7, 6, 3)) == cost.cost(own, (5, 7, 6, 3))


@pytest.mark.parametrize("target", [tf.zeros([2]), "c2d", keras])
def test_other_things_are_refused(target):
    with pytest.raises(TypeError, match="`target` must be a layer or a model"):
        cost.cost(target, (4,))


def test_half_precision_takes_half_the_memory():
    full, half = (cost.cost(keras.layers.Conv2D(8, 3, dtype=dtype), (8, 8, 4)) for dtype in ("float32", "float16"))
    assert full.activation_bytes == 2 * half.activation_bytes


def test_text():
    found = cost.cost(keras_nonlocal.NonLocal3D(), (4, 14, 14, 1024))
    assert str(found).startswith("2,101,760 parameters (2,097,152 weights), 1.185 GMACs (")


def small(package, ours):
    inputs = package.Input((8, 48, 48, 3))
    arguments = dict(block_counts=(1, 2, 1, 1), width=4, non_local={"res3": [1], "res4": [0]})
    return package.Model(inputs, video_resnet.video_resnet(package, ours, inputs, **arguments)["5"])


def test_both_keras_count_the_same():
    assert cost.cost(small(keras, keras_nonlocal.layers)) == cost.cost(small(tf_keras, tfm_layers))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parameters", "giga"),
    [
        ("c2d_r101", 43.32, 35.1),
        ("i3d_3x3x3_r101", 63.04, 61.9),
        ("i3d_3x1x1_r101", 51.75, 51.4),
        ("nl_c2d_r101_5", 50.68, 43.2),
        ("nl_i3d_r101_5", 59.11, 59.5),
        ("c2d_r50", 24.33, 20.2),
        ("nl_c2d_r50_1", 26.43, 21.4),
        ("nl_c2d_r50_5", 31.69, 28.4),
        ("nl_c2d_r50_10", 39.05, 36.5),
        ("i3d_3x1x1_r50", 28.04, 32.8),
        ("nl_i3d_r50_5", 35.40, 41.0),
    ],
)
def test_the_papers_networks(name, parameters, giga):
    found = cost.cost(models.get(name))
    assert found.parameters / 1e6 == pytest.approx(parameters, rel=0.005)
    assert found.multiply_adds / 1e9 == pytest.approx(giga, rel=0.005)


def test_c2d_r50():
    found = cost.cost(models.get("c2d_r50"))
    assert found.parameters / 1e6 == pytest.approx(24.33, rel=0.0005)
    assert found.multiply_adds / 1e9 == pytest.approx(20.2, rel=0.005)


def test_a_trainer_says_what_an_example_costs(two_replicas):
    from official.core import exp_factory, task_factory

    from keras_nonlocal.tfm import train

    task = exp_factory.get_exp_config("non_local_c2d_demo").task
    task.model.backbone.video_resnet.override({"block_counts": [1, 1, 1, 1], "width": 4, "non_local": {"res3": [0]}})
    with two_replicas.scope():
        model = task_factory.get_task(task).build_model()
    alone = task_factory.get_task(task).build_model()
    shape = task.train_data.feature_shape
    assert str(train.cost_of_example(model, shape)) == str(cost.cost(alone))
    detector = type("Detector", (tf_keras.Model,), {"call": lambda self, x: x})()
    detector.build((None, 5))
    assert train.cost_of_example(detector, None) is None and train.parameters(detector) == 0


def test_a_model_computes_as_before_when_it_was_counted():
    """tf_keras keeps the operations of a model in layers that have their `call` as an attribute of their own."""
    inputs = tf_keras.Input((4,))
    model = tf_keras.Model(inputs, 2 * tf_keras.layers.Dense(1, kernel_initializer="ones")(inputs))
    cost.cost(model)
    np.testing.assert_allclose(model(np.ones((1, 4), "float32")), [[8]])
