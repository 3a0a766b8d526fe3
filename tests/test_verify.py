"""Exports that answer as Keras does pass, others do not; what they are verified by stays with them."""

import json
import shutil
import subprocess
import urllib.request

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny_exports
from tensorflow.core.protobuf import saved_model_pb2

from keras_nonlocal import export
from keras_nonlocal.errors import UserError
from keras_nonlocal.export import golden as goldens
from keras_nonlocal.export import saved_graph, verify
from keras_nonlocal.serving import publish
from keras_nonlocal.serving.local.server import LocalServer


@pytest.fixture(scope="module")
def model():
    return tiny_exports.network()


@pytest.fixture(scope="module")
def published(model, tmp_path_factory):
    """saved_models/tiny with a verified version 1, and what verify found."""
    base, found = tmp_path_factory.mktemp("saved_models") / "tiny", []
    functions = tiny_exports.signatures(model, training=False)

    def write(directory):
        export.write(functions, model, directory)
        found.append(verify.verify(directory, tiny_exports.golden(functions)))

    publish.publish(write, base)
    return base, found[0]


@pytest.fixture
def copy(published, tmp_path):
    return shutil.copytree(published[0] / "1", tmp_path / "tiny" / "1")


def test_a_good_export_passes_and_says_what_it_was_verified_by(published):
    base, report = published
    assert [row.signature for row in report.rows] == ["serving_default", "encoded"]
    for row in report.rows:
        assert row.dtype == "float32" and row.rows == 2 and row.operations > 30
        assert row.differences.keys() == {"Keras", "alone"} and max(row.differences.values()) < 1e-5
    assert report.rows[1].operations > report.rows[0].operations
    lines = str(report).splitlines()
    assert lines[0].split() == ["signature", "operations", "rows", "Keras", "alone", "allowed"]
    assert lines[1].split()[0] == "serving_default" and lines[1].split()[-1] == "1e-04"
    card = (base / "1" / "assets.extra" / "README.md").read_text()
    assert card.startswith("# tiny\n") and "takes images  uint8 [batch, 8, 8, 3]" in card and lines[1] in card


def test_golden_requests_are_kept_with_keras_answers(published, model):
    kept = goldens.read(published[0] / "1")
    expected = tiny_exports.golden(tiny_exports.signatures(model, training=False))
    for name, (inputs, outputs) in expected.items():
        for found, wanted in zip(kept[name], (inputs, outputs), strict=True):
            assert found.keys() == wanted.keys()
            assert all(np.array_equal(found[alias], value) for alias, value in wanted.items())
    assert kept["encoded"][0]["encoded"].dtype == object


def test_strings_are_kept_to_the_last_zero(tmp_path):
    values = np.array([[b"", b"a\0\0"], [b"\0", b"\xff"]], object)
    goldens.save(tmp_path, {"any": ({"x": values}, {"y": np.zeros([2], "float32")})})
    assert goldens.read(tmp_path)["any"][0]["x"].tolist() == values.tolist()
    with pytest.raises(ValueError, match="bytes objects. Received: inputs/x of dtype |S1"):
        goldens.save(tmp_path, {"any": ({"x": np.array([b"a\0"])}, {})})


def test_the_sums_are_those_of_sha256sum(copy):
    done = subprocess.run(
        ["sha256sum", "-c", "assets.extra/SHA256SUMS"], cwd=copy, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    files = {str(each.relative_to(copy)) for each in copy.rglob("*") if each.is_file()}
    assert {line.split(": ")[0] for line in done.stdout.splitlines()} == files - {"assets.extra/SHA256SUMS"}
    assert {"saved_model.pb", "assets.extra/tf_serving_warmup_requests"} < files


def test_a_version_is_verified_again_without_keras(published):
    report = verify.verify_again(published[0])
    assert report.path == str(published[0] / "1")
    assert [row.differences for row in report.rows] == [row.differences for row in published[1].rows]


def test_a_damaged_version_is_refused(copy):
    variables = next((copy / "variables").glob("*.data*"))
    content = bytearray(variables.read_bytes())
    content[10] ^= 1
    variables.write_bytes(content)
    with pytest.raises(UserError, match="damaged: variables/variables.data-00000-of-00001 is not what was exported"):
        verify.verify_again(copy)
    variables.unlink()
    with pytest.raises(UserError, match="not whole: variables/variables.data-00000-of-00001 is missing"):
        verify.verify_again(copy)
    (copy / "assets.extra" / "SHA256SUMS").unlink()
    with pytest.raises(UserError, match="no sums of its files"):
        verify.verify_again(copy)


def test_golden_answers_of_another_model_are_noticed(copy):
    kept = goldens.read(copy)
    kept["encoded"][1]["scores"][1, 2] += 1e-3 * np.abs(kept["encoded"][1]["scores"]).max()
    goldens.save(copy, kept)
    goldens.write_sums(copy)
    with pytest.raises(UserError, match="'scores' of signature 'encoded' differs between it and Keras by 1.0e-03"):
        verify.verify_again(copy)
    (copy / "assets.extra" / "golden" / "encoded.npz").write_bytes(b"PK\3\4")
    goldens.write_sums(copy)
    with pytest.raises(UserError, match="encoded.npz is no golden request"):
        verify.verify_again(copy)


class TestServed:
    def test_a_server_answers_as_keras(self, published):
        base, _ = published
        with LocalServer(base, "tiny") as server:
            report = verify.verify_again(base / "1", server.rest_url, server.grpc_url)
            for row in report.rows:
                assert row.differences.keys() == {"Keras", "alone", "REST", "gRPC"}
                assert max(row.differences.values()) < 1e-5
            assert "REST" in str(report).splitlines()[0]
            for name in ("serving_default", "encoded"):  # what curl would send and get
                request = goldens.request_file(base / "1", name).read_bytes()
                with urllib.request.urlopen(f"{server.rest_url}/v1/models/tiny:predict", request) as reply:
                    outputs = json.load(reply)["outputs"]
                wanted = json.loads(goldens.request_file(base / "1", name, "answer").read_text())["outputs"]
                assert outputs["best"] == wanted["best"]
                np.testing.assert_allclose(outputs["scores"], wanted["scores"], rtol=1e-5, atol=1e-6)
            with pytest.raises(UserError, match="does not have this model"):
                verify.verify_again(base / "1", rest=server.rest_url, model_name="other")

    def test_a_server_of_another_model_is_noticed(self, published, model, tmp_path):
        other = keras.models.clone_model(model)
        export.publish(tiny_exports.signatures(other, training=False), other, tmp_path / "other")
        with LocalServer(tmp_path / "other", "tiny") as server:
            for asked in ({"rest": server.rest_url}, {"server": server.grpc_url}):
                between = f"{'REST' if 'rest' in asked else 'gRPC'} of .* and Keras"
                with pytest.raises(UserError, match=f"differs between {between}"):
                    verify.verify_again(published[0], **asked)


def written(function, path, kept, rows=None):
    """A SavedModel of a function of `x`, float32 (B, 4), and a golden request to it with its own answer."""
    x = np.random.default_rng(0).normal(size=(2, 4)).astype("float32") if rows is None else rows
    signature = export.Signature(tf.function(function), {"x": tf.TensorSpec([None, 4])}, {"x": x})
    export.write({"serving_default": signature}, kept, path)
    return tiny_exports.golden({"serving_default": signature})


class Flawed:
    """Functions of x, with what is said of each."""

    def __init__(self):
        self.factor = tf.Variable(2.0)
        self.norm = keras.layers.BatchNormalization()
        self.norm.build((None, 4))

    def depends_on_the_batch(self, x):
        """differs between rows that are sent alone and in a batch by"""
        return {"y": x - tf.reduce_mean(x, 0)}

    def uses_statistics_of_the_batch(self, x):
        """differs between rows that are sent alone and in a batch by"""
        mean, variance = tf.nn.moments(x, 0)
        return {"y": tf.nn.batch_normalization(x, mean, variance, None, None, 1e-3)}

    def is_random(self, x):
        """differs between (it and Keras|rows that are sent alone and in a batch) by"""
        return {"y": tf.nn.dropout(x, 0.5)}

    def trains_a_norm(self, x):
        """changes variables \\(AssignSubVariableOp, AssignVariableOp|AssignSubVariableOp|AssignVariableOp\\)"""
        return {"y": self.norm(x, training=True)}

    def counts(self, x):
        """changes variables \\(AssignAddVariableOp\\)"""
        return {"y": x * self.factor.assign_add(1)}

    def is_not_a_number(self, x):
        """holds NaN or infinity, in 8 of 8 numbers"""
        return {"y": tf.math.log(-1 - tf.abs(x))}

    def is_infinite(self, x):
        """holds NaN or infinity, in 8 of 8 numbers"""
        return {"y": (1 + tf.abs(x)) / 0}

    def calls_python(self, x):
        """calls Python \\(PyFunc\\)"""
        return {"y": tf.ensure_shape(tf.numpy_function(lambda x: 2 * x, [x], tf.float32), [None, 4])}

    def calls_python_in_a_loop(self, x):
        """calls Python \\(EagerPyFunc\\)"""
        return {"y": tf.map_fn(lambda row: tf.ensure_shape(tf.py_function(lambda r: r, [row], tf.float32), [4]), x)}

    def is_half_precise(self, x):
        """is float16, which REST cannot write"""
        return {"y": tf.cast(x, tf.float16)}

    def sums_the_batch(self, x):
        """has the shape \\(\\) for 2 rows"""
        return {"y": tf.reduce_sum(x)}


FLAWED = [name for name in vars(Flawed) if not name.startswith("_")]


@pytest.mark.parametrize("name", FLAWED)
def test_a_flaw_is_found_and_nothing_is_published(name, tmp_path, capsys):
    flawed = Flawed()
    function = getattr(flawed, name)
    kept = tf.Module()
    kept.variables_of_it = [flawed.factor, *(each.value for each in flawed.norm.variables)]

    def write(directory):
        verify.verify(directory, written(function, directory, kept))

    with pytest.raises(UserError, match=function.__doc__):
        publish.publish(write, tmp_path / "flawed")
    assert list((tmp_path / "flawed").iterdir()) == [] and capsys.readouterr().out == ""


def test_a_norm_that_trains_is_found_by_its_answers(model, tmp_path):
    """As it would be where its statistics are not written: Keras answers with those it has learned."""
    functions = tiny_exports.signatures(model, training=False)
    functions.pop("encoded")
    export.write(functions, model, tmp_path, export.Options(verify=False))
    answers = tiny_exports.golden(functions)
    x = tf.cast(tiny_exports.images(), tf.float32) / 255
    before = model.get_weights()
    scores = model(x, training=True).numpy()
    model.set_weights(before)
    answers["serving_default"][1]["scores"] = scores
    with pytest.raises(UserError, match="'scores' of signature 'serving_default' differs between it and Keras"):
        verify.verify(tmp_path, answers)
    assert not (tmp_path / "assets.extra" / "golden").exists()


def test_wrong_variables_are_found(tmp_path):
    factor = tf.Variable(2.0)
    kept = tf.Module()
    kept.factor = factor
    written(lambda x: {"y": factor * x}, tmp_path, kept)
    x = np.eye(2, 4, dtype="float32")
    verify.verify(tmp_path, {"serving_default": ({"x": x}, {"y": 2 * x})})
    verify.verify(
        tmp_path, {"serving_default": ({"x": x}, {"y": np.float32(2.0001) * x})}
    )  # as much as rounding may be
    with pytest.raises(UserError, match="by 1.0e-03 of its largest number, allowed is 0.0001"):
        verify.verify(tmp_path, {"serving_default": ({"x": x}, {"y": np.float32(2.002) * x})})


def test_integers_have_to_be_equal(tmp_path):
    written(lambda x: {"y": tf.cast(x * 1000, tf.int32)}, tmp_path, tf.Module())
    x = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], "float32")
    verify.verify(tmp_path, {"serving_default": ({"x": x}, {"y": (x * 1000).astype("int32")})})
    with pytest.raises(UserError, match="allowed is 0"):
        verify.verify(tmp_path, {"serving_default": ({"x": x}, {"y": (x * 1000).astype("int32") + np.int32(1)})})


def test_variables_that_are_not_saved_are_found(model, tmp_path):
    """A Keras 3 model in a plain tf.Module, which tf.saved_model.load does load."""
    module = tf.Module()
    module.model = model
    functions = {name: each.concrete() for name, each in tiny_exports.signatures(model, training=False).items()}
    tf.saved_model.save(module, str(tmp_path), functions)
    with pytest.raises(UserError, match="'serving_default' does not answer its golden request: .*does not exist"):
        verify.verify(tmp_path, tiny_exports.golden(tiny_exports.signatures(model, training=False)))


def test_unknown_operations_are_listed(tmp_path):
    answers = written(lambda x: {"y": tf.nn.relu(x)}, tmp_path, tf.Module())
    saved = saved_model_pb2.SavedModel.FromString((tmp_path / "saved_model.pb").read_bytes())
    (node,) = (
        node for each in saved.meta_graphs[0].graph_def.library.function for node in each.node_def if node.op == "Relu"
    )
    node.op = "FasterRelu"
    (tmp_path / "saved_model.pb").write_bytes(saved.SerializeToString())
    with pytest.raises(UserError, match="has operations that TensorFlow has not: FasterRelu"):
        verify.verify(tmp_path, answers)
    assert not saved_graph.is_stock("FasterRelu") and saved_graph.is_stock("StatefulPartitionedCall")


def test_a_golden_request_that_shows_nothing_is_refused(tmp_path):
    answers = written(lambda x: {"y": x}, tmp_path, tf.Module())
    (x,), (y,) = (tuple(side.values()) for side in answers["serving_default"])
    for rows in (x[:1], np.stack([x[0]] * 3)):
        with pytest.raises(ValueError, match="two or more rows that differ for 'serving_default'"):
            verify.verify(tmp_path, {"serving_default": ({"x": rows}, {"y": rows})})
    with pytest.raises(ValueError, match=r"answer for each of \['serving_default'\]. Received: \[\]"):
        verify.verify(tmp_path, {})
    with pytest.raises(ValueError, match=r"the inputs \['x'\] of 'serving_default'. Received: \['z'\]"):
        verify.verify(tmp_path, {"serving_default": ({"z": x}, {"y": y})})


def test_a_16_bit_model_has_a_tolerance_of_its_own(tmp_path):
    model = tiny_exports.network(dtype="mixed_bfloat16")
    functions = {"serving_default": tiny_exports.signatures(model, training=False)["serving_default"]}
    export.write(functions, model, tmp_path)
    answers = tiny_exports.golden(functions)
    del answers["serving_default"][1]["best"]
    scores = answers["serving_default"][1]["scores"]
    assert scores.dtype == np.float32
    with pytest.raises(ValueError, match=r"the outputs \['best', 'scores'\]"):
        verify.verify(tmp_path, answers)
    answers["serving_default"][1]["best"] = scores.argmax(-1).astype("int32")
    (row,) = verify.verify(tmp_path, answers).rows
    assert row.dtype == "bfloat16" and verify.TOLERANCES[row.dtype] == 0.1
