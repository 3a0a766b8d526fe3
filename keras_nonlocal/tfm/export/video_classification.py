"""Served classifiers of clips, of one label each or of several."""

import dataclasses

import tensorflow as tf
from official.vision.configs import video_classification
from official.vision.ops import preprocess_ops_3d

from keras_nonlocal import features as record_keys
from keras_nonlocal.export import examples as golden
from keras_nonlocal.export import explaining, guards, padding
from keras_nonlocal.serving import constants
from keras_nonlocal.tfm.export import seen, signatures
from keras_nonlocal.tfm.inputs import images, pixels
from keras_nonlocal.tfm.tasks import answers

# Of one video in a request: more than an hour of them.
MAX_FRAMES = 100_000


@signatures.MODULES.register(video_classification.VideoClassificationTask)
class VideoClassificationModule(signatures.Signatures):
    """Signatures over a video classifier: `serving_default` (frames), `encoded`, `tf_example`, `features`, `padded`.

    Args:
      params: the ExperimentConfig of the training run.
      model: the classifier, from normalised clips to logits.
    """

    def __init__(self, params, model):
        super().__init__(params, model)
        data = params.task.validation_data
        self._clip_shape = tuple(data.feature_shape)  # (T, H, W, 3)
        self._clip = tf.TensorSpec(self._clip_shape, tf.uint8)
        self._stride = data.temporal_stride
        self._short_side = data.min_image_size
        self._scores = answers.of(params.task).scores
        self._features = seen.feature_network(model)

    @classmethod
    def random_inputs(cls, params):
        shape = [1, *params.task.validation_data.feature_shape]
        return pixels.normalize(tf.random.stateless_uniform(shape, [0, 0], 0, 256, tf.int32))

    @tf.function
    def serve(self, frames):
        """Clips of the network's own size: uint8 (B, T, H, W, 3) to probabilities and logits, float32 (B, classes).

        The probabilities add up to one, or of a network of several labels a clip are one of each class for itself.
        """
        return self._classify(self.prepare(frames))

    @tf.function
    def serve_encoded(self, encoded):
        """Videos as lists of JPEG frames: strings (B, N) to what serve does; a shorter video ends in empty strings.

        The clip is the middle of the video, at the stride of the training data.
        """
        encoded = tf.ensure_shape(encoded, [None, None])
        with guards.not_empty(constants.ENCODED, encoded):
            clips = signatures.decoded(encoded, self._decode_list, self._clip, "videos", constants.ENCODED)
            return self._classify(pixels.normalize(clips))

    @tf.function
    def serve_tf_example(self, examples):
        """Encoded videos: strings (B,), each a SequenceExample with JPEG frames in `image/encoded`, to what serve does.

        The clip is the middle of the video, at the stride of the training data.
        """
        examples = tf.ensure_shape(examples, [None])
        with guards.not_empty(constants.EXAMPLES, examples):
            clips = signatures.decoded(examples, self._decode, self._clip, "videos")
            return self._classify(pixels.normalize(clips))

    @tf.function
    def serve_features(self, frames):
        """Clips as serve takes them to what the last layer is given, (B, C), and the last map, float32."""
        return seen.features(self._features, self.prepare(frames))

    def signatures(self):
        frames = tf.TensorSpec([None, *self._clip_shape], tf.uint8)
        found = signatures.of_pictures(self, constants.FRAMES, frames, self._clip_shape, _sequence_example)
        if self._features is not None:
            default = found[constants.DEFAULT_SIGNATURE]
            found[constants.FEATURES_SIGNATURE] = dataclasses.replace(default, function=self.serve_features)
        return found

    def explain(self, block, top_k):
        served = self.signatures()[constants.DEFAULT_SIGNATURE]
        return explaining.explain_signatures(self.model, served, self.prepare, block, top_k)

    def padded_signature(self):
        clips = golden.pictures(self._clip_shape)
        return padding.padded_signature(self.model, constants.FRAMES, clips, pixels.normalize, self._answer)

    def prepare(self, frames):
        """Frames that were sent, checked, to what the network takes."""
        # Without this guard a request of another rank would abort the whole server inside the convolution kernel.
        frames = tf.ensure_shape(frames, [None, *self._clip_shape])
        most = signatures.fit_in_request(self._clip)
        with guards.not_empty(constants.FRAMES, frames), signatures.at_most(most, frames, constants.FRAMES, "clips"):
            return pixels.normalize(frames)

    @tf.function  # one graph for all signatures
    def _classify(self, inputs):
        return self._answer(self.model(inputs, training=False))

    def _answer(self, logits):
        # 16-bit outputs cannot be written as JSON.
        return {constants.PROBABILITIES: self._scores(logits), constants.LOGITS: tf.cast(logits, tf.float32)}

    def _decode(self, example):
        """A serialized SequenceExample to a clip, uint8 (T, H, W, 3)."""
        frames = {record_keys.ENCODED: tf.io.FixedLenSequenceFeature([], tf.string)}
        frames = tf.io.parse_single_sequence_example(example, sequence_features=frames)[1][record_keys.ENCODED]
        with pixels.at_least_one(frames):
            return self._chosen(frames)

    def _decode_list(self, frames):
        """The frames of a video, (N,) strings of which the last may be empty, to a clip."""
        count = tf.reduce_max(tf.where(tf.strings.length(frames) > 0, tf.range(tf.size(frames)) + 1, 0))
        with guards.only_if(pixels.FRAME_ERROR, (count > 0, "is missing: a row of `encoded` is empty")):
            return self._chosen(frames[:count])

    def _chosen(self, frames):
        """The frames of a video, (N,) strings, to a clip, uint8 (T, H, W, 3), of which only these are decoded."""
        count = tf.size(frames)
        rule = count <= MAX_FRAMES, f"has too many frames: at most {MAX_FRAMES:,} are taken, it has", count
        with guards.only_if("a video", rule):
            frames = preprocess_ops_3d.sample_sequence(frames, self._clip_shape[0], random=False, stride=self._stride)
        sizes = tf.map_fn(
            lambda frame: images.jpeg_size(frame, pixels.FRAME_ERROR),
            frames,
            fn_output_signature=tf.TensorSpec([2], tf.int64),
        )
        alike = tf.reduce_all(sizes == sizes[:1])
        text = "must have frames of one size, their heights and widths are from"
        with guards.only_if("a video", (alike, text, tf.reduce_min(sizes, 0), "to", tf.reduce_max(sizes, 0))):
            # The frames of one video are decoded in parallel.
            return tf.map_fn(
                self._decode_frame, frames, fn_output_signature=tf.TensorSpec(self._clip_shape[1:], tf.uint8)
            )

    def _decode_frame(self, encoded):
        """A JPEG to (H, W, 3) uint8: short side to the size of test frames, centre crop."""
        frame = pixels.decode_frame(encoded, self._short_side)
        return preprocess_ops_3d.crop_image(frame[tf.newaxis], *self._clip_shape[1:3])[0]


def _sequence_example(frames):
    example = tf.train.SequenceExample()
    for data in frames:
        example.feature_lists.feature_list[record_keys.ENCODED].feature.add().bytes_list.value.append(data)
    return example.SerializeToString()
