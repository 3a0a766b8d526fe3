"""The client against the local server, and against servers that fail in known ways, over real sockets."""

import concurrent.futures
import contextlib
import gc
import http.server
import importlib
import itertools
import json
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest
import tensorflow as tf

import keras_nonlocal
from keras_nonlocal import drawing
from keras_nonlocal.errors import MissingExtra, UserError
from keras_nonlocal.serving import (
    Client,
    classification,
    clip_inputs,
    compare,
    explanations,
    file_inputs,
    json_arrays,
    publish,
)
from keras_nonlocal.serving.apis import (
    get_model_status_pb2,
    grpc,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from keras_nonlocal.serving.local import server

ROOT = pathlib.Path(__file__).parent.parent
FRAMES = 20


class Classifier(tf.Module):
    """Three "classes": the shares of red, green and blue in a clip."""

    def __init__(self):
        super().__init__()
        self.scale = tf.Variable(1 / 255)

    def _classify(self, clips):
        logits = self.scale * tf.reduce_mean(tf.cast(clips, tf.float32), [1, 2, 3])
        return {"logits": logits, "probabilities": logits / tf.reduce_sum(logits, -1, keepdims=True)}

    @tf.function(input_signature=[tf.TensorSpec([None, 4, 16, 16, 3], tf.uint8, name="frames")])
    def fixed(self, frames):
        return self._classify(frames)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, None, 3], tf.uint8, name="frames")])
    def open_size(self, frames):
        return self._classify(frames)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def tf_example(self, examples):
        _, lists, lengths = tf.io.parse_sequence_example(
            examples, sequence_features={"image/encoded": tf.io.FixedLenSequenceFeature([], tf.string)}
        )
        images = tf.map_fn(tf.io.decode_jpeg, tf.reshape(lists["image/encoded"], [-1]), fn_output_signature=tf.uint8)
        size = tf.shape(images)[1:]
        batch, frames = tf.shape(examples), tf.cast(lengths["image/encoded"][:1], tf.int32)
        clips = tf.reshape(images, tf.concat([batch, frames, size], 0))
        return self._classify(tf.ensure_shape(clips, [None, None, None, None, 3]))

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.string, name="encoded")])
    def frame_list(self, encoded):
        return self._classify(tf.map_fn(tf.io.decode_jpeg, encoded[0], fn_output_signature=tf.uint8)[tf.newaxis])

    @tf.function(input_signature=[tf.TensorSpec([None, 3], name="x")])
    def only(self, x):
        return {"y": 2 * x}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="s")])
    def echo(self, s):
        return {"s_bytes": s}

    @tf.function(input_signature=[tf.TensorSpec([], name="x"), tf.TensorSpec([None], tf.string, name="s")])
    def mixed(self, x, s):
        values = tf.stack([x, x / 0.0, 0.1 * x])
        return {"values": values, "whole": tf.cast(x, tf.int64), "high": x > 1, "text": s}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 4, 16, 16, 3], tf.uint8, name="frames"),
            tf.TensorSpec([None, None, 3], name="queries"),
        ]
    )
    def explain(self, frames, queries):
        """Each query looks at itself, and at the last frame's far corner the more, the greener the clip is."""
        green = tf.reduce_mean(tf.cast(frames[..., 1], tf.float32), [1, 2, 3]) / 255
        corner = tf.broadcast_to([3.0, 15.5, 15.5], tf.shape(queries))
        weights = tf.stack([1 - green, green], -1)[:, None] + tf.zeros_like(queries[..., :1])
        return {"queries": queries, "positions": tf.stack([queries, corner], 2), "weights": weights}

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 12, 3], tf.uint8, name="images")])
    def images(self, images):
        return self._classify(images[:, tf.newaxis])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="encoded")])
    def encoded(self, encoded):
        image = tf.io.decode_image(encoded[0], 3, expand_animations=False)
        return self._classify(image[tf.newaxis, tf.newaxis])


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A published model."""
    module = Classifier()
    names = ["open_size", "tf_example", "frame_list", "only", "echo", "mixed", "explain", "images", "encoded"]
    signatures = {"serving_default": module.fixed} | {name: getattr(module, name) for name in names}
    base = tmp_path_factory.mktemp("saved_models") / "clips"
    publish.publish(lambda path: tf.saved_model.save(module, path, signatures=signatures), base)
    return base


@pytest.fixture(scope="module")
def local(base):
    with server.LocalServer(base, "clips") as running:
        yield running


def target(local, protocol):
    return local.grpc_url if protocol == "grpc" else local.rest_url


@pytest.fixture(scope="module", params=["grpc", "rest"])
def client(local, request):
    with Client(target(local, request.param), "clips") as made:
        yield made


@pytest.fixture
def photo(tmp_path):
    """A PNG, 40 x 30, whose middle 30 x 20 is green and the rest red."""
    pixels = np.zeros([30, 40, 3], np.uint8)
    pixels[..., 0] = 255
    pixels[5:25, 5:35] = (0, 255, 0)
    (tmp_path / "photo.png").write_bytes(tf.io.encode_png(pixels).numpy())
    return tmp_path / "photo.png"


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """An MP4 of 20 frames, 64 x 48, more and more green."""
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (64, 48))
    for index in range(FRAMES):
        writer.write(np.full([48, 64, 3], (40, 100 + 5 * index, 20), np.uint8))
    writer.release()
    return path


def green(index):
    return 100 + 5 * index


class TestClipInputs:
    def test_takes_the_centres_of_equal_parts(self, video):
        clip = clip_inputs.sample_clip(video, 4, 16, 24)
        assert clip.shape == (4, 16, 24, 3) and clip.dtype == np.uint8
        np.testing.assert_allclose(clip[:, 8, 12, 1], [green(index) for index in (2, 7, 12, 17)], atol=4)
        assert np.all(clip[..., 2] < 60) and np.all(clip[..., 0] < 40)  # RGB, not BGR

    def test_repeats_frames_of_a_short_video(self, video):
        clip = clip_inputs.sample_clip(video, 40, 16, 16)
        np.testing.assert_allclose(clip[:, 8, 8, 1], [green(index // 2) for index in range(40)], atol=4)

    def test_open_sizes(self, video):
        assert clip_inputs.sample_clip(video).shape == (32, 224, 224, 3)

    @pytest.mark.parametrize("size", [(48, 64), (17, 31), (100, 10), (10, 100), (300, 300)])
    def test_resize_covers_and_cuts_the_centre(self, size):
        frame = np.zeros([48, 64, 3], np.uint8)
        frame[:, 28:36] = 255
        cut = clip_inputs.resize_and_crop(frame, *size)
        assert cut.shape == (*size, 3)
        assert np.all(cut[:, size[1] // 2] > 200)

    def test_sequence_example_has_all_frames(self, video):
        example = tf.train.SequenceExample.FromString(clip_inputs.sequence_example(video))
        frames = example.feature_lists.feature_list["image/encoded"].feature
        assert len(frames) == FRAMES
        image = tf.io.decode_jpeg(frames[19].bytes_list.value[0]).numpy()
        assert image.shape == (48, 64, 3) and abs(int(image[24, 32, 1]) - green(19)) < 5

    def test_signature_it_cannot_fill(self, local, video):
        with Client(local.rest_url, "clips") as asked:
            only, mixed = (asked.signature(name) for name in ("only", "mixed"))
        with pytest.raises(UserError, match="input 'x' is float32 of shape .*a video can fill uint8 frames"):
            clip_inputs.from_video(video, *file_inputs.single_input(only))
        with pytest.raises(UserError, match=r"takes \['s', 'x'\]; a file can fill one input"):
            file_inputs.single_input(mixed)


class TestJson:
    @pytest.mark.parametrize("shape", [(), (3,), (0,), (2, 0, 3), (2, 3), (2, 3, 4, 5, 3)])
    @pytest.mark.parametrize("dtype", ["uint8", "float32", "int64", "bool"])
    def test_arrays(self, shape, dtype):
        array = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
        document = json.loads(json_arrays.request_body({"a": array, "b": array.T}, "f"))
        assert document["signature_name"] == "f" and list(document) == ["signature_name", "inputs"]
        assert document["inputs"] == {"a": array.tolist(), "b": array.T.tolist()}

    def test_every_byte_and_texts(self):
        array = np.arange(256, dtype=np.uint8)
        values = {"a": array, 'b"': [b"\xff\0", "\u00e4"], "c": [float("nan")]}
        text = json_arrays.request_body(values, 'f"')
        document = json.loads(text)
        assert document["inputs"]["a"] == list(range(256)) and document["signature_name"] == 'f"'
        assert document["inputs"]['b"'] == [{"b64": "/wA="}, {"b64": "w6Q="}]
        assert b"[NaN]" in text

    def test_the_collector_runs_again(self):
        json_arrays.request_body({"a": [1]}, "f")
        assert gc.isenabled()


class TestPredict:
    def test_same_answer_by_both(self, local):
        clips = np.random.default_rng(0).integers(0, 256, [3, 4, 16, 16, 3], dtype=np.uint8)
        with Client(local.rest_url, "clips") as rest, Client(target(local, "grpc"), "clips") as by_grpc:
            found = rest.predict({"frames": clips})
            expected = by_grpc.predict({"frames": clips}, version=1)
        assert sorted(found) == sorted(expected) == ["logits", "probabilities"]
        for alias, values in expected.items():
            assert values.shape == (3, 3) and values.dtype == found[alias].dtype == np.float32
            np.testing.assert_array_equal(found[alias], values)
        shares = clips.mean((1, 2, 3)) / clips.mean((1, 2, 3)).sum(-1, keepdims=True)
        np.testing.assert_allclose(expected["probabilities"], shares, rtol=1e-5)

    def test_single_output_has_its_name(self, client):
        reply = client.predict({"x": [[1.0, 2.0, 3.0]]}, "only", version=1)
        assert list(reply) == ["y"] and reply["y"].tolist() == [[2.0, 4.0, 6.0]]

    @pytest.mark.parametrize("values", [[b"a\0", b""], np.array([b"\xff\0"], object), ["text"]])
    def test_bytes(self, client, values):
        expected = [value.encode() if isinstance(value, str) else value for value in values]
        assert client.predict({"s": values}, "echo")["s_bytes"].tolist() == expected

    def test_types_and_no_batch(self, client):
        reply = client.predict({"x": np.float32(2), "s": ["\u00e4", "b"]}, "mixed")
        assert {alias: value.dtype for alias, value in reply.items()} == {
            "values": np.float32, "whole": np.int64, "high": bool, "text": object}  # fmt: skip
        np.testing.assert_array_equal(reply["values"], np.float32([2, np.inf, np.float32(0.1) * 2]))
        assert (reply["whole"], reply["high"]) == (2, True)
        assert reply["text"].tolist() == ["\u00e4".encode(), b"b"]

    def test_signature(self, client, local):
        with Client(local.rest_url, "clips") as rest:
            assert client.signature("tf_example") == rest.signature("tf_example", version=1)
        with pytest.raises(
            UserError, match="no signature 'nope'; it has echo, encoded, explain, frame_list, images, mixed, only"
        ):
            client.signature("nope")

    def test_states(self, client):
        assert client.states() == client.states(1) == {1: "AVAILABLE"}
        client.wait_until_available(timeout=5)

    def test_more_than_grpcs_default_limit(self, local):
        clip = np.zeros([1, 32, 224, 224, 3], np.uint8)
        clip[..., 1] = 255
        with Client(target(local, "grpc"), "clips") as client:
            reply = client.predict({"frames": clip}, "open_size")
        np.testing.assert_allclose(reply["probabilities"], [[0, 1, 0]])


def row(number):
    return {"x": np.full([1, 3], number, np.float32)}


class TestManyCalls:
    def test_from_threads(self, client):
        def call(number):
            return client.predict(row(number), "only")["y"][0, 0]

        with concurrent.futures.ThreadPoolExecutor(16) as executor:
            assert list(executor.map(call, range(200))) == [2 * number for number in range(200)]

    def test_async(self, client):
        futures = [client.predict_async(row(number), "only") for number in range(40)]
        assert [future.result(30)["y"][0, 2] for future in futures] == [2 * number for number in range(40)]
        with pytest.raises(UserError, match="refused the request"):
            client.predict_async({"x": [[1.0]]}, "only").result(30)

    @pytest.mark.parametrize("concurrency", [1, 4])
    def test_many_are_in_order_and_few_in_memory(self, client, concurrency):
        drawn = []

        def batches():
            for number in range(30):
                drawn.append(number)
                yield row(number)

        answers = client.predict_many(batches(), "only", concurrency=concurrency)
        assert drawn == [], "nothing is sent before an answer is asked for"
        for number, answer in enumerate(answers):
            assert answer["y"][0, 0] == 2 * number and len(drawn) <= number + concurrency
        assert len(drawn) == 30

    def test_endless_batches(self, client):
        answers = client.predict_many(map(row, itertools.count()), "only")
        assert [answer["y"][0, 0] for answer in itertools.islice(answers, 3)] == [0, 2, 4]

    def test_an_error_comes_in_its_place(self, client):
        answers = client.predict_many([row(1), {"x": [["a"]]}, row(3)], "only", concurrency=3)
        assert next(answers)["y"][0, 0] == 2
        with pytest.raises(UserError, match="refused the request"):
            next(answers)
        with pytest.raises(ValueError, match="`concurrency` must be a positive integer. Received: concurrency=0"):
            client.predict_many([], concurrency=0)


def test_without_the_extra(monkeypatch):
    """Publishing imports the room; only who asks for the client needs what it is made of."""
    for name in [name for name in sys.modules if name.startswith(("keras_nonlocal.serving", "tensorflow_serving"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(keras_nonlocal, "serving", keras_nonlocal.serving)
    monkeypatch.setitem(sys.modules, "tensorflow_serving", None)
    room = importlib.import_module("keras_nonlocal.serving")
    with pytest.raises(
        MissingExtra, match=r"tensorflow_serving.apis is not installed: pip install 'keras_nonlocal\[serving"
    ):
        _ = room.Client
    with pytest.raises(AttributeError, match="no attribute 'Other'"):
        _ = room.Other


class TestErrors:
    @pytest.mark.parametrize("wrong", ["127.0.0.1:8500", "ftp://a:1", "grpc://", "http://a:port", "http://a:0", ""])
    def test_targets(self, wrong):
        with pytest.raises(UserError, match=re.escape(f"Received: target={wrong!r}")):
            Client(wrong, "clips")

    @pytest.mark.parametrize("scheme, port", [("grpc", 8500), ("grpcs", 443)])
    def test_a_target_without_a_port(self, scheme, port):
        with Client(f"{scheme}://nowhere.invalid", "clips", timeout=20, retries=0) as client:
            with pytest.raises(UserError, match=f"nowhere.invalid:{port}"):
                client.states()

    def test_arguments(self, tmp_path):
        for options, words in (
            ({"timeout": 0}, "`timeout` must be more than 0"),
            ({"retries": -1}, "`retries` must be"),
            ({"ca_file": tmp_path / "none.pem"}, "`ca_file` cannot be read .No such file"),
        ):
            with pytest.raises(ValueError, match=words):
                Client("https://localhost", "clips", **options)

    @pytest.mark.parametrize("scheme", ["grpc", "http"])
    def test_no_server(self, scheme):
        with Client(f"{scheme}://127.0.0.1:{free_port()}", "clips", retries=1) as client:
            with pytest.raises(UserError, match=r"no model server answers at .*refused.*keras-nonlocal serve"):
                client.predict(row(1))
            with pytest.raises(UserError, match="model 'clips' is not available after 0.1 s: no model server"):
                client.wait_until_available(timeout=0.1)

    @pytest.mark.parametrize("scheme", ["grpc", "http"])
    def test_server_that_never_answers(self, scheme):
        with socket.create_server(("127.0.0.1", 0)) as holder:
            with Client(f"{scheme}://127.0.0.1:{holder.getsockname()[1]}", "clips", timeout=0.2) as client:
                start = time.monotonic()
                with pytest.raises(UserError, match="no answer from .* in time"):
                    client.predict(row(1))
                assert time.monotonic() - start < 2

    @pytest.mark.parametrize("body", [b"hello", b"[]", b"{}"])
    def test_not_a_model_server(self, body):
        with scripted([(200, body)]) as (url, _), Client(url, "clips") as client:
            with pytest.raises(UserError, match="is not the address of a model server"):
                client.signature()

    def test_a_label_is_asked_for_as_such(self, client):
        """The local server knows none, and says which it was asked for."""
        with pytest.raises(UserError, match="Unrecognized servable version label: canary"):
            client.predict(row(1), version="canary")
        wanted = "not a label: give a number" if client.target.startswith("grpc") else "version label: canary"
        with pytest.raises(UserError, match=wanted):
            client.signature(version="canary")

    def test_unknown_model_or_version(self, client, local):
        with Client(client.target, "zzz") as other:
            for ask in (other.predict, lambda inputs: client.predict(inputs, version=9)):
                with pytest.raises(UserError, match="does not have this model or version: Servable not found"):
                    ask(row(1))
            with pytest.raises(UserError, match="model 'zzz' is not available after 0.1 s: .*Could not find any vers"):
                other.wait_until_available(timeout=0.1)

    def test_refused_request(self, local):
        with Client(local.rest_url, "clips") as rest, Client(target(local, "grpc"), "clips") as by_grpc:
            with pytest.raises(UserError, match=r"refused the request \(400\): .*not of expected type: float"):
                rest.predict({"x": [["a"]]}, "only")
            with pytest.raises(UserError, match=r"signature 'only' takes \['x'\], not \['z'\]"):
                rest.predict({**row(1), "z": [1]}, "only")
            with pytest.raises(UserError, match=r"refused the request \(INVALID_ARGUMENT\): Expects arg\[0\]"):
                by_grpc.predict({"x": [[1, 2, 3]]}, "only")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as holder:
        return holder.getsockname()[1]


METADATA = {
    "metadata": {
        "signature_def": {
            "signature_def": {"only": {"inputs": {"x": {"dtype": "DT_FLOAT"}}, "outputs": {"y": {"dtype": "DT_FLOAT"}}}}
        }
    }
}
STATES = {"model_version_status": [{"version": "1", "state": "AVAILABLE"}]}
GOOD = (200, json.dumps(STATES).encode())
BUSY = (503, b'{"error": "The batch scheduling queue is full"}')


class Scripted(http.server.BaseHTTPRequestHandler):
    """Answers one request after another from a list, the last one for ever; notes connections and requests."""

    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.server.seen["connections"] += 1

    def do_POST(self):  # noqa: N802
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen["requests"].append((self.path, self.headers["Authorization"]))
        script = self.server.script
        status, body = script.pop(0) if len(script) > 1 else script[0]
        if status is None:  # the connection breaks
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = self.server.closes

    do_GET = do_POST  # noqa: N815

    def log_message(self, *args):
        """Nothing."""


@contextlib.contextmanager
def scripted(script, closes=False, tls=None):
    """A server of a script; yields its address and what it has seen."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Scripted) as running:
        running.daemon_threads = True
        running.script, running.closes = list(script), closes
        running.seen = {"connections": 0, "requests": []}
        if tls:
            running.socket = tls.wrap_socket(running.socket, server_side=True)
        thread = threading.Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        yield f"http{'s' if tls else ''}://127.0.0.1:{running.server_port}", running.seen
        running.shutdown()
        thread.join()


class Codes(prediction_service_pb2_grpc.PredictionServiceServicer, model_service_pb2_grpc.ModelServiceServicer):
    """Ends its calls with one code after another, the last one for ever; None stands for an answer."""

    def __init__(self, codes):
        self.codes, self.calls, self.tokens = list(codes), 0, []

    def Predict(self, request, context):  # noqa: N802
        self.calls += 1
        self.tokens.append(dict(context.invocation_metadata()).get("authorization"))
        code = self.codes.pop(0) if len(self.codes) > 1 else self.codes[0]
        if code is not None:
            context.abort(code, "a reason")
        return predict_pb2.PredictResponse(outputs={"y": tf.make_tensor_proto([1.0])})

    def GetModelStatus(self, request, context):  # noqa: N802
        return get_model_status_pb2.GetModelStatusResponse(model_version_status=[{"version": 3, "state": 20}])


@contextlib.contextmanager
def grpc_server(servicer, credentials=None):
    running = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(servicer, running)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(servicer, running)
    if credentials:
        port = running.add_secure_port("127.0.0.1:0", credentials)
    else:
        port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    try:
        yield f"grpc{'s' if credentials else ''}://127.0.0.1:{port}"
    finally:
        running.stop(None).wait()


class TestRetries:
    @pytest.mark.parametrize("protocol", ["grpc", "rest"])
    def test_a_server_that_starts_while_it_is_called(self, base, protocol):
        ports = {"port": free_port(), "rest_api_port": free_port()}
        address = {"grpc": f"grpc://127.0.0.1:{ports['port']}", "rest": f"http://127.0.0.1:{ports['rest_api_port']}"}
        stop = threading.Event()

        def run_later():
            time.sleep(0.5)
            with server.LocalServer(base, "clips", "127.0.0.1", **ports):
                stop.wait(30)

        thread = threading.Thread(target=run_later)
        thread.start()
        try:
            with Client(address[protocol], "clips", timeout=30, retries=20) as client:
                assert client.predict(row(4), "only")["y"].tolist() == [[8.0] * 3]
        finally:
            stop.set()
            thread.join()

    def test_http_503_and_502_and_broken_connections(self):
        with scripted([BUSY, (502, b"<html>Bad Gateway</html>"), (None, b""), GOOD]) as (url, seen):
            with Client(url, "clips") as client:
                assert client.states() == {1: "AVAILABLE"}
        assert len(seen["requests"]) == 4

    def test_grpc_unavailable(self):
        codes = Codes([grpc.StatusCode.UNAVAILABLE] * 2 + [None])
        with grpc_server(codes) as address, Client(address, "clips") as client:
            assert client.predict(row(1))["y"].tolist() == [1.0]
            assert client.states() == {3: "LOADING"}
        assert codes.calls == 3

    @pytest.mark.parametrize("status", [400, 401, 404, 413, 429, 500, 504])
    def test_other_statuses_are_not_tried_again(self, status):
        with scripted([(status, b'{"error": "a reason"}')]) as (url, seen), Client(url, "clips") as client:
            with pytest.raises(UserError, match=rf"refused the request \({status}\): a reason"):
                client.states()
        assert len(seen["requests"]) == 1

    @pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "INTERNAL", "UNAUTHENTICATED"])
    def test_other_codes_are_not_tried_again(self, code):
        codes = Codes([grpc.StatusCode[code]])
        with grpc_server(codes) as address, Client(address, "clips") as client:
            with pytest.raises(UserError, match=rf"refused the request \({code}\): a reason"):
                client.predict(row(1))
        assert codes.calls == 1

    def test_tries_are_counted(self):
        with scripted([BUSY]) as (url, seen), Client(url, "clips", retries=2) as client:
            start = time.monotonic()
            with pytest.raises(UserError, match=r"too much to do \(503\): The batch scheduling queue is full; try"):
                client.states()
            assert len(seen["requests"]) == 3
            assert 0.3 <= time.monotonic() - start < 5, "pauses of at least 0.1 and 0.2 s"
        codes = Codes([grpc.StatusCode.UNAVAILABLE])
        with grpc_server(codes) as address, Client(address, "clips", retries=0) as client:
            with pytest.raises(UserError, match=r"too much to do \(UNAVAILABLE\): a reason"):
                client.predict(row(1))
        assert codes.calls == 1

    def test_the_time_is_for_all_tries(self):
        with scripted([BUSY]) as (url, seen), Client(url, "clips", timeout=0.8, retries=1000) as client:
            start = time.monotonic()
            with pytest.raises(UserError, match="503"):
                client.states()
            assert time.monotonic() - start < 2
        assert 2 <= len(seen["requests"]) <= 4

    def test_a_reply_that_trickles_in_is_late(self):
        def answer(holder):
            connection, _ = holder.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(2**16)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                for _ in range(60):
                    connection.sendall(b"x")
                    time.sleep(0.1)

        with socket.create_server(("127.0.0.1", 0)) as holder:
            thread = threading.Thread(target=answer, args=(holder,))
            thread.start()
            with Client(f"http://127.0.0.1:{holder.getsockname()[1]}", "clips", timeout=0.5) as client:
                start = time.monotonic()
                with pytest.raises(UserError, match="no answer from .* in time"):
                    client.states()
                assert time.monotonic() - start < 2
            thread.join()

    def test_a_reply_that_ends_early_is_asked_for_again(self):
        whole = GOOD[1]

        def answer(holder):
            for length in (len(whole) + 10, len(whole)):
                connection, _ = holder.accept()
                with connection:
                    connection.recv(2**16)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (length, whole))

        with socket.create_server(("127.0.0.1", 0)) as holder:
            thread = threading.Thread(target=answer, args=(holder,))
            thread.start()
            with Client(f"http://127.0.0.1:{holder.getsockname()[1]}", "clips") as client:
                assert client.states() == {1: "AVAILABLE"}
            thread.join()


class TestConnections:
    def test_one_connection_for_calls_in_turn(self):
        with scripted([GOOD]) as (url, seen), Client(url, "clips") as client:
            for _ in range(5):
                client.states()
        assert (seen["connections"], len(seen["requests"])) == (1, 5)

    def test_a_connection_that_the_server_closed(self):
        with scripted([GOOD], closes=True) as (url, seen), Client(url, "clips") as client:
            for _ in range(3):
                assert client.states() == {1: "AVAILABLE"}
        assert seen["connections"] == 3

    def test_the_signature_is_asked_for_once(self):
        script = [(200, json.dumps(METADATA).encode()), (200, b'{"outputs": [2.0]}')]
        with scripted(script) as (url, seen), Client(f"{url}/prefix/", "my clips") as client:
            for _ in range(3):
                assert client.predict({"x": 1.0}, "only")["y"].tolist() == [2.0]
        paths = [path for path, _ in seen["requests"]]
        assert paths == ["/prefix/v1/models/my%20clips/metadata", *["/prefix/v1/models/my%20clips:predict"] * 3]

    @pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
    def test_tls_and_a_token(self, tmp_path):
        key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=here",
             "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
            check=True, capture_output=True,
        )  # fmt: skip
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        options = {"ca_file": certificate, "headers": {"Authorization": "Bearer abc"}, "timeout": 20}
        with scripted([GOOD], tls=context) as (url, seen):
            with Client(url, "clips", **options) as client:
                assert client.states() == {1: "AVAILABLE"}
            assert seen["requests"] == [("/v1/models/clips", "Bearer abc")]
            with Client(url, "clips") as client, pytest.raises(UserError, match="no trusted connection to .*ca_file"):
                client.states()
        codes = Codes([None])
        credentials = grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
        with grpc_server(codes, credentials) as address:
            with Client(address, "clips", **options) as client:
                assert client.predict(row(1))["y"].tolist() == [1.0]
            assert codes.tokens == ["Bearer abc"]
            with Client(address, "clips") as client, pytest.raises(UserError, match="no trusted connection to .*ca_f"):
                client.predict(row(1))


class TestFiles:
    def test_a_video_is_classified(self, client, video, tmp_path):
        (tmp_path / "labels.txt").write_text("red\ngreen\nblue\n")
        first, second = client.classify(video, tmp_path / "labels.txt", top_k=2)
        assert (first.name, first.number, second.name) == ("green", 1, "blue")
        assert first.probability == pytest.approx(147.5 / 207.5, abs=0.02)
        (by_example,) = client.classify(video, top_k=1, signature_name="tf_example")
        assert by_example[:2] == ("class 1", 1)

    def test_a_photo_is_classified(self, client, photo):
        """As a file it is whole; as pixels it is scaled to cover 8 x 12 and cut, at its red top and bottom."""
        found = client.classify(photo)
        assert [scored.number for scored in found] == [0, 1, 2]
        np.testing.assert_allclose([scored.probability for scored in found], [0.5, 0.5, 0], atol=1e-6)
        cut = {scored.number: scored.probability for scored in client.classify(photo, signature_name="images")}
        assert cut[0] + cut[1] == pytest.approx(1) and cut[1] > 0.5

    def test_a_model_that_classifies_or_detects_nothing(self, client, video, photo):
        with pytest.raises(UserError, match=r"gives \['y'\], not 'probabilities'"):
            client.classify(video, signature_name="only")
        with pytest.raises(UserError, match=r"lacks \['boxes', 'classes', 'num_detections', 'scores'\] of a detector"):
            client.detect(photo)
        with pytest.raises(UserError, match="explains nothing"):
            client.explain(video, [[0, 1, 1]], signature_name="only")

    def test_an_explanation(self, client, video):
        found = client.explain(video, [[0, 4.5, 4.5], [2, 8, 8]])
        assert found.source.shape == (4, 16, 16, 3) and found.queries.tolist() == [[0, 4.5, 4.5], [2, 8, 8]]
        assert found.positions.tolist() == [[[0, 4.5, 4.5], [3, 15.5, 15.5]], [[2, 8, 8], [3, 15.5, 15.5]]]
        green_share = found.source[..., 1].mean() / 255
        np.testing.assert_allclose(found.weights, [[1 - green_share, green_share]] * 2, rtol=1e-5)
        again = client.explain(found.source, found.queries)
        np.testing.assert_array_equal(again.weights, found.weights)
        expected = drawing.draw_arrows(found.source, found.queries, found.positions, found.weights)
        np.testing.assert_array_equal(explanations.draw(found), expected)
        with pytest.raises(UserError, match=r"one or more of 3 numbers: frame, y, x. Received: shape \(1, 2\)"):
            client.explain(video, [[1, 2]])


class TestCompare:
    @pytest.mark.parametrize("signature", ["serving_default", "tf_example", "frame_list"])
    def test_a_video(self, local, video, signature):
        with compare.BothProtocols(local.grpc_url, local.rest_url, "clips") as both:
            inputs = classification.request(video, both.signature(signature))
            found = both.predict(inputs, signature).map(classification.from_outputs)
        np.testing.assert_array_equal(found.rest, found.grpc)
        np.testing.assert_allclose(found.grpc, np.array([20, 147.5, 40]) / 207.5, atol=0.02)

    def test_an_explanation(self):
        places = np.array([[[0, 4.5, 4.5], [3, 15.5, 15.5]]])
        found = explanations.Explanation(
            np.zeros([4, 16, 16, 3], np.uint8), places[:, 0], places, np.array([[0.75, 0.25]])
        )
        both = compare.Comparison(found, 1.5, found, 0.5)
        assert compare.explanation_table(both).splitlines() == [
            "query                  looks at                     REST      gRPC",
            "frame 0.0 y 4.5 x 4.5  frame 0.0 y 4.5 x 4.5    0.750000  0.750000",
            "frame 0.0 y 4.5 x 4.5  frame 3.0 y 15.5 x 15.5  0.250000  0.250000",
            "seconds                                            1.500     0.500",
        ]
        assert len(compare.explanation_table(both, top=1).splitlines()) == 3

    def test_labels(self, tmp_path):
        found = compare.Comparison(np.array([0.25, 0.75]), 1.5, np.array([0.25, 0.75]), 0.5)
        (tmp_path / "labels.txt").write_text("run\nsit down\n")
        assert compare.class_table(found, tmp_path / "labels.txt").splitlines() == [
            "class         REST      gRPC",
            "sit down  0.750000  0.750000",
            "run       0.250000  0.250000",
            "seconds      1.500     0.500",
        ]
        assert "class 1" in compare.class_table(found, top=1) and "class 0" not in compare.class_table(found, top=1)
        (tmp_path / "labels.txt").write_text("run\n")
        with pytest.raises(UserError, match="has 1 lines, but the model has 2 classes"):
            compare.class_table(found, tmp_path / "labels.txt")
        with pytest.raises(UserError, match="labels file .*none.txt"):
            compare.class_table(found, tmp_path / "none.txt")


def test_the_script_prints_both_predictions(local, video):
    addresses = [f"--server={local.grpc_url}", f"--rest={local.rest_url}"]
    command = [
        sys.executable,
        "saved_models/client.py",
        f"--video={video}",
        "--model_name=clips",
        "--top=1",
        *addresses,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["class", "REST", "gRPC"]
    assert re.fullmatch(r"class 1 +(0\.7\d+) +\1", lines[1])
    assert re.fullmatch(r"seconds( +\d+\.\d{3}){2}", lines[2])


@pytest.mark.slow
def test_the_script_explains(local, video, tmp_path):
    flags = [f"--server={local.grpc_url}", f"--rest={local.rest_url}", f"--out={tmp_path / 'drawn.png'}"]
    flags += [f"--video={video}", "--model_name=clips", "--top=1", "--explain=0,4.5,4.5", "--explain=2,8,8"]
    command = [sys.executable, "saved_models/client.py", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["query", "looks", "at", "REST", "gRPC"]
    assert re.fullmatch(r"frame 0.0 y 4.5 x 4.5  frame 0.0 y 4.5 x 4.5  (0\.4\d+)  \1", lines[1])
    assert re.fullmatch(r"frame 2.0 y 8.0 x 8.0  frame 2.0 y 8.0 x 8.0  (0\.4\d+)  \1", lines[2])
    assert lines[3].startswith("seconds") and lines[4] == f"drawn: {tmp_path / 'drawn.png'}" and len(lines) == 5
    with Client(local.rest_url, "clips") as client:
        expected = explanations.draw(client.explain(video, [[0, 4.5, 4.5], [2, 8, 8]]))
    np.testing.assert_array_equal(file_inputs.read_pixels(tmp_path / "drawn.png"), expected)
    # The same by the command that is for models of all kinds, of one query and one protocol.
    flags = [f"--server={target(local, 'grpc')}", "--model_name=clips", "--query=2,8,8", f"--out={tmp_path}"]
    explain = [sys.executable, "training/explain.py", str(video), *flags]
    done = subprocess.run(explain, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, f"drawn: {tmp_path / 'arrows.png'}\n"), done.stderr
    with Client(local.rest_url, "clips") as client:
        expected = explanations.draw(client.explain(video, [[2, 8, 8]]))
    np.testing.assert_array_equal(file_inputs.read_pixels(tmp_path / "arrows.png"), expected)
    command.append("--explain=8,8")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (
        1,
        "error: --explain must be FRAME,Y,X, such as 16,112,80. Received: 8,8\n",
    )
