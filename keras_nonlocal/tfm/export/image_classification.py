"""Served classifiers of images."""

import dataclasses
import functools
import math

import tensorflow as tf
from official.vision.configs import image_classification
from official.vision.ops import preprocess_ops

from keras_nonlocal.export import explaining, guards
from keras_nonlocal.serving import constants
from keras_nonlocal.tfm.export import seen, signatures
from keras_nonlocal.tfm.inputs import images as photos


@signatures.MODULES.register(image_classification.ImageClassificationTask)
class ImageClassificationModule(signatures.Signatures):
    """Signatures over a classifier of images: `serving_default` (pixels), `encoded`, `tf_example` and `features`.

    Files become what tfm's parser makes of them in an evaluation: the middle of the image, resized.

    Args:
      params: the ExperimentConfig of the training run.
      model: the classifier, from normalised images to logits.
    """

    def __init__(self, params, model):
        super().__init__(params, model)
        task = params.task
        self._image_shape = tuple(task.model.input_size)  # (H, W, 3)
        self._data = task.validation_data
        self._input = tf.TensorSpec(self._image_shape, tf.as_dtype(self._data.dtype))
        self._key = task.train_data.image_field_key
        self._scores = tf.sigmoid if task.train_data.is_multilabel else tf.nn.softmax
        # Of the short side, in the middle of the image.
        self._fraction = self._data.center_crop_fraction if self._data.aug_crop else 1.0
        self._features = seen.feature_network(model)

    @classmethod
    def random_inputs(cls, params):
        shape = [1, *params.task.model.input_size]
        return _normalized(tf.random.stateless_uniform(shape, [0, 0], 0, 256), params.task.validation_data.dtype)

    @tf.function
    def serve(self, images):
        """Images of the network's own size: uint8 (B, H, W, 3) to probabilities and logits, float32 (B, classes).

        The probabilities add up to one, or of a network of several labels an image are one of each class for itself.
        """
        return self._classify(self.prepare(images))

    @tf.function
    def serve_encoded(self, encoded):
        """JPEG or PNG images of any sizes: strings (B,) to what serve does."""
        return self._classify_files(tf.ensure_shape(encoded, [None]), constants.ENCODED)

    @tf.function
    def serve_tf_example(self, examples):
        """Records: strings (B,), each an Example with a JPEG or PNG, to what serve does."""
        examples = tf.ensure_shape(examples, [None])
        with guards.not_empty(constants.EXAMPLES, examples):
            files = tf.io.parse_example(examples, {self._key: tf.io.FixedLenFeature([], tf.string)})[self._key]
            return self._classify_files(files, constants.EXAMPLES)

    @tf.function
    def serve_features(self, images):
        """Images as serve takes them to what the last layer is given, (B, C), and the last map, float32."""
        return seen.features(self._features, self.prepare(images))

    def signatures(self):
        images = tf.TensorSpec([None, *self._image_shape], tf.uint8)
        record = functools.partial(signatures.example_of, self._key)
        found = signatures.of_pictures(self, constants.IMAGES, images, self._image_shape, record)
        if self._features is not None:
            default = found[constants.DEFAULT_SIGNATURE]
            found[constants.FEATURES_SIGNATURE] = dataclasses.replace(default, function=self.serve_features)
        return found

    def explain(self, block, top_k):
        served = self.signatures()[constants.DEFAULT_SIGNATURE]
        return explaining.explain_signatures(self.model, served, self.prepare, block, top_k)

    def prepare(self, images):
        """Pixels that were sent, checked, to what the network takes."""
        # Without this guard a request of another rank would abort the whole server inside the convolution kernel.
        images = tf.ensure_shape(images, [None, *self._image_shape])
        most = signatures.fit_in_request(self._input)
        with guards.not_empty(constants.IMAGES, images), signatures.at_most(most, images, constants.IMAGES, "images"):
            return _normalized(tf.cast(images, tf.float32), self._data.dtype)

    def _classify_files(self, files, name):
        with guards.not_empty(name, files):
            return self._classify(signatures.decoded(files, self._decode, self._input, "images", name))

    def _classify(self, inputs):
        # 16-bit outputs cannot be written as JSON.
        logits = tf.cast(self.model(inputs, training=False), tf.float32)
        return {constants.PROBABILITIES: self._scores(logits), constants.LOGITS: logits}

    def _decode(self, encoded):
        """A JPEG or PNG to what the network takes: the middle of it, resized."""
        # However thin it is, what is made of it has one size.
        most = photos.frame_limits.MAX_SOURCE_PIXELS
        image = photos.decode_photo(encoded, max_aspect=most, decode=self._decode_middle)
        image = tf.image.resize(image, self._image_shape[:2], method=self._data.tf_resize_method)
        return _normalized(image, self._data.dtype)

    def _decode_middle(self, encoded, is_png, size):
        """A file of this size, (2,) int64, to the pixels that the parser would resize, (H, W, 3) uint8."""
        least = math.ceil(1 / self._fraction)
        text = f"is too small: its short side must have {least} pixels or more, its height and width are"

        def whole():
            image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
            return preprocess_ops.center_crop_image(image, self._fraction) if self._data.aug_crop else image

        def part():  # The colours at its edges are not those of a crop of the whole.
            return preprocess_ops.center_crop_image_v2(encoded, size, self._fraction)

        with guards.only_if(photos.PHOTO_ERROR, (tf.reduce_min(size) >= least, text, size)):
            if self._data.aug_crop and self._data.decode_jpeg_only:
                return tf.cond(is_png, whole, part)
            return whole()


def _normalized(pixels, dtype):
    """Pixels, float32 from 0 to 255, to what the network takes."""
    normalized = preprocess_ops.normalize_image(pixels, offset=preprocess_ops.MEAN_RGB, scale=preprocess_ops.STDDEV_RGB)
    return tf.cast(normalized, dtype)
