import base64
import concurrent.futures
import gzip
import http.client
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import types

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2

from keras_nonlocal.errors import UserError
from keras_nonlocal.ops import attend, pairwise
from keras_nonlocal.serving import model_server, ports, publish, server
from keras_nonlocal.serving.apis import (
    grpc,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)
from keras_nonlocal.serving.local import json_tensors, rest_service
from keras_nonlocal.serving.local.servable import RequestError
from keras_nonlocal.serving.local.server import LocalServer

ROOT = pathlib.Path(__file__).parent.parent
CLIP = [2, 4, 4, 3]
GOOD = {"signature_name": "double", "instances": [[1, 2, 3]]}


class Served(tf.Module):
    """Small functions that together have every kind of input and output; the default one is non-local."""

    def __init__(self, factor):
        super().__init__()
        self.kernel = tf.Variable(tf.ones([1, 3, 3, 3, 2]) / 100)
        self.factor = tf.Variable(float(factor))

    @tf.function(input_signature=[tf.TensorSpec([None, *CLIP], name="image")])
    def classify(self, image):
        x = tf.reshape(tf.nn.conv3d(image, self.kernel, [1] * 5, "SAME"), [-1, 32, 2])
        logits = tf.reduce_mean(attend.attend(pairwise.get("gaussian"), x, x, x), 1)
        return {"logits": logits, "probabilities": tf.nn.softmax(logits)}

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, None, 3], name="image")])
    def any_size(self, image):
        return {"y": tf.nn.conv3d(image, self.kernel, [1] * 5, "SAME")}

    @tf.function(input_signature=[tf.TensorSpec([None, 3], name="x")])
    def double(self, x):
        return {"y": self.factor * x}

    @tf.function(input_signature=[tf.TensorSpec([None], name="a"), tf.TensorSpec([None], tf.int32, name="b")])
    def add(self, a, b):
        return {"sum": a + tf.cast(b, tf.float32), "twice": 2 * b}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="s")])
    def echo(self, s):
        return {"echo": s, "echo_bytes": s}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.uint8, name="pixels")])
    def pixels(self, pixels):
        return {"y": pixels}

    @tf.function(input_signature=[tf.TensorSpec([None, 3], name="x")])
    def total(self, x):
        return {"scalar": tf.reduce_sum(x), "name": tf.constant("total")}

    @tf.function(input_signature=[tf.TensorSpec([None, 3], name="x")])
    def half(self, x):
        return {"y": tf.cast(x, tf.bfloat16)}

    @tf.function(input_signature=[tf.TensorSpec([None, None], name="x")])
    def strict(self, x):
        return {"y": tf.ensure_shape(x, [None, 3])}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.bool, name="flag")])
    def flip(self, flag):
        return {"y": tf.logical_not(flag)}


def save(path, names, factor=2):
    """Saves a model with the named functions; `double` multiplies by factor."""
    module = Served(factor)
    signatures = {"serving_default": module.classify} | {name: getattr(module, name) for name in names}
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)  # TensorFlow remarks on it at each load
    tf.saved_model.save(module, str(path), signatures=signatures, options=options)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A SavedModel with every function."""
    path = tmp_path_factory.mktemp("saved") / "all"
    save(path, ["any_size", "double", "add", "echo", "pixels", "total", "half", "strict", "flip"])
    return path


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    """Two SavedModels that load fast: factor 2 and factor 3."""
    paths = [tmp_path_factory.mktemp("saved") / f"factor{factor}" for factor in (2, 3)]
    for path, factor in zip(paths, (2, 3), strict=True):
        save(path, ["double"], factor)
    return paths


@pytest.fixture(scope="module")
def local(saved, tmp_path_factory):
    """A running server of one version, 1, under the name clips."""
    base = tmp_path_factory.mktemp("saved_models") / "clips"
    publish.publish(lambda path: shutil.copytree(saved, path, dirs_exist_ok=True), base)
    with LocalServer(base, "clips") as running:
        yield running


def connect(local):
    return http.client.HTTPConnection(local.rest_url.removeprefix("http://"), timeout=30)


def call(local, method, path, body=None, headers=None):
    """Returns the HTTP status and the parsed reply."""
    connection = connect(local)
    try:
        connection.request(method, path, body, headers or {})
        reply = connection.getresponse()
        data = reply.read()
        assert reply.headers["Content-Type"] == "application/json"
        return reply.status, json.loads(data.decode(errors="surrogateescape"))
    finally:
        connection.close()


def predict(local, body, path="/v1/models/clips:predict"):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return call(local, "POST", path, data)


def raw(local, request, half_close=True):
    """Sends bytes as they are; returns everything the server sends until it closes or falls silent."""
    host, port = local.rest_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(request)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        connection.settimeout(2)
        data = b""
        try:
            while chunk := connection.recv(2**16):
                data += chunk
        except TimeoutError:
            pass
        return data


def assert_alive(local):
    assert predict(local, GOOD) == (200, {"predictions": [[2.0, 4.0, 6.0]]})


class TestRest:
    """What tests/serving cannot compare with a real server: the models served here, and the limits of this one."""

    def test_rows_of_the_default_signature(self, local):
        status, reply = predict(local, {"instances": np.ones([2, *CLIP]).tolist()})
        assert status == 200
        assert [sorted(row) for row in reply["predictions"]] == [["logits", "probabilities"]] * 2
        np.testing.assert_allclose(reply["predictions"][0]["probabilities"], [0.5, 0.5])

    @pytest.mark.parametrize("data", [b"text", b"\xff\x00 \xd8", b"", "\u00e9\U0001f600".encode()])
    def test_bytes(self, local, data):
        encoded = {"b64": base64.b64encode(data).decode()}
        status, reply = predict(local, {"signature_name": "echo", "instances": [encoded]})
        assert status == 200
        assert reply["predictions"] == [{"echo": data.decode(errors="surrogateescape"), "echo_bytes": encoded}]

    def test_floats_survive_the_trip_exactly(self, local):
        values = np.random.default_rng(0).normal(size=[50, 3]).astype(np.float32)
        _, reply = predict(local, {"signature_name": "double", "instances": values.tolist()})
        np.testing.assert_array_equal(np.float32(reply["predictions"]), 2 * values)

    @pytest.mark.parametrize(
        "body, text",
        [
            (b'{"instances": ' + b"[" * 100_000, "JSON Parse error: The document is nested too deeply"),
            (b'{"signature_name": "double", "inputs": ' + b"[" * 500 + b"]" * 500 + b"}", "more than 32 dimensions"),
            (b'{"signature_name": "double", "instances": [' + b"[" * 32 + b"]" * 32 + b"]}", "more than 31 dimensions"),
            (b'{"signature_name": "double", "instances": [[1e999, 0, 0]]}', "Number too big to be stored in double"),
            (b'{"signature_name": "echo", "instances": ["\xff"]}', "A string is not UTF-8; send other bytes as"),
            (b'{"signature_name": "echo", "instances": [{"b64": "YQ="}]}', "Unable to base64 decode"),
            ({"signature_name": ["a" * 100_000]}, r"\.\.\. not formatted correctly"),
            ({"signature_name": "double", "instances": [{"k" * 100_000: 1}]}, "does not have named input: kkk"),
            ({"signature_name": "double", "instances": [[[1], [2, 3]]]}, "Encountered list at unexpected size: 2 at"),
            ({"signature_name": "double", "instances": [[1, [2], 3]]}, "Encountered list at unexpected level: 1"),
            ({"signature_name": "double", "instances": [[[1, 2]], [[1], [2]]]}, r"shape \[1,2\] but got: \[2,1\]"),
            (
                {"signature_name": "double", "instances": [[1, 2, 3], {"x": 1}]},
                "Expecting value/list but got object at",
            ),
            ({"signature_name": "half", "instances": [[1, 2, 3]]}, "write JSON value for tensor type: bfloat16"),
            ({"signature_name": "strict", "instances": [[1, 2]]}, r"^Shape of tensor x \[1,2\] is not compatible"),
        ],
    )
    def test_hostile_bodies(self, local, body, text):
        status, reply = predict(local, body)
        assert status == 400
        assert re.search(text, reply["error"]), reply["error"]
        assert len(reply["error"]) < 2000
        assert_alive(local)

    def test_integers_that_wrap(self, local):
        _, reply = predict(local, {"signature_name": "pixels", "instances": [256, -1]})
        assert reply == {"predictions": [0, 255]}

    def test_a_gzip_bomb(self, local):
        bomb = gzip.compress(b" " * (rest_service.MAX_BODY_BYTES + 1), 1)
        assert call(local, "POST", "/v1/models/clips:predict", bomb, {"Content-Encoding": "gzip"})[0] == 413

    def test_other_verbs_are_not_implemented(self, local):
        status, reply = call(local, "POST", "/v1/models/clips:classify", b"{}")
        assert (status, reply) == (501, {"error": "The local server answers :predict only"})


class TestHttp:
    HEAD = b"POST /v1/models/clips:predict HTTP/1.1\r\nHost: x\r\n"

    def test_keep_alive_survives_errors(self, local):
        connection = connect(local)
        socket_used = None
        for body, status in [(GOOD, 200), ({}, 400), (GOOD, 200)]:
            connection.request("POST", "/v1/models/clips:predict", json.dumps(body))
            reply = connection.getresponse()
            reply.read()
            assert reply.status == status
            socket_used = socket_used or connection.sock
            assert connection.sock is socket_used
        connection.close()

    def test_too_large_is_refused_with_a_reply(self, local, monkeypatch):
        monkeypatch.setattr(local._rest, "max_body_bytes", 1000)
        status, reply = predict(local, b" " * 20_000_000)
        assert status == 413 and "larger than 1000 bytes" in reply["error"]
        answer = raw(local, self.HEAD + b"Expect: 100-continue\r\nContent-Length: 5000\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 413 ")

    @pytest.mark.parametrize(
        "headers, status",
        [
            (b"Content-Length: 1_0\r\n", 400),
            (b"Content-Length: \r\n", 400),
            (b"Content-Length: 99999999999999999999\r\n", 413),
            (b"Transfer-Encoding: chunked\r\n\r\nffffffff\r\n", 413),
            (b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\nffffffff\r\n", 413),
            (b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", 400),
            (b"Transfer-Encoding: chunked\r\n\r\n1;a=b\r\n{\r\n0\r\n", 400),
            (b"Expect: something\r\nContent-Length: 1\r\n", 417),
            (b"no colon\r\n", 400),
            (b"X: " + b"y" * rest_service.MAX_HEAD_BYTES + b"\r\n", 431),
            (b"X: y\r\n" * (rest_service.MAX_HEAD_BYTES // 6), 431),
        ],
    )
    def test_malformed_framing(self, local, headers, status):
        answer = raw(local, self.HEAD + headers + b"\r\n")
        head, body = answer.split(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status) and b"Connection: close" in head
        assert body.startswith(b"<HTML>") if status in (400, 417) else json.loads(body)["error"]
        assert_alive(local)

    def test_chunks(self, local):
        text = json.dumps(GOOD).encode()
        chunks = b"".join(b"%x\r\n%c\r\n" % (1, byte) for byte in text)
        head = self.HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
        answers = raw(local, 2 * (head + chunks + b"0\r\nTrailer: x\r\n\r\n"))
        assert answers.count(b"HTTP/1.1 200 OK") == 2

    @pytest.mark.parametrize(
        "line, header, stays_open",
        [
            (b"HTTP/1.1", b"", True),
            (b"HTTP/1.1", b"Connection: Close\r\n", False),
            (b"HTTP/1.0", b"", False),
            (b"HTTP/1.0", b"Connection: Keep-Alive\r\n", True),
        ],
    )
    def test_connection(self, local, line, header, stays_open):
        answers = raw(local, 2 * (b"GET /v1/models/clips " + line + b"\r\n" + header + b"\r\n"))
        assert answers.count(b"HTTP/1.1 200 OK") == 1 + stays_open
        assert (b"Connection: close" in answers) is not stays_open

    @pytest.mark.parametrize(
        "line, status",
        [
            (b"\x16\x03\x01\x00\xa5\x01\x00", 400),
            (b"GET", 400),
            (b"GET /v1/models/clips HTTP/1.1\r\n X: goes on with no header", 400),
            (b"BREW /v1/models/clips HTTP/1.1", 501),
            (b"TRACE /v1/models/clips HTTP/1.1", 501),
            (b"GET /v1/models/[clips] HTTP/1.1", 400),
        ],
    )
    def test_not_http(self, local, line, status):
        assert raw(local, line + b"\r\n\r\n").startswith(b"HTTP/1.1 %d " % status)
        assert_alive(local)

    def test_body_that_stops_short(self, local):
        host, port = local.rest_url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(self.HEAD + b"Content-Length: 10\r\n\r\n{")
        assert_alive(local)

    def test_body_that_never_comes(self, local, monkeypatch):
        monkeypatch.setattr(rest_service._Connection, "timeout", 0.2)
        assert raw(local, self.HEAD + b"Content-Length: 10\r\n\r\n{", half_close=False).startswith(b"HTTP/1.1 408 ")

    def test_body_that_drips(self, local, monkeypatch):
        monkeypatch.setattr(rest_service, "_READ_SECONDS", 0.3)
        host, port = local.rest_url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(self.HEAD + b"Content-Length: 1000\r\n\r\n")
            for _ in range(6):
                connection.sendall(b" ")
                time.sleep(0.1)
            assert connection.recv(2**16).startswith(b"HTTP/1.1 408 ")

    def test_many_at_once(self, local):
        rows = [[[float(i), 0, 0]] for i in range(64)]

        def double(row):
            return predict(local, {"signature_name": "double", "instances": row})

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            replies = list(pool.map(double, rows))
        assert replies == [(200, {"predictions": [[2 * row[0][0], 0.0, 0.0]]}) for row in rows]


@pytest.fixture(scope="module")
def stubs(local):
    with grpc.insecure_channel(local.grpc_url.removeprefix("grpc://")) as channel:
        yield (
            prediction_service_pb2_grpc.PredictionServiceStub(channel),
            model_service_pb2_grpc.ModelServiceStub(channel),
        )


def make_request(signature_name="double", name="clips", **inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature_name
    for alias, value in inputs.items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    return request


def tensor_proto(dtype, sizes, **values):
    """A TensorProto as nobody's library writes it."""
    dtype = getattr(dtype, "as_datatype_enum", dtype)
    shape = tensor_shape_pb2.TensorShapeProto(dim=[{"size": size} for size in sizes])
    return tensor_pb2.TensorProto(dtype=dtype, tensor_shape=shape, **values)


def assert_fails(function, request, code, text):
    with pytest.raises(grpc.RpcError) as caught:
        function(request, timeout=30)
    assert caught.value.code() == code
    assert re.search(text, caught.value.details()), caught.value.details()


ROW = np.ones([1, 3], np.float32)
INVALID = grpc.StatusCode.INVALID_ARGUMENT


class TestGrpc:
    def test_default_signature_version_and_filter(self, stubs):
        request = make_request("", image=np.ones([2, *CLIP], np.float32))
        request.model_spec.version.value = 1
        request.output_filter.append("probabilities")
        response = stubs[0].Predict(request)
        assert response.model_spec.signature_name == "serving_default"
        assert list(response.outputs) == ["probabilities"]
        np.testing.assert_allclose(tf.make_ndarray(response.outputs["probabilities"]), np.full([2, 2], 0.5))

    def test_half_precision_comes_as_bits(self, stubs):
        output = stubs[0].Predict(make_request("half", x=ROW)).outputs["y"]
        assert list(output.half_val) == [0x3F80] * 3
        np.testing.assert_array_equal(tf.make_ndarray(output), ROW)

    def test_message_larger_than_grpcs_default(self, stubs):
        response = stubs[0].Predict(make_request("double", x=np.ones([300_000, 3], np.float32)[:200_000]))
        assert len(response.outputs["y"].float_val) == 600_000

    def test_what_is_no_function(self, stubs):
        text = "Node 'NoOp' .type: 'NoOp', num of outputs: 0. does not have output 0"
        assert_fails(stubs[0].Predict, make_request("__saved_model_init_op"), grpc.StatusCode.OUT_OF_RANGE, text)

    def test_no_name(self, stubs):
        request = make_request(x=ROW, name="")
        assert_fails(stubs[0].Predict, request, INVALID, r"^ModelSpec has no name specified\.$")

    @pytest.mark.parametrize(
        "proto, text",
        [
            # One value, or none, stands for all.
            (
                tensor_proto(tf.float32, [2**40, 3], float_val=[1]),
                "x is too large: its shape .* makes 13194139533312 bytes of the 23 sent, allowed are 67108887; send",
            ),
            (tensor_proto(tf.string, [3000], string_val=[b"a", bytes(25_000)]), "x is too large"),
            (tensor_proto(tf.string, [3_000_000]), "x is too large"),
            (tensor_proto(tf.float16, [2**26], half_val=[1]), "x is too large"),
            (tensor_proto(tf.int64, [2**24]), "x is too large"),
            (tensor_proto(tf.float32, [2**62, 2**62], float_val=[1]), "x is too large"),
            (tensor_proto(tf.float32, [1] * 300, float_val=[1]), "tensor parsing error: x$"),
            (tensor_proto(tf.float32, [1] * 40, float_val=[1]), "x is too large: it has 40 dimensions"),
            (tensor_proto(tf.float32, [-1, 3], float_val=[1]), "tensor parsing error: x$"),
            (tensor_proto(tf.float32, [2**62, -(2**62)], float_val=[1]), "tensor parsing error: x$"),
            (tensor_proto(tf.float32, [1, 3], tensor_content=bytes(11)), "tensor parsing error: x$"),
            (tensor_proto(tf.float32, [1, 3], tensor_content=bytes(16)), "tensor parsing error: x$"),
            (tensor_proto(tf.string, [9], tensor_content=b"\xff\xff\xff\xff\x7f"), "tensor parsing error: x$"),
            (tensor_proto(9999, [1, 3]), "tensor parsing error: x$"),
            (tensor_proto(tf.resource, [1]), r"^Expects arg\[0\] to be float but resource is provided"),
            (tensor_proto(tf.variant, [1]), r"^Expects arg\[0\] to be float but variant is provided"),
            (tensor_proto(tf.float32, [0, 2**62, 2**62]), "Shape of input x"),
        ],
    )
    def test_hostile_tensors(self, stubs, proto, text):
        request = make_request()
        request.inputs["x"].CopyFrom(proto)
        assert_fails(stubs[0].Predict, request, INVALID, text)
        assert stubs[0].Predict(make_request(x=ROW)).outputs

    def test_every_dtype_there_is(self, stubs):
        for dtype in types_pb2.DataType.values():
            if dtype != tf.float32.as_datatype_enum:
                request = make_request()
                request.inputs["x"].CopyFrom(tensor_proto(dtype, [1, 3]))
                assert_fails(stubs[0].Predict, request, INVALID, r"^Expects arg\[0\] to be float but|error: x$")

    @pytest.mark.parametrize(
        "signature_name, alias, proto, expected",
        [
            ("double", "x", tensor_proto(tf.float32, [1, 3], float_val=[1, 2]), [2, 4, 4]),
            ("double", "x", tensor_proto(tf.float32, [1, 3]), [0, 0, 0]),
            ("double", "x", tensor_proto(tf.float32, [1, 3], float_val=[1, 2, 3, 4]), [2, 4, 6]),
            ("double", "x", tensor_proto(tf.float32, [1, 3], double_val=[1]), [0, 0, 0]),
            ("pixels", "pixels", tensor_proto(tf.uint8, [3], int_val=[255, 257]), [255, 1, 1]),
            ("echo", "s", tensor_proto(tf.string, [2], tensor_content=b"\x01\x02abb"), [b"a", b"bb"]),
            ("echo", "s", tensor_proto(tf.string, [100], string_val=[bytes(1000)]), [bytes(1000)] * 100),
        ],
    )
    def test_tensors_written_in_unusual_ways(self, stubs, signature_name, alias, proto, expected):
        request = make_request(signature_name)
        request.inputs[alias].CopyFrom(proto)
        outputs = stubs[0].Predict(request).outputs
        assert tf.make_ndarray(outputs["echo" if alias == "s" else "y"]).ravel().tolist() == expected

    def test_long_errors_are_cut(self, stubs):
        request = make_request(x=ROW)
        request.output_filter.append("z" * 5000)
        assert_fails(stubs[0].Predict, request, INVALID, r"zz\.\.\.TRUNCATED$")


def states(local):
    return {status.version: status.state for status in local.model.statuses()}


def wait_for(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class TestVersions:
    @pytest.fixture
    def base(self, tmp_path, versions):
        base = tmp_path / "clips"
        shutil.copytree(versions[0], base / "1")
        return base

    def test_swap_under_load_fails_no_request(self, base, versions, capsys):
        answers, failures, done = set(), [], threading.Event()

        def predict_by_rest(local):
            connection = connect(local)
            while not done.is_set():
                connection.request("POST", "/v1/models/clips:predict", json.dumps(GOOD))
                reply = connection.getresponse()
                data = json.loads(reply.read())
                (answers.add if reply.status == 200 else failures.append)(data.get("predictions", [[data]])[0][0])

        def predict_by_grpc(local):
            with grpc.insecure_channel(local.grpc_url.removeprefix("grpc://")) as channel:
                stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
                while not done.is_set():
                    try:
                        answers.add(stub.Predict(make_request(x=ROW)).outputs["y"].float_val[0])
                    except grpc.RpcError as error:
                        failures.append(error)

        with LocalServer(base, "clips", poll_seconds=0.1) as local:
            targets = (predict_by_rest, predict_by_rest, predict_by_grpc)
            threads = [threading.Thread(target=target, args=(local,)) for target in targets]
            for thread in threads:
                thread.start()
            publish.publish(lambda path: shutil.copytree(versions[1], path, dirs_exist_ok=True), base)
            wait_for(lambda: states(local) == {2: "AVAILABLE", 1: "END"})
            time.sleep(0.3)
            done.set()
            for thread in threads:
                thread.join()
            assert predict(local, GOOD)[1] == {"predictions": [[3.0, 6.0, 9.0]]}
            assert predict(local, GOOD, "/v1/models/clips/versions/1:predict")[0] == 404
            # Deleting the newest goes back to the former.
            shutil.rmtree(base / "2")
            wait_for(lambda: states(local) == {2: "END", 1: "AVAILABLE"})
            assert_alive(local)
        assert not failures
        assert answers == {2.0, 3.0}
        assert "model clips: version 2 serves, version 1 is retired" in capsys.readouterr().out

    def test_broken_version_leaves_the_old_one_serving(self, base, versions, capsys):
        with LocalServer(base, "clips", poll_seconds=0.1) as local:
            (base / "2").mkdir()
            wait_for(lambda: states(local) == {2: "END", 1: "AVAILABLE"})
            assert local.model.find_statuses("clips", 2)[0].code == "NOT_FOUND"
            assert_alive(local)
            # A copy that was still under way is tried again once it is complete.
            shutil.copytree(versions[1], base / "2", dirs_exist_ok=True)
            wait_for(lambda: states(local) == {2: "AVAILABLE", 1: "END"})
        assert capsys.readouterr().out.count("error: version 2 of clips does not load, version 1 stays") >= 1

    def test_replays_the_warm_up_file(self, base):
        path = base / "1" / "assets.extra" / "tf_serving_warmup_requests"
        path.parent.mkdir()

        def record(request):
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            with tf.io.TFRecordWriter(str(path)) as writer:
                writer.write(log.SerializeToString())

        record(make_request(x=ROW))
        LocalServer(base, "clips").stop()
        record(make_request(z=ROW))
        with pytest.raises(UserError, match="warm-up file .* does not fit the model: it has no 'x'"):
            LocalServer(base, "clips")
        record(make_request(x=ROW[0]))
        with pytest.raises(UserError, match="warm-up file .* cannot be replayed: Shape of input x"):
            LocalServer(base, "clips")
        path.write_bytes(b"not a TFRecord file")
        with pytest.raises(UserError, match="warm-up file .* cannot be replayed"):
            LocalServer(base, "clips")

    def test_warns_of_an_input_it_cannot_check(self, tmp_path, capsys):
        module = tf.Module()
        module.serve = tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec(None, name="x")])
        tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": module.serve})
        with LocalServer(tmp_path, "any") as local:
            assert predict(local, {"inputs": [[1, 2]]}, "/v1/models/any:predict") == (200, {"outputs": [[1.0, 2.0]]})
        assert "warning: input serving_default/x has no known rank" in capsys.readouterr().out

    def test_nothing_to_serve(self, tmp_path):
        with pytest.raises(UserError, match="there is no directory .*nowhere; publish a model there first"):
            server.check_base_path(tmp_path / "nowhere")
        (tmp_path / "v1").mkdir()
        with pytest.raises(UserError, match="holds no version"):
            server.check_base_path(tmp_path)
        (tmp_path / "3").mkdir()
        with pytest.raises(UserError, match="saved_model.pb"):
            LocalServer(tmp_path, "clips")
        (tmp_path / "3" / "saved_model.pb").touch()
        with pytest.raises(UserError, match="is one version; give the directory above"):
            server.check_base_path(tmp_path / "3")


def test_reply_needs_one_batch_size():
    with pytest.raises(RequestError, match="Tensor name: b has inconsistent batch size: 3 expecting: 2"):
        json_tensors.write_outputs({"a": np.zeros([2]), "b": np.zeros([3])}, by_row=True)


def test_ports_must_be_free_and_differ():
    one, two = ports.choose_ports("127.0.0.1", port=0, rest_api_port=0)
    assert one != two and ports.choose_ports("127.0.0.1", port=one, rest_api_port=two) == [one, two]
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = holder.getsockname()[1]
        for address in ("127.0.0.1", "0.0.0.0"):
            with pytest.raises(UserError, match=f"port {taken} is already in use .* --rest_api_port another number"):
                ports.choose_ports(address, port=0, rest_api_port=taken)
        with pytest.raises(UserError, match=f"port {taken} is already in use"):
            LocalServer("nowhere", "clips", port=taken)
    with pytest.raises(UserError, match="is given twice"):
        ports.choose_ports("127.0.0.1", port=one, rest_api_port=one)
    with pytest.raises(UserError, match="give --host an address of this machine"):
        ports.choose_ports("192.0.2.1", port=0)


def make_program(folder, text):
    """A program in the place of tensorflow_model_server; the folder is a PATH."""
    program = folder / model_server.PROGRAM
    program.write_text(text)
    program.chmod(0o755)
    return program


def test_the_script_runs_tensorflow_serving_or_the_local_server(tmp_path, saved):
    """The script, as a user runs it, finds a tensorflow_model_server on PATH, which is the script where it finds none.

    The convolutions that abort on a wrong rank or an empty image are oneDNN's, which the script turns on.
    """
    base = tmp_path / "clips"
    shutil.copytree(saved, base / "1")
    make_program(tmp_path, f'#!/bin/sh\nexec {sys.executable} {ROOT}/tests/model_server_stand_in.py "$@"\n')
    chosen_by_the_script = ("TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS")
    environment = {name: value for name, value in os.environ.items() if name not in chosen_by_the_script}
    environment["PATH"] = f"{tmp_path}:{environment['PATH']}"
    flags = [f"--model_base_path={base}", "--model_name=clips", "--port=0", "--rest_api_port=0"]
    with subprocess.Popen(
        [sys.executable, "saved_models/serve.py", *flags],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline().startswith("TensorFlow Serving runs, on all addresses of this machine: ")
        lines = iter(process.stdout.readline, "")
        line = next(line for line in lines if not line.startswith("waiting for model clips to load: "))
        addresses = r"grpc=grpc://127.0.0.1:(\d+) rest=http://127.0.0.1:(\d+)"
        ready = re.fullmatch(rf"ready model=clips version=1 {addresses}\n", line)
        addresses = {"grpc_url": f"grpc://127.0.0.1:{ready[1]}", "rest_url": f"http://127.0.0.1:{ready[2]}"}
        assert_survives_wrong_shapes(types.SimpleNamespace(**addresses))
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stdout.read() == "stopped\n"
        first, *others = process.stderr.read().splitlines()
    _, pid, *flags = first.split()
    assert flags == [
        f"--port={ready[1]}",
        f"--rest_api_port={ready[2]}",
        "--model_name=clips",
        f"--model_base_path={base}",
        "--grpc_max_threads=64",
        "--load_retry_interval_micros=1000000",
        "1",  # oneDNN's kernels are on
        "2",  # errors are shown
    ]
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
    # Not one line is TensorFlow's.
    assert others == [
        "tensorflow_model_server is not on PATH: the local server runs instead, which is meant for development; "
        "production wants TensorFlow Serving",
        f"ready model=clips version=1 grpc=grpc://0.0.0.0:{ready[1]} rest=http://0.0.0.0:{ready[2]}",
        "stopped",
    ]


def assert_survives_wrong_shapes(running):
    shapes = [(), (2,), (1, 1), (1, 2, 4, 4), (1, 2, 4, 4, 2), (0,), (0, *CLIP), (1, 2, 0, 4, 3), (1, 1, 1)]
    with grpc.insecure_channel(running.grpc_url.removeprefix("grpc://")) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for name, shape in itertools.product(["", "any_size"], shapes):
            image = np.ones(shape, np.float32)
            status, reply = predict(running, {"signature_name": name, "inputs": image.tolist()})
            assert status == 400 and re.match("Shape of input image|Input image is empty", reply["error"])
            text = r"^(Shape of input image|Input image is empty)"
            assert_fails(stub.Predict, make_request(name, image=image), INVALID, text)
        assert list(stub.Predict(make_request(x=ROW)).outputs["y"].float_val) == [2.0] * 3
    assert_alive(running)


class TestTensorFlowServing:
    """A program of that name that is on PATH and does not serve."""

    @pytest.fixture
    def run(self, tmp_path, monkeypatch):
        """server.run with a shell script for the program."""
        (tmp_path / "clips" / "1").mkdir(parents=True)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

        def run(text):
            make_program(tmp_path, text)
            server.run(tmp_path / "clips", "clips", port=0, rest_api_port=0)

        return run

    @pytest.mark.parametrize(
        "text, message",
        [
            ("#!/bin/sh\nexit 255\n", "tensorflow_model_server ended by itself with exit code 255"),
            ("#!/bin/sh\nkill -ABRT $$\n", "ended by itself with signal SIGABRT; see its own lines"),
            ("no program", "tensorflow_model_server cannot be started .*Exec format error"),
        ],
    )
    def test_a_program_that_fails(self, run, text, message):
        with pytest.raises(UserError, match=message):
            run(text)

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_stops_while_the_model_loads(self, run, capfd, number):
        if signal.getsignal(number) == signal.SIG_IGN:
            pytest.skip("under nohup a hang-up is ignored, and stays so")
        timer = threading.Timer(0.3, os.kill, (os.getpid(), number))
        timer.start()
        run("#!/bin/sh\nexec sleep 60\n")
        timer.join()
        lines = capfd.readouterr().out.splitlines()
        assert len(lines) == 2 and lines[1] == "stopped"

    def test_a_model_that_never_loads(self, tmp_path, capfd, monkeypatch):
        monkeypatch.setattr(model_server, "_STOP_SECONDS", 0.1)
        program = make_program(tmp_path, "#!/bin/sh\ntrap '' TERM\necho $$\nwhile :; do sleep 0.1; done\n")
        numbers = ports.choose_ports("127.0.0.1", port=0, rest_api_port=0)
        with model_server.ModelServer(str(program), tmp_path, "clips", "127.0.0.1", *numbers) as running:
            with pytest.raises(UserError, match="did not make model 'clips' available within 2.2 s; see its own lines"):
                running.wait_until_available(lambda: False, seconds=2.2)
        out, error = capfd.readouterr()
        assert "waiting for model clips to load: 2 s" in out
        with pytest.raises(ProcessLookupError):
            os.kill(int(error), 0)
