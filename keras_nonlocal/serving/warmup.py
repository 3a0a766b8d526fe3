"""Warm-up requests, which TensorFlow Serving replays before a version answers its first user."""

import os
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_nonlocal import errors
from keras_nonlocal.serving import constants

MAX_RECORDS = 1000  # TensorFlow Serving's own limit: with one more the version does not load
MAX_BYTES = 256 * 2**20


def write_warmup(
    directory: str | os.PathLike[str],
    requests: Mapping[str, Mapping[str, npt.ArrayLike]],
    batch_sizes: Sequence[int] = (1,),
) -> str:
    """Writes a request for each signature and batch size into a SavedModel.

    A signature that refuses one of them keeps the whole version from loading: ask for no larger batch than all of the
    signatures take.

    Args:
      directory: of the SavedModel.
      requests: {signature name: {input alias: value of batch 1}}; for larger batches the example is repeated.
      batch_sizes: how many examples the requests have: of a server that batches, its `allowed_batch_sizes`, because it
        fills every batch up to one of these.

    Returns:
      The path of the file.

    Raises:
      ValueError: a batch size is no positive integer, a value is not of batch 1, or the file would have more than
        MAX_RECORDS requests or MAX_BYTES.
    """
    sizes = sorted({errors.check_positive_int("batch_sizes", size) for size in batch_sizes})
    if len(requests) * len(sizes) > MAX_RECORDS:
        raise ValueError(
            f"`batch_sizes` must be so few that there are at most {MAX_RECORDS} warm-up requests, of all signatures "
            f"together. Received: {len(sizes)} sizes for {len(requests)} signatures"
        )
    examples = {name: _arrays(name, inputs) for name, inputs in requests.items()}
    # A little more than it will be, told before anything large is made.
    total = sum(sizes) * sum(len(_record(name, inputs, 1)) for name, inputs in examples.items())
    if total > MAX_BYTES:
        raise ValueError(
            f"`batch_sizes` must be so few and small that the warm-up requests take at most {MAX_BYTES >> 20} MiB: "
            f"give smaller ones, or examples of one value. Received: batch_sizes={sizes}, {total >> 20} MiB"
        )
    path = os.path.join(directory, constants.WARMUP_FILE)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with tf.io.TFRecordWriter(path) as writer:
        for name, inputs in examples.items():
            for size in sizes:
                writer.write(_record(name, inputs, size))
    return path


def _arrays(signature, inputs):
    # By way of a proto, because NumPy's own bytes type would drop trailing zero bytes.
    arrays = {alias: tf.make_ndarray(tf.make_tensor_proto(value)) for alias, value in inputs.items()}
    for alias, array in arrays.items():
        if array.shape[:1] != (1,):
            raise ValueError(
                f"`requests` must hold one example for each input, of shape (1, ...). Received: shape "
                f"{array.shape} for {signature}/{alias}"
            )
    return arrays


def _record(signature, inputs, size):
    """A request as TensorFlow Serving logs it, in bytes."""
    from keras_nonlocal.serving.apis import model_pb2, predict_pb2, prediction_log_pb2

    request = predict_pb2.PredictRequest(model_spec=model_pb2.ModelSpec(signature_name=signature))
    for alias, array in inputs.items():
        request.inputs[alias].CopyFrom(_proto(np.repeat(array, size, axis=0)))
    log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
    return log.SerializeToString()


def _proto(array):
    """A TensorProto; of one value only if all are equal, as in a black clip, which would be megabytes otherwise."""
    if array.size and array.dtype != object and (array == array.flat[0]).all():
        return tf.make_tensor_proto(array.flat[0], array.dtype, array.shape)
    return tf.make_tensor_proto(array)
