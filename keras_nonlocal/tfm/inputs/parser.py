"""Clips for training and evaluation out of tfm's SequenceExamples."""

import tensorflow as tf
from official.vision.dataloaders import video_input

from keras_nonlocal.tfm.inputs import views
from keras_nonlocal.tfm.inputs.clips import augment, sample_clip
from keras_nonlocal.tfm.inputs.pixels import at_least_one, normalize

LABEL_ERROR = "the label of a clip is outside"


class Parser(video_input.Parser):
    """tfm's parser with the paper's augmentation, pixel scaling and test views."""

    def __init__(self, params, image_key, label_key):
        super().__init__(params, image_key, label_key)
        _, height, width, _ = params.feature_shape
        self._crop_size = (height, width)
        self._max_resize = max(params.max_image_size, params.min_image_size)
        self._random_flip = params.random_flip
        self._test_starts = params.test_starts

    def _parse_train_data(self, decoded_tensors):
        frames = decoded_tensors[self._image_key]
        with at_least_one(frames):
            frames = sample_clip(frames, self._num_frames, self._stride)
        frames = augment(frames, self._crop_size, self._min_resize, self._max_resize, self._random_flip)
        frames = tf.ensure_shape(frames, [self._num_frames, *self._crop_size, self._num_channels])
        return {"image": tf.cast(normalize(frames), self._dtype)}, self._label(decoded_tensors)

    def _parse_eval_data(self, decoded_tensors):
        frames = normalize(self._views(decoded_tensors))
        return {"image": tf.cast(frames, self._dtype)}, self._label(decoded_tensors)

    def _views(self, decoded_tensors):
        """What a test sees of a video, uint8."""
        frames = decoded_tensors[self._image_key]
        with at_least_one(frames):
            frames = tf.identity(frames)
        return views.views(
            frames,
            (self._num_frames, *self._crop_size, self._num_channels),
            self._stride,
            self._num_test_clips,
            self._num_crops,
            self._test_starts,
            self._min_resize,
        )

    def _label(self, decoded_tensors):
        label = decoded_tensors[self._label_key]
        message = f"{LABEL_ERROR} 0 to num_classes - 1 = {self._num_classes - 1}"
        # tf.one_hot would make it a row of zeros, and training would go on.
        with tf.control_dependencies(
            [
                tf.debugging.assert_non_negative(label, message=message),
                tf.debugging.assert_less(label, tf.cast(self._num_classes, label.dtype), message=message),
            ]
        ):
            label = tf.identity(label)
        return video_input.process_label(label, self._one_hot_label, self._num_classes, self._label_dtype)
