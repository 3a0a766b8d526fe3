"""What the exports of all tasks share: signatures by name, and how much one request may hold."""

import abc
import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tf_keras
from official.core import config_definitions as cfg

from keras_nonlocal.export import Signature
from keras_nonlocal.export.guards import MAX_REQUEST_BYTES, only_if
from keras_nonlocal.export.signatures import strings
from keras_nonlocal.serving import constants
from keras_nonlocal.tfm.tasks.answers import ByTask

# {class of a task's configuration: the Signatures of such tasks}
MODULES = ByTask()


class Signatures(abc.ABC):
    """The served functions over a network. A task's own derive from it and are registered with `MODULES.register`.

    Args:
      params: the ExperimentConfig of the training run.
      model: the network, with what it has learned.
    """

    def __init__(self, params: cfg.ExperimentConfig, model: tf_keras.Model):
        self.params = params
        self.model = model

    @classmethod
    @abc.abstractmethod
    def random_inputs(cls, params: cfg.ExperimentConfig) -> tf.Tensor | None:
        """A batch that the network could be given, the same each time: folded norms are tried on it.

        None of a network that is served as it was trained, because it is not a functional model.
        """

    @abc.abstractmethod
    def signatures(self) -> dict[str, Signature]:
        """{name: a served function, what it takes and an example}; one is `serving_default`."""

    def padded_signature(self) -> Signature | None:
        """The signature for inputs of several sizes in one batch, see export.padding; None where a task has none."""
        return None

    def prepare(self, sent: tf.Tensor) -> tf.Tensor | None:
        """What `serving_default` takes to what the network takes; None of a task that explains nothing."""
        return None

    def explain(self, block: str | None, top_k: int) -> dict[str, Signature]:
        """{"explain": what chosen queries of a block attend to}, see export.explaining; {} of a task that has none."""
        return {}


def decoded(
    examples: tf.Tensor, decode: Callable, spec: tf.TensorSpec, what: str, name: str = constants.EXAMPLES
) -> tf.Tensor:
    """Encoded examples to what the network takes, one after the other, and no more than memory is kept for.

    Args:
      examples: (B, ...) strings.
      decode: from one of them to a tensor as in `spec`.
      spec: what one becomes.
      what: they are called in errors, "videos".
      name: of the argument of the signature. Default "examples".

    Returns:
      (B, *spec.shape).

    Raises:
      tf.errors.InvalidArgumentError: if they would fill more than MAX_REQUEST_BYTES.
    """
    # A clip is as large as the network wants it, however short the video.
    most = max(1, MAX_REQUEST_BYTES // (math.prod(spec.shape) * spec.dtype.size))
    with at_most(most, examples, name, what):
        return one_by_one(decode, examples, spec)


def at_most(most: int, batch: tf.Tensor, name: str, what: str):
    """A context for what is made of a request that has no more than this many examples.

    Args:
      most: examples.
      batch: (B, ...).
      name: of the argument of the signature.
      what: examples are called in errors, "videos".
    """
    count = tf.shape(batch)[0]
    text = f"may hold at most {most} {what}, the others go into further requests; it holds"
    return only_if(f"`{name}`", (count <= most, text, count))


def one_by_one(function: Callable, batch: tf.Tensor, spec) -> tf.Tensor:
    """What a function of one example makes, as in `spec`, of each of a batch: never of two at a time."""
    return tf.map_fn(function, batch, parallel_iterations=1, fn_output_signature=spec)


def of_files(key: str, files: np.ndarray) -> np.ndarray:
    """Serialized Examples, (B,), that hold a file each, (B,), as this feature."""
    records = []
    for data in files:
        example = tf.train.Example()
        example.features.feature[key].bytes_list.value.append(data)
        records.append(example.SerializeToString())
    return strings(*records)
