"""What the exports of all tasks share: signatures by name, and how much one request may hold."""

import abc
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import tensorflow as tf
import tf_keras
from official.core import config_definitions as cfg

from keras_nonlocal.export import Signature, guards
from keras_nonlocal.export import examples as golden
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


def of_pictures(
    module: Signatures, name: str, spec: tf.TensorSpec, shape: Sequence[int], record: Callable
) -> dict[str, Signature]:
    """The signatures of pixels, `serving_default`, of files, `encoded`, and of records, `tf_example`.

    Args:
      module: with the functions `serve`, `serve_encoded` and `serve_tf_example` of one argument each.
      name: of the argument of pixels.
      spec: of pixels.
      shape: of one example, (..., H, W, 3).
      record: from the files of one example, (...) strings, to a serialized record.
    """
    pixels = golden.pictures(shape)
    files = golden.jpegs(pixels)
    records = strings(*map(record, files))
    encoded = tf.TensorSpec([None] * files.ndim, tf.string)
    return {
        constants.DEFAULT_SIGNATURE: Signature(module.serve, {name: spec}, {name: pixels}),
        constants.ENCODED_SIGNATURE: Signature(
            module.serve_encoded, {constants.ENCODED: encoded}, {constants.ENCODED: files}
        ),
        constants.TF_EXAMPLE_SIGNATURE: Signature(
            module.serve_tf_example,
            {constants.EXAMPLES: tf.TensorSpec([None], tf.string)},
            {constants.EXAMPLES: records},
        ),
    }


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
      tf.errors.InvalidArgumentError: if there are more than fit_in_request.
    """
    # A clip is as large as the network wants it, however short the video.
    with at_most(fit_in_request(spec), examples, name, what):
        return one_by_one(decode, examples, spec)


def fit_in_request(spec: tf.TensorSpec) -> int:
    """How many examples of this size make MAX_REQUEST_BYTES, and as many as an export is verified by in any case."""
    return max(golden.ROWS, guards.MAX_REQUEST_BYTES // (math.prod(spec.shape) * spec.dtype.size))


def at_most(most: int, batch: tf.Tensor, name: str, what: str) -> AbstractContextManager:
    """A context for what is made of a request that has no more than this many examples.

    Args:
      most: examples.
      batch: (B, ...).
      name: of the argument of the signature.
      what: examples are called in errors, "videos".
    """
    count = tf.shape(batch)[0]
    text = f"may hold at most {most} {what}, the others go into further requests; it holds"
    return guards.only_if(f"`{name}`", (count <= most, text, count))


def one_by_one(function: Callable, batch: tf.Tensor, spec) -> tf.Tensor:
    """What a function of one example makes, as in `spec`, of each of a batch: never of two at a time."""
    return tf.map_fn(function, batch, parallel_iterations=1, fn_output_signature=spec)


def example_of(key: str, file: bytes) -> bytes:
    """A serialized Example that holds a file as this feature."""
    example = tf.train.Example()
    example.features.feature[key].bytes_list.value.append(file)
    return example.SerializeToString()
