"""Served classifiers of clips, of one label each or of several."""

import numpy as np
import tensorflow as tf
from official.vision.configs import video_classification
from official.vision.ops import preprocess_ops_3d

from keras_nonlocal import features
from keras_nonlocal.export import padded
from keras_nonlocal.export.signatures import Signature, strings
from keras_nonlocal.serving import constants
from keras_nonlocal.tfm.export import signatures
from keras_nonlocal.tfm.inputs import pixels
from keras_nonlocal.tfm.tasks import answers


@signatures.MODULES.register(video_classification.VideoClassificationTask)
class VideoClassificationModule(signatures.Signatures):
    """Signatures over a video classifier, `serving_default` (frames), `tf_example` and `padded`.

    Args:
      params: the ExperimentConfig of the training run.
      model: the classifier, from normalised clips to logits.
    """

    def __init__(self, params, model):
        super().__init__(params, model)
        data = params.task.validation_data
        self._clip_shape = tuple(data.feature_shape)  # (T, H, W, 3)
        self._stride = data.temporal_stride
        self._short_side = data.min_image_size
        self._scores = answers.of(params.task).scores

    @classmethod
    def random_inputs(cls, params):
        shape = [1, *params.task.validation_data.feature_shape]
        return pixels.normalize(tf.random.stateless_uniform(shape, [0, 0], 0, 256, tf.int32))

    @tf.function
    def serve(self, frames):
        """Clips of the network's own size: uint8 (B, T, H, W, 3) to probabilities and logits, float32 (B, classes).

        The probabilities add up to one, or of a network of several labels a clip are one of each class for itself.
        """
        # Without this guard a request of another rank would abort the whole server inside the convolution kernel.
        frames = tf.ensure_shape(frames, [None, *self._clip_shape])
        return self._answer(self.model(pixels.normalize(frames), training=False))

    @tf.function
    def serve_tf_example(self, examples):
        """Encoded videos: strings (B,), each a SequenceExample with JPEG frames in `image/encoded`, to what serve does.

        The clip is the middle of the video, at the stride of the training data.
        """
        examples = tf.ensure_shape(examples, [None])
        clip = tf.TensorSpec(self._clip_shape, tf.uint8)
        return self.serve(signatures.decoded(examples, self._decode, clip, "videos"))

    def signatures(self):
        clip = tf.zeros(self._clip_shape, tf.uint8)  # black
        example = tf.train.SequenceExample()
        frames = example.feature_lists.feature_list[features.ENCODED]
        for frame in clip:
            frames.feature.add().bytes_list.value.append(tf.io.encode_jpeg(frame).numpy())
        return {
            constants.DEFAULT_SIGNATURE: Signature(
                self.serve,
                {"frames": tf.TensorSpec([None, *self._clip_shape], tf.uint8)},
                {"frames": clip[tf.newaxis].numpy()},
            ),
            constants.TF_EXAMPLE_SIGNATURE: Signature(
                self.serve_tf_example,
                {"examples": tf.TensorSpec([None], tf.string)},
                {"examples": strings(example.SerializeToString())},
            ),
        }

    def padded_signature(self):
        clip = np.zeros([1, *self._clip_shape], np.uint8)  # black
        limit = signatures.MAX_REQUEST_BYTES
        return padded.padded_signature(self.model, "frames", clip, limit, pixels.normalize, self._answer)

    def _answer(self, logits):
        # 16-bit outputs cannot be written as JSON.
        return {constants.PROBABILITIES: self._scores(logits), constants.LOGITS: tf.cast(logits, tf.float32)}

    def _decode(self, example):
        """A serialized SequenceExample to a clip, uint8 (T, H, W, 3)."""
        frames = {features.ENCODED: tf.io.FixedLenSequenceFeature([], tf.string)}
        frames = tf.io.parse_single_sequence_example(example, sequence_features=frames)[1][features.ENCODED]
        with pixels.at_least_one(frames):
            frames = preprocess_ops_3d.sample_sequence(frames, self._clip_shape[0], random=False, stride=self._stride)
        # The frames of one video are decoded in parallel.
        return tf.map_fn(self._decode_frame, frames, fn_output_signature=tf.TensorSpec(self._clip_shape[1:], tf.uint8))

    def _decode_frame(self, encoded):
        """A JPEG to (H, W, 3) uint8: short side to the size of test frames, centre crop."""
        frame = pixels.decode_frame(encoded, self._short_side)
        return preprocess_ops_3d.crop_image(frame[tf.newaxis], *self._clip_shape[1:3])[0]
