"""Which evaluations of a block do LiteRT, ONNX and OpenVINO run, and how far are they from Keras?

    python benchmarks/conversion.py --out=docs/benchmarks/conversion.md

A block of 2D maps, pooled by 2, with random weights, for each form and implementation, of sizes that are known and not;
the batch is open. "convert" is keras_nonlocal.export.convert, "export" Keras' own model.export in the format.
"""

import contextlib
import io
import os
import tempfile
import warnings

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # oneDNN's kernels, off by default on CPUs without AVX-512

import keras  # noqa: E402
import numpy as np  # noqa: E402
import report  # noqa: E402
import tensorflow as tf  # noqa: E402
from absl import app, flags  # noqa: E402

import keras_nonlocal  # noqa: E402
from keras_nonlocal import errors, export  # noqa: E402
from keras_nonlocal.export import engines  # noqa: E402
from keras_nonlocal.ops import attend, pairwise  # noqa: E402

SHAPE = (5, 4, 6)
# In parts of the largest number; what is further off is an answer to something else.
TOLERANCE = 1e-5

flags.DEFINE_string("out", "docs/benchmarks/conversion.md", "The report; empty to only print it.")
FLAGS = flags.FLAGS


def main(_):
    cases = [
        (form, implementation, known)
        for form in pairwise.FORMS
        for implementation in attend.implementations(pairwise.FORMS[form])
        if implementation != "auto"  # which is one of the others
        for known in (True, False)
    ]
    rows = {case: ["not run"] * len(RUNS) for case in cases}
    for case in cases:
        model, x = block(*case)
        rows[case] = [outcome(run, model, x) for _, run in RUNS]
        print(*case, *rows[case], flush=True)
        text = written(rows)
        report.write(FLAGS.out, text)
    print(text)


def written(rows):
    """The report of what has been run so far."""
    columns = ["pairwise", "implementation", "sizes", *(name for name, _ in RUNS)]
    lines = [
        [form, f"`{implementation}`", "known" if known else "open", *found]
        for (form, implementation, known), found in rows.items()
    ]
    about = (
        f"Largest difference from Keras in parts of the largest number; `convert` and `export` write the file. Inputs "
        f"are of {SHAPE}, the batch is open. What is further off than {TOLERANCE:g} is WRONG; `convert` refuses what "
        "would be.\n"
    )
    return "\n".join([report.heading("Blocks in LiteRT, ONNX and OpenVINO"), about, report.table(columns, lines)])


def block(form, implementation, known):
    """A model of one block whose weights are all random, and two examples of it."""
    generator = np.random.default_rng(0)
    inputs = keras.Input(SHAPE if known else (None, None, SHAPE[-1]), name="maps")
    layer = keras_nonlocal.NonLocal2D(pairwise=form, implementation=implementation)
    model = keras.Model(inputs, layer(inputs))
    for variable in model.variables:
        is_kernel = len(variable.shape) > 1
        values = generator.normal(size=variable.shape) if is_kernel else generator.uniform(0.5, 1.5, variable.shape)
        variable.assign(values / np.sqrt(variable.shape[0]) if is_kernel else values)
    x = generator.normal(size=(2, *SHAPE)).astype("float32")
    model.predict(x, verbose=0)  # Keras' exporter asks for a model that was called
    return model, x


def outcome(run, model, x):
    """The difference, or what stands in its way."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
            found = run(model, x)
    except errors.MissingExtra:
        return "not run"
    except Exception as error:  # Each engine and converter fails in its own way.
        return "refused" if "has non-local blocks that" in str(error) else "fails"
    wanted = model(x).numpy()
    if found.shape != wanted.shape:
        return "WRONG"
    difference = np.abs(found - wanted).max() / np.abs(wanted).max()
    return f"{difference:.0e}" if difference <= TOLERANCE else f"WRONG, {difference:.0e}"


def converted(suffix):
    """By keras_nonlocal."""

    def run(model, x):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, f"model{suffix}")
            export.convert(model, path, SHAPE)
            return answered(suffix, path, x)

    return run


def exported(suffix, kind):
    """By Keras."""

    def run(model, x):
        with tempfile.TemporaryDirectory() as folder, errors.needs_extra("onnx"):
            path = os.path.join(folder, f"model{suffix}")
            model.export(path, format=kind, verbose=False)
            if kind == "onnx":
                return answered(suffix, path, x)
            interpreter = tf.lite.Interpreter(path)
            index = interpreter.get_input_details()[0]["index"]
            interpreter.resize_tensor_input(index, x.shape)
            interpreter.allocate_tensors()
            interpreter.set_tensor(index, x)
            interpreter.invoke()
            return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])

    return run


def answered(suffix, path, x):
    """What a file of one input and one output answers."""
    with open(path, "rb") as file:
        (found,) = engines.BY_SUFFIX[suffix].answers(file.read(), {"maps": x}).values()
    return found


def openvino(model, x):
    """A SavedModel in OpenVINO's runtime, in float32."""
    with errors.needs_extra("openvino"):
        import openvino
    with tempfile.TemporaryDirectory() as folder:
        model.export(folder, verbose=False)
        settings = {"INFERENCE_PRECISION_HINT": "f32"}
        return openvino.Core().compile_model(openvino.convert_model(folder), "CPU", settings)(x)[0]


RUNS = (
    ("LiteRT, convert", converted(".tflite")),
    ("ONNX, convert", converted(".onnx")),
    ("LiteRT, export", exported(".tflite", "litert")),
    ("ONNX, export", exported(".onnx", "onnx")),
    ("OpenVINO", openvino),
)


if __name__ == "__main__":
    app.run(main)
