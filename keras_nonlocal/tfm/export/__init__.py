"""SavedModels of video classifiers for TensorFlow Serving, from a training run."""

import math
import os

import tensorflow as tf
from official.core import export_base, task_factory
from official.vision.ops import preprocess_ops_3d

from keras_nonlocal import errors, surgery
from keras_nonlocal.serving import publish, warmup
from keras_nonlocal.tfm import train
from keras_nonlocal.tfm.tasks import video_classification, video_input

# What one request may make of encoded videos: a clip is as large as the network wants it, however short the video.
MAX_REQUEST_BYTES = 256 * 2**20
# How far folded norms may move a logit, relative to the largest one, by the dtype that the network computes in.
FOLDING_TOLERANCE = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 1e-1}


class VideoClassificationModule(export_base.ExportModule):
    """Signatures over a video classifier.

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

    @tf.function
    def serve(self, frames):
        """Clips of the network's own size: uint8 (B, T, H, W, 3) to probabilities and logits, float32 (B, classes).

        The probabilities add up to one, or of a network of several labels a clip are one of each class for itself.
        """
        # Without this guard a request of another rank would abort the whole server inside the convolution kernel.
        frames = tf.ensure_shape(frames, [None, *self._clip_shape])
        logits = self.model(video_input.normalize(frames), training=False)
        # 16-bit outputs cannot be written as JSON.
        probabilities = video_classification.scores(self.params.task, logits)
        return {"probabilities": probabilities, "logits": tf.cast(logits, tf.float32)}

    @tf.function
    def serve_tf_example(self, examples):
        """Encoded videos: strings (B,), each a SequenceExample with JPEG frames in `image/encoded`, to what serve does.

        The clip is the middle of the video, at the stride of the training data.
        """
        examples = tf.ensure_shape(examples, [None])
        most = max(1, MAX_REQUEST_BYTES // math.prod(self._clip_shape))
        videos = tf.size(examples)
        rule = f"`examples` may hold at most {most} videos, the others go into further requests; it holds"
        clip = tf.TensorSpec(self._clip_shape, tf.uint8)
        with tf.control_dependencies([tf.debugging.Assert(videos <= most, [rule, videos])]):
            # One video after the other: the frames of one are decoded in parallel as it is.
            clips = tf.map_fn(self._decode, examples, parallel_iterations=1, fn_output_signature=clip)
        return self.serve(clips)

    def get_inference_signatures(self, function_keys):
        specs = {
            "frames": (self.serve, tf.TensorSpec([None, *self._clip_shape], tf.uint8, name="frames")),
            "tf_example": (self.serve_tf_example, tf.TensorSpec([None], tf.string, name="examples")),
        }
        return {
            signature: function.get_concrete_function(spec)
            for key, signature in function_keys.items()
            for function, spec in [specs[key]]
        }

    def warmup_requests(self):
        """A black clip for each signature."""
        clip = tf.zeros(self._clip_shape, tf.uint8)
        example = tf.train.SequenceExample()
        frames = example.feature_lists.feature_list["image/encoded"]
        for frame in clip:
            frames.feature.add().bytes_list.value.append(tf.io.encode_jpeg(frame).numpy())
        return {
            "serving_default": {"frames": clip[None].numpy()},
            "tf_example": {"examples": [example.SerializeToString()]},
        }

    def _decode(self, example):
        """A serialized SequenceExample to a clip, uint8 (T, H, W, 3)."""
        frames = {"image/encoded": tf.io.FixedLenSequenceFeature([], tf.string)}
        frames = tf.io.parse_single_sequence_example(example, sequence_features=frames)[1]["image/encoded"]
        with video_input.at_least_one(frames):
            frames = preprocess_ops_3d.sample_sequence(frames, self._clip_shape[0], random=False, stride=self._stride)
        return tf.map_fn(self._decode_frame, frames, fn_output_signature=tf.TensorSpec(self._clip_shape[1:], tf.uint8))

    def _decode_frame(self, encoded):
        """A JPEG to (H, W, 3) uint8: short side to the size of test frames, centre crop."""
        frame = video_input.decode_frame(encoded, self._short_side)
        return preprocess_ops_3d.crop_image(frame[tf.newaxis], *self._clip_shape[1:3])[0]


def export(params, checkpoint, export_dir, labels=None, fold_norms=True):
    """Publishes a SavedModel with the signatures `serving_default` (frames) and `tf_example`.

    Args:
      params: the ExperimentConfig of the training run.
      checkpoint: path of a checkpoint of it.
      export_dir: `saved_models/<name>`; the version is the next free number in it.
      labels: a file of class names, one a line, kept beside the model as `assets.extra/labels.txt`. Default none.
      fold_norms: fold batch norms into the convolutions before them and W_z, see surgery.fold_norms. Default True.

    Returns:
      The path of the new version.

    Raises:
      UserError: if it cannot be published, would not load in TensorFlow Serving, or answers differently when folded.
    """
    task = task_factory.get_task(params.task)
    model = task.build_model()
    keys = {"frames": "serving_default", "tf_example": "tf_example"}

    def write(folder):
        tf.train.Checkpoint(model=model).read(checkpoint).assert_existing_objects_matched().expect_partial()
        clip_shape = tuple(params.task.validation_data.feature_shape)
        module = VideoClassificationModule(params, folded(model, clip_shape) if fold_norms else model)
        export_base.export(module, keys, folder, timestamped=False)
        warmup.write_warmup(folder, module.warmup_requests())
        if labels:
            extra = os.path.join(folder, "assets.extra")
            tf.io.gfile.makedirs(extra)
            tf.io.gfile.copy(labels, os.path.join(extra, "labels.txt"))

    return publish.publish(write, export_dir)


def export_run(experiment, model_dir, export_dir, labels=None, fold_norms=True):
    """Publishes the newest checkpoint of a training run; see export."""
    params = train.load_experiment(experiment, model_dir)
    return export(params, train.latest_checkpoint(model_dir), export_dir, labels, fold_norms)


def folded(model, clip_shape):
    """A classifier with its batch norms folded, after a check on a clip of random pixels.

    Args:
      model: a trained classifier, from normalised clips to logits.
      clip_shape: (T, H, W, 3).

    Returns:
      The folded classifier. Its logits are within FOLDING_TOLERANCE of the model's, relative to the largest.

    Raises:
      UserError: if they are not, or the model is not functional.
    """
    cure = "export it as it was trained, with --nofold_norms."
    try:
        copy = surgery.fold_norms(model)
    except ValueError as error:
        raise errors.UserError(f"the batch norms of the network cannot be folded: {error}; {cure}") from error
    pixels = tf.random.stateless_uniform([1, *clip_shape], [0, 0], 0, 256, tf.int32)
    clip = video_input.normalize(pixels)
    trained, found = (tf.cast(each(clip, training=False), tf.float64) for each in (model, copy))
    difference = float(tf.reduce_max(tf.abs(found - trained)) / tf.reduce_max(tf.abs(trained)))
    tolerance = FOLDING_TOLERANCE.get(model.compute_dtype, FOLDING_TOLERANCE["float32"])
    if not difference <= tolerance:  # nor may it be NaN
        raise errors.UserError(
            f"with its batch norms folded the network answers differently: by {difference:.1e} of the largest logit, "
            f"allowed are {tolerance:g}; {cure}"
        )
    return copy
