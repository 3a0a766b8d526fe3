"""Records of objects with keypoints: tfm's records of detection, and where the keypoints of each object are."""

import tensorflow as tf
from official.vision.dataloaders import tf_example_decoder

from keras_nonlocal import features

# Start of the message of an assertion; see the answers of the task.
KEYPOINT_ERROR = "num_keypoints is"
KEYPOINTS = ((features.KEYPOINT_Y, tf.float32), (features.KEYPOINT_X, tf.float32))
VISIBILITY = (features.KEYPOINT_VISIBILITY, tf.int64)


class Decoder(tf_example_decoder.TfExampleDecoder):
    """tfm's decoder of detection with keypoints.

    COCO counts pixels: keypoint 3 is in the middle of pixel 3, which is 3.5 in the coordinates that boxes are in.

    Args:
      num_keypoints: K, of an object.
      **kwargs: those of tfm's decoder: include_mask, regenerate_source_id, mask_binarize_threshold.

    Example:

    >>> Decoder(17).decode(record)["groundtruth_keypoints"].shape  # doctest: +SKIP
    TensorShape([2, 17, 2])

    detectron2, `data/datasets/coco.py`, adds the half as well.
    """

    def __init__(self, num_keypoints: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self._num_keypoints = num_keypoints

    def decode(self, serialized_example: tf.Tensor) -> dict[str, tf.Tensor]:
        """What tfm's decoder gives, and the keypoints of the N objects.

        Args:
          serialized_example: a tf.train.Example as a string.

        Returns:
          A dict; beside tfm's, `groundtruth_keypoints` is float32 (N, K, 2), y and x from 0 to 1 across the image, and
          (0, 0) where there is none, `groundtruth_visibility` int32 (N, K): 0 not there, 1 hidden, 2 seen.
        """
        decoded = super().decode(serialized_example)
        found = _parse(serialized_example, *KEYPOINTS, VISIBILITY)
        y, x, visibility = self._checked(found, decoded)
        visibility = self._by_object(tf.cast(visibility, tf.int32))
        indices = tf.stack([self._by_object(y), self._by_object(x)], axis=-1)  # (N, K, 2), over the image's size
        size = tf.cast(tf.stack([decoded["height"], decoded["width"]]), tf.float32)
        decoded["groundtruth_keypoints"] = tf.where(visibility[..., tf.newaxis] > 0, indices + 0.5 / size, 0.0)
        decoded["groundtruth_visibility"] = visibility
        return decoded

    def _by_object(self, numbers):
        return tf.reshape(numbers, [-1, self._num_keypoints])  # (N * K,) -> (N, K)

    def _checked(self, found, decoded):
        count = tf.size(decoded["groundtruth_classes"])
        sizes = [tf.size(numbers) for numbers in found]
        numbers = [tf.strings.as_string(size) for size in (count, *sizes)]
        message = tf.strings.join(
            [f"{KEYPOINT_ERROR} {self._num_keypoints}, but image ", decoded["source_id"], " has ", numbers[0]]
            + [" objects and ", numbers[1], " y, ", numbers[2], " x and ", numbers[3], " visibilities of keypoints"]
        )
        rule = tf.reduce_all(tf.stack(sizes) == count * self._num_keypoints)
        with tf.control_dependencies([tf.debugging.Assert(rule, [message])]):
            return [tf.identity(numbers) for numbers in found]


def has_keypoints(serialized_example: tf.Tensor) -> tf.Tensor:
    """Whether any keypoint of a record is visible, hidden ones among them: Detectron trains on no other image.

    Args:
      serialized_example: a tf.train.Example as a string.

    Returns:
      A bool scalar.
    """
    (visibility,) = _parse(serialized_example, VISIBILITY)
    return tf.reduce_any(visibility > 0)


def _parse(serialized_example, *keys):
    wanted = {name: tf.io.FixedLenSequenceFeature([], dtype, allow_missing=True) for name, dtype in keys}
    parsed = tf.io.parse_single_example(serialized_example, wanted)
    return [parsed[name] for name, _ in keys]
