"""TensorFlow Serving's gRPC services: Predict, GetModelMetadata, GetModelStatus."""

import contextlib
import math

import numpy as np
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
_TENSORFLOW_RANKS = 254  # that a tensor of TensorFlow can have
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
    tf.float16: "half_val",
    tf.bfloat16: "half_val",
    tf.complex64: "scomplex_val",
    tf.complex128: "dcomplex_val",
}
# Fields that hold other numbers than the dtype's own: bits, and pairs of parts.
_VALUES_AS = {tf.float16: np.uint16, tf.bfloat16: np.uint16, tf.complex64: np.float32, tf.complex128: np.float64}


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
            return _predict(self._model.find(*_read_spec(request)), request)

    def GetModelMetadata(self, request, context):  # noqa: N802
        with _answer_errors(context, self._log):
            spec = _read_spec(request)
            _check_metadata_fields(request.metadata_field)
            servable = self._model.find(*spec)
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
            name, version, _ = _read_spec(request)  # TensorFlow Serving does not look at the label here
            return status_response(self._model.find_statuses(name, version))


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
    """Returns name, version (None for the newest) and label of a request."""
    if not request.HasField("model_spec"):
        raise RequestError("INVALID_ARGUMENT", "Missing ModelSpec")
    spec = request.model_spec
    return spec.name, spec.version.value if spec.HasField("version") else None, spec.version_label


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
    signature_def = servable.signature_defs[name]
    _check_aliases(request.inputs, sorted(signature_def.inputs), signature_def)
    tensors = {
        alias: _read_tensor(position, alias, signature_def.inputs[alias], request.inputs[alias])
        for position, alias in enumerate(sorted(signature_def.inputs))
    }
    aliases = _output_aliases(request.output_filter, sorted(signature_def.outputs))
    if signature is None:
        node = signature_def.outputs[aliases[0]].name
        raise RequestError("OUT_OF_RANGE", f"Node '{node}' (type: 'NoOp', num of outputs: 0) does not have output 0")
    arrays = signature.run(tensors)
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


def _read_tensor(position, alias, info, proto):
    try:
        dtype = tf.as_dtype(proto.dtype)
        if dtype in (tf.resource, tf.variant):  # handles of this process: not for others to make
            raise wrong_dtype(position, tf.as_dtype(info.dtype), dtype)
        message = proto.SerializeToString()
        _check_size(alias, proto, dtype, len(message))
        return tf.io.parse_tensor(message, dtype)  # by the same code as TensorFlow Serving's
    except (TypeError, tf.errors.OpError) as error:
        raise RequestError("INVALID_ARGUMENT", f"tensor parsing error: {alias}") from error


def _check_size(alias, proto, dtype, message_size):
    # The last value stands for all elements that are not given, so a few bytes can ask for any amount of memory.
    sizes = [dim.size for dim in proto.tensor_shape.dim]
    if min(sizes, default=0) < 0 or len(sizes) > _TENSORFLOW_RANKS:
        return  # parsed to an error
    if len(sizes) > MAX_RANK:
        raise _too_large(alias, f"it has {len(sizes)} dimensions, allowed are {MAX_RANK}")
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
    field, values = getattr(proto, _VALUE_FIELDS[dtype]), array.ravel().view(_VALUES_AS.get(dtype, array.dtype))
    for start in range(0, values.size, _CHUNK):
        field.extend(values[start : start + _CHUNK].tolist())
