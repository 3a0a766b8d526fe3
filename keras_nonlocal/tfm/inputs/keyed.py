"""Which example comes when: a function of (seed, number of the example) alone. Knows no video.

The examples of a run are counted, epoch after epoch, over all workers: the global batch of step s is examples s * B to
s * B + B - 1. Each epoch has a permutation of the records of its own, and whatever is random about an example is drawn
from [seed, number]. So a run goes on at any step as if it had never stopped, one worker reads the same batches as many,
and no checkpoint has to hold a place in the data.
"""

import dataclasses
import itertools
import re
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from official.core import config_definitions as cfg
from official.core import input_reader

from keras_nonlocal import errors
from keras_nonlocal.data.records import index

# Of a file at a time, at the most. A shorter record is read at once, and nothing behind it.
BUFFER_BYTES = 2**20


@dataclasses.dataclass(frozen=True)
class Share:
    """What one input pipeline reads of the global batches: the rows of its replicas, one replica after the other.

    Args:
      global_batch_size: examples a step, of all replicas together.
      replica_batch_size: of one replica.
      pipeline_batch_size: of the replicas of this pipeline together.
      first_row: where in a global batch its rows begin.
    """

    global_batch_size: int
    replica_batch_size: int
    pipeline_batch_size: int
    first_row: int

    @classmethod
    def of(cls, global_batch_size: int, context: tf.distribute.InputContext | None) -> "Share":
        """The share of a pipeline of tf.distribute; of None, the only one, everything.

        Raises:
          UserError: if the batch does not divide among the replicas.
        """
        context = context or tf.distribute.InputContext()
        replicas = context.num_replicas_in_sync
        if not global_batch_size > 0 or global_batch_size % replicas:
            raise errors.UserError(
                f"global_batch_size must be a multiple of the number of replicas, {replicas}. "
                f"Received: global_batch_size={global_batch_size}"
            )
        rows = global_batch_size // context.num_input_pipelines
        return cls(global_batch_size, global_batch_size // replicas, rows, context.input_pipeline_id * rows)

    def numbers(self, first_step: int) -> tf.data.Dataset:
        """The numbers of the pipeline's examples from a step on, without an end."""

        def number(place):
            step, row = place // self.pipeline_batch_size, place % self.pipeline_batch_size
            return step * self.global_batch_size + self.first_row + row

        return tf.data.Dataset.counter(first_step * self.pipeline_batch_size).map(number)

    def rows_of(self, count: int, drop_remainder: bool) -> int:
        """How many of `count` examples are the pipeline's, with or without those of a batch that they do not fill."""
        steps, rest = divmod(count, self.global_batch_size)
        own = 0 if drop_remainder else min(max(rest - self.first_row, 0), self.pipeline_batch_size)
        return steps * self.pipeline_batch_size + own


def shuffled(number: tf.Tensor, count: int, seed: int) -> tf.Tensor:
    """The record of an example in training: every epoch goes through all of them in an order of its own.

    Args:
      number: () int64, of the example.
      count: of the records.
      seed: of the orders.

    Returns:
      () int64, 0 to count - 1.
    """
    epoch, place = number // count, number % count
    # The shuffle does not mix its key: of 0, 1, 2, ... it makes orders that are much alike. Examples are not negative.
    (key,) = tf.unstack(tf.random.split(seed_of(seed, -1 - epoch), 1))
    return tf.random.experimental.index_shuffle(place, key, tf.constant(count - 1, tf.int64))


def seed_of(seed: int, number: tf.Tensor) -> tf.Tensor:
    """What all that is random about an example is drawn from, (2,) int64."""
    return tf.stack([tf.constant(seed, tf.int64), number])


class Source(Protocol):
    """Where examples come from: there are so many, and each is read by its number, whatever it is then."""

    def __len__(self) -> int: ...

    def read(self, number: tf.Tensor) -> Any:
        """What an example is made of, tensors; called while a graph is traced, with a () int64."""


def dataset(
    params: cfg.DataConfig,
    source: Source,
    parse: Callable,
    context: tf.distribute.InputContext | None = None,
    first_step: int = 0,
    postprocess: Callable | None = None,
) -> tf.data.Dataset:
    """Batches of examples for each replica of a pipeline: for training without an end, for tests once and in order.

    Args:
      params: global_batch_size, is_training, seed and the like. A global batch that the examples of a test do not fill
        is left out with `drop_remainder`, otherwise its rows go to the first replicas.
      source: of the examples, such as RecordFiles.
      parse: function of what the source reads and of its seed, (2,) int64, that makes the example.
      context: which pipeline this is. Default: the only one.
      first_step: where training begins. Default 0.
      postprocess: function of a batch. Default none.

    Returns:
      A tf.data.Dataset.

    Raises:
      UserError: for a batch that does not divide among the replicas.
    """
    share = Share.of(params.global_batch_size, context)
    seed = params.seed or 0
    count = len(source)
    if params.is_training:
        numbers = share.numbers(first_step)
    else:
        numbers = share.numbers(0).take(share.rows_of(count, params.drop_remainder))

    def place_of(number):
        return shuffled(number, count, seed) if params.is_training else number

    if params.cache:
        kept = _kept(source, parse, seed)
        examples = numbers.map(lambda number: kept(place_of(number)), num_parallel_calls=tf.data.AUTOTUNE)
    else:
        examples = _examples(numbers, place_of, source, parse, seed)

    options = tf.data.Options()
    options.deterministic = True
    if params.autotune_algorithm:
        options.autotune.autotune_algorithm = tf.data.experimental.AutotuneAlgorithm[params.autotune_algorithm]
    if params.ram_budget:
        options.autotune.ram_budget = params.ram_budget * 2**30
    batches = examples.batch(share.replica_batch_size, drop_remainder=params.is_training or params.drop_remainder)
    if postprocess:
        batches = batches.map(postprocess, num_parallel_calls=tf.data.AUTOTUNE)
    return batches.with_options(options).prefetch(params.prefetch_buffer_size or tf.data.AUTOTUNE)


def damaged_file(input_path: str | list[str], error: tf.errors.DataLossError) -> str | None:
    """Which file reading failed with this error in, which says where in it and no more; None if none is found.

    Args:
      input_path: patterns of the files.
      error: what reading raised.

    Returns:
      The path of the file.
    """
    place = re.search(r"corrupted record at (\d+)", error.message)
    records = index.read(files(input_path))
    at = int(place[1]) - index.HEADER_BYTES if place else -1
    for number in np.flatnonzero(records.offset == at):
        try:
            _record(records, number)
        except tf.errors.DataLossError:
            return records.files[records.file[number]]
    return None


def files(input_path: str | list[str]) -> list[str]:
    """The matching files, in an order that does not depend on how the file system lists them.

    Raises:
      UserError: if there are none, or several patterns match one.
    """
    try:
        paths = sorted(input_reader.match_files(input_path))
    except ValueError as error:
        raise errors.UserError(f"input_path must match files: {errors.first_line(error)}") from error
    for path, next_path in itertools.pairwise(paths):
        if path == next_path:
            raise errors.UserError(
                f"the patterns of input_path must match each file once, and {path} is matched twice. Received: "
                f"input_path={input_path!r}"
            )
    return paths


class RecordFiles:
    """The records of TFRecord files.

    Args:
      input_path: patterns of the files.

    Raises:
      UserError: for files that are missing, damaged or empty.
    """

    def __init__(self, input_path: str | list[str]):
        self._index = index.read(files(input_path))
        if not len(self._index):
            raise errors.UserError(f"the files of input_path hold no record. Received: input_path={input_path!r}")

    def __len__(self) -> int:
        return len(self._index)

    def read(self, number: tf.Tensor) -> tf.Tensor:
        """A record, () string."""
        return _record(self._index, number)


def _record(records, number):
    """Reads a record from its place in its file."""
    file = tf.gather(tf.constant(records.files), tf.gather(records.file, number))
    size = tf.gather(records.length, number) + index.HEADER_BYTES + index.FOOTER_BYTES
    # The public TFRecordDataset begins at the first byte of a file.
    variant = tf.raw_ops.TFRecordDatasetV2(
        filenames=file[tf.newaxis],
        compression_type="",
        buffer_size=tf.minimum(size, BUFFER_BYTES),
        byte_offsets=tf.gather(records.offset, number)[tf.newaxis],
    )
    return tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string)).take(1).get_single_element()


def _examples(numbers, place_of, source, parse, seed):
    """Those of these numbers, read where the source has them."""
    # Reading waits and parsing works: each has its own number of calls at a time.
    data = numbers.map(lambda number: (number, source.read(place_of(number))), num_parallel_calls=tf.data.AUTOTUNE)
    return data.map(lambda number, data: parse(data, seed_of(seed, number)), num_parallel_calls=tf.data.AUTOTUNE)


def _kept(source, parse, seed):
    """A function that takes an example of the source from memory, where all of them are, made once."""
    numbers = tf.data.Dataset.range(len(source))
    examples = _examples(numbers, lambda number: number, source, parse, seed).batch(len(source)).get_single_element()
    return lambda number: tf.nest.map_structure(lambda values: tf.gather(values, number), examples)
