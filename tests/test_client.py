import pathlib
import re
import socket
import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest
import tensorflow as tf

from keras_nonlocal.errors import UserError
from keras_nonlocal.serving import client, clip_inputs, compare, publish
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

    @tf.function(input_signature=[tf.TensorSpec([None, 3], name="x")])
    def only(self, x):
        return {"y": 2 * x}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="s")])
    def echo(self, s):
        return {"s_bytes": s}


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    module = Classifier()
    names = ["open_size", "tf_example", "only", "echo"]
    signatures = {"serving_default": module.fixed} | {name: getattr(module, name) for name in names}
    base = tmp_path_factory.mktemp("saved_models") / "clips"
    publish.publish(lambda path: tf.saved_model.save(module, path, signatures=signatures), base)
    with server.LocalServer(base, "clips") as running:
        yield running


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
        with pytest.raises(UserError, match="input 'x' is float32 of shape .*a video can fill uint8 frames"):
            clip_inputs.from_video(video, client.signature_grpc(local.grpc_address, "clips", "only"))


class TestPredict:
    def test_same_answer_by_both(self, local):
        clips = np.random.default_rng(0).integers(0, 256, [3, 4, 16, 16, 3], dtype=np.uint8)
        by_rest = client.predict_rest(local.rest_url, "clips", {"frames": clips})
        by_grpc = client.predict_grpc(local.grpc_address, "clips", {"frames": clips}, version=1)
        assert sorted(by_rest) == sorted(by_grpc) == ["logits", "probabilities"]
        for alias, values in by_grpc.items():
            assert values.shape == (3, 3) and values.dtype == np.float32
            np.testing.assert_array_equal(np.float32(by_rest[alias]), values)

    def test_single_output_has_its_name(self, local):
        reply = client.predict_rest(local.rest_url, "clips", {"x": [[1, 2, 3]]}, "only", version=1)
        assert list(reply) == ["y"] and reply["y"].tolist() == [[2.0, 4.0, 6.0]]

    @pytest.mark.parametrize("values", [[b"a\0", b""], np.array([b"\xff\0"], object), ["text"]])
    def test_bytes(self, local, values):
        expected = [value.encode() if isinstance(value, str) else value for value in values]
        by_rest = client.predict_rest(local.rest_url, "clips", {"s": values}, "echo")
        by_grpc = client.predict_grpc(local.grpc_address, "clips", {"s": values}, "echo")
        assert by_rest["s_bytes"].tolist() == by_grpc["s_bytes"].tolist() == expected

    def test_signature_by_both(self, local):
        by_rest = client.signature_rest(local.rest_url, "clips", "tf_example")
        assert by_rest == client.signature_grpc(local.grpc_address, "clips", "tf_example")
        for signature, address in (
            (client.signature_rest, local.rest_url),
            (client.signature_grpc, local.grpc_address),
        ):
            with pytest.raises(UserError, match="no signature 'nope'; it has echo, only, open_size"):
                signature(address, "clips", "nope")

    def test_more_than_grpcs_default_limit(self, local):
        clip = np.zeros([1, 32, 224, 224, 3], np.uint8)
        clip[..., 1] = 255
        reply = client.predict_grpc(local.grpc_address, "clips", {"frames": clip}, "open_size")
        np.testing.assert_allclose(reply["probabilities"], [[0, 1, 0]])


class TestErrors:
    ROW = {"x": [[1.0, 2.0, 3.0]]}

    def test_no_server(self):
        with socket.create_server(("127.0.0.1", 0)) as holder:
            port = holder.getsockname()[1]
        for predict, address in (
            (client.predict_rest, f"http://127.0.0.1:{port}"),
            (client.predict_grpc, f"127.0.0.1:{port}"),
        ):
            with pytest.raises(UserError, match=f"no model server answers at .*{port}.*saved_models/serve.py"):
                predict(address, "clips", self.ROW)

    def test_server_that_never_answers(self):
        with socket.create_server(("127.0.0.1", 0)) as holder:
            port = holder.getsockname()[1]
            with pytest.raises(UserError, match="no answer from .* in time"):
                client.predict_rest(f"http://127.0.0.1:{port}", "clips", self.ROW, timeout=0.2)
            with pytest.raises(UserError, match="no answer from .* in time"):
                client.predict_grpc(f"127.0.0.1:{port}", "clips", self.ROW, timeout=0.2)

    @pytest.mark.parametrize("body", [b"hello", b"[]", b"{}"])
    def test_not_a_model_server(self, body):
        def answer(holder):
            connection, _ = holder.accept()
            with connection:
                connection.recv(2**16)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

        with socket.create_server(("127.0.0.1", 0)) as holder:
            thread = threading.Thread(target=answer, args=(holder,))
            thread.start()
            with pytest.raises(UserError, match="is not the address of a model server"):
                client.signature_rest(f"http://127.0.0.1:{holder.getsockname()[1]}", "clips")
            thread.join()

    @pytest.mark.parametrize("options", [{"model_name": "zzz"}, {"model_name": "clips", "version": 9}])
    def test_unknown_model_or_version(self, local, options):
        with pytest.raises(UserError, match="does not have this model or version: Servable not found"):
            client.predict_rest(local.rest_url, inputs=self.ROW, **options)
        with pytest.raises(UserError, match="does not have this model or version: Servable not found"):
            client.predict_grpc(local.grpc_address, inputs=self.ROW, **options)

    def test_refused_request(self, local):
        with pytest.raises(UserError, match=r"refused the request \(400\): Failed to process element"):
            client.predict_rest(local.rest_url, "clips", {"x": [["a"]]}, "only")
        with pytest.raises(UserError, match=r"refused the request \(INVALID_ARGUMENT\): Expects arg\[0\]"):
            client.predict_grpc(local.grpc_address, "clips", {"x": [[1, 2, 3]]}, "only")

    def test_batch_sizes(self, local):
        for inputs in ({"a": [1], "b": [1, 2]}, {"a": []}, {"a": 1}):
            with pytest.raises(UserError, match="every input needs the same batch size"):
                client.predict_rest(local.rest_url, "clips", inputs)


def test_wait_until_available(local):
    client.wait_until_available(local.rest_url, "clips", timeout=5)
    with pytest.raises(UserError, match="model 'zzz' is not available after 0 s: .*Could not find any versions"):
        client.wait_until_available(local.rest_url, "zzz", timeout=0)


class TestCompare:
    @pytest.mark.parametrize("signature", ["serving_default", "tf_example"])
    def test_a_video(self, local, video, signature):
        found = compare.compare_protocols(video, local.grpc_address, local.rest_url, "clips", signature)
        np.testing.assert_array_equal(np.float32(found.rest), found.grpc)
        np.testing.assert_allclose(found.grpc, np.array([20, 147.5, 40]) / 207.5, atol=0.02)

    def test_no_probabilities(self, local, video):
        with pytest.raises(UserError, match=r"signature 'only' gives \['y'\], not 'probabilities'"):
            compare.compare_protocols(video, local.grpc_address, local.rest_url, "clips", "only")

    def test_labels(self, tmp_path):
        found = compare.Comparison(np.array([0.25, 0.75]), 1.5, np.array([0.25, 0.75]), 0.5)
        (tmp_path / "labels.txt").write_text("run\nsit down\n")
        assert compare.table(found, tmp_path / "labels.txt").splitlines() == [
            "class         REST      gRPC",
            "sit down  0.750000  0.750000",
            "run       0.250000  0.250000",
            "seconds      1.500     0.500",
        ]
        assert "class 1" in compare.table(found, top=1) and "class 0" not in compare.table(found, top=1)
        (tmp_path / "labels.txt").write_text("run\n")
        with pytest.raises(UserError, match="has 1 lines, but the model has 2 classes"):
            compare.table(found, tmp_path / "labels.txt")
        with pytest.raises(UserError, match="labels file .*none.txt"):
            compare.table(found, tmp_path / "none.txt")


def test_the_script_prints_both_predictions(local, video):
    addresses = [f"--server={local.grpc_address}", f"--rest={local.rest_url}"]
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
