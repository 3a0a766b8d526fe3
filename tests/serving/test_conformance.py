"""The local server, and a real TensorFlow Serving where there is one, answer what a real one was recorded to answer.

A real one is what `TFS_REST` and `TFS_GRPC` (host:port each) name, if it serves the model of tiny_model.py, or a
tensorflow_model_server on PATH, which is started here.
"""

import contextlib
import os
import shutil

import pytest
import recorded
import tiny_model
from recorded import Answer

from keras_nonlocal.errors import UserError
from keras_nonlocal.serving import Client, model_server, ports
from keras_nonlocal.serving.apis import grpc
from keras_nonlocal.serving.local.server import LocalServer

ADDRESSES = [os.environ.get("TFS_REST"), os.environ.get("TFS_GRPC")]
PROGRAM = shutil.which(model_server.PROGRAM)
ENGINES = ["local", "real"] if all(ADDRESSES) or PROGRAM else ["local"]
RECORDS = recorded.claimed()


def shape_error(alias, found, expected):
    return {"error": f"Shape of input {alias} {found} is not compatible with expected shape {expected}"}


# Where the local server answers otherwise, and why. It must answer just this, so that the list stays true.
DIFFERENCES = {
    # Shapes are checked against the signature, before the graph: with oneDNN a convolution that gets another rank or
    # nothing at all ends the process.
    168: Answer(400, shape_error("a", "[1,3]", "[?,2]")),
    198: Answer(400, shape_error("a", "[0]", "[?,2]")),
    199: Answer(400, shape_error("a", f"[{'1,' * 19}0]", "[?,2]")),
    208: Answer(400, shape_error("x", "[1]", "[]")),
    209: Answer(400, shape_error("x", "[1]", "[]")),
    226: Answer(400, {"error": "Input x is empty: its shape is [2,0]"}),
    249: Answer(400, shape_error("s", "[1,2]", "[?]")),
    371: Answer("INVALID_ARGUMENT", shape_error("a", "[]", "[?,2]")["error"]),
    397: Answer("INVALID_ARGUMENT", shape_error("x", "[1]", "[]")["error"]),
    # Bodies have a limit; TensorFlow Serving waits for 10 GB.
    310: Answer(
        413,
        {
            "error": "The request body is larger than 67108864 bytes; send fewer or smaller clips at once, or use gRPC",
        },
    ),
    # A tensor has the dimensions of a NumPy array at most.
    378: Answer("INVALID_ARGUMENT", "tensor parsing error: x is too large: it has 40 dimensions, allowed are 32"),
}


def split(address):
    host, port = address.removeprefix("http://").split(":")
    return host, int(port)


@pytest.fixture(scope="module")
def base_path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for version in (1, 2):
        tiny_model.save(folder, version)
    return folder / "tiny"


@pytest.fixture(scope="module", params=ENGINES)
def engine(request, base_path):
    """(name, (host, port) of REST, channel of gRPC)."""

    def connect(rest, address):
        channel = stack.enter_context(grpc.insecure_channel(address.removeprefix("grpc://")))
        return request.param, split(rest), channel

    with contextlib.ExitStack() as stack:
        if request.param == "local":
            running = stack.enter_context(LocalServer(base_path, "tiny"))
            yield connect(running.rest_url, running.grpc_url)
        elif all(ADDRESSES):
            rest, address = ADDRESSES
            try:
                with Client(f"http://{rest.removeprefix('http://')}", "tiny", timeout=10) as client:
                    client.states()
            except UserError as error:
                pytest.skip(f"TFS_REST does not serve the model tiny: {error}")
            yield connect(rest, address)
        else:
            numbers = ports.choose_ports("127.0.0.1", port=0, rest_api_port=0)
            running = stack.enter_context(model_server.ModelServer(PROGRAM, base_path, "tiny", "127.0.0.1", *numbers))
            running.wait_until_available(lambda: False, seconds=60)
            yield connect(running.rest_url, running.grpc_url)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: f"{record['id']} {record['note']}")
def test_recorded(engine, record):
    name, rest, channel = engine
    expected = recorded.recorded_answer(record)
    found = recorded.send(record, rest, channel, seconds=20 if expected.status else 1)
    if name == "local" and record["id"] in DIFFERENCES:
        assert not recorded.same(found, expected), "no longer a difference"
        expected = DIFFERENCES[record["id"]]
    is_page = isinstance(expected.body, str) and expected.body.startswith("<HTML>")
    if name == "real" and is_page:  # words of libevent, of whatever version
        assert found.status == expected.status
    else:
        assert recorded.same(found, expected, record["real"].get("part", False)), (found, expected)


def test_every_difference_is_of_a_recorded_request():
    assert DIFFERENCES.keys() <= {record["id"] for record in RECORDS}
    assert len(RECORDS) > 230


@pytest.mark.parametrize("length", [70_000, 300_000])
def test_long_path(engine, length):
    record = recorded.http_request("GET", f"/v1/models/{'x' * length}")
    expected = Answer(404, {"error": f"Could not find any versions of model {'x' * length}"})
    assert recorded.send(record, *engine[1:], seconds=20) == expected


@pytest.mark.parametrize("headers", [{"X-Long": "y" * 100_000}, {f"X-{number}": "y" for number in range(150)}])
def test_long_and_many_headers(engine, headers):
    record = recorded.http_request("GET", "/v1/models/tiny", headers)
    available = {"version": "2", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert recorded.send(record, *engine[1:], seconds=20) == Answer(200, {"model_version_status": [available]})
