"""The receptive fields that a model is said to have are those that a change of its inputs shows."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from keras_nonlocal import layers as keras_layers
from keras_nonlocal import models
from keras_nonlocal.analysis import blocks, receptive_field, tracing
from keras_nonlocal.tfm import layers as tfm_layers

KERASES = {"keras": (keras, keras_layers), "tf_keras": (tf_keras, tfm_layers)}


def rising(model):
    """Makes every output rise with every input: what a position sees is then what moves it, maxima included."""
    for weight in model.weights:
        name = weight.name
        positive = "gamma" in name or "variance" in name or "kernel" in name
        value = np.ones(weight.shape) / (np.prod(weight.shape[:-1]) if "kernel" in name else 1)
        weight.assign(value if positive else np.zeros(weight.shape))
    return model


def seen(model, layer, shape, axis):
    """(positions of the layer, positions of the input) along an axis, boolean: whether the one sees the other.

    All of a line, or a frame, is raised at once, which leaves only the axis to tell, and by so much that it is no
    rounding.
    """
    size = shape[axis]
    x = np.ones((size + 1, *shape), "float32")
    for index in range(size):
        np.moveaxis(x[index], axis, 0)[index] = 1e6
    take = tf.function(lambda x: tracing.trace_to(model, layer, x).features)
    features = np.moveaxis(take(tf.constant(x)).numpy(), axis + 1, 1)
    moved = np.abs(features[:-1] - features[-1]) > 0.1
    return moved.reshape(size, features.shape[1], -1).any(axis=-1).T


def check(model, layer, shape, cropped=0):
    """Holds the stated fields of all positions on all axes to the seen ones; returns the axes.

    Those at a border, from which up to `cropped` positions are cut off, see less.
    """
    rising(model)
    axes = receptive_field.of(model, layer, tf.TensorSpec([1, *shape], "float32"))
    assert len(axes) == len(shape) - 1
    for number, axis in enumerate(axes):
        inside = 0
        found = seen(model, layer, shape, number)
        for index, row in enumerate(found):
            (positions,) = np.nonzero(row)
            first, last = (int(edge) + index * axis.stride for edge in (axis.first, axis.last))
            is_inside = first >= cropped and last < shape[number] - cropped
            if not len(positions):
                assert not is_inside  # it sees nothing but padding
                continue
            assert positions.min() >= first and positions.max() <= last
            if is_inside:
                inside += 1
                assert (positions.min(), positions.max()) == (first, last), (number, index)
                assert axis.centre(index) == (positions.min() + positions.max()) / 2
        assert inside, f"no position of axis {number} lies away from the borders: the test needs larger inputs"
    return axes


def residual(package, x, stride, explicit):
    """3x3 with a stride beside 1x1 with the same one, as every ResNet has it."""
    layers = package.layers
    y = layers.ZeroPadding2D(1)(x) if explicit else x
    y = layers.Conv2D(3, 3, stride, "valid" if explicit else "same")(y)
    y = layers.ReLU()(layers.BatchNormalization()(y))
    return layers.Add()([layers.Conv2D(3, 1, stride)(x), y])


@pytest.mark.parametrize("size", [40, 41])
@pytest.mark.parametrize("flavour", KERASES)
def test_images_through_strides_and_uneven_padding(flavour, size):
    package, ours = KERASES[flavour]
    layers = package.layers
    inputs = package.Input((size, size + 2, 2))
    x = layers.Conv2D(3, (5, 4), 2, "same")(inputs)
    x = layers.MaxPooling2D(3, 2, "same")(x)
    x = residual(package, x, 2, explicit=False)
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    block = ours.NonLocal2D(pool_size=None)
    model = package.Model(inputs, block(x))
    axes = check(model, block, (size, size + 2, 2))
    assert [axis.stride for axis in axes] == [8, 8]


@pytest.mark.parametrize("flavour", KERASES)
def test_what_else_moves_positions(flavour):
    package, ours = KERASES[flavour]
    layers = package.layers
    inputs = package.Input((37, 30, 2))
    x = layers.ZeroPadding2D(((2, 1), (0, 3)))(inputs)
    x = layers.Cropping2D(((1, 2), (4, 0)))(x)
    x = layers.SeparableConv2D(4, 3, 1, padding="same", dilation_rate=2)(x)
    gate = layers.Dense(4, "sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x) * 1e-6)
    x = layers.Multiply()([x, layers.Activation("relu")(gate) * 0 + 1])  # of no effect, as it would show everywhere
    x = residual(package, x, 2, explicit=True)
    x = layers.Concatenate()([x, layers.AveragePooling2D(3, 1, "same")(x)])
    x = tf.nn.relu(x) + 1 if flavour == "tf_keras" else keras.ops.relu(x) + 1
    block = ours.NonLocal2D(pool_size=None)
    model = package.Model(inputs, block(x))
    check(model, block, (37, 30, 2), cropped=4)


@pytest.mark.parametrize("flavour", KERASES)
def test_sequences(flavour):
    package, ours = KERASES[flavour]
    layers = package.layers
    block = ours.NonLocal1D()
    model = package.Sequential(
        [
            package.Input((40, 2)),
            layers.Conv1D(3, 3, padding="causal", dilation_rate=2),
            layers.ZeroPadding1D((1, 2)),
            layers.AveragePooling1D(2),
            layers.Dense(4, "relu"),
            layers.Cropping1D((0, 1)),
            layers.LayerNormalization(),
            block,
        ]
    )
    # A norm over the channels would hide what raises all of them.
    model.layers[-2].gamma.assign([1.0, 2.0, 3.0, 4.0])
    axes = receptive_field.of(model, block, tf.TensorSpec([1, 40, 2]))
    assert axes == (receptive_field.Axis(2, -5, 0),)


@pytest.mark.parametrize("flavour", KERASES)
def test_frames_by_themselves_and_models_in_models(flavour):
    package, ours = KERASES[flavour]
    layers = package.layers
    block = ours.NonLocal3D(name="inner")
    inside = package.Input((None, None, None, 3))
    y = layers.Conv3D(3, (3, 1, 1), padding="same")(inside)
    inner = package.Model(inside, block(y), name="trunk")
    inputs = package.Input((9, 20, 20, 2))
    x = layers.TimeDistributed(layers.Conv2D(3, 3, 2, "same"))(inputs)
    model = package.Model(inputs, layers.GlobalAveragePooling3D()(inner(layers.MaxPooling3D((2, 1, 1))(x))))
    axes = check(model, block, (9, 20, 20, 2))
    assert axes[0] == receptive_field.Axis(2, -2, 3)


@pytest.mark.parametrize("inflate", [None, "3x1x1"])
def test_the_papers_networks(inflate):
    make = models.I3D if inflate else models.C2D
    shape = (40, 51, 51, 3)
    model = make(
        input_shape=shape,
        width=1,
        block_counts=(1, 1, 1, 1),
        temporal_stride=8,
        non_local={"res3": [0]},
        include_top=False,
        non_local_block={"kernel_initializer": "ones"},
    )
    axes = check(model, model.get_layer("res3_0_nonlocal"), shape)
    assert [axis.stride for axis in axes] == [8, 8, 8]


def test_a_subclassed_model_is_as_good():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.first = keras.layers.Conv2D(2, 3, 2, "same")
            self.block = keras_layers.NonLocal2D()

        def call(self, x):
            x = self.first(tf.pad(x, [[0, 0], [1, 0], [0, 2], [0, 0]]))
            return self.block(tf.nn.relu(x))

    model = Net()
    model(tf.zeros([1, 17, 20, 1]))
    check(model, model.block, (17, 20, 1))


@pytest.mark.parametrize(
    "size", [64, pytest.param(63, marks=pytest.mark.slow), pytest.param(66, marks=pytest.mark.slow)]
)
def test_residual_blocks_of_tfm_with_a_block_inside(size):
    """Their layers and the sums between them are inside of one layer's call."""
    from keras_nonlocal.tfm.backbones import non_local_resnet

    specs = tf_keras.layers.InputSpec(shape=[None, size, size, 3])
    model = non_local_resnet.NonLocalResNet(10, specs, depth_multiplier=0.1, non_local={"res3": [0]})
    (block,) = blocks.paths(model).values()
    axes = check(model, block, (size, size, 3))
    assert [axis.stride for axis in axes] == [8, 8]


def test_sizes_that_the_run_decides():
    """Where TensorFlow pads depends on whether they are even."""
    inputs = keras.Input((None, None, 2))
    x = keras.layers.Conv2D(3, 3, 2, "same")(inputs)
    x = residual(keras, x, 2, explicit=False)
    block = keras_layers.NonLocal2D(pool_size=None)
    model = keras.Model(inputs, block(x))

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 2])])
    def edges(x):
        return [(axis.first, axis.last) for axis in receptive_field.axes(tracing.trace_to(model, block, x))]

    for sizes in ((16, 17), (18, 19), (20, 23)):
        axes = receptive_field.of(model, block, tf.TensorSpec([1, *sizes, 2]))
        found = edges(tf.zeros([1, *sizes, 2]))
        assert [(int(first), int(last)) for first, last in found] == [(axis.first, axis.last) for axis in axes]


@pytest.mark.parametrize("flavour", KERASES)
def test_integers_that_are_embedded(flavour):
    """What is seen of them is what moves a position when one of them is another."""
    package, ours = KERASES[flavour]
    layers = package.layers
    tokens = package.Input((20,), dtype="int32")
    x = layers.Embedding(2, 3, embeddings_initializer="ones")(tokens)
    x = layers.AveragePooling1D(2)(layers.Conv1D(2, 4, 2, "same", kernel_initializer="ones")(x))
    block = ours.NonLocal1D()
    model = package.Model(tokens, block(x))
    model.layers[1].set_weights([np.array([[1.0] * 3, [2.0] * 3])])
    (axis,) = receptive_field.of(model, block, tf.TensorSpec([1, 20], "int32"))
    rows = np.concatenate([np.eye(20, dtype="int32"), np.zeros((1, 20), "int32")])
    take = tf.function(lambda x: tracing.trace_to(model, block, x).features)
    features = take(tf.constant(rows)).numpy()  # (21, 5, 2)
    moved = (features[:-1] != features[-1]).any(-1)  # (tokens, positions)
    for index, row in enumerate(moved.T):
        expected = range(max(axis.first + index * axis.stride, 0), min(axis.last + index * axis.stride, 19) + 1)
        assert np.flatnonzero(row).tolist() == list(expected)


def test_what_is_not_known_is_named():
    inputs = keras.Input((8, 8, 2))
    block = keras_layers.NonLocal2D(name="late")
    model = keras.Model(inputs, block(keras.layers.UpSampling2D(name="grow")(inputs)))
    with pytest.raises(ValueError, match=r"layer 'late' .* in the layer 'grow' \(UpSampling2D\)"):
        receptive_field.of(model, block, tf.TensorSpec([1, 8, 8, 2]))
    tokens = keras.layers.Reshape((64, 2), name="flat")(inputs)
    block = keras_layers.NonLocal1D(name="late")
    with pytest.raises(ValueError, match=r"of an input, of rank 3 or of integers that are embedded. Received: "):
        receptive_field.of(keras.Model(inputs, block(tokens)), block, tf.TensorSpec([1, 8, 8, 2]))
    x = inputs + keras.layers.MaxPooling2D(8)(inputs)  # of which one number is added everywhere
    two = keras.layers.Concatenate(name="two")([keras.layers.Conv2D(2, 2, 2)(x), keras.layers.Conv2D(2, 5, 1)(x)])
    block = keras_layers.NonLocal2D()
    with pytest.raises(ValueError, match=r"strides \[2, 1\] that meet in the layer 'two'"):
        receptive_field.of(keras.Model(inputs, block(two)), block, tf.TensorSpec([1, 8, 8, 2]))


def test_a_layer_that_is_not_called_is_named():
    model = keras.Sequential([keras.Input((8, 8, 2)), keras.layers.Conv2D(2, 1)])
    with pytest.raises(ValueError, match="must call the layer 'other'"):
        receptive_field.of(model, keras_layers.NonLocal2D(name="other"), tf.TensorSpec([1, 8, 8, 2]))
