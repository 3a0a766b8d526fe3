"""What is said of a SavedModel, and that what it says can be sent is answered."""

import json
import shutil
import subprocess

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny_exports

from keras_nonlocal import export
from keras_nonlocal.errors import UserError
from keras_nonlocal.export import describe, golden, guards, verify
from keras_nonlocal.serving.local.server import LocalServer


@pytest.fixture(scope="module")
def verified(tmp_path_factory):
    """A model with golden requests."""
    base = tmp_path_factory.mktemp("saved models") / "tiny"  # a space, as a shell may meet
    model = tiny_exports.network()
    functions = tiny_exports.signatures(model, training=False)
    path = base / "1"
    export.write(functions, model, path)
    verify.verify(path, tiny_exports.golden(functions))
    return base


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A model without them, that takes everything."""
    base = tmp_path_factory.mktemp("saved_models") / "plain"

    @tf.function
    def serve(clips, mask, offsets):
        sums = tf.reduce_sum(clips, [2, 3, 4]) * tf.cast(mask, tf.float32)
        return {"sums": sums, "moved": offsets + 1}

    @tf.function
    def encoded(encoded):
        pixels = tf.map_fn(lambda each: tf.reduce_max(tf.io.decode_jpeg(each)), encoded, fn_output_signature=tf.uint8)
        return {"brightest": pixels}

    specs = {
        "clips": tf.TensorSpec([None, 4, None, None, 3]),
        "mask": tf.TensorSpec([None, 4], tf.bool),
        "offsets": tf.TensorSpec([None, 2], tf.int64),
    }
    functions = {
        "serving_default": serve.get_concrete_function(
            **{name: tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in specs.items()}
        ),
        "encoded": encoded.get_concrete_function(tf.TensorSpec([None], tf.string, "encoded")),
    }
    module = tf.Module()
    tf.saved_model.save(module, str(base / "7"), functions)
    return base


def test_every_input_and_output_is_listed(verified, plain):
    lines = describe.describe(verified).splitlines()
    assert lines[0] == str(verified / "1")
    assert [line for line in lines if line and not line.startswith(" ")][1:] == ["serving_default", "encoded"]
    assert "  takes images  uint8 [batch, 8, 8, 3]" in lines
    assert "  gives best    int32 [batch]" in lines and "  gives scores  float32 [batch, 5]" in lines
    lines = describe.describe(plain).splitlines()
    assert "  takes clips    float32 [batch, 4, ?, ?, 3]" in lines and "  takes offsets  int64 [batch, 2]" in lines
    assert "  takes mask     bool [batch, 4]" in lines and "  takes encoded    string [batch]" in lines


def test_only_the_file_is_read(verified, tmp_path):
    path = tmp_path / "tiny" / "1"
    path.mkdir(parents=True)
    shutil.copy(verified / "1" / "saved_model.pb", path)
    assert "[batch, 8, 8, 3]" in describe.describe(path)


def test_what_is_no_model_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="neither a SavedModel nor a folder of numbered ones"):
        describe.describe(tmp_path / "none")
    (tmp_path / "saved_model.pb").write_bytes(b"\xff" * 10)
    with pytest.raises(UserError, match="cannot be read"):
        describe.describe(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(UserError, match="no graph with the tag 'serve'"):
        describe.describe(tmp_path)


def requests(text):
    """{signature: (the line for a shell, the lines of Python)} of what describe says."""
    found = {}
    for part in text.split("\n\n")[1:]:
        signature, rest = part.split("\n", 1)
        shell, python = rest.split("\n  curl\n    ")[1].split("\n  Python\n    ")
        found[signature] = shell, python.replace("\n    ", "\n")
    return found


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
@pytest.mark.parametrize("kind", ["verified", "plain"])
def test_its_requests_are_answered(kind, request):
    base = request.getfixturevalue(kind)
    with LocalServer(base, base.name) as server:
        text = describe.describe(base, server.rest_url, server.grpc_url)
        for shell, python in requests(text).values():
            # The line as it is, but for what curl says of itself.
            line = f"curl() {{ command curl -s -w '\\n%{{http_code}}' \"$@\"; }}\n{shell}"
            done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
            body, code = done.stdout.rsplit("\n", 1)
            assert code == "200", body
            names = {}
            exec(python, names)
            outputs = names["answer"]
            answer = json.loads(body)["outputs"]
            answer = answer if isinstance(answer, dict) else dict.fromkeys(outputs, answer)
            assert answer.keys() == outputs.keys()
            for alias, value in outputs.items():
                assert len(value) == (2 if kind == "verified" else 1)
                np.testing.assert_allclose(answer[alias], value, rtol=1e-5, atol=1e-6)
            if kind == "verified":
                np.testing.assert_allclose(outputs["scores"], names["outputs"]["scores"], rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_a_golden_request_too_large_for_curl_becomes_one_row_of_its_size(tmp_path, monkeypatch):
    """Short inputs as they are: sizes of zero would be refused."""
    monkeypatch.setattr(golden, "MAX_JSON_BYTES", 0)

    @tf.function
    def serve(frames, sizes):
        with guards.only_if("`sizes`", (sizes >= 1, "must be at least 1; they are", sizes)):
            return {"pixels": tf.size(frames) * tf.identity(sizes), "sum": tf.reduce_sum(frames, [1, 2])}

    specs = {"frames": tf.TensorSpec([None, None, 3]), "sizes": tf.TensorSpec([None], tf.int32)}
    example = {"frames": np.ones([2, 30, 3], "float32"), "sizes": np.int32([5, 7])}
    signatures = {"serving_default": export.Signature(serve, specs, example)}
    base = tmp_path / "padded"
    export.write(signatures, tf.Module(), base / "1", export.Options(verify=False))
    golden.save(base / "1", tiny_exports.golden(signatures))
    with LocalServer(base, "padded") as server:
        ((shell, _),) = requests(describe.describe(base, server.rest_url, server.grpc_url)).values()
        done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"outputs": {"pixels": [450], "sum": [0.0]}}


def test_an_export_of_keras_is_described(tmp_path):
    """Which has a signature more, and names of Keras."""
    inputs = keras.Input((None, None, 3), name="picture")
    keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs)).export(tmp_path / "k" / "1", verbose=False)
    text = describe.describe(tmp_path / "k")
    assert text.count("takes picture   float32 [batch, ?, ?, 3]") == 2 and "gives output_0  float32 [batch, 3]" in text
