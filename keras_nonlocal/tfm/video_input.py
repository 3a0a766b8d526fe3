"""Clips for training and evaluation out of tfm's SequenceExamples, cut and augmented as in the paper (section 4.1)."""

import tensorflow as tf
from official.vision.dataloaders import video_input
from official.vision.ops import preprocess_ops_3d

# The official code's mean and standard deviation of a pixel, for every channel.
PIXEL_MEAN, PIXEL_STD = 114.75, 57.375
LABEL_ERROR = "the label of a clip is outside"


def normalize(frames):
    """Pixels 0 to 255 to what the networks take, float32."""
    return (tf.cast(frames, tf.float32) - PIXEL_MEAN) / PIXEL_STD


def sample_clip(frames, num_frames, stride):
    """A clip from a random place; a video shorter than the clip starts over.

    Args:
      frames: (N, ...) frames of a video, decoded or not.
      num_frames: frames of the clip.
      stride: distance between them, in frames of the video.

    Returns:
      (num_frames, ...).
    """
    length = tf.shape(frames)[0]
    latest = tf.maximum(length - num_frames * stride, 0)
    start = tf.random.uniform([], 0, latest + 1, tf.int32)
    return tf.gather(frames, (start + stride * tf.range(num_frames)) % length)


def augment(frames, crop_size, min_short_side, max_short_side, random_flip):
    """Scale jitter, random crop and mirroring, the same for all frames of a clip.

    Args:
      frames: (T, H, W, 3) uint8.
      crop_size: (height, width) of the crop.
      min_short_side: the frames are resized to a short side drawn between this
      max_short_side: and this, in pixels.
      random_flip: whether to mirror one half of the clips.

    Returns:
      (T, *crop_size, 3) uint8.
    """
    side = tf.random.uniform([], min_short_side, max_short_side + 1, tf.int32)
    frames = preprocess_ops_3d.resize_smallest(frames, side)
    frames = preprocess_ops_3d.crop_image(frames, *crop_size, random=True)
    return preprocess_ops_3d.random_flip_left_right(frames) if random_flip else frames


class Parser(video_input.Parser):
    """tfm's parser with the paper's augmentation and pixel scaling. Test clips and crops are placed by tfm."""

    def __init__(self, params, image_key, label_key):
        super().__init__(params, image_key, label_key)
        _, height, width, _ = params.feature_shape
        self._crop_size = (height, width)
        self._max_resize = max(params.max_image_size, params.min_image_size)
        self._random_flip = params.random_flip

    def _parse_train_data(self, decoded_tensors):
        frames = sample_clip(decoded_tensors[self._image_key], self._num_frames, self._stride)
        frames = preprocess_ops_3d.decode_jpeg(frames, self._num_channels)
        frames = augment(frames, self._crop_size, self._min_resize, self._max_resize, self._random_flip)
        frames = tf.ensure_shape(frames, [self._num_frames, *self._crop_size, self._num_channels])
        return {"image": tf.cast(normalize(frames), self._dtype)}, self._label(decoded_tensors)

    def _parse_eval_data(self, decoded_tensors):
        frames = decoded_tensors[self._image_key]
        if self._num_test_clips > 1:
            frames = preprocess_ops_3d.sample_linspace_sequence(
                frames, self._num_test_clips, self._num_frames, self._stride
            )
        else:
            frames = preprocess_ops_3d.sample_sequence(frames, self._num_frames, False, self._stride)
        frames = preprocess_ops_3d.decode_jpeg(frames, self._num_channels)
        frames = preprocess_ops_3d.resize_smallest(frames, self._min_resize)
        frames = preprocess_ops_3d.crop_image(frames, *self._crop_size, num_crops=self._num_crops)
        views = self._num_test_clips * self._num_crops
        frames = tf.ensure_shape(frames, [self._num_frames * views, *self._crop_size, self._num_channels])
        return {"image": tf.cast(normalize(frames), self._dtype)}, self._label(decoded_tensors)

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
