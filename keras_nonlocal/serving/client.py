"""A client of TensorFlow Serving, or of the local server, over REST and gRPC."""

import base64
import contextlib
import gc
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import meta_graph_pb2

from keras_nonlocal.errors import UserError
from keras_nonlocal.serving.apis import get_model_metadata_pb2, grpc, predict_pb2, prediction_service_pb2_grpc
from keras_nonlocal.serving.constants import DEFAULT_SIGNATURE

# gRPC's own limit of 4 MB is less than one clip.
_CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),
]
# Model servers live on private networks: a proxy set for the web would only break the call.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def predict_rest(
    url: str,
    model_name: str,
    inputs: Mapping[str, npt.ArrayLike],
    signature_name: str = DEFAULT_SIGNATURE,
    version: int | None = None,
    timeout: float = 60.0,
) -> dict[str, np.ndarray]:
    """Predicts over REST, in row format.

    Args:
      url: "http://host:port".
      model_name: name of the served model.
      inputs: dict of input alias to array; dimension 0 is the batch. Bytes travel in base64.
      signature_name: served function to call.
      version: version (int); default is the newest.
      timeout: seconds to wait for the answer.

    Returns:
      Dict of output alias to numpy array (float64 or int64: JSON says no more), or of bytes for `..._bytes`.

    Raises:
      UserError: no server answers, or it refuses the request.
    """
    with _collector_paused():
        body = json.dumps({"signature_name": signature_name, "instances": _rows(inputs)}).encode()
    predictions = _call_rest(_model_url(url, model_name, version) + ":predict", "predictions", timeout, body)
    if isinstance(predictions[0], dict) and set(predictions[0]) != {"b64"}:
        return {alias: _from_json([row[alias] for row in predictions]) for alias in predictions[0]}
    # A single output comes without its name.
    (alias,) = signature_rest(url, model_name, signature_name, version, timeout).outputs
    return {alias: _from_json(predictions)}


def predict_grpc(
    server: str,
    model_name: str,
    inputs: Mapping[str, npt.ArrayLike],
    signature_name: str = DEFAULT_SIGNATURE,
    version: int | None = None,
    timeout: float = 60.0,
) -> dict[str, np.ndarray]:
    """Predicts over gRPC.

    Args:
      server: "host:port".
      model_name: name of the served model.
      inputs: dict of input alias to array of the signature's dtype.
      signature_name: served function to call.
      version: version (int); default is the newest.
      timeout: seconds to wait for the answer.

    Returns:
      Dict of output alias to numpy array.

    Raises:
      UserError: no server answers, or it refuses the request.
    """
    request = predict_pb2.PredictRequest()
    _fill_spec(request.model_spec, model_name, signature_name, version)
    for alias, value in inputs.items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    response = _call_grpc(server, "Predict", request, timeout)
    return {alias: tf.make_ndarray(proto) for alias, proto in response.outputs.items()}


def signature_rest(
    url: str,
    model_name: str,
    signature_name: str = DEFAULT_SIGNATURE,
    version: int | None = None,
    timeout: float = 60.0,
) -> meta_graph_pb2.SignatureDef:
    """Returns the SignatureDef of a served function, over REST; arguments and errors as predict_rest."""
    metadata = _call_rest(_model_url(url, model_name, version) + "/metadata", "metadata", timeout)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    json_format.ParseDict(metadata["signature_def"], signatures, ignore_unknown_fields=True)
    return _pick(signatures, signature_name, model_name)


def signature_grpc(
    server: str,
    model_name: str,
    signature_name: str = DEFAULT_SIGNATURE,
    version: int | None = None,
    timeout: float = 60.0,
) -> meta_graph_pb2.SignatureDef:
    """Returns the SignatureDef of a served function, over gRPC; arguments and errors as predict_grpc."""
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    _fill_spec(request.model_spec, model_name, "", version)
    response = _call_grpc(server, "GetModelMetadata", request, timeout)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    return _pick(signatures, signature_name, model_name)


def version_states(url: str, model_name: str, version: int | None = None, timeout: float = 60.0) -> dict[int, str]:
    """Returns the state of each version ("LOADING", "AVAILABLE", "END", ...) over REST; errors as predict_rest."""
    statuses = _call_rest(_model_url(url, model_name, version), "model_version_status", timeout)
    return {int(status["version"]): status["state"] for status in statuses}


def wait_until_available(url: str, model_name: str, version: int | None = None, timeout: float = 60.0) -> None:
    """Waits until a model answers; the status page alone does not say so, its `state` does.

    Args:
      url: "http://host:port" of REST.
      model_name: name of the served model.
      version: version (int) to wait for; default is any.
      timeout: seconds to wait.

    Raises:
      UserError: no version is available in time; names the last states or error.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            states = version_states(url, model_name, version, timeout=5.0)
            if "AVAILABLE" in states.values():
                return
            problem = f"the versions of model {model_name!r} are {states}"
        except UserError as error:
            problem = str(error)
        if time.monotonic() > deadline:
            raise UserError(f"model {model_name!r} is not available after {timeout:g} s: {problem}")
        time.sleep(0.2)


@contextlib.contextmanager
def _collector_paused():
    """Keeps the garbage collector from looking, again and again, through the millions of lists a clip becomes."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _rows(inputs):
    columns = {alias: _to_json(value) for alias, value in inputs.items()}
    sizes = {alias: len(column) if isinstance(column, list) else 0 for alias, column in columns.items()}
    if len(set(sizes.values())) != 1 or not min(sizes.values()):
        raise UserError(f"every input needs the same batch size, of 1 or more, as its first dimension; got {sizes}")
    if len(columns) == 1:
        (rows,) = columns.values()
        return rows
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _to_json(value):
    value = np.asarray(value, dtype=object) if _holds_bytes(value) else np.asarray(value)
    return _map_leaves(value.tolist(), _encode) if value.dtype.kind in "OSU" else value.tolist()


def _holds_bytes(value):
    # NumPy's own bytes type drops trailing zero bytes.
    while isinstance(value, list | tuple) and value:
        value = value[0]
    return isinstance(value, bytes)


def _map_leaves(value, function):
    return [_map_leaves(item, function) for item in value] if isinstance(value, list) else function(value)


def _encode(value):
    data = value if isinstance(value, bytes) else str(value).encode("utf-8")
    return {"b64": base64.b64encode(data).decode("ascii")}


def _from_json(rows):
    values = _map_leaves(rows, lambda leaf: base64.b64decode(leaf["b64"]) if isinstance(leaf, dict) else leaf)
    return np.asarray(values, dtype=object if _holds_bytes(values) else None)


def _model_url(url, model_name, version):
    url = url if "://" in url else f"http://{url}"
    return f"{url.rstrip('/')}/v1/models/{model_name}" + ("" if version is None else f"/versions/{version}")


def _call_rest(address, key, timeout, body=None):
    """Returns what the reply holds under a key; of a GET, or of a POST if there is a body."""
    try:
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        with _OPENER.open(request, timeout=timeout) as response:
            reply = json.load(response)
    except urllib.error.HTTPError as error:
        raise _refused(f"the server at {address}", str(error.code), _error_text(error)) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise (_late if isinstance(reason, TimeoutError) else _unreachable)(address, reason) from error
    except ValueError as error:  # a malformed address, or a reply that is no JSON
        raise UserError(f"{address} is not the address of a model server: {error}") from error
    if not isinstance(reply, dict) or key not in reply:
        raise UserError(f"{address} is not the address of a model server: its reply has no {key!r}")
    return reply[key]


def _error_text(error):
    try:
        return json.load(error)["error"]
    except (ValueError, KeyError, TypeError, OSError):
        return error.reason


def _call_grpc(server, method, request, timeout):
    with grpc.insecure_channel(server, options=_CHANNEL_OPTIONS) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        try:
            return getattr(stub, method)(request, timeout=timeout)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAVAILABLE:
                raise _unreachable(server, error.details()) from error
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise _late(server, error.details()) from error
            raise _refused(f"the server at {server}", error.code().name, error.details()) from error


def _refused(who, code, text):
    if "Servable not found" in text or "Could not find" in text:
        return UserError(f"{who} does not have this model or version: {text}")
    return UserError(f"{who} refused the request ({code}): {text}")


def _late(address, reason):
    return UserError(f"no answer from {address} in time ({reason}); try a longer timeout or a smaller batch")


def _unreachable(address, reason):
    return UserError(
        f"no model server answers at {address} ({reason}); start one with keras-nonlocal serve, or check the address"
    )


def _fill_spec(spec, model_name, signature_name, version):
    spec.name = model_name
    spec.signature_name = signature_name
    if version is not None:
        spec.version.value = version


def _pick(signatures, signature_name, model_name):
    if signature_name not in signatures.signature_def:
        names = sorted(name for name in signatures.signature_def if not name.startswith("__"))
        raise UserError(f"model {model_name!r} has no signature {signature_name!r}; it has {', '.join(names)}")
    return signatures.signature_def[signature_name]
