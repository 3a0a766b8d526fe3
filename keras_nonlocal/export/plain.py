"""Takes out of a SavedModel what serving has no use for and what it warns of, or refuses."""

import os
import pathlib

from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.saved_model import fingerprinting_utils

from keras_nonlocal import files
from keras_nonlocal.serving import constants

# A gradient of one's own, whose function is not saved, of which loading warns; and compilation by XLA, which a server
# refuses unless it was started with a flag for it.
UNWANTED = ("_gradient_op_type", "_XlaMustCompile")


def make_plain(directory: str | os.PathLike[str]) -> None:
    """Rewrites a SavedModel without anything for gradients and without XLA; the answers stay the same.

    Args:
      directory: of the SavedModel.
    """
    path = pathlib.Path(directory) / constants.SAVED_MODEL_FILE
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for meta_graph in saved.meta_graphs:
        graph = meta_graph.graph_def
        nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
        for holder in (*nodes, *graph.library.function):
            for name in UNWANTED:
                holder.attr.pop(name, None)
        for node in nodes:
            if node.op == "StopGradient":  # as it is without a gradient
                node.op = "Identity"
        del graph.library.gradient[:]
        del graph.library.registered_gradients[:]
    with files.whole_file(path) as temporary:
        pathlib.Path(temporary).write_bytes(saved.SerializeToString(deterministic=True))
    # Of the file as it is now: monitoring tells versions apart by it.
    fingerprinting_utils.write_fingerprint(str(directory))
