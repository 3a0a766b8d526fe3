"""Clips for training and evaluation out of tfm's SequenceExamples, cut and augmented as in the paper (section 4.1)."""

import tensorflow as tf
from official.vision.dataloaders import video_input
from official.vision.ops import preprocess_ops_3d

from keras_nonlocal.data.video import frame_limits

# The official code's mean and standard deviation of a pixel, for every channel.
PIXEL_MEAN, PIXEL_STD = 114.75, 57.375
LABEL_ERROR = "the label of a clip is outside"
# How the messages of refused frames begin.
FRAME_ERROR = "a frame of a video"
JPEG_MAGIC = b"\xff\xd8\xff"
START_OF_SCAN = b"\xff\xda"
# Of a progressive JPEG. Each is a pass over all pixels, whatever its length; encoders write about ten.
MAX_SCANS = 32


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


def at_least_one(frames):
    """A context for the choice among the frames of a video, (N, ...): there have to be some."""
    some = tf.size(frames) > 0
    return tf.control_dependencies([tf.debugging.Assert(some, [f"{FRAME_ERROR} is missing: `image/encoded` is empty"])])


def middle(frame):
    """The middle of a frame, (H, W, 3), that is thinner than MAX_ASPECT, else all of it.

    Resized to a short side of 256, one of 1 x 4000 pixels would take 3 GB, and a crop shows 1 x 1 of them.
    """
    size = tf.shape(frame)[:2]
    limit = frame_limits.MAX_ASPECT * tf.reduce_min(size)
    kept = tf.minimum(size, limit + (size - limit) % 2)  # as much is cut off on either side
    return tf.slice(frame, tf.concat([(size - kept) // 2, [0]], 0), tf.concat([kept, [3]], 0))


def decode_frame(encoded, short_side):
    """A JPEG to pixels, of a size that a crop is cut from: all of the image, or the middle of a very thin one.

    Args:
      encoded: () string.
      short_side: of the result, in pixels; () int32.

    Returns:
      (H, W, 3) uint8.

    Raises:
      tf.errors.InvalidArgumentError: for what is no whole JPEG or costs more than any video's frame: it has more than
        MAX_SOURCE_PIXELS pixels or MAX_SCANS scans.
    """
    is_jpeg = tf.equal(tf.strings.substr(encoded, 0, len(JPEG_MAGIC)), JPEG_MAGIC)
    # An assertion does not come before what follows it unless it is told to: the pixels would be decoded all the same.
    with tf.control_dependencies([tf.debugging.Assert(is_jpeg, [f"{FRAME_ERROR} is not a JPEG image"])]):
        size = tf.cast(tf.io.extract_jpeg_shape(encoded)[:2], tf.int64)
        scans = tf.size(tf.strings.split(encoded, START_OF_SCAN, maxsplit=MAX_SCANS + 1)) - 1
    rules = [
        (
            tf.reduce_prod(size) <= frame_limits.MAX_SOURCE_PIXELS,
            f"has too many pixels: at most {frame_limits.MAX_SOURCE_PIXELS:,} are taken, its height and width are",
            size,
        ),
        (scans <= MAX_SCANS, f"is a JPEG image of too many scans: at most {MAX_SCANS} are taken, it has", scans),
    ]
    with tf.control_dependencies([tf.debugging.Assert(ok, [f"{FRAME_ERROR} {text}", it]) for ok, text, it in rules]):
        frame = tf.io.decode_jpeg(encoded, channels=3)
    return preprocess_ops_3d.resize_smallest(middle(frame)[tf.newaxis], short_side)[0]


def decode_frames(encoded, short_side):
    """decode_frame for all frames of a clip, (T,) to (T, H, W, 3): no more than a few at a time in their own size."""
    pixels = tf.TensorSpec([None, None, 3], tf.uint8)
    return tf.map_fn(lambda frame: decode_frame(frame, short_side), encoded, fn_output_signature=pixels)


def augment(encoded, crop_size, min_short_side, max_short_side, random_flip):
    """Scale jitter, random crop and mirroring, the same for all frames of a clip.

    Args:
      encoded: (T,) JPEG images.
      crop_size: (height, width) of the crop.
      min_short_side: the frames are resized to a short side drawn between this
      max_short_side: and this, in pixels.
      random_flip: whether to mirror one half of the clips.

    Returns:
      (T, *crop_size, 3) uint8.
    """
    side = tf.random.uniform([], min_short_side, max_short_side + 1, tf.int32)
    frames = decode_frames(encoded, side)
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
        frames = decoded_tensors[self._image_key]
        with at_least_one(frames):
            frames = sample_clip(frames, self._num_frames, self._stride)
        frames = augment(frames, self._crop_size, self._min_resize, self._max_resize, self._random_flip)
        frames = tf.ensure_shape(frames, [self._num_frames, *self._crop_size, self._num_channels])
        return {"image": tf.cast(normalize(frames), self._dtype)}, self._label(decoded_tensors)

    def _parse_eval_data(self, decoded_tensors):
        frames = decoded_tensors[self._image_key]
        with at_least_one(frames):
            if self._num_test_clips > 1:
                frames = preprocess_ops_3d.sample_linspace_sequence(
                    frames, self._num_test_clips, self._num_frames, self._stride
                )
            else:
                frames = preprocess_ops_3d.sample_sequence(frames, self._num_frames, False, self._stride)
        frames = decode_frames(frames, self._min_resize)
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
