"""A tiny non-local network of clips with its trainer, on clips that are a function of the step."""

import sys

import numpy as np
import tensorflow as tf
import tf_keras
from official.core import exp_factory

from keras_nonlocal.demo import experiments  # noqa: F401  (registers them)
from keras_nonlocal.tfm import trainer as trainers
from keras_nonlocal.tfm.runs import loop, stopping
from keras_nonlocal.tfm.tasks import video_classification

SHAPE = (4, 16, 16, 3)
BATCH = 8


def clips(step):
    """The batch of a step: float32 (BATCH, *SHAPE) and one-hot labels (BATCH, 2)."""
    rng = np.random.default_rng(step)
    return rng.normal(size=(BATCH, *SHAPE)).astype("float32"), np.eye(2, dtype="float32")[rng.integers(2, size=BATCH)]


class Task(video_classification.VideoClassificationTask):
    """Video classification of such clips."""

    first_step = 0

    def build_inputs(self, params, input_context=None):
        first = self.first_step if params.is_training else 1000
        steps = tf.data.Dataset.range(first, first + (50 if params.is_training else 2))

        def batch(step):
            images, labels = tf.numpy_function(clips, [step], (tf.float32, tf.float32))
            return {"image": tf.ensure_shape(images, (BATCH, *SHAPE))}, tf.ensure_shape(labels, (BATCH, 2))

        batches = steps.map(batch)
        replicas = input_context.num_replicas_in_sync if input_context else 1
        return batches if replicas == 1 else batches.unbatch().batch(BATCH // replicas, drop_remainder=True)


def experiment(**settings):
    """The configuration, with settings by their dotted names."""
    params = exp_factory.get_exp_config("non_local_c2d_demo")
    tiny = {
        "task.model.backbone.video_resnet.block_counts": [1, 1, 1, 1],
        "task.model.backbone.video_resnet.width": 4,
        "task.model.backbone.video_resnet.non_local.res3": [0],
        "task.model.backbone.video_resnet.non_local.res4": [],
        "task.model.dropout_rate": 0.5,
        "task.train_data.feature_shape": list(SHAPE),
        "task.train_data.global_batch_size": BATCH,
        "task.validation_data.feature_shape": list(SHAPE),
        "trainer.train_steps": 4,
        "trainer.optimizer_config.learning_rate": {"type": "constant", "constant": {"learning_rate": 0.05}},
    }
    for name, value in {**tiny, **settings}.items():
        *path, last = name.split(".")
        part = params
        for key in path:
            part = getattr(part, key)
        part.override({last: value})
    return params


def trainer(params, strategy=None, seed=0, **arguments):
    """A Trainer of it, whose weights are drawn from the seed and moved a little from zeros and ones."""
    strategy = strategy or tf.distribute.get_strategy()
    tf.config.optimizer.set_experimental_options({"remapping": False})  # as train.run does
    tf_keras.utils.set_random_seed(seed)
    stop, waited = stopping.Stopping(sys.stdout), loop.host_seconds()
    with strategy.scope():
        task = Task(params.task)
        model = task.build_model()
        rng = np.random.default_rng(seed)
        model.set_weights([w + rng.normal(scale=0.1, size=w.shape) ** 2 for w in model.get_weights()])
        optimizer = task.create_optimizer(params.trainer.optimizer_config, params.runtime)
        return trainers.Trainer(params, task, model, optimizer, stop=stop, waited=waited, **arguments)
