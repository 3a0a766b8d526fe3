"""TensorFlow Serving's gRPC services: Predict, GetModelMetadata, GetModelStatus."""

import contextlib
import math

import tensorflow as tf
from tensorflow.core.protobuf import error_codes_pb2

from keras_nonlocal.serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    grpc,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from keras_nonlocal.serving.constants import DEFAULT_SIGNATURE
from keras_nonlocal.serving.local.servable import MAX_RANK, RequestError, select_signature, wrong_dtype

MAX_MESSAGE_BYTES = 256 * 2**20
MAX_EXPANSION_BYTES = 64 * 2**20  # by which a tensor may be larger than its message
_MESSAGE_LIMIT = 1024  # characters of an error; it travels in a header
_STRING_BYTES = 24  # of a string in a tensor, however short
_CHUNK = 2**20  # values of an output that are Python objects at a time
# TensorFlow Serving replies in these fields, not in tensor_content, and clients read them.
_VALUE_FIELDS = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.int8: "int_val",
    tf.int16: "int_val",
    tf.int32: "int_val",
    tf.uint8: "int_val",
    tf.uint16: "int_val",
    tf.int64: "int64_val",
    tf.uint32: "uint32_val",
    tf.uint64: "uint64_val",
    tf.bool: "bool_val",
    tf.string: "string_val",
}


def add_services(server, model, log):
    """Adds both services for a servable.Model to a grpc.Server; log takes a line (str) on each fault of our own."""
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_PredictionService(model, log), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_ModelService(model, log), server)


class _PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, model, log):
        self._model = model
        self._log = log

    def Predict(self, request, context):  # noqa: N802
        with _answer_errors(context, self._log):
            return _predict(_find(self._model, request), request)

    def GetModelMetadata(self, request, context):  # noqa: N802
        with _answer_errors(context, self._log):
            servable = _find(self._model, request)
            _check_metadata_fields(request.metadata_field)
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            _fill_spec(response.model_spec, self._model.name, servable.version)
            response.metadata["signature_def"].Pack(signature_def_map(servable))
            return response


class _ModelService(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, model, log):
        self._model = model
        self._log = log

    def GetModelStatus(self, request, context):  # noqa: N802
        with _answer_errors(context, self._log):
            version = _read_spec(request)
            if request.model_spec.name != self._model.name:
                raise RequestError("NOT_FOUND", f"Could not find any versions of model {request.model_spec.name}")
            return status_response(self._model.statuses(version))


def signature_def_map(servable):
    """Returns the SignatureDefMap of a servable."""
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, signature_def in servable.signature_defs.items():
        signatures.signature_def[name].CopyFrom(signature_def)
    return signatures


def status_response(statuses):
    """Returns the GetModelStatusResponse of a list of servable.Status."""
    response = get_model_status_pb2.GetModelStatusResponse()
    for status in statuses:
        entry = response.model_version_status.add(
            version=status.version, state=get_model_status_pb2.ModelVersionStatus.State.Value(status.state)
        )
        entry.status.error_code = error_codes_pb2.Code.Value(status.code)
        entry.status.error_message = status.message
    return response


@contextlib.contextmanager
def _answer_errors(context, log):
    try:
        yield
    except RequestError as error:
        code, message = error.code, error.message
    except Exception as error:  # A fault of ours is an answer too, never a dead server.
        log(f"error: {type(error).__name__}: {error}")
        code, message = "INTERNAL", f"{type(error).__name__} in the server"
    else:
        return
    if len(message) > _MESSAGE_LIMIT:
        message = message[:_MESSAGE_LIMIT] + "...TRUNCATED"
    context.abort(grpc.StatusCode[code], message)


def _read_spec(request):
    """Returns the version of a request, or None for the newest."""
    if not request.HasField("model_spec"):
        raise RequestError("INVALID_ARGUMENT", "Missing ModelSpec")
    spec = request.model_spec
    if spec.version_label:
        raise RequestError("INVALID_ARGUMENT", f"Unrecognized servable version label: {spec.version_label}")
    return spec.version.value if spec.HasField("version") else None


def _find(model, request):
    version = _read_spec(request)
    name = request.model_spec.name
    if name != model.name:
        wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
        raise RequestError("NOT_FOUND", f"Servable not found for request: {wanted}")
    return model.get(version)


def _fill_spec(spec, name, version, signature_name=""):
    spec.name = name
    spec.version.value = version
    spec.signature_name = signature_name


def _check_metadata_fields(fields):
    if not fields:
        raise RequestError("INVALID_ARGUMENT", "GetModelMetadataRequest must specify at least one metadata_field")
    for field in fields:
        if field != "signature_def":
            raise RequestError("INVALID_ARGUMENT", f"Metadata field {field} is not supported")


def _predict(servable, request):
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = select_signature(servable, name, "FAILED_PRECONDITION", 'Serving signature key "{}" not found.')
    _check_aliases(request.inputs, signature.inputs, servable.signature_defs[name])
    aliases = _output_aliases(request.output_filter, signature.outputs)
    arrays = signature.run(
        {
            alias: _read_tensor(position, alias, spec, request.inputs[alias])
            for position, (alias, spec) in enumerate(signature.inputs.items())
        }
    )
    response = predict_pb2.PredictResponse()
    _fill_spec(response.model_spec, request.model_spec.name, servable.version, name)
    for alias in aliases:
        _write_tensor(response.outputs[alias], arrays[alias])
    return response


def _check_aliases(sent, expected, signature_def):
    extra, missing = sorted(set(sent) - set(expected)), sorted(set(expected) - set(sent))
    if len(sent) != len(expected):
        raise RequestError(
            "INVALID_ARGUMENT",
            f"input size does not match signature: {len(sent)}!={len(expected)} len({{{','.join(sorted(sent))}}}) != "
            f"len({{{','.join(expected)}}}). Sent extra: {{{','.join(extra)}}}. "
            f"Missing but required: {{{','.join(missing)}}}.",
        )
    for alias in missing:
        raise RequestError(
            "INVALID_ARGUMENT",
            f"Signature input alias: {alias}(feed name: {signature_def.inputs[alias].name}) not found in request and "
            f"no default value provided. Inputs expected to be in the set {{{','.join(expected)}}}.",
        )


def _output_aliases(output_filter, outputs):
    for position, alias in enumerate(output_filter):
        if alias not in outputs:
            raise RequestError(
                "INVALID_ARGUMENT",
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{{{','.join(outputs)}}}.",
            )
        if alias in output_filter[:position]:
            raise RequestError("INVALID_ARGUMENT", f"duplicate output tensor alias: {alias}")
    return output_filter or outputs


def _read_tensor(position, alias, spec, proto):
    try:
        dtype = tf.as_dtype(proto.dtype)
        if dtype in (tf.resource, tf.variant):  # handles of this process: not for others to make
            raise wrong_dtype(position, spec.dtype, dtype)
        message = proto.SerializeToString()
        _check_size(alias, proto, dtype, len(message))
        return tf.io.parse_tensor(message, dtype)  # by the same code as TensorFlow Serving's
    except (TypeError, tf.errors.OpError) as error:
        raise RequestError("INVALID_ARGUMENT", f"tensor parsing error: {alias}") from error


def _check_size(alias, proto, dtype, message_size):
    # The last value stands for all elements that are not given, so a few bytes can ask for any amount of memory.
    rank = len(proto.tensor_shape.dim)
    if rank > MAX_RANK:
        raise _too_large(alias, f"it has {rank} dimensions, allowed are {MAX_RANK}")
    sizes = [dim.size for dim in proto.tensor_shape.dim]
    if min(sizes, default=0) < 0:
        return  # parsed to an error
    elements = math.prod(sizes)
    size = elements * dtype.size
    if dtype == tf.string:
        given = [len(value) for value in proto.string_val]
        size = sum(given) + max(0, elements - len(given)) * (given[-1] if given else 0) + elements * _STRING_BYTES
    allowed = message_size + MAX_EXPANSION_BYTES
    if size > allowed:
        raise _too_large(
            alias,
            f"its shape {sizes} makes {size} bytes of the {message_size} sent, allowed are {allowed}; send all "
            "values, or fewer",
        )


def _too_large(alias, reason):
    return RequestError("INVALID_ARGUMENT", f"tensor parsing error: {alias} is too large: {reason}")


def _write_tensor(proto, array):
    dtype = tf.string if array.dtype == object else tf.as_dtype(array.dtype)
    if dtype not in _VALUE_FIELDS:
        proto.CopyFrom(tf.make_tensor_proto(array))
        return
    proto.dtype = dtype.as_datatype_enum
    proto.tensor_shape.CopyFrom(tf.TensorShape(array.shape).as_proto())
    field, values = getattr(proto, _VALUE_FIELDS[dtype]), array.ravel()
    for start in range(0, values.size, _CHUNK):
        field.extend(values[start : start + _CHUNK].tolist())
