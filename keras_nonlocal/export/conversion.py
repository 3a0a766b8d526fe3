"""A model as a file that LiteRT or ONNX runtimes run without TensorFlow."""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_nonlocal import errors, files
from keras_nonlocal.analysis import blocks, tracing
from keras_nonlocal.export import engines, portable, saved_model, tensors

# How far an answer may be from Keras', in parts of the largest number of that output, by the dtype of the model.
TOLERANCES = {"float32": 1e-5, "float16": 2e-2, "bfloat16": 1e-1}
# The evaluation that an operation gives away.
_NAMES = {**dict.fromkeys(engines.LOOPS, "chunked"), engines.SEARCH: "sorted"}


def convert(
    model: Any,
    path: str | os.PathLike[str],
    input_shape: Sequence[int] | Mapping[str, Sequence[int]] | None = None,
    batch_size: int | None = None,
) -> float:
    """Converts a model to LiteRT (`.tflite`) or ONNX (`.onnx`), once the file is found to answer as Keras does.

    The file takes and gives tensors by the names of `export_model`. Sizes that the model leaves open stay open.

    Args:
      model: of Keras 3 or tf_keras: functional, sequential and built, or a subclass that was called or loaded.
      path: of the file; its suffix says the format. What is there is replaced.
      input_shape: of one example without the batch, which the file is compared with Keras on; of a model of several
        inputs {name: shape}. Default: what the model was made for.
      batch_size: that the file takes. Default any.

    Returns:
      How far its answers are from Keras', in parts of the largest number of an output.

    Raises:
      TypeError: if `model` is no model of either Keras.
      ValueError: if the format cannot run an evaluation of a non-local block, which the message says the
        `implementation` for; if the converter refuses the model for something else; if the file answers otherwise; or
        for another suffix, or sizes that are not said.
      MissingExtra: if tf2onnx or onnxruntime is not installed, for ONNX.

    Example:

    >>> from keras_nonlocal import export
    >>> model = keras.Sequential([keras.Input((8, 8, 4), name="maps"), keras_nonlocal.NonLocal2D()])
    >>> export.convert(model, "model.tflite") < 1e-5
    True
    """
    engine = _engine(path)
    inputs = tensors.inputs_of(model)
    if batch_size is not None:
        batch_size = errors.check_positive_int("batch_size", batch_size)
        inputs = dataclasses.replace(
            inputs, specs={name: _of_batch(spec, batch_size) for name, spec in inputs.specs.items()}
        )
    example = _example(inputs, input_shape)
    function = _traced(model, inputs, engine)
    try:
        content = engine.converted(function, saved_model.kept_of(model))
        difference = _difference(engine, content, model, inputs, example)
    except errors.MissingExtra:
        raise
    except Exception as error:  # Each converter and each engine fails in its own way.
        raise ValueError(f"`model` cannot be converted to {engine.name}: {engine.reason(error)}") from error
    tolerance = TOLERANCES.get(model.compute_dtype, TOLERANCES["float32"])
    if not difference <= tolerance:  # nor may it be NaN
        raise ValueError(
            f"`model` answers differently in {engine.name}: by {difference:.1e} of the largest output, allowed are "
            f"{tolerance:g}. Nothing was written"
        )
    with files.whole_file(path) as temporary:
        pathlib.Path(temporary).write_bytes(content)
    return difference


def _engine(path):
    suffix = pathlib.Path(path).suffix
    if suffix not in engines.BY_SUFFIX:
        raise ValueError(f"`path` must end in {' or '.join(engines.BY_SUFFIX)}. Received: path={os.fspath(path)!r}")
    return engines.BY_SUFFIX[suffix]


def _of_batch(spec, size):
    return tf.TensorSpec([size, *spec.shape[1:]], spec.dtype, spec.name)


def _example(inputs, input_shape):
    """Random arrays of these sizes, two rows of them where the batch is open."""
    shapes = input_shape if isinstance(input_shape, Mapping) else dict.fromkeys(inputs.specs, input_shape)
    if shapes.keys() != inputs.specs.keys():
        raise ValueError(f"`input_shape` must have the inputs {sorted(inputs.specs)}. Received: {sorted(shapes)}")
    if input_shape is not None and not isinstance(input_shape, Mapping) and len(inputs.specs) > 1:
        raise ValueError(
            f"`input_shape` must be a dict of shapes by the names of the inputs, {sorted(inputs.specs)}. "
            f"Received: input_shape={input_shape!r}"
        )
    specs = {name: _of_shape(name, spec, shapes[name]) for name, spec in inputs.specs.items()}
    return dataclasses.replace(inputs, specs=specs).example()


def _of_shape(name, spec, shape):
    wanted = spec.shape[1:] if shape is None else tf.TensorShape(shape)
    if not (wanted.is_fully_defined() and spec.shape[1:].is_compatible_with(wanted)):
        raise ValueError(
            f"`input_shape` must say every size of an example of {name!r}, which is {tuple(spec.shape[1:])}, without "
            f"the batch. Received: input_shape={None if shape is None else tuple(wanted)}"
        )
    return tf.TensorSpec([spec.shape[0], *wanted], spec.dtype, spec.name)


def _traced(model, inputs, engine):
    """The tf.ConcreteFunction of a model, if the engine has what its non-local blocks are made of."""
    made = {}

    @tf.function(autograph=False)
    def serve(**named):
        made.clear()
        return tensors.outputs_of(model, inputs.call(model, named))

    named = {name: tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in inputs.specs.items()}
    with contextlib.ExitStack() as stack:
        for path, block in blocks.paths(model).items():
            stack.enter_context(tracing.replaced_call(block, _noting(path, block.call, made)))
        stack.enter_context(engine.tracing())
        function = serve.get_concrete_function(**named)
    refused = [path for path, (operations, fixed) in made.items() if engine.lacks(operations, fixed)]
    if refused:
        raise ValueError(_refusal(engine, refused, made, blocks.paths(model)))
    return function


def _noting(path, call, made):
    """A call that notes the types of the operations that it makes, and whether all sizes of its input are known."""

    def noting(inputs, *args, **kwargs):
        graph = tf.compat.v1.get_default_graph()
        before = len(graph.get_operations())
        outputs = call(inputs, *args, **kwargs)
        operations, fixed = made.get(path, (set(), True))
        operations = operations | {operation.type for operation in graph.get_operations()[before:]}
        made[path] = operations, fixed and inputs.shape.is_fully_defined()
        return outputs

    return noting


def _refusal(engine, refused, made, known):
    """One sentence: which blocks, what they are made of, and what they may be made of instead."""
    said = []
    for path in refused:
        block, operations = known[path], made[path][0]
        evaluation = next(name for operation, name in _NAMES.items() if operation in operations)
        chosen = f" (by implementation={block.implementation!r})" if block.implementation != evaluation else ""
        needed = portable.evaluation(block.form)
        said.append(f"{path!r} is evaluated as {evaluation!r}{chosen} and needs implementation={needed!r}")
    return (
        f"`model` has non-local blocks that {engine.name} cannot run: {'; '.join(said)}, which "
        "keras_nonlocal.export.portable.portable(model) sets"
    )


def _difference(engine, content, model, inputs, example):
    """The largest difference from Keras, of all rows at once and, where the batch is open, of the first alone."""
    requests = [example]
    if all(spec.shape.rank and spec.shape[0] is None for spec in inputs.specs.values()):
        requests.append({name: value[:1] for name, value in example.items()})
    differences = [0.0]
    for request in requests:
        named = {name: tf.constant(value) for name, value in request.items()}
        wanted = tensors.outputs_of(model, inputs.call(model, named))
        found = engine.answers(content, request)
        for name, tensor in wanted.items():
            answer, value = found[name].astype(np.float64), tensor.numpy().astype(np.float64)
            if answer.shape != value.shape:
                raise ValueError(f"{name!r} has the shape {answer.shape}, and of Keras {value.shape}")
            scale = np.abs(value).max(initial=0) or 1.0
            differences.append(np.abs(answer - value).max(initial=0) / scale)
    return float(np.max(differences))  # NaN if one is
