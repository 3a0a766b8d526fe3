"""What a SavedModel consists of, and what it answers to the loader that TensorFlow Serving uses."""

import collections
import pathlib
import re

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

# Nothing that serves an answer trains, draws at random, writes, compiles, checks for debugging or calls Python.
DENIED = re.compile(
    r"Random|Dropout|Multinomial|Grad|^Assign|Assign(Add|Sub)|^ResourceApply|CheckNumerics|PyFunc|Print|Xla|Save|Restore"
    r"|WriteFile|SummaryW|Debug"
)
UNWANTED = {"_gradient_op_type", "_XlaMustCompile"}


def graph_of(path):
    (meta_graph,) = saved_model_pb2.SavedModel.FromString(
        (pathlib.Path(path) / "saved_model.pb").read_bytes()
    ).meta_graphs
    return meta_graph


def reachable(meta_graph):
    """Every node that a signature may run, in the graph and in the functions that it calls."""
    nodes = {node.name: node for node in meta_graph.graph_def.node}
    functions = {function.signature.name: function for function in meta_graph.graph_def.library.function}
    pending = [
        nodes[info.name.split(":")[0]]
        for signature in _served(meta_graph).values()
        for info in signature.outputs.values()
    ]
    seen, called = set(), set()
    while pending:
        node = pending.pop()
        if node.name in seen:
            continue
        seen.add(node.name)
        yield node
        pending.extend(nodes[re.sub(r"^\^|:\d+$", "", name)] for name in node.input)
        names = list(_called(node))
        while names:
            name = names.pop()
            if name in called:
                continue
            called.add(name)
            for inner in functions[name].node_def:
                yield inner
                names.extend(_called(inner))


def _served(meta_graph):
    return {name: each for name, each in meta_graph.signature_def.items() if name != "__saved_model_init_op"}


def _called(node):
    for value in node.attr.values():
        yield from (each.name for each in [value.func, *value.list.func] if each.name)


def check_plain(path, constant_bytes=1_000_000):
    """Fails for a SavedModel that is more than stock operations of an inference; returns how often each occurs."""
    meta_graph = graph_of(path)
    nodes = list(reachable(meta_graph))
    count = collections.Counter(node.op for node in nodes)
    own = {function.signature.name for function in meta_graph.graph_def.library.function}
    unknown = {op for op in count if op not in own and not hasattr(tf.raw_ops, op)}
    assert not unknown, f"not TensorFlow's own: {unknown}"
    denied = {op for op in count if DENIED.search(op)}
    assert not denied, f"no part of an inference: {denied}"
    library = meta_graph.graph_def.library
    holders = [*meta_graph.graph_def.node, *library.function, *(each for f in library.function for each in f.node_def)]
    unwanted = {name for holder in holders for name in holder.attr if name in UNWANTED}
    assert not unwanted and not library.gradient and not library.registered_gradients, unwanted
    size = sum(node.attr["value"].tensor.ByteSize() for node in nodes if node.op == "Const")
    assert size < constant_bytes, f"constants of {size} bytes"
    for name, signature in _served(meta_graph).items():
        for alias, info in signature.outputs.items():
            assert tf.as_dtype(info.dtype) not in (tf.float16, tf.bfloat16), (name, alias)
    return count


def serve_v1(path, requests):
    """Answers of the v1 loader to [(signature, {argument: array})]; of a refusal its InvalidArgumentError."""
    answers = []
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.loader.load(session, ["serve"], str(path))
        for name, inputs in requests:
            signature = loaded.signature_def[name]
            outputs = {alias: info.name for alias, info in signature.outputs.items()}
            feed = {signature.inputs[alias].name: np.asarray(value) for alias, value in inputs.items()}
            try:
                answers.append(session.run(outputs, feed))
            except tf.errors.InvalidArgumentError as error:
                answers.append(error)
    return answers
