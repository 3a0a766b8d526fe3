"""A tiny network with a non-local block, its SavedModel of two signatures, and golden requests to them."""

import blocks
import keras
import numpy as np
import tensorflow as tf

from keras_nonlocal import export
from keras_nonlocal.export.signatures import strings

SIZE = 8


def network(pairwise="embedded_gaussian", dtype=None):
    """Images (B, 8, 8, 3) to scores (B, 5), with random weights in all parts."""
    inputs = keras.Input((SIZE, SIZE, 3))
    block = blocks.make("keras", 2, pairwise=pairwise, dtype=dtype)
    x = keras.layers.Conv2D(blocks.CHANNELS, 3, dtype=dtype)(inputs)
    x = block(keras.layers.BatchNormalization(dtype=dtype)(x))
    x = keras.layers.Dense(5, dtype=dtype)(keras.layers.GlobalAveragePooling2D(dtype=dtype)(x))
    blocks.randomise(block)
    return keras.Model(inputs, keras.layers.Activation("linear", dtype="float32")(x))


def images(rows=2, seed=0):
    """Noise, uint8 (rows, 8, 8, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (rows, SIZE, SIZE, 3), np.uint8)


def pngs(rows=2):
    """The same as files: strings (rows,)."""
    return strings(*(tf.io.encode_png(image).numpy() for image in images(rows)))


def signatures(model, **call):
    """`serving_default` (pixels) and `encoded` (PNG files), each with an example of two rows."""

    @tf.function
    def serve(images):
        images = tf.ensure_shape(images, [None, SIZE, SIZE, 3])
        scores = model(tf.cast(images, tf.float32) / 255, **call)
        return {"scores": scores, "best": tf.argmax(scores, -1, tf.int32)}

    @tf.function
    def serve_encoded(encoded):
        pixels = tf.TensorSpec([SIZE, SIZE, 3], tf.uint8)
        return serve(tf.map_fn(lambda each: tf.io.decode_png(each, 3), encoded, fn_output_signature=pixels))

    return {
        "serving_default": export.Signature(
            serve, {"images": tf.TensorSpec([None, SIZE, SIZE, 3], tf.uint8)}, {"images": images()}
        ),
        "encoded": export.Signature(serve_encoded, {"encoded": tf.TensorSpec([None], tf.string)}, {"encoded": pngs()}),
    }


def golden(functions):
    """{signature: (inputs, outputs)}: the example of each, and what its function makes of it."""
    return {
        name: (
            dict(each.example),
            {
                alias: value.numpy()
                for alias, value in each.function(
                    **{alias: tf.constant(value) for alias, value in each.example.items()}
                ).items()
            },
        )
        for name, each in functions.items()
    }
