"""What is frozen stays frozen: before it is built, saved, loaded, cloned, and inside residual blocks."""

import blocks
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import ways

from keras_nonlocal.tfm.backbones import blocks as residual_blocks
from keras_nonlocal.tfm.backbones import non_local_resnet, video_resnet


def _model(flavour, **kwargs):
    module = blocks.FLAVOURS[flavour].keras
    inputs = module.Input((6, 6, 4))
    block = blocks.make(flavour, 2, pairwise="concatenation", name="block", **kwargs)
    x = module.layers.GlobalAveragePooling2D()(block(inputs))
    return module.Model(inputs, module.layers.Dense(2)(x))


def _moved(model, layer):
    """The names of those of the layer's variables that a step of training by hand moves, which takes no graph."""
    generator = np.random.default_rng(0)
    model.set_weights([np.abs(generator.normal(size=w.shape)) + 0.1 for w in model.get_weights()])
    before = [weight.numpy() for weight in layer.weights]
    x = generator.normal(3, 1, (4, *model.input_shape[1:])).astype("float32")
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(x, training=True) - generator.normal(size=model.output_shape[1:])))
    weights = [weight if isinstance(weight, tf.Variable) else weight.value for weight in model.trainable_weights]
    for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
        weight.assign_sub(0.01 * gradient)
    after = [weight.numpy() for weight in layer.weights]
    return [w.name for w, a, b in zip(layer.weights, before, after, strict=True) if not np.array_equal(a, b)]


def _before_it_is_built(flavour):
    return _model(flavour, trainable=False)


def _afterwards(flavour):
    model = _model(flavour)
    model.get_layer("block").trainable = False
    return model


@pytest.mark.parametrize("make", [_before_it_is_built, _afterwards], ids=lambda make: make.__name__)
@pytest.mark.parametrize("flavour", blocks.FLAVOURS)
def test_frozen_block(flavour, make):
    model = make(flavour)
    block = model.get_layer("block")
    assert _moved(model, block) == []
    assert not block.trainable_weights
    block.trainable = True
    assert len(_moved(model, block)) >= len(block.weights) - 1  # W_z's bias is nothing to the batch norm behind it


@pytest.mark.parametrize("way", ways.OF_LAYERS, ids=str)
def test_frozen_block_survives(way, tmp_path):
    again = way(_afterwards(way.flavour), tmp_path)
    assert not again.get_layer("block").trainable
    assert _moved(again, again.get_layer("block")) == []


@pytest.mark.parametrize(
    "block, kwargs, shape",
    [
        (residual_blocks.NonLocalResidualBlock, dict(filters=8, strides=1), (6, 6, 8)),
        (residual_blocks.NonLocalBottleneckBlock, dict(filters=2, strides=1), (6, 6, 8)),
        (residual_blocks.GroupedBottleneckBlock, dict(filters=64, strides=1, use_projection=True), (6, 6, 8)),
        (
            residual_blocks.NonLocalBottleneckBlock3D,
            dict(filters=2, temporal_kernel_size=3, temporal_strides=1, spatial_strides=1),
            (2, 6, 6, 8),
        ),
    ],
)
def test_frozen_residual_block(block, kwargs, shape):
    inputs = tf_keras.Input(shape)
    layer = block(**kwargs, trainable=False)
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(2)(layer(inputs)))
    assert _moved(model, layer) == []
    again = tf_keras.models.clone_model(model)
    assert _moved(again, again.get_layer(layer.name)) == []


@pytest.mark.parametrize(
    "backbone, shape",
    [
        (lambda: non_local_resnet.NonLocalResNet(10, non_local={"res4": [0]}), (32, 32, 3)),
        (
            lambda: video_resnet.VideoResNet(block_counts=(1, 1, 1, 1), width=2, non_local={"res3": [0]}),
            (4, 32, 32, 3),
        ),
    ],
    ids=["image", "video"],
)
def test_frozen_backbone_survives(backbone, shape, tmp_path):
    plain = backbone()
    plain.trainable = False
    plain.save(tmp_path / "backbone.keras")
    again = tf_keras.models.load_model(tmp_path / "backbone.keras")
    inputs = tf_keras.Input(shape)
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(2)(again(inputs)["5"]))
    assert _moved(model, again) == []
    assert type(again).from_config({k: v for k, v in plain.get_config().items() if k != "trainable"}).trainable
