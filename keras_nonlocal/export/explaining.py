"""The signature `explain`: what chosen queries of a served model attend to."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_nonlocal.analysis import blocks
from keras_nonlocal.export.explain import Explain
from keras_nonlocal.export.signatures import Signature
from keras_nonlocal.serving import constants


def explain_signatures(
    model: Any, served: Signature, prepare: Callable, block: str | None = None, top_k: int = 20
) -> dict[str, Signature]:
    """The signature `explain` of a model with non-local blocks, {} of one without.

    Args:
      model: that has the blocks, with its weights.
      served: a signature of one argument, from which it has its own.
      prepare: from that argument to what the model takes; checks it too.
      block: its path or name, see analysis.blocks. Default the last.
      top_k: how many keys of each query are answered, at most. Default 20.

    Returns:
      {"explain": a Signature of the argument and `queries`}, see Explain.

    Raises:
      ValueError: if there is no such block, or it is not known where in the input its positions are.
    """
    if block is None and not blocks.paths(model):
        return {}
    look = Explain(model, block, top_k)
    ((name, spec),), (example,) = served.specs.items(), served.example.values()
    rank = look.block.rank

    @tf.function(autograph=False)
    def function(**inputs):
        return look(prepare(inputs[name]), inputs[constants.QUERIES])

    middle = np.array(example.shape[1:-1][:rank], np.float32) / 2
    middle = np.tile(middle, [len(example), 1, 1])  # (R,) -> (rows, 1, R)
    queries = tf.TensorSpec([None, None, rank], tf.float32)
    signature = Signature(
        function, {name: spec, constants.QUERIES: queries}, {name: example, constants.QUERIES: middle}
    )
    signature.concrete()  # so that it is here that a block is refused whose places in the input are not known
    return {constants.EXPLAIN_SIGNATURE: signature}
