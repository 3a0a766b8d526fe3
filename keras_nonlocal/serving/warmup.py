"""Warm-up requests, which TensorFlow Serving replays before a version answers its first user."""

import os
from collections.abc import Mapping

import numpy.typing as npt
import tensorflow as tf

from keras_nonlocal.serving import constants


def write_warmup(directory: str | os.PathLike[str], requests: Mapping[str, Mapping[str, npt.ArrayLike]]) -> str:
    """Writes one request for each signature into a SavedModel.

    Args:
      directory: of the SavedModel.
      requests: {signature name: {input alias: value}}.

    Returns:
      The path of the file.
    """
    from keras_nonlocal.serving.apis import model_pb2, predict_pb2, prediction_log_pb2

    path = os.path.join(directory, constants.WARMUP_FILE)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with tf.io.TFRecordWriter(path) as writer:
        for signature, inputs in requests.items():
            request = predict_pb2.PredictRequest(model_spec=model_pb2.ModelSpec(signature_name=signature))
            for alias, value in inputs.items():
                request.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())
    return path
