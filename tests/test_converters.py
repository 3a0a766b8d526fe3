"""Models with our blocks after conversion to LiteRT and ONNX answer as before; docs/performance.md has the table."""

import blocks
import pytest
import tensorflow as tf

# What converts, by the form, the evaluation and whether height and width are known.
LITERT = [
    ("embedded_gaussian", "auto", True),
    ("embedded_gaussian", "one_piece", False),
    ("dot_product", "auto", False),
    ("concatenation", "auto", True),
    ("concatenation", "dense", False),
]
ONNX = [
    ("embedded_gaussian", "auto", True),
    ("gaussian", "chunked", True),
    ("dot_product", "auto", True),
    ("concatenation", "auto", True),
]


def _model(form, implementation, known, flavour="keras"):
    module = blocks.FLAVOURS[flavour].keras
    inputs = module.Input((*((5, 4) if known else (None, None)), blocks.CHANNELS))
    layer = blocks.make(flavour, 2, pairwise=form, implementation=implementation)
    model = module.Model(inputs, layer(inputs))
    blocks.randomise(layer)
    return model, blocks.inputs(2, batch=1).astype("float32")


@pytest.mark.parametrize(
    "form, implementation, known",
    [pytest.param(*case, marks=() if case is LITERT[0] else pytest.mark.slow) for case in LITERT],
)
def test_litert(form, implementation, known, tmp_path):
    model, x = _model(form, implementation, known)
    model.export(tmp_path / "exported", verbose=False)
    content = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "exported")).convert()
    interpreter = tf.lite.Interpreter(model_content=content)
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    blocks.close(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]), model(x), 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("form, implementation, known", ONNX)
def test_onnx(form, implementation, known, tmp_path):
    pytest.importorskip("tf2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    model, x = _model(form, implementation, known)
    model.predict(x, verbose=0)  # the exporter asks for a model that was called
    model.export(tmp_path / "model.onnx", format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (found,) = session.run(None, {session.get_inputs()[0].name: x})
    blocks.close(found, model(x), 1e-5)


def test_the_evaluation_of_a_trained_model_can_be_changed():
    """As before a conversion: the attribute is read when a graph is built."""
    model, x = _model("concatenation", "sorted", known=False)
    expected = model(x)
    model.layers[-1].implementation = "dense"
    operations = tf.function(model).get_concrete_function(tf.TensorSpec(x.shape)).graph.get_operations()
    assert not any(op.type == "UpperBound" for op in operations)
    blocks.close(model(x), expected, 1e-6)
