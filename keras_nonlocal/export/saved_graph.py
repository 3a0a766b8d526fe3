"""What the file of a SavedModel says, read without loading it."""

import os
import re
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework import node_def_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from keras_nonlocal.errors import UserError
from keras_nonlocal.serving import constants, publish

# They call back into the Python process that made them, so that no server has them.
PYTHON_OPERATIONS = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc"})
_WRITES = re.compile(r"Assign(Add|Sub)?(Variable(XlaConcatND)?Op)?|Resource(Apply|Scatter|SparseApply|StridedSlice).*")


def version_path(path: str | os.PathLike[str]) -> Path:
    """The SavedModel that a path names: itself, or the newest version in it.

    Args:
      path: `saved_models/<name>/<version>` or `saved_models/<name>`.

    Raises:
      UserError: if there is none.
    """
    path = Path(path)
    if (path / constants.SAVED_MODEL_FILE).is_file():
        return path
    found = publish.versions(path)
    if not found:
        raise UserError(f"{path} is neither a SavedModel nor a folder of numbered ones: give saved_models/<name>")
    return found[max(found)]


def read(path: str | os.PathLike[str]) -> meta_graph_pb2.MetaGraphDef:
    """The graph of a SavedModel that TensorFlow Serving loads.

    Args:
      path: of the SavedModel.

    Raises:
      UserError: if the file is damaged or has no such graph.
    """
    try:
        saved = saved_model_pb2.SavedModel.FromString((Path(path) / constants.SAVED_MODEL_FILE).read_bytes())
    except (OSError, DecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    for meta_graph in saved.meta_graphs:
        if set(meta_graph.meta_info_def.tags) == {constants.SERVE_TAG}:
            return meta_graph
    raise UserError(f"{path} cannot be served: it has no graph with the tag {constants.SERVE_TAG!r} alone")


def signatures(meta_graph: meta_graph_pb2.MetaGraphDef) -> dict[str, meta_graph_pb2.SignatureDef]:
    """{name: what it takes and gives} of those that can be called, the default one first."""
    callable_ones = {name: each for name, each in meta_graph.signature_def.items() if each.inputs and each.outputs}
    return dict(sorted(callable_ones.items(), key=lambda item: (item[0] != constants.DEFAULT_SIGNATURE, item[0])))


def specs(tensors) -> dict[str, tf.TensorSpec]:
    """{name: dtype and shape} of the inputs or the outputs of a SignatureDef, by name."""
    return {
        name: tf.TensorSpec(tf.TensorShape(tensors[name].tensor_shape), tf.as_dtype(tensors[name].dtype), name)
        for name in sorted(tensors)
    }


def nodes(
    meta_graph: meta_graph_pb2.MetaGraphDef, signature: meta_graph_pb2.SignatureDef
) -> list[node_def_pb2.NodeDef]:
    """All nodes that a request to a signature may run, those of the functions it calls among them, each once."""
    known = {node.name: node for node in meta_graph.graph_def.node}
    pending, reached = [_node_name(output.name) for output in signature.outputs.values()], {}
    while pending:
        name = pending.pop()
        if name not in reached:
            reached[name] = known[name]
            pending += [_node_name(each) for each in known[name].input]
    found = list(reached.values())
    functions = {function.signature.name: function.node_def for function in meta_graph.graph_def.library.function}
    seen = set()
    for node in found:  # which grows
        for name in _called(node):
            if name not in seen:
                seen.add(name)
                found += functions[name]
    return found


def writes(node: node_def_pb2.NodeDef) -> bool:
    """Whether a node changes a variable."""
    return re.fullmatch(_WRITES, node.op) is not None


def is_stock(operation: str) -> bool:
    """Whether this is an operation that TensorFlow itself has: no library that a program has loaded adds to these."""
    return hasattr(tf.raw_ops, operation)


def _node_name(tensor):
    return tensor.removeprefix("^").split(":")[0]


def _called(node):
    for value in node.attr.values():
        yield from (function.name for function in [value.func, *value.list.func] if function.name)
