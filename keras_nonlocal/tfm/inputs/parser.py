"""Clips for training and evaluation out of tfm's SequenceExamples."""

import tensorflow as tf
from official.vision.dataloaders import video_input

from keras_nonlocal import features
from keras_nonlocal.tfm.inputs import clips, views
from keras_nonlocal.tfm.inputs.pixels import at_least_one, normalize

LABEL_ERROR = "the label of a clip is outside"
LABEL_COUNT_ERROR = "a clip has to have one label"
# Of decoded tensors: the seed of the example, (2,) int64.
SEED = "seed"


def decoder(params, *context):
    """The function from what a source reads to decoded tensors: tfm's, which also reads when actions happen.

    Args:
      params: DataConfig.
      *context: names of more strings to read from records; videos that are decoded already have all.
    """
    found = video_input.Decoder(params.image_field_key, params.label_field_key)
    for name in (features.ACTION_INDEX, features.ACTION_FIRST, features.ACTION_LAST):
        found.add_context(name, tf.io.VarLenFeature(tf.int64))
    for name in context:
        found.add_context(name, tf.io.FixedLenFeature([], tf.string, ""))
    return lambda data: data if isinstance(data, dict) else found.decode(data)


class Parser(video_input.Parser):
    """tfm's parser with the paper's augmentation, pixel scaling and test views."""

    def __init__(self, params, image_key, label_key):
        super().__init__(params, image_key, label_key)
        _, height, width, _ = params.feature_shape
        self._crop_size = (height, width)
        self._short_sides = (params.min_image_size, params.max_image_size)
        self._scale_sampling = params.scale_sampling
        self._outside_frames = params.outside_frames
        self._random_flip = params.random_flip
        self._is_multilabel = params.is_multilabel
        self._test_starts = params.test_starts

    def _parse_train_data(self, decoded_tensors):
        frames, seeds = decoded_tensors[self._image_key], clips.Seeds.of(decoded_tensors[SEED])
        with at_least_one(frames):
            length = tf.shape(frames)[0]
        clip = (length, self._num_frames, self._stride)
        start = clips.sample_start(*clip, self._outside_frames, seeds.start)
        frames = tf.gather(frames, clips.frame_numbers(start, *clip, self._outside_frames))
        frames = clips.augment(
            frames, self._crop_size, self._short_sides, self._scale_sampling, self._random_flip, seeds
        )
        frames = tf.ensure_shape(frames, [self._num_frames, *self._crop_size, self._num_channels])
        if self._is_multilabel:
            decoded_tensors = {**decoded_tensors, self._label_key: self._labels_of(decoded_tensors, start, *clip)}
        return {"image": tf.cast(normalize(frames), self._dtype)}, self._label(decoded_tensors)

    def _parse_eval_data(self, decoded_tensors):
        frames = normalize(self._views(decoded_tensors))
        return {"image": tf.cast(frames, self._dtype)}, self._label(decoded_tensors)

    def _views(self, decoded_tensors):
        """What a test sees of a video, uint8."""
        frames = decoded_tensors[self._image_key]
        with at_least_one(frames):
            return views.views(
                frames,
                (self._num_frames, *self._crop_size, self._num_channels),
                self._stride,
                self._num_test_clips,
                self._num_crops,
                self._test_starts,
                self._min_resize,
            )

    def _labels_of(self, decoded_tensors, *clip):
        """The classes of the frames that a clip spans; of all the video where the record does not say when they are."""
        classes, begin, end = (
            decoded_tensors.get(name, tf.zeros([0], tf.int64))
            for name in (features.ACTION_INDEX, features.ACTION_FIRST, features.ACTION_LAST)
        )
        first, last = (tf.cast(number, tf.int64) for number in clips.spanned(*clip))
        seen, _ = tf.unique(classes[(begin <= last) & (end >= first)])
        return tf.cond(tf.size(classes) > 0, lambda: seen, lambda: decoded_tensors[self._label_key])

    def _label(self, decoded_tensors):
        label = decoded_tensors[self._label_key]
        message = f"{LABEL_ERROR} 0 to num_classes - 1 = {self._num_classes - 1}"
        # tf.one_hot would make it a row of zeros, or of several ones, and training would go on.
        rules = [
            tf.debugging.assert_non_negative(label, message=message),
            tf.debugging.assert_less(label, tf.cast(self._num_classes, label.dtype), message=message),
        ]
        if not self._is_multilabel:
            rules.append(tf.debugging.Assert(tf.size(label) == 1, [f"{LABEL_COUNT_ERROR}, not", tf.size(label)]))
        with tf.control_dependencies(rules):
            label = tf.identity(label)
        return video_input.process_label(label, self._one_hot_label, self._num_classes, self._label_dtype)
