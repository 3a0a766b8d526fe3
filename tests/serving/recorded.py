"""Requests with the answers of a real tensorflow_model_server, how to send them again, and how to compare answers."""

import ast
import dataclasses
import http.client
import json
import math
import pathlib
import re
import socket

from google.protobuf import text_format

from keras_nonlocal.serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    grpc,
    predict_pb2,
)

PATH = pathlib.Path(__file__).parent.parent / "data" / "serving" / "requests.jsonl"
_SERVICES = {"GetModelStatus": "ModelService"}
_MESSAGES = {
    "Predict": (predict_pb2.PredictRequest, predict_pb2.PredictResponse),
    "GetModelMetadata": (
        get_model_metadata_pb2.GetModelMetadataRequest,
        get_model_metadata_pb2.GetModelMetadataResponse,
    ),
    "GetModelStatus": (get_model_status_pb2.GetModelStatusRequest, get_model_status_pb2.GetModelStatusResponse),
}
_NOT_CLAIMED = {"Classify", "MultiInference", "HandleReloadConfigRequest"}


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a server said: an HTTP status or a gRPC code, and a body or an error's text; None and "" for silence."""

    status: int | str | None
    body: object


def claimed():
    """The recorded requests that the local server means to answer: all but classify, regress and configuration."""
    records = [json.loads(line) for line in PATH.read_text().splitlines()]
    return [
        record
        for record in records
        if record["request"].get("rpc") not in _NOT_CLAIMED
        and not re.search(":(classify|regress)", record["request"].get("path", ""))
    ]


def recorded_answer(record):
    """The answer of the real server."""
    real = record["real"]
    if record["kind"] == "rest":
        return Answer(real["status"], _parse_body(real.get("body") or ""))
    if real["code"] == "OK":
        return Answer("OK", text_format.Parse(real["body"], _MESSAGES[record["request"]["rpc"]][1]()))
    return Answer(real["code"], real["details"] or None)  # of an error of gRPC itself the text is not recorded


def send(record, rest, channel, seconds):
    """Sends a request; rest is (host, port), channel a gRPC channel; silence of as many seconds is an answer."""
    if record["kind"] == "rest":
        return _send_http(_http_bytes(record["request"]), rest, seconds)
    return _send_rpc(record["request"], channel)


def http_request(method, path, headers=(), body=""):
    """A request like the recorded ones; headers are (name, value)."""
    return {
        "kind": "rest",
        "request": {"method": method, "path": path, "headers": dict(headers), "body": body, "raw": None},
    }


def _http_bytes(request):
    if request["raw"] is not None:
        return _unescape(request["raw"])
    body = _unescape(request["body"])
    headers = {"Host": "localhost", **request["headers"]}
    if body or request["method"] in ("POST", "PUT", "PATCH"):
        headers["Content-Length"] = len(body)
    lines = [
        f"{request['method']} {request['path']} HTTP/1.1",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _send_http(data, rest, seconds):
    with socket.create_connection(rest, timeout=seconds) as connection:
        connection.sendall(data)
        reply = http.client.HTTPResponse(connection)  # not told the method: a body comes for HEAD too
        try:
            reply.begin()
            return Answer(reply.status, _parse_body(reply.read().decode(errors="backslashreplace")))
        except TimeoutError:
            return Answer(None, "")
        finally:
            reply.close()


def _send_rpc(request, channel):
    rpc, text = request["rpc"], request["request"]
    request_type, response_type = _MESSAGES.get(rpc, _MESSAGES["Predict"])
    message = ast.literal_eval(text) if text.startswith("b'") else text_format.Parse(text, request_type())
    service = _SERVICES.get(rpc, "PredictionService")
    call = channel.unary_unary(
        f"/tensorflow.serving.{service}/{rpc}",
        request_serializer=lambda value: value if isinstance(value, bytes) else value.SerializeToString(),
        response_deserializer=response_type.FromString,
    )
    try:
        return Answer("OK", call(message, timeout=30))
    except grpc.RpcError as error:
        return Answer(error.code().name, error.details())


def _unescape(text):
    """The bytes of a recorded text, in which what is not UTF-8 is written like \\xff."""
    return re.sub(rb"\\x([89a-f][0-9a-f])", lambda match: bytes([int(match[1], 16)]), text.encode())


def _parse_body(text):
    """JSON as values, anything else as text; of pipelined answers the first."""
    text = text.partition("HTTP/1.1 ")[0]
    try:
        return json.loads(re.sub(r"\\x([89a-f][0-9a-f])", r"\\u00\1", text))
    except ValueError:
        return text


def same(found, expected, part=False):
    """Whether two answers are the same: numbers to 1e-5, and without the numbers of functions in a graph's errors.

    With part=True the answer expected is the whole only up to a length: what it has must be found.
    """
    if isinstance(expected, Answer):
        no_text = expected.body is None
        return found.status == expected.status and (no_text or same(found.body, expected.body, part))
    if hasattr(expected, "DESCRIPTOR"):
        return hasattr(found, "DESCRIPTOR") and same(_fields(found), _fields(expected), part)
    if type(found) is not type(expected):
        return {type(found), type(expected)} == {int, float} and same(float(found), float(expected))
    if isinstance(expected, dict):
        keys_fit = expected.keys() <= found.keys() if part else expected.keys() == found.keys()
        return keys_fit and all(same(found[key], expected[key], part) for key in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    if isinstance(expected, float):
        both_nan = math.isnan(found) and math.isnan(expected)
        return both_nan or found == expected or abs(found - expected) <= 1e-5 * max(1.0, abs(expected))
    if isinstance(expected, str):
        found, expected = _without_functions(found), _without_functions(expected)
        return found.startswith(expected) if part else found == expected
    return found == expected


def _without_functions(text):
    return re.sub(r"\{\{function_node [^}]*\}\}", "", text)


def _fields(message):
    """The fields of a protobuf message that are set, as values."""
    if hasattr(message, "type_url"):
        inner = get_model_metadata_pb2.SignatureDefMap()
        return {"type_url": message.type_url, "value": _fields(inner) if message.Unpack(inner) else None}
    return {field.name: _value(field, value) for field, value in message.ListFields()}


def _value(field, value):
    if hasattr(value, "items"):
        return {key: _fields(item) if hasattr(item, "DESCRIPTOR") else item for key, item in value.items()}
    if hasattr(value, "DESCRIPTOR"):
        return _fields(value)
    if hasattr(value, "append") or hasattr(value, "add"):
        return [_fields(item) if hasattr(item, "DESCRIPTOR") else item for item in value]
    return value
