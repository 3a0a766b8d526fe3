"""The fully convolutional network of a test: a trained classifier, slid over clips larger than it was trained on."""

from collections.abc import Callable

import tensorflow as tf
import tf_keras

from keras_nonlocal import errors


def slid(
    model: tf_keras.Model,
    train_shape: tuple[int, ...],
    test_shape: tuple[int | None, ...],
    scores: Callable[[tf.Tensor], tf.Tensor],
) -> tf_keras.Model:
    """The network that scores test clips, with the weights of one that trains.

    The average before the classifier takes as much of the last feature map as training crops leave, in every place
    that there is: 2 x 2 places in crops of 256 where training saw 224. Each place is scored, and the scores averaged,
    as in the official code. An average over the whole map is another number, for a score is no linear function of it.

    Args:
      model: a tfm video classifier: a backbone, an average over all of its last map, dropout, a dense layer.
      train_shape: (T, H, W, 3) of a training clip.
      test_shape: of a test clip; None for what differs from clip to clip.
      scores: from logits (..., classes) to scores: a softmax or a sigmoid.

    Returns:
      A model from normalized clips to scores, float32 (B, classes).

    Raises:
      UserError: for a classifier that looks at several maps, if the shapes differ.
    """
    clip = tf_keras.Input(tuple(test_shape))
    if tuple(test_shape) == tuple(train_shape):
        return tf_keras.Model(clip, scores(model({"image": clip}, training=False)))
    heads = [layer for layer in model.layers if isinstance(layer, tf_keras.layers.Dense)]
    pools = [layer for layer in model.layers if isinstance(layer, tf_keras.layers.GlobalAveragePooling3D)]
    if len(heads) != 1 or len(pools) != 1:
        raise errors.UserError(
            "a classifier of several feature maps (task.model.aggregate_endpoints, require_endpoints) cannot be slid "
            f"over test clips {tuple(test_shape)}, trained on {tuple(train_shape)}: test it with --protocol=centre and "
            "the shape of training."
        )
    x = _last(model.backbone, clip)
    trained = _last(model.backbone, tf_keras.Input(tuple(train_shape))).shape[1:4]
    # Where a test clip is smaller than those of training, all there is.
    window = [here if there is None else min(here, there) for here, there in zip(trained, x.shape[1:4], strict=True)]
    x = tf_keras.layers.AveragePooling3D(window, strides=1)(x)
    return tf_keras.Model(clip, tf.reduce_mean(scores(heads[0](x)), axis=(1, 2, 3)))


def _last(backbone, clip):
    endpoints = backbone(clip, training=False)
    return endpoints[max(endpoints)]
