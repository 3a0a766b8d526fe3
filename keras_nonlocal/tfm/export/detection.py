"""Served detectors: RetinaNet, Mask R-CNN, and Mask R-CNN with keypoints."""

import functools
import math

import tensorflow as tf
from official.core import config_definitions as cfg
from official.vision.configs import maskrcnn, retinanet
from official.vision.ops import preprocess_ops

from keras_nonlocal import errors, features
from keras_nonlocal.export import examples as golden
from keras_nonlocal.export.guards import only_if
from keras_nonlocal.serving import constants
from keras_nonlocal.tfm.export import signatures
from keras_nonlocal.tfm.inputs import images as photos

# Of all the images of one request together, as large as the network takes them; the two that an export is verified by
# may be more.
MAX_REQUEST_PIXELS = 8 * 1024 * 1024
# Versions of non-maximum suppression that take a batch of any size.
NMS_VERSIONS = ("v2", "v3", "batched")


@signatures.MODULES.register(retinanet.RetinaNetTask)
@signatures.MODULES.register(maskrcnn.MaskRCNNTask)
class DetectionModule(signatures.Signatures):
    """Signatures over a detector, `serving_default` (pixels), `encoded` (files) and `tf_example` (records).

    Each makes of images what tfm's parser makes of them in an evaluation, and answers with D detections an image, the
    likeliest first, all in pixels of the image that was sent. Row `num_detections` and those after it are zeros.

    Args:
      params: the ExperimentConfig of the training run.
      model: the detector, from normalised images to detections.

    Raises:
      UserError: if the run's detector does not end in detections, or takes batches of one size only.
    """

    def __init__(self, params, model):
        super().__init__(params, model)
        task = params.task
        _check_generator(task.model.detection_generator)
        data = task.validation_data
        self._size = list(task.model.input_size[:2])
        self._keeps_aspect_ratio = data.parser.keep_aspect_ratio
        stride = 2**task.model.max_level if data.parser.pad else 1
        padded = preprocess_ops.compute_padded_size(self._size, stride)
        self._input = (tf.TensorSpec([*padded, 3], data.dtype), tf.TensorSpec([4, 2], tf.float32))
        self._most = max(golden.ROWS, MAX_REQUEST_PIXELS // math.prod(padded))
        # A thinner image would have no pixel left on its short side.
        self._max_aspect = min(self._size)

    @classmethod
    def random_inputs(cls, params: cfg.ExperimentConfig) -> None:
        return None

    @tf.function
    def serve(self, images):
        """Images of one size: uint8 (B, H, W, 3) to detections, as _detect gives them."""
        # Without this guard a request of another rank would abort the whole server inside a kernel.
        images = tf.ensure_shape(images, [None, None, None, 3])
        size = tf.shape(images, tf.int64)[1:3]
        with (
            self._allowed(images, constants.IMAGES),
            only_if(photos.PHOTO_ERROR, *photos.photo_rules(size, self._max_aspect)),
        ):
            return self._detect(signatures.one_by_one(self._fit, images, self._input))

    @tf.function
    def serve_encoded(self, encoded):
        """JPEG or PNG images of any sizes: strings (B,) to detections, as _detect gives them."""
        return self._serve_files(tf.ensure_shape(encoded, [None]), constants.ENCODED)

    @tf.function
    def serve_tf_example(self, examples):
        """Records: strings (B,), each an Example with a JPEG or PNG in `image/encoded`, to detections."""
        examples = tf.ensure_shape(examples, [None])
        with self._allowed(examples, constants.EXAMPLES):
            key = {features.ENCODED: tf.io.FixedLenFeature([], tf.string)}
            return self._serve_files(tf.io.parse_example(examples, key)[features.ENCODED], constants.EXAMPLES)

    def signatures(self):
        images = tf.TensorSpec([None, None, None, 3], tf.uint8)
        record = functools.partial(signatures.example_of, features.ENCODED)
        return signatures.of_pictures(self, constants.IMAGES, images, [*self._size, 3], record)

    def _serve_files(self, encoded, name):
        with self._allowed(encoded, name):
            return self._detect(signatures.one_by_one(self._decode, encoded, self._input))

    def _allowed(self, batch, name):
        """A context for what is made of a request that holds images, but not too many of them."""
        with only_if(f"`{name}`", (tf.shape(batch)[0] > 0, "holds no image: send one or more")):
            return signatures.at_most(self._most, batch, name, "images")

    def _decode(self, encoded):
        return self._fit(photos.decode_photo(encoded, self._max_aspect))

    def _fit(self, image):
        """What tfm's parsers make of an image, (H, W, 3) uint8: the network's input and image_info, as in _input."""
        image, info = preprocess_ops.resize_and_crop_image(
            preprocess_ops.normalize_image(image),
            self._size,
            padded_size=self._input[0].shape[:2].as_list(),
            keep_aspect_ratio=self._keeps_aspect_ratio,
        )
        return tf.cast(image, self._input[0].dtype), info

    @tf.function  # One graph for all signatures: that of non-maximum suppression, class by class, is large.
    def _detect(self, inputs):
        """The network's inputs, as in _input, to detections in the pixels of the images that were sent, all float32.

        Args:
          inputs: images, and the (B, 4, 2) image_info of tfm: sizes before, sizes asked for, scales, offsets.

        Returns:
          boxes: (B, D, 4), [top, left, bottom, right], within the image.
          classes: (B, D), as in the records of training.
          scores: (B, D), from 0 to 1.
          masks: (B, D, h, w), of Mask R-CNN: the probability that a part of the box, cut into h by w, is the object.
          keypoints: (B, D, K, 3), of keypoint detectors: y and x in continuous coordinates (the centre of the first
            pixel is at 0.5), within the image, and a score.
          num_detections: (B,) int32, at most D.
        """
        images, info = inputs
        found = self.model(images, image_shape=info[:, 1], training=False)
        count = tf.cast(found["num_detections"], tf.int32)
        # 16-bit outputs cannot be written as JSON.
        found = {name: tf.cast(value, tf.float32) for name, value in found.items() if name.startswith("detection_")}
        size, scale = info[:, tf.newaxis, 0], info[:, tf.newaxis, 2]  # (B, 1, 2) each
        boxes = found["detection_boxes"] / tf.tile(scale, [1, 1, 2])
        within = _within(boxes, tf.tile(size, [1, 1, 2]))
        outputs = {
            constants.BOXES: within,
            constants.CLASSES: found["detection_classes"],
            constants.SCORES: found["detection_scores"],
        }
        if "detection_masks" in found:
            if "detection_outer_boxes" in found:  # which the masks are of
                boxes = found["detection_outer_boxes"] / tf.tile(scale, [1, 1, 2])
            outputs[constants.MASKS] = on_other_boxes(found["detection_masks"], boxes, within)
        if "detection_keypoints" in found:
            keypoints = found["detection_keypoints"]
            points = _within(keypoints[..., :2] / scale[:, tf.newaxis], size[:, tf.newaxis])
            outputs[constants.KEYPOINTS] = tf.concat([points, keypoints[..., 2:]], -1)
        is_filled = tf.sequence_mask(count, tf.shape(boxes)[1])
        outputs = {name: _or_zeros(is_filled, value) for name, value in outputs.items()}
        return outputs | {constants.NUM_DETECTIONS: count}


def on_other_boxes(masks: tf.Tensor, boxes: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Masks of boxes as masks of other boxes, bilinear between the centres of their cells; of the same boxes the same.

    Args:
      masks: (B, D, h, w) float32.
      boxes: (B, D, 4) that they are of, [top, left, bottom, right].
      others: (B, D, 4) that they are wanted of.

    Returns:
      (B, D, h, w) float32. Beyond the old box a mask goes on as at its edge.
    """
    rows, columns = (
        _weights(
            masks.shape[2 + axis], boxes[..., axis], boxes[..., axis + 2], others[..., axis], others[..., axis + 2]
        )
        for axis in range(2)
    )
    return tf.matmul(tf.matmul(rows, masks), columns, transpose_b=True)


def _weights(cells, start, end, other_start, other_end):
    """(B, D, cells, cells): how much each old cell along one axis has in each new one."""
    length = (end - start)[..., tf.newaxis]
    # A new cell's centre, in old cells whose centres are at 0, 1, ...
    ratio = tf.where(length > 0, tf.math.divide_no_nan((other_end - other_start)[..., tf.newaxis], length), 1.0)
    offset = tf.math.divide_no_nan((other_start - start)[..., tf.newaxis] * cells, length)
    centres = tf.clip_by_value(offset + (tf.range(cells, dtype=tf.float32) + 0.5) * ratio - 0.5, 0.0, cells - 1.0)
    return tf.nn.relu(1 - tf.abs(centres[..., tf.newaxis] - tf.range(cells, dtype=tf.float32)))


def _within(coordinates, size):
    return tf.minimum(tf.maximum(coordinates, 0.0), size)


def _or_zeros(is_filled, value):
    """Zeros in the rows that are not filled."""
    for _ in range(value.shape.rank - 2):
        is_filled = is_filled[..., tf.newaxis]
    return tf.where(is_filled, value, 0.0)


def _check_generator(generator):
    """Raises UserError unless a detector ends in detections, of batches of any size."""
    if not generator.apply_nms or not getattr(generator, "decode_boxes", True):
        raise errors.UserError(
            "task.model.detection_generator.apply_nms and decode_boxes must be on, or there are no detections to "
            "serve: set them in the run's params.yaml. Received: "
            f"apply_nms={generator.apply_nms}, decode_boxes={getattr(generator, 'decode_boxes', True)}"
        )
    if generator.nms_version not in NMS_VERSIONS:
        raise errors.UserError(
            f"task.model.detection_generator.nms_version must be one of {', '.join(NMS_VERSIONS)} to serve batches of "
            f"any size: set it in the run's params.yaml. Received: nms_version={generator.nms_version!r}"
        )
