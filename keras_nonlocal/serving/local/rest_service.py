"""TensorFlow Serving's REST interface over the standard library's HTTP server."""

import contextlib
import http.server
import json
import re
import socketserver
import threading
import time
import zlib

from google.protobuf import json_format

from keras_nonlocal.serving.constants import DEFAULT_SIGNATURE
from keras_nonlocal.serving.local import json_tensors
from keras_nonlocal.serving.local.grpc_service import signature_def_map, status_response
from keras_nonlocal.serving.local.servable import RequestError, select_signature

MAX_BODY_BYTES = 64 * 2**20
_READ_SECONDS = 120.0  # for one whole request body
_SILENCE_SECONDS = 30.0  # between two packets, and between two requests of one connection
_HTTP_STATUS = {
    "OK": 200,
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INTERNAL": 500,
    "DATA_LOSS": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
_ROUTE = re.compile(
    r"/v1/models(?:/(?P<name>[^/:]+)(?:/versions/(?P<version>[0-9]{1,18})|/labels/(?P<label>[^/:]+))?"
    r"(?:(?P<metadata>/metadata)|:(?P<verb>predict|classify|regress))?)?"
)


class _HttpError(Exception):
    """The request cannot even be read; the connection closes after the reply."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status
        self.message = message


class RestServer(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Answers REST requests for one servable.Model, a thread for each connection."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host, port, log, max_body_bytes=MAX_BODY_BYTES):
        """Binds the port (0 for a free one) without listening yet; raises OSError if it is taken.

        `model` is to be set before serve_forever.
        """
        super().__init__((host, port), _Handler, bind_and_activate=False)
        self.model = None
        self.log = log
        self.max_body_bytes = max_body_bytes
        self.is_stopping = False
        self._busy = 0
        self._idle = threading.Condition()
        try:
            # Not HTTPServer's own, which asks the name service for the host's full name.
            socketserver.TCPServer.server_bind(self)
        except OSError:
            self.server_close()
            raise

    def stop(self, grace_seconds=5.0):
        """Stops listening and waits for the requests being answered."""
        self.is_stopping = True
        self.shutdown()
        self.server_close()
        with self._idle:
            self._idle.wait_for(lambda: self._busy == 0, grace_seconds)

    @contextlib.contextmanager
    def answering(self):
        """Counts a request being answered."""
        with self._idle:
            self._busy += 1
        try:
            yield
        finally:
            with self._idle:
                self._busy -= 1
                self._idle.notify_all()

    def handle_error(self, request, client_address):
        """Leaves clients that went away unmentioned: no fault of ours."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "keras_nonlocal"
    sys_version = ""
    timeout = _SILENCE_SECONDS
    wbufsize = -1  # head and body in one packet
    disable_nagle_algorithm = True

    def do_GET(self):  # noqa: N802
        with self.server.answering():
            self._answer()

    do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = do_GET  # noqa: N815

    def _answer(self):
        try:
            body = self._read_body()
            if self.command == "OPTIONS":
                self._reply(200 if "Origin" in self.headers else 400, b"")
            elif not self.path.startswith("/v1/models"):
                self._reply(404, b"<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD></HTML>\n", "text/html")
            else:
                self._reply(200, self._route(body))
        except RequestError as error:
            self._reply_error(_HTTP_STATUS[error.code], error.message)
        except _HttpError as error:
            self.close_connection = True
            self._reply_error(error.status, error.message)
            self._drain()
        except OSError:
            self.close_connection = True  # the client went away
        except Exception as error:  # A fault of ours is an answer too, never a dead connection.
            self.server.log(f"error: {type(error).__name__}: {error}")
            self._reply_error(500, f"{type(error).__name__} in the server")

    def _route(self, body):
        """Returns the reply body (bytes)."""
        match = _ROUTE.fullmatch(self.path.split("?")[0])
        is_get = self.command == "GET"
        if not match or self.command not in ("GET", "POST") or is_get == bool(match["verb"]):
            raise RequestError("INVALID_ARGUMENT", f"Malformed request: {self.command} {self.path[:1024]}")
        if not match["name"]:
            raise RequestError("INVALID_ARGUMENT", "Missing model name in request.")
        if match["label"]:
            raise RequestError("INVALID_ARGUMENT", f"Unrecognized servable version label: {match['label']}")
        version = int(match["version"]) if match["version"] else None
        if is_get and not match["metadata"]:
            return self._status(match["name"], version)
        servable = self._find(match["name"], version)
        if is_get:
            return _metadata(match["name"], servable)
        if match["verb"] != "predict":
            raise RequestError(
                "INVALID_ARGUMENT",
                f"No {match['verb']} inputs found in SignatureDef: the signatures of this model answer :predict",
            )
        return _predict(servable, body)

    def _find(self, name, version):
        if name != self.server.model.name:
            wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise RequestError("NOT_FOUND", f"Servable not found for request: {wanted}")
        return self.server.model.get(version)

    def _status(self, name, version):
        if name != self.server.model.name:
            raise RequestError("NOT_FOUND", f"Could not find any versions of model {name}")
        return _proto_json(status_response(self.server.model.statuses(version)))

    def _read_body(self):
        length = self._body_length()
        encoding = self.headers.get("Content-Encoding", "identity").lower()
        if encoding not in ("identity", "gzip"):
            raise _HttpError(415, f"Content-Encoding {encoding[:64]} is not supported; send gzip or none")
        body = self._read(length)
        return body if encoding == "identity" else _gunzip(body, self.server.max_body_bytes)

    def _body_length(self):
        if "Transfer-Encoding" in self.headers:
            raise _HttpError(411, "Transfer-Encoding is not supported; send the body whole, with a Content-Length")
        lengths = set(self.headers.get_all("Content-Length", ["0"]))
        text = lengths.pop()
        if lengths or not re.fullmatch("[0-9]{1,18}", text):
            raise _HttpError(400, f"Malformed Content-Length: {text[:64]!r} is not one number of bytes")
        if int(text) > self.server.max_body_bytes:
            raise _too_large(self.server.max_body_bytes)
        return int(text)

    def _read(self, length):
        chunks = []
        deadline = time.monotonic() + _READ_SECONDS
        while length:
            try:
                chunk = self.rfile.read1(min(length, 2**20))
            except TimeoutError:
                chunk = None
            if chunk is None or time.monotonic() > deadline:
                raise _HttpError(408, "The request body did not arrive in time")
            if not chunk:
                raise ConnectionError("the client went away")
            chunks.append(chunk)
            length -= len(chunk)
        return b"".join(chunks)

    def handle_expect_100(self):
        """Refuses a body that is too large before the client sends it."""
        try:
            self._body_length()
        except _HttpError as error:
            self.close_connection = True
            self._reply_error(error.status, error.message)
            return False
        return super().handle_expect_100()

    def _drain(self):
        """Reads on for a while: closing on unread data would reset the connection and lose the reply."""
        with contextlib.suppress(OSError):
            self.wfile.flush()
            self.connection.settimeout(1.0)
            deadline = time.monotonic() + 10.0
            while time.monotonic() < deadline and self.rfile.read1(2**20):
                pass

    def _reply_error(self, status, message):
        self._reply(status, json.dumps({"error": message}, indent=4).encode())

    def _reply(self, status, body, content_type="application/json"):
        if self.server.is_stopping:
            self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code, message=None, explain=None):
        """Answers what the standard library refuses, a malformed request line for one, in JSON too."""
        self.close_connection = True
        self._reply_error(int(code), str(message or explain or "Malformed request"))

    def log_message(self, *args):
        """Keeps no access log."""


def _predict(servable, body):
    document = json_tensors.parse(body)
    name = json_tensors.signature_name(document) or DEFAULT_SIGNATURE
    signature = select_signature(
        servable, name, "INVALID_ARGUMENT", 'Serving signature name: "{}" not found in signature def'
    )
    tensors, by_row = json_tensors.read_inputs(document, signature.inputs)
    return json_tensors.write_outputs(signature.run(tensors), by_row)


def _metadata(name, servable):
    signatures = json_format.MessageToDict(
        signature_def_map(servable), preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    spec = {"name": name, "signature_name": "", "version": str(servable.version)}
    return json.dumps({"model_spec": spec, "metadata": {"signature_def": signatures}}, indent=4).encode()


def _proto_json(message):
    return json_format.MessageToJson(
        message, preserving_proto_field_name=True, indent=4, always_print_fields_with_no_presence=True
    ).encode()


def _gunzip(body, limit):
    decoder = zlib.decompressobj(wbits=31)
    try:
        plain = decoder.decompress(body, limit + 1)
    except zlib.error as error:
        raise _HttpError(400, f"The gzip body is broken: {error}") from error
    if len(plain) > limit:
        raise _too_large(limit)
    if not decoder.eof:
        raise _HttpError(400, "The gzip body is broken: it ends early")
    return plain


def _too_large(limit):
    return _HttpError(
        413, f"The request body is larger than {limit} bytes; send fewer or smaller clips at once, or use gRPC"
    )
