"""TensorFlow Serving's REST interface, over sockets.

It reads HTTP as TensorFlow Serving's libevent does, which takes more than libraries that go by the book (two lengths,
no Host, a header of 100 kB) and less (no space or é in a path, no header without a colon): a client that was tested
with one of those could fail with the real server.
"""

import contextlib
import dataclasses
import email.utils
import http.client
import json
import math
import re
import socketserver
import threading
import time
import urllib.parse
import zlib

from google.protobuf import json_format

from keras_nonlocal.serving.constants import DEFAULT_SIGNATURE
from keras_nonlocal.serving.local import json_tensors
from keras_nonlocal.serving.local.grpc_service import signature_def_map, status_response
from keras_nonlocal.serving.local.servable import RequestError, select_signature

MAX_BODY_BYTES = 64 * 2**20
MAX_HEAD_BYTES = 2**20  # of the request line and all headers
_READ_SECONDS = 120.0  # for one whole request
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
_METHODS = {"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"}
_METHODS_WITH_BODY = {"POST", "PUT", "PATCH"}
_PATH_CHARACTER = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})"
# A URL, or its part from the path on; path, query and fragment are what counts.
_TARGET = re.compile(
    rf"(?:[A-Za-z][A-Za-z0-9+.-]*:)?(?://[^/?#]*)?"
    rf"({_PATH_CHARACTER}*(?:\?(?:{_PATH_CHARACTER}|\?)*)?(?:#(?:{_PATH_CHARACTER}|\?)*)?)"
)
_WHICH = r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_ROUTES = {
    "GET": re.compile(rf"(?i:/v1/models(?:/(?P<name>[^/:]+))?{_WHICH}(?:/(?P<part>metadata))?)"),
    "POST": re.compile(rf"(?i:/v1/models/(?P<name>[^/:]+){_WHICH}:(?P<verb>predict|classify|regress))"),
}


class _HttpError(Exception):
    """The request cannot be read further; the connection closes after the reply."""

    def __init__(self, status, message=None):
        super().__init__(message)
        self.status = status
        self.message = message  # as JSON; None for libevent's page


class RestServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Answers REST requests for one servable.Model, a thread for each connection."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host, port, log, max_body_bytes=MAX_BODY_BYTES):
        """Binds the port (0 for a free one) without listening yet; raises OSError if it is taken.

        `model` is to be set before serve_forever.
        """
        super().__init__((host, port), _Connection, bind_and_activate=False)
        self.model = None
        self.log = log
        self.max_body_bytes = max_body_bytes
        self.is_stopping = False
        self._busy = 0
        self._idle = threading.Condition()
        try:
            self.server_bind()
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


@dataclasses.dataclass
class _Head:
    """A request line and headers; of a header that comes twice the first counts."""

    method: str = "GET"
    target: str = ""
    minor_version: int = 1
    headers: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def keeps_open(self):
        asked = self.headers.get("connection", "").lower()
        return asked == "keep-alive" if self.minor_version == 0 else asked != "close"


class _Connection(socketserver.StreamRequestHandler):
    timeout = _SILENCE_SECONDS
    wbufsize = -1  # head and body in one packet
    disable_nagle_algorithm = True

    def handle(self):
        with contextlib.suppress(OSError):  # the client went away or fell silent
            while self._answer_one():
                pass

    def _answer_one(self):
        """Answers one request; returns whether another may follow."""
        head = _Head()
        try:
            self._deadline = math.inf
            line = self._read_line(MAX_HEAD_BYTES)
            self._deadline = time.monotonic() + _READ_SECONDS
            with self.server.answering():
                self._read_head(head, line)
                body = self._read_body(head)
                self._answer(head, body)
                return head.keeps_open and not self.server.is_stopping
        except _HttpError as error:
            self._refuse(head, error)
            return False

    def _answer(self, head, body):
        if head.method not in _METHODS:
            raise _HttpError(501)
        target = _TARGET.fullmatch(head.target)
        if not target:
            raise _HttpError(400)
        path = target[1] or "/"
        if not path.lower().startswith("/v1/"):
            raise _HttpError(404)
        if head.method == "OPTIONS":
            is_page = re.search("https?://", head.headers.get("origin", ""))
            self._reply(head, 200 if is_page else 400, b"", "text/html; charset=ISO-8859-1")
            return
        try:
            status, reply = 200, _route(self.server.model, head.method, path, body)
        except RequestError as error:
            status, reply = _HTTP_STATUS[error.code], _error_json(error.message)
        except Exception as error:  # A fault of ours is an answer too, never a dead connection.
            self.server.log(f"error: {type(error).__name__}: {error}")
            status, reply = 500, _error_json(f"{type(error).__name__} in the server")
        self._reply(head, status, reply)

    def _read_line(self, limit):
        line = self.rfile.readline(limit + 1)
        self._check_deadline()
        if len(line) > limit:
            raise _HttpError(431, f"The request line and headers are larger than {MAX_HEAD_BYTES} bytes")
        if not line.endswith(b"\n"):
            raise ConnectionError("the client went away")
        return line.decode("latin-1")

    def _read_head(self, head, line):
        words = re.fullmatch(r"(\S*) ([^ ]*) HTTP/([0-9]{1,9})\.([0-9]{1,9})\r?\n", line)
        if not words or int(words[3]) > 1:
            raise _HttpError(400)
        head.method, head.target, head.minor_version = words[1], words[2], int(words[4])
        left, name = MAX_HEAD_BYTES - len(line), None
        while (line := self._read_line(left)).rstrip("\r\n"):
            left -= len(line)
            if line[0] in " \t" and name:  # goes on with the header before
                head.headers[name] += " " + line.strip()
                continue
            name, colon, value = line.partition(":")
            if not colon or line[0] in " \t":
                raise _HttpError(400)
            name = name.lower()
            head.headers.setdefault(name, value.strip())

    def _read_body(self, head):
        if head.method not in _METHODS_WITH_BODY:
            return b""
        is_chunked = head.headers.get("transfer-encoding", "").lower() == "chunked"
        length = 0 if is_chunked else self._parse_size(head.headers.get("content-length", "0"), 10)
        expected = head.headers.get("expect", "").lower() if length or is_chunked else ""
        if expected not in ("", "100-continue"):
            raise _HttpError(417)
        if expected:
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.wfile.flush()
        body = self._read_chunks() if is_chunked else self._read(length)
        # Any other coding is not looked at: such a body is no JSON.
        return _gunzip(body, self.server.max_body_bytes) if "gzip" in head.headers.get("content-encoding", "") else body

    def _parse_size(self, text, base, already=0):
        if not re.fullmatch(r"\+?[0-9A-Fa-f]+" if base == 16 else r"\+?[0-9]+", text):
            raise _HttpError(400)
        if len(text) > 20 or already + int(text, base) > self.server.max_body_bytes:
            raise _too_large(self.server.max_body_bytes)
        return int(text, base)

    def _read_chunks(self):
        body = bytearray()
        while True:
            line = self._read_line(MAX_HEAD_BYTES).rstrip("\r\n")
            if line:  # the line end of the chunk before is one of its own
                size = self._parse_size(line.split(" ")[0], 16, len(body))
                if not size:
                    break
                body += self._read(size)
        while self._read_line(MAX_HEAD_BYTES).rstrip("\r\n"):
            pass  # a trailer
        return bytes(body)

    def _read(self, length):
        chunks = []
        while length:
            try:
                chunk = self.rfile.read1(min(length, 2**20))
            except TimeoutError:
                raise _timed_out() from None
            self._check_deadline()
            if not chunk:
                raise ConnectionError("the client went away")
            chunks.append(chunk)
            length -= len(chunk)
        return b"".join(chunks)

    def _check_deadline(self):
        if time.monotonic() > self._deadline:
            raise _timed_out()

    def _refuse(self, head, error):
        head.headers["connection"] = "close"
        if error.message is None:
            reason = http.client.responses[error.status]
            page = (
                f"<HTML><HEAD>\n<TITLE>{error.status} {reason}</TITLE>\n</HEAD><BODY>\n<H1>{reason}</H1>\n"
                "</BODY></HTML>\n"
            )
            self._reply(head, error.status, page.encode(), "text/html")
        else:
            self._reply(head, error.status, _error_json(error.message))
        # Closing on unread data would reset the connection and lose the reply: read on for a while.
        self.connection.settimeout(1.0)
        deadline = time.monotonic() + 10.0
        while time.monotonic() < deadline and self.rfile.read1(2**20):
            pass

    def _reply(self, head, status, body, content_type="application/json"):
        lines = [
            f"HTTP/1.1 {status} {http.client.responses.get(status, '')}",
            f"Content-Type: {content_type}",
            f"Date: {email.utils.formatdate(usegmt=True)}",
            f"Content-Length: {len(body)}",
        ]
        if not head.keeps_open or self.server.is_stopping:
            lines.append("Connection: close")
        elif head.minor_version == 0:
            lines.append("Connection: keep-alive")
        self.wfile.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        self.wfile.write(body)  # for HEAD too, as libevent
        self.wfile.flush()


def _route(model, method, path, body):
    """Returns the reply to a request (bytes)."""
    malformed = RequestError("INVALID_ARGUMENT", f"Malformed request: {method} {path}")
    match = _ROUTES[method].fullmatch(path) if method in _ROUTES else None
    if not match:
        raise malformed
    digits = (match["version"] or "").lstrip("0")
    if len(digits) > 19 or int(digits or 0) >= 2**63:
        raise RequestError("INVALID_ARGUMENT", "")
    version = int(digits or 0) if match["version"] else None
    name = urllib.parse.unquote(match["name"] or "", errors="surrogateescape")
    label = match["label"] and urllib.parse.unquote(match["label"], errors="surrogateescape")
    if method == "POST":
        if match["verb"] == "predict":
            return _predict(model, name, version, label, body)
        if match["verb"].islower():
            raise RequestError("UNIMPLEMENTED", "The local server answers :predict only")
        raise malformed
    if not name:
        raise RequestError("INVALID_ARGUMENT", "Missing model name in request.")
    if match["part"] == "metadata":
        return _metadata(name, model.find(name, version, label))
    return _proto_json(status_response(model.find_statuses(name, version)))


def _predict(model, name, version, label, body):
    document = json_tensors.parse(body)
    signature_name = json_tensors.signature_name(document)
    signature = select_signature(
        model.find(name, version, label),
        signature_name or DEFAULT_SIGNATURE,
        "INVALID_ARGUMENT",
        'Serving signature name: "{}" not found in signature def',
    )
    if signature is None or not signature.inputs:
        raise RequestError("INVALID_ARGUMENT", f"Failed to get input map for signature: {signature_name or 'DEFAULT'}")
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


def _error_json(message):
    """Writes an error; none at all for an empty message, as TensorFlow Serving."""
    if not message:
        return b""
    return json.dumps({"error": message}, indent=4, ensure_ascii=False).encode("utf-8", "surrogateescape")


def _gunzip(body, limit):
    """Unpacks a body; what is broken, cut or followed by anything is empty, as in TensorFlow Serving."""
    decoder = zlib.decompressobj(wbits=31)
    try:
        plain = decoder.decompress(body, limit + 1)
    except zlib.error:
        return b""
    if len(plain) > limit:
        raise _too_large(limit)
    return plain if decoder.eof and not decoder.unused_data else b""


def _timed_out():
    return _HttpError(408, "The request did not arrive in time")


def _too_large(limit):
    return _HttpError(
        413, f"The request body is larger than {limit} bytes; send fewer or smaller clips at once, or use gRPC"
    )
