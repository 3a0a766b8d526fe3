"""Any Keras model as a SavedModel: what it takes and gives is what Keras does, in the loader that a server uses."""

import io
import json
import os
import re
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from blocks import ONE_FLAVOUR
from saved_graphs import check_plain, graph_of, serve_v1

import keras_nonlocal
from keras_nonlocal import export
from keras_nonlocal.errors import UserError
from keras_nonlocal.export import explain, guards, tensors
from keras_nonlocal.export.loading import load_model
from keras_nonlocal.export.model import signatures_of
from keras_nonlocal.tfm import layers as tfm_layers

FLAVOURS = {"keras": (keras, keras_nonlocal), "tf_keras": (tf_keras, tfm_layers)}
both = pytest.mark.parametrize("flavour", FLAVOURS)
one = pytest.mark.parametrize("flavour", ONE_FLAVOUR)


def filled(model, seed=0):
    """The model with weights of which none is zero: blocks start as the identity."""
    generator = np.random.default_rng(seed)
    model.set_weights(
        [generator.uniform(0.2, 0.8, weight.shape).astype(weight.dtype) for weight in model.get_weights()]
    )
    return model


def network(flavour, size=(8, 8), **options):
    """Maps through a convolution, a norm and a non-local block to scores."""
    k, layers = FLAVOURS[flavour]
    x = inputs = k.Input((*size, 3), name="maps")
    x = k.layers.Conv2D(4, 3, use_bias=False, name="conv", **options)(x)
    x = k.layers.BatchNormalization(name="norm", **options)(x)
    x = layers.NonLocal2D(name="block", **options)(k.layers.Activation("swish", **options)(x))
    x = k.layers.Dropout(0.5, **options)(k.layers.GlobalAveragePooling2D(**options)(x))
    return filled(k.Model(inputs, k.layers.Dense(2, name="scores", **options)(x)))


def several(flavour):
    """Two inputs, one of integers, and two outputs."""
    k, layers = FLAVOURS[flavour]
    maps, number = k.Input((None, None, 3), name="maps"), k.Input((), dtype="int32", name="number-0")
    pooled = k.layers.GlobalAveragePooling2D()(layers.NonLocal2D()(maps))
    word = k.layers.Embedding(5, 3)(number)
    total = k.layers.Add(name="total")([pooled, word])
    return filled(k.Model([maps, number], [total, k.layers.Dense(2, name="scores")(total)]))


def by_name(flavour):
    """A dict in, a dict out, of 16 bits."""
    k, _ = FLAVOURS[flavour]
    inputs = {"x": k.Input((3,)), "flag": k.Input((), dtype="bool")}
    y = k.layers.Dense(2, dtype="mixed_bfloat16")(inputs["x"])
    return filled(k.Model(inputs, {"y": y, "flag": inputs["flag"]}))


def of_class(flavour):
    k, layers = FLAVOURS[flavour]

    class Subclassed(k.Model):
        def __init__(self):
            super().__init__()
            self.block, self.dropout = layers.NonLocal1D(), k.layers.Dropout(0.5)

        def call(self, sequence, training=True):
            return {"y": self.dropout(self.block(sequence), training=training)}

    model = Subclassed()
    model(np.zeros([2, 6, 4], "float32"), training=False)
    return filled(model)


RANDOM = np.random.default_rng(1)
MAPS = RANDOM.normal(size=[2, 8, 8, 3]).astype("float32")
CASES = {
    # model, what Keras is given, what is served
    "one": (network, MAPS, {"maps": MAPS}, {"output_0"}),
    "several": (several, [MAPS, np.array([1, 4])], {"maps": MAPS, "number_0": np.int32([1, 4])}, {"total", "scores"}),
    "by_name": (
        by_name,
        {"x": MAPS[:, 0, 0], "flag": np.array([True, False])},
        {"x": MAPS[:, 0, 0], "flag": np.array([True, False])},
        {"y", "flag"},
    ),
    "of_class": (of_class, np.ones([3, 6, 4], "float32"), {"sequence": np.ones([3, 6, 4], "float32")}, {"y"}),
}


def is_of_norm(operation):
    return operation.startswith("FusedBatchNorm") or operation == "Rsqrt"


@both
@pytest.mark.parametrize("case", CASES)
def test_the_server_answers_as_keras_does(flavour, case, tmp_path):
    make, given, served, names = CASES[case]
    model = make(flavour)
    path = export.export_model(model, tmp_path / "saved")
    count = check_plain(path)
    assert any(is_of_norm(op) for op in count) == (case == "of_class"), "those of models that are graphs are folded"
    assert ("explain" in graph_of(path).signature_def) == (case in ("one", "of_class")), "of one input"
    expected = model(tf.nest.map_structure(tf.constant, given), training=False)
    expected = tensors.outputs_of(model, expected)
    assert set(expected) == names
    alias = dict(zip(served, graph_of(path).signature_def["serving_default"].inputs, strict=True))
    if case == "of_class" and flavour == "tf_keras":
        served = dict(zip(graph_of(path).signature_def["serving_default"].inputs, served.values(), strict=True))
    else:
        assert set(alias) == set(alias.values())
    (answer,) = serve_v1(path, [("serving_default", served)])
    assert set(answer) == names
    tolerance = 2e-2 if case == "by_name" else 1e-5
    for name, value in expected.items():
        assert answer[name].dtype in (np.float32, np.bool_)
        np.testing.assert_allclose(answer[name], value, rtol=tolerance, atol=tolerance, err_msg=name)


ANY_SHAPE = """
import sys
import numpy as np, tensorflow as tf
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    maps = tf.compat.v1.placeholder(tf.float32, None)  # as a server feeds it: of any shape
    loaded = tf.compat.v1.saved_model.loader.load(
        session, ["serve"], sys.argv[1], import_scope="model", input_map={"serving_default_maps:0": maps})
    signature = loaded.signature_def["serving_default"]
    number = "model/" + signature.inputs["number_0"].name
    for shape in [2, 5, 7, 4], [2], [], [2, 3], [1, 2, 5, 7, 3], [2, 0, 7, 3], [0, 5, 7, 3], [2, 5, 7, 3]:
        try:
            feed = {maps: np.zeros(shape, np.float32), number: np.zeros(shape[:1] or [1], np.int32)}
            print(session.run("model/" + signature.outputs["scores"].name, feed).shape)
        except tf.errors.InvalidArgumentError as error:
            words = "expected shape [?,?,?,3]", "`maps` holds nothing: every size must be at least 1"
            print(next((word for word in words if word in str(error)), error))
"""


def test_sizes_that_are_open_stay_open_and_others_are_held(tmp_path):
    """In a process with oneDNN, whose kernels end it at a wrong rank; some CPUs have them off."""
    path = export.export_model(several("keras"), tmp_path / "saved")
    done = subprocess.run(
        [sys.executable, "-c", ANY_SHAPE, path],
        env=os.environ | {"TF_ENABLE_ONEDNN_OPTS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    refused = ["expected shape [?,?,?,3]"] * 5 + ["`maps` holds nothing: every size must be at least 1"] * 2
    assert done.stdout.splitlines() == [*refused, "(2, 2)"]


@one
def test_a_model_of_one_input_explains_its_block(flavour, tmp_path):
    model = network(flavour)
    path = export.export_model(model, tmp_path / "saved", fold_norms=False, explain_top_k=4)
    queries = np.float32([[[0.5, 7.5]], [[4, 3]]])
    answer, refused = serve_v1(
        path,
        [("explain", {"maps": MAPS, "queries": queries}), ("explain", {"maps": MAPS[:0], "queries": queries[:0]})],
    )
    for name, value in explain.Explain(model, "block", 4)(MAPS, queries).items():
        np.testing.assert_allclose(answer[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    assert "`maps` holds nothing" in str(refused)


@one
def test_what_is_left_out_is_left_out(flavour, tmp_path):
    path = export.export_model(network(flavour), tmp_path / "kept", fold_norms=False, explain=False)
    assert {op for op in check_plain(path) if is_of_norm(op)}
    assert "explain" not in graph_of(path).signature_def


@one
def test_answers_that_are_no_numbers_are_refused_on_request(flavour, tmp_path):
    k, _ = FLAVOURS[flavour]
    inputs = k.Input((2,), name="x")
    model = k.Model(inputs, k.layers.Activation("exponential")(inputs))
    numbers = [np.float32([[0, 1]]), np.float32([[0, np.nan]]), np.float32([[1000, 0]])]
    requests = [("serving_default", {"x": x}) for x in numbers]
    as_it_is = serve_v1(export.export_model(model, tmp_path / "as_it_is"), requests)
    assert [np.isfinite(answer["output_0"]).all() for answer in as_it_is] == [True, False, False]
    guarded = export.export_model(model, tmp_path / "finite", finite=True)
    check_plain(guarded)
    good, *refused = serve_v1(guarded, requests)
    np.testing.assert_allclose(good["output_0"], np.exp(numbers[0]), rtol=1e-6)
    assert all("the answer is not finite: `output_0` holds NaN or infinity" in str(error) for error in refused)


def saved_and_loaded(kind, folder):
    """(a model, what is loaded of its file)."""
    flavour, _, suffix = kind.partition(".")
    path = folder / (f"model.{suffix}" if suffix else "model")
    model = network(flavour)
    model.save(path)
    loaded = load_model(path)
    assert isinstance(loaded, FLAVOURS[flavour][0].Model)
    return model, loaded


@pytest.mark.parametrize("kind", ["keras.keras", "keras.h5", "tf_keras.keras", "tf_keras.h5", "tf_keras"])
def test_saved_models_are_loaded(kind, tmp_path):
    model, loaded = saved_and_loaded(kind, tmp_path)
    np.testing.assert_allclose(loaded(MAPS, training=False), model(MAPS, training=False), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "kind",
    [
        "keras.keras",
        "tf_keras.keras",
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("keras.h5", "tf_keras.h5", "tf_keras")),
    ],
)
def test_loaded_models_are_exported(kind, tmp_path):
    model, loaded = saved_and_loaded(kind, tmp_path)
    (answer,) = serve_v1(export.export_model(loaded, tmp_path / "saved"), [("serving_default", {"maps": MAPS})])
    np.testing.assert_allclose(answer["output_0"], model(MAPS, training=False), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["keras.keras", "keras.h5", "tf_keras.keras", "tf_keras.h5", "tf_keras"])
def test_code_in_a_file_is_not_run(kind, tmp_path):
    flavour, _, suffix = kind.partition(".")
    k, _ = FLAVOURS[flavour]
    inputs = k.Input((2,))
    path = tmp_path / (f"model.{suffix}" if suffix else "model")
    k.Model(inputs, k.layers.Lambda(lambda x: x + 1)(inputs)).save(path)
    with pytest.raises(UserError, match="holds a Lambda layer, whose Python code would be run"):
        load_model(path)


@both
def test_a_module_that_a_file_names_is_not_imported(flavour, tmp_path):
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')")
    k, _ = FLAVOURS[flavour]
    network(flavour).save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["config.json"] = parts["config.json"].replace(b'"Conv2D"', b'"Trap"')
    config = json.loads(parts["config.json"])
    for layer in config["config"]["layers"]:
        if layer["class_name"] == "Trap":
            layer |= {"module": "trap", "registered_name": None}
    parts["config.json"] = json.dumps(config).encode()
    changed = io.BytesIO()
    with zipfile.ZipFile(changed, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    (tmp_path / "model.keras").write_bytes(changed.getvalue())
    with pytest.raises(UserError, match="holds Trap of the module trap, which is not imported because a file says so"):
        load_model(tmp_path / "model.keras")


def test_what_is_no_model_says_so(tmp_path):
    with pytest.raises(UserError, match="is not there: give a .keras or .h5 file"):
        load_model(tmp_path / "none.keras")
    (tmp_path / "text.h5").write_text("text")
    with pytest.raises(UserError, match="text.h5 cannot be read as a Keras model"):
        load_model(tmp_path / "text.h5")
    network("keras").save_weights(tmp_path / "kept.weights.h5")
    with pytest.raises(UserError, match="holds weights and no model"):
        load_model(tmp_path / "kept.weights.h5")
    path = export.export_model(network("keras"), tmp_path / "saved")
    with pytest.raises(UserError, match="holds no keras_metadata.pb, .* needs no export"):
        load_model(path)
    with pytest.raises(ValueError, match="`model` must have been called, or built, before it is exported"):
        export.export_model(keras.Sequential([keras.layers.Dense(1)]), tmp_path / "unbuilt")
    with pytest.raises(TypeError, match="must be a model of keras or tf_keras"):
        export.export_model("model.keras", tmp_path / "text")


def test_a_request_that_is_too_large_is_refused(monkeypatch):
    """But the two rows that an export is verified by are taken in any case."""
    monkeypatch.setattr(guards, "MAX_REQUEST_BYTES", 1)
    signatures, _ = signatures_of(network("keras"), fold_norms=False)
    serve = signatures["serving_default"].function
    assert serve(maps=MAPS)["output_0"].shape == (2, 2)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="`maps` is too large: .* at most 1,536 bytes.* it has.*2304"
    ):
        serve(maps=np.concatenate([MAPS, MAPS[:1]]))


def test_an_example_fits_what_the_function_takes():
    spec = {"x": tf.TensorSpec([None, 2], tf.float32)}
    with pytest.raises(ValueError, match="must have the arguments of `specs`, .'x'.. Received: example=.'y'."):
        export.Signature(tf.function(lambda x: {"y": x}), spec, {"y": np.zeros([1, 2], "float32")})
    with pytest.raises(
        ValueError, match=r"'x' takes float32 of shape \(None, 2\). Received: float32 of shape \(1, 3\)"
    ):
        export.Signature(tf.function(lambda x: {"y": x}), spec, {"x": np.zeros([1, 3], "float32")})


def test_the_command_publishes_a_file(tmp_path):
    model = network("keras")
    model.save(tmp_path / "model.keras")
    flags = [f"--model={tmp_path / 'model.keras'}", f"--export_dir={tmp_path / 'saved'}", "--finite"]
    command = [sys.executable, "saved_models/export.py", *flags]
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"published {tmp_path / 'saved' / '1'}\n")
    assert re.search(r"^explain +\d+ +2 +0|^explain +\d+ +2 +\de-", done.stdout, re.M), "it is verified"
    (answer,) = serve_v1(tmp_path / "saved" / "1", [("serving_default", {"maps": MAPS})])
    np.testing.assert_allclose(answer["output_0"], model(MAPS, training=False), rtol=1e-4, atol=1e-5)
