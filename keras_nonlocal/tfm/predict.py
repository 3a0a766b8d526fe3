"""The scores of every video of a test by a trained network: the part of an evaluation that takes long."""

import dataclasses
import time

import numpy as np
import tensorflow as tf
import tf_keras
from official.core import config_definitions as cfg
from official.core import task_factory
from official.modeling import performance

from keras_nonlocal import errors
from keras_nonlocal.tfm import train
from keras_nonlocal.tfm.inputs import pixels, sources, videos, views
from keras_nonlocal.tfm.runs import workers
from keras_nonlocal.tfm.runs.progress import eta
from keras_nonlocal.tfm.tasks import answers

SECONDS_A_LINE = 10


@dataclasses.dataclass(frozen=True)
class Scored:
    """What a network says of the videos of a test.

    Args:
      videos: (N,) str, their names, sorted.
      labels: (N, classes) int32, 1 where a video has a class.
      scores: (N, classes) float32.
      step: of the checkpoint.
      model: the network as it was trained.
      first: whether this is the first of several workers, or the only one: the one that says and writes something.
    """

    videos: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    step: int
    model: tf_keras.Model
    first: bool


@workers.explained()
def predict(params: cfg.ExperimentConfig, model_dir: str, combine: str) -> Scored:
    """Scores every video of the validation data once, whatever the replicas and workers, and prints how it goes.

    `global_batch_size` of the validation data is how many clips are in memory and in the network at a time; the views
    of one video always are in memory together.

    Args:
      params: the experiment, with its views set.
      model_dir: folder of the run, whose newest checkpoint is taken.
      combine: "mean" or "max" of the scores of a video's views.

    Returns:
      The names, labels and scores of the videos, and what gave them.

    Raises:
      UserError: for records that are not there, not readable, or hold a video twice; for a network whose scores are
        not numbers.
      Stopped: if another worker is lost.
    """
    of_task = answers.of(params.task)
    data = params.task.validation_data
    total = _count(data, of_task.records_from)
    checkpoint = train.latest_checkpoint(model_dir)
    if params.runtime.mixed_precision_dtype:
        performance.set_mixed_precision_policy(params.runtime.mixed_precision_dtype)
    strategy = workers.strategy(params.runtime)
    with strategy.scope():
        task = task_factory.get_task(params.task)
        model, step = _restored(task, params, checkpoint)
        network = task.build_test_model(model)
    batch = _Batch(data, strategy.num_replicas_in_sync)
    # An element is large: two wait, not as many as tf.data finds quickest.
    reading = data.replace(
        is_training=False, one_hot=True, drop_remainder=False, prefetch_buffer_size=2,
        global_batch_size=batch.videos * strategy.num_replicas_in_sync,
    )  # fmt: skip
    dataset = strategy.distribute_datasets_from_function(lambda context: task.build_test_inputs(reading, context))
    score = _scorer(strategy, network, reading, batch, combine, dataset.element_spec)
    first = strategy.extended.should_checkpoint
    if first:
        print(
            f"test: step {step} of {model_dir}, {total} videos of {batch.views} view(s), "
            f"{strategy.num_replicas_in_sync} replica(s)",
            flush=True,
        )
    progress, parts = _Progress(total), []
    try:
        for features, labels in dataset:
            values = score(features, labels)
            parts.append([strategy.gather(value, axis=0).numpy() for value in values])
            if first:
                progress.add(len(parts[-1][0]))
    except tf.errors.OpError as error:
        if message := of_task.explain(error):
            raise errors.UserError(message) from error
        raise
    names, labels, scores = (np.concatenate(each) for each in zip(*parts, strict=True))
    names = np.array([videos.name(each.astype(np.uint8)) for each in names])
    # The order of reading is not that of the files, and that of equal scores matters.
    order = np.argsort(names, kind="stable")
    names, labels, scores = names[order], labels[order], scores[order]
    _check(names, scores, total)
    return Scored(names, labels, scores, step, model, first)


def _count(data, records_from):
    try:
        return len(sources.of(data))
    except errors.UserError as error:
        raise errors.UserError(
            f"task.validation_data: {error} {records_from} writes records; --input_path names others."
        ) from error


def _restored(task, params, checkpoint):
    """The model of a checkpoint and its step; the averaged weights where the run kept such."""
    model = task.build_model()
    step = tf.Variable(-1, dtype=tf.int64)
    status = tf.train.Checkpoint(model=model, global_step=step).read(checkpoint)
    status.expect_partial().assert_existing_objects_matched()
    if params.trainer.optimizer_config.ema:
        optimizer = task.create_optimizer(params.trainer.optimizer_config, params.runtime)
        optimizer.shadow_copy(model)
        tf.train.Checkpoint(model=model, optimizer=optimizer).read(checkpoint).expect_partial()
        optimizer.swap_weights()
    return model, int(step.numpy())


class _Batch:
    """How many videos are read at a time, and how many of their clips are in the network, for each replica."""

    def __init__(self, data, replicas):
        self.views = data.num_test_clips * data.num_test_crops
        clips = max(1, data.global_batch_size // replicas)
        # Whole frames of two videos are of two sizes.
        self.videos = 1 if None in data.feature_shape else max(1, clips // self.views)
        # Of one video's views: all, or equal parts of them.
        self.clips = max(n for n in range(1, clips + 1) if self.views % n == 0) if clips < self.views else None


def _scorer(strategy, network, data, batch, combine, spec):
    """The function from a batch of the dataset to names, labels and scores, on all replicas."""

    classes = network.output_shape[-1]

    def of_clips(clips):
        return network(tf.cast(pixels.normalize(clips), data.dtype), training=False)

    def of_replica(features, labels):
        size = tf.shape(features["image"])[2:4]
        length, _, _, channels = data.feature_shape
        clips = tf.reshape(features["image"], tf.concat([[-1, length], size, [channels]], 0))
        clips = tf.ensure_shape(clips, [None, *data.feature_shape])
        if batch.clips is None:
            # A replica may have no video of the last batch, and oneDNN's convolutions stumble over no clip.
            scores = tf.cond(tf.shape(clips)[0] > 0, lambda: of_clips(clips), lambda: tf.zeros([0, classes]))
        else:
            parts = tf.reshape(clips, tf.concat([[-1, batch.clips, length], size, [channels]], 0))
            parts = tf.ensure_shape(parts, [None, batch.clips, *data.feature_shape])
            out = tf.TensorSpec([batch.clips, classes])
            scores = tf.map_fn(of_clips, parts, fn_output_signature=out, parallel_iterations=1)
        scores = tf.reshape(scores, [-1, batch.views, classes])
        # Replicas exchange numbers of 32 bits.
        return tf.cast(features["video"], tf.int32), tf.cast(labels, tf.int32), views.COMBINE[combine](scores, axis=1)

    @tf.function(input_signature=spec)
    def score(features, labels):
        return strategy.run(of_replica, args=(features, labels))

    return score


class _Progress:
    """A line now and then: how many videos are done, how many a second, and when all will be."""

    def __init__(self, total):
        self._total = total
        self._done = 0
        self._start = self._last = time.monotonic()

    def add(self, count):
        self._done += count
        now = time.monotonic()
        if now - self._last < SECONDS_A_LINE and self._done != self._total:
            return
        self._last = now
        rate = self._done / max(now - self._start, 1e-9)
        line = f"test  {self._done:>7}/{self._total} videos  {rate:.2f} videos/s"
        print(f"{line}  {eta((self._total - self._done) / max(rate, 1e-9))}", flush=True)


def _check(names, scores, total):
    if len(names) != total:
        raise errors.UserError(
            f"{len(names)} videos were scored, but task.validation_data.input_path holds {total}: report this, with "
            "runtime.distribution_strategy."
        )
    for name, next_name in zip(names, names[1:], strict=False):
        if name and name == next_name:
            raise errors.UserError(
                f"the records of task.validation_data.input_path hold the video {name} more than once: let the pattern "
                "match each file once, or write the records from a list without duplicates."
            )
    if not np.isfinite(scores).all():
        bad = names[~np.isfinite(scores).all(axis=1)][0]
        raise errors.UserError(
            f"the network's scores of the video {bad or '(without a name)'} are not numbers: its training went wrong, "
            "test an earlier checkpoint."
        )
