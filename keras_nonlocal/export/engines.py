"""Engines that run files of their own format: how a graph becomes such a file, and what the file answers."""

import contextlib
import re
import tempfile
import warnings
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_nonlocal import errors
from keras_nonlocal.layers import convolutions
from keras_nonlocal.serving import constants

LOOPS = {"While", "StatelessWhile"}
SEARCH = "UpperBound"


class LiteRT:
    """TensorFlow's own converter and interpreter, with LiteRT's own operations and no TensorFlow beside them."""

    name = "LiteRT"
    tracing = staticmethod(convolutions.in_2d)  # it has no max-pooling in 3D

    def lacks(self, operations: Collection[str], fixed: bool) -> bool:
        """Whether it cannot run operations, of these types, that a block is made of; `fixed` if all its sizes are."""
        # The rows that a loop stacks are of one size each, which the converter has to know.
        return SEARCH in operations or (not fixed and not LOOPS.isdisjoint(operations))

    def converted(self, function: Any, variables: list) -> bytes:
        """A file of a tf.ConcreteFunction that takes and gives named tensors, and of the variables in it."""
        module = tf.Module()
        module.kept = variables
        with tempfile.TemporaryDirectory() as folder:
            saving = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
            tf.saved_model.save(module, folder, {constants.DEFAULT_SIGNATURE: function}, saving)
            converter = tf.lite.TFLiteConverter.from_saved_model(folder, [constants.DEFAULT_SIGNATURE])
            return converter.convert()

    def reason(self, error: Exception) -> str:
        """Why it has refused a model, on one line: the operations that it lacks, where its many lines say so."""
        lacking = re.search(r"^(?:TF Select|Custom) ops: (.+)$", str(error), re.MULTILINE)
        return f"it has no operation {lacking[1]}" if lacking else errors.first_line(error)

    def answers(self, content: bytes, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What a file answers, by the names of the outputs."""
        with warnings.catch_warnings(action="ignore"):  # its module is about to move to a package of its own
            interpreter = tf.lite.Interpreter(model_content=content)
        return interpreter.get_signature_runner(constants.DEFAULT_SIGNATURE)(**inputs)


class Onnx:
    """The converter tf2onnx, and onnxruntime on the CPU."""

    name = "ONNX"
    tracing = contextlib.nullcontext

    def lacks(self, operations: Collection[str], fixed: bool) -> bool:
        """As LiteRT.lacks."""
        return SEARCH in operations

    def converted(self, function: Any, variables: list) -> bytes:
        """As LiteRT.converted."""
        with errors.needs_extra("onnx"):
            from tf2onnx import optimizer, tf_loader, tfonnx
        specs = tf.nest.flatten(function.structured_input_signature)
        # What the function captures comes after its arguments.
        inputs = {tensor.name: spec.name for tensor, spec in zip(function.inputs, specs, strict=False)}
        outputs = {tensor.name: name for name, tensor in function.structured_outputs.items()}
        frozen = tf_loader.from_function(function, list(inputs), list(outputs))
        with tf.Graph().as_default() as graph:
            tf.import_graph_def(frozen, name="")
            converted = tfonnx.process_tf_graph(
                graph, input_names=list(inputs), output_names=list(outputs), tensors_to_rename=inputs | outputs
            )
        # tf2onnx 1.17 says sizes that are not known as 0, "that of the input", and then makes two reshapes one, whose
        # input is another: blocks of open sizes fail or, worse, answer wrongly. onnxruntime joins reshapes itself.
        kept = {
            name: each
            for name, each in optimizer._get_optimizers().items()
            if each is not optimizer.BackToBackOptimizer
        }
        converted = optimizer.optimize_graph(converted, optimizers=kept)
        return converted.make_model("keras_nonlocal").SerializeToString()

    def reason(self, error: Exception) -> str:
        """As LiteRT.reason."""
        return errors.first_line(error)

    def answers(self, content: bytes, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """As LiteRT.answers."""
        with errors.needs_extra("onnx"):
            import onnxruntime
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))


BY_SUFFIX = {".tflite": LiteRT(), ".onnx": Onnx()}
