"""Calls of a model server over gRPC."""

import pathlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_nonlocal.errors import UserError
from keras_nonlocal.serving import calls
from keras_nonlocal.serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    grpc,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

_OPTIONS = [
    # gRPC's own limit of 4 MB is less than one clip.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A proxy set for the web would only break calls within a private network.
    ("grpc.enable_http_proxy", 0),
    # A channel that found no server fails at once until it looks again: sooner than the next try.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
]
# How gRPC puts it that there is no connection; TensorFlow Serving has the same code for a full queue.
_UNREACHABLE = ("failed to connect", "resolution failed")
_UNTRUSTED = ("handshake", "CERTIFICATE_VERIFY_FAILED")


class GrpcCalls:
    """Calls of one model over gRPC, from any thread, over one channel.

    Args:
      address: "host:port".
      model_name: name of the served model.
      tls: whether the connection is encrypted.
      ca_file: PEM file of the certificates to trust with TLS; None for gRPC's own.
      headers: sent with every call.

    Raises:
      OSError: ca_file cannot be read.
    """

    def __init__(self, address: str, model_name: str, tls: bool, ca_file: str | None, headers: Mapping[str, str]):
        self._address = address
        self._model_name = model_name
        self._metadata = [(name.lower(), value) for name, value in headers.items()]
        if tls:
            credentials = grpc.ssl_channel_credentials(pathlib.Path(ca_file).read_bytes() if ca_file else None)
            self._channel = grpc.secure_channel(address, credentials, options=_OPTIONS)
        else:
            self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def predict(
        self, inputs: Mapping[str, npt.ArrayLike], signature_name: str, version: int | str | None, timeout: float
    ) -> dict[str, np.ndarray]:
        """As Client.predict, once, within timeout seconds."""
        request = predict_pb2.PredictRequest()
        self._fill(request.model_spec, version)
        request.model_spec.signature_name = signature_name
        for alias, value in inputs.items():
            request.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
        response = self._call(self._predictions.Predict, request, timeout)
        return {alias: tf.make_ndarray(proto) for alias, proto in response.outputs.items()}

    def signatures(self, version: int | str | None, timeout: float) -> get_model_metadata_pb2.SignatureDefMap:
        """What a version's served functions take and give."""
        if isinstance(version, str):  # TensorFlow Serving would answer of the newest version, whatever the label
            raise UserError(
                "a server says over gRPC what a version takes, not a label: give a number, or ask over http. "
                f"Received: version={version!r}"
            )
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._fill(request.model_spec, version)
        response = self._call(self._predictions.GetModelMetadata, request, timeout)
        found = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(found)
        return found

    def states(self, version: int | None, timeout: float) -> dict[int, str]:
        """As Client.states, once, within timeout seconds."""
        request = get_model_status_pb2.GetModelStatusRequest()
        self._fill(request.model_spec, version)
        statuses = self._call(self._models.GetModelStatus, request, timeout).model_version_status
        name = get_model_status_pb2.ModelVersionStatus.State.Name
        return {status.version: name(status.state) for status in statuses}

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()

    def _fill(self, spec, version):
        spec.name = self._model_name
        if isinstance(version, str):
            spec.version_label = version
        elif version is not None:
            spec.version.value = version

    def _call(self, method, request, timeout):
        try:
            return method(request, timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            code, text = error.code(), error.details() or ""
            if code == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise calls.late(self._address, text) from error
            if code != grpc.StatusCode.UNAVAILABLE:
                raise calls.refused(self._address, code.name, text) from error
            if any(words in text for words in _UNTRUSTED):
                raise calls.untrusted(self._address, text) from error
            if any(words in text for words in _UNREACHABLE):
                raise calls.unreachable(self._address, text) from error
            raise calls.busy(self._address, code.name, text) from error
