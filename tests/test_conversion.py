"""Files of LiteRT and ONNX answer as Keras does, or are refused; docs/conversion.md has the table."""

import importlib.util
import pathlib
import re

import blocks
import covering
import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_nonlocal import errors, export, models
from keras_nonlocal.analysis import blocks as blocks_of
from keras_nonlocal.export import engines, portable
from keras_nonlocal.ops import attend, pairwise

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "conversion.md"
HAS_ONNX = all(importlib.util.find_spec(name) for name in ("tf2onnx", "onnxruntime"))
needs_onnx = pytest.mark.skipif(not HAS_ONNX, reason="not installed: pip install 'keras_nonlocal[onnx]'")
SUFFIXES = [".tflite", pytest.param(".onnx", marks=needs_onnx)]

EVALUATIONS = [(form, name) for form in blocks.FORMS for name in attend.implementations(pairwise.FORMS[form])]
PLACES = [(1, "spacetime"), (2, "spacetime"), (3, "spacetime"), (3, "space"), (3, "time")]
POOLING = {"pooled": {}, "unpooled": {"pool_size": 1}, "projected_first": {"pool_before_projection": False}}
GRID = [
    (*evaluation, *place, known, pooling)
    for evaluation in EVALUATIONS
    for place in PLACES
    for known in (True, False)
    for pooling in POOLING
]
# Every form and implementation in every place, and every two other values.
MET = covering.picked([(row[:2], row[2:4], row[4], row[5]) for row in GRID])


def built(rank, form, implementation, known, flavour="keras", positions=None, **arguments):
    """A model of one block with random weights, and the shape of an example."""
    module = blocks.FLAVOURS[flavour].keras
    shape = (*(positions or blocks.POSITIONS[rank]), blocks.CHANNELS)
    inputs = module.Input(shape if known else (*[None] * rank, blocks.CHANNELS), name="maps")
    layer = blocks.make(flavour, rank, pairwise=form, implementation=implementation, name="block", **arguments)
    model = module.Model(inputs, layer(inputs))
    blocks.randomise(layer)
    return model, shape


def evaluated(form, implementation, known):
    """What "auto" is for so few positions, or for any number of them."""
    if implementation != "auto":
        return implementation
    few, any_number = {"softmax": ("one_piece", "chunked"), "count": ("dense", "associated")}[
        pairwise.FORMS[form].normalization
    ]
    return few if known else "sorted" if form == "concatenation" else any_number


def check_file(path, model, shape, answers, **kwargs):
    """Converts a model, and compares the file's answer to inputs of another size of the batch than was tried."""
    assert export.convert(model, path, shape, **kwargs) <= 1e-5
    x = np.random.default_rng(3).normal(size=(kwargs.get("batch_size", 3), *shape)).astype("float32")
    (found,) = answers(path, x)
    blocks.close(found, model(x), 1e-5)


def litert(path, x):
    """By the package of LiteRT alone, which comes with tf-models-official."""
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(str(path))
    return interpreter.get_signature_runner()(maps=x).values()


def onnx(path, x):
    session = pytest.importorskip("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"maps": x})


ANSWERS = {".tflite": litert, ".onnx": onnx}


def test_the_examples_of_the_page_run_as_printed(tmp_path, monkeypatch, capsys):
    """LiteRT, known sizes and open ones, and the sentence of a refusal."""
    pytest.importorskip("ai_edge_litert")
    monkeypatch.chdir(tmp_path)
    names = {}
    for example in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(example, names)  # noqa: S102
    assert {path.name for path in tmp_path.iterdir()} == {"model.tflite", "open.tflite"}
    assert "'block' is evaluated as 'sorted' (by implementation='auto') and needs implementation='dense'" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize("flavour", [pytest.param("keras", marks=pytest.mark.slow), "tf_keras"])
def test_a_block_of_open_sizes_in_litert(flavour, tmp_path):
    """Refused as "auto" evaluates it, in one sentence that says what to choose; then right."""
    model, shape = built(2, "embedded_gaussian", "auto", False, flavour)
    path = tmp_path / "model.tflite"
    with pytest.raises(ValueError) as refused:
        export.convert(model, path, shape)
    assert str(refused.value) == (
        "`model` has non-local blocks that LiteRT cannot run: 'block' is evaluated as 'chunked' (by "
        "implementation='auto') and needs implementation='one_piece', which "
        "keras_nonlocal.export.portable.portable(model) sets"
    )
    assert not list(tmp_path.iterdir())
    model.layers[-1].implementation = "one_piece"
    check_file(path, model, shape, litert)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("form, implementation, rank, extent, known, pooling", [GRID[index] for index in MET])
def test_a_block_answers_as_keras_or_is_refused(suffix, form, implementation, rank, extent, known, pooling, tmp_path):
    arguments = POOLING[pooling] | ({"extent": extent} if rank == 3 else {})
    model, shape = built(rank, form, implementation, known, **arguments)
    path = tmp_path / f"model{suffix}"
    name = evaluated(form, implementation, known)
    # A loop of one step is none, but with an open batch the steps are not known.
    if name in {".tflite": ("chunked", "sorted"), ".onnx": ("sorted",)}[suffix]:
        with pytest.raises(ValueError, match=f"is evaluated as '{name}'.* needs implementation='(dense|one_piece)'"):
            export.convert(model, path, shape)
        portable.portable(model, shape)
    check_file(path, model, shape, ANSWERS[suffix])


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("rank, extent", PLACES)
def test_a_loop_of_known_sizes(suffix, rank, extent, tmp_path):
    """Several chunks of queries of one example, and of several sets: LiteRT has loops of known sizes."""
    positions = {1: (1200,), 2: (36, 34), 3: (3, 36, 34)}[rank]
    model, shape = built(
        rank, "embedded_gaussian", "chunked", True, positions=positions, **({"extent": extent} if rank == 3 else {})
    )
    check_file(tmp_path / f"model{suffix}", model, shape, ANSWERS[suffix], batch_size=1)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("flavour", blocks.FLAVOURS)
def test_a_mask_and_groups_of_frames(suffix, flavour, tmp_path):
    """Two inputs and two outputs keep their names, in either Keras."""
    module = blocks.FLAVOURS[flavour].keras
    frames, valid = module.Input((4, 3, 5, 6), name="frames"), module.Input((4,), dtype="bool", name="valid")
    layer = blocks.make(flavour, 3, group_frames=2, name="block")
    mapped = layer(frames, mask=valid)
    pooled = module.layers.GlobalAveragePooling3D(name="pooled")(mapped)
    model = module.Model([frames, valid], {"mapped": mapped, "pooled": pooled})
    blocks.randomise(layer)
    path = tmp_path / f"model{suffix}"
    assert export.convert(model, path) <= 1e-5
    given = {
        "frames": np.random.default_rng(0).normal(size=(2, 4, 3, 5, 6)).astype("float32"),
        "valid": np.array([[True, True, False, False], [True, True, True, False]]),
    }
    found = engines.BY_SUFFIX[suffix].answers(path.read_bytes(), given)
    for name, value in model([given["frames"], given["valid"]]).items():
        blocks.close(found[name], value, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("network", [models.C2D, models.I3D])
def test_a_network_of_clips(suffix, network, tmp_path):
    model = blocks.random_model(network(50, (4, 64, 64, 3), 5, width=4, non_local={"res3": [1], "res4": [0]}))
    assert export.convert(model, tmp_path / f"model{suffix}") <= 1e-5


@needs_onnx
@pytest.mark.slow
def test_why_keras_exporter_is_not_enough(tmp_path):
    """tf2onnx 1.17 joins reshapes of open sizes wrongly; once it does not, engines.Onnx may take its word again."""
    model, shape = built(2, "concatenation", "dense", False, pool_size=1)
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    model.predict(x, verbose=0)  # the exporter asks for a model that was called
    model.export(tmp_path / "model.onnx", format="onnx", verbose=False)
    (found,) = onnx(tmp_path / "model.onnx", x)
    assert np.abs(found - model(x)).max() > 0.05 * np.abs(model(x)).max()
    check_file(tmp_path / "model.onnx", model, shape, onnx)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_a_network_is_refused_for(suffix, tmp_path):
    """An operation that is no block's."""
    inputs = keras.Input((4, 4))
    model = keras.Model(inputs, keras.ops.linalg.inv(inputs))
    reason = {".tflite": "to LiteRT: it has no operation MatrixInverse$", ".onnx": "to ONNX: .*MatrixInverse"}
    with pytest.raises(ValueError, match=f"^`model` cannot be converted {reason[suffix]}"):
        export.convert(model, tmp_path / f"model{suffix}")


class Noise(keras.layers.Layer):
    """What no two engines answer alike."""

    def call(self, x):
        return x + tf.random.normal(tf.shape(x))


def test_a_file_that_answers_otherwise_is_not_written(tmp_path):
    inputs = keras.Input((4,))
    (tmp_path / "model.tflite").write_bytes(b"the one before")
    with pytest.raises(ValueError, match="answers differently in LiteRT: by .* Nothing was written"):
        export.convert(keras.Model(inputs, Noise()(inputs)), tmp_path / "model.tflite")
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"the one before"]


def test_what_is_not_said_is_asked_for(tmp_path):
    model, _ = built(2, "dot_product", "auto", False)
    with pytest.raises(ValueError, match="`path` must end in .tflite or .onnx. Received: path='model.pb'"):
        export.convert(model, "model.pb")
    with pytest.raises(ValueError, match="every size of an example of 'maps', which is .None, None, 6., without"):
        export.convert(model, tmp_path / "model.tflite")
    with pytest.raises(ValueError, match=r"Received: input_shape=\(5, 4, 3\)"):
        export.convert(model, tmp_path / "model.tflite", (5, 4, 3))
    with pytest.raises(ValueError, match=r"must have the inputs \['maps'\]. Received: \['images'\]"):
        export.convert(model, tmp_path / "model.tflite", {"images": (5, 4, 6)})
    with pytest.raises(ValueError, match="`batch_size` must be a positive integer. Received: batch_size=0"):
        export.convert(model, tmp_path / "model.tflite", (5, 4, 6), batch_size=0)


@pytest.mark.skipif(HAS_ONNX, reason="the converter is installed")
def test_onnx_needs_its_extra(tmp_path):
    model, _ = built(1, "dot_product", "auto", True)
    with pytest.raises(errors.MissingExtra, match=r"pip install 'keras_nonlocal\[onnx\]'"):
        export.convert(model, tmp_path / "model.onnx")


def test_the_evaluation_of_a_trained_model_can_be_changed():
    """As before a conversion: the attribute is read when a graph is built."""
    model, shape = built(2, "concatenation", "sorted", known=False)
    x = np.random.default_rng(0).normal(size=(1, *shape)).astype("float32")
    expected = model(x)
    blocks_of.find(model).implementation = "dense"
    operations = tf.function(model).get_concrete_function(tf.TensorSpec(x.shape)).graph.get_operations()
    assert not any(op.type == "UpperBound" for op in operations)
    blocks.close(model(x), expected, 1e-6)
