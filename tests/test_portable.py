"""Blocks are made of operations that every engine has, say what that takes, and answer as before."""

import blocks
import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from keras_nonlocal.export import portable

# Of 72 x 72 positions, pooled by 2: 5184 queries, 1296 keys.
MATRIX_MB = 4 * 5184 * 1296 / 1e6
OPERATIONS = {"While", "StatelessWhile", "UpperBound", "TopKV2"}


def model_of(flavour, form, size=72):
    """A model with a block inside a model inside it."""
    module = blocks.FLAVOURS[flavour].keras
    inner = module.Sequential(
        [module.layers.Input((size, size, 6)), blocks.make(flavour, 2, pairwise=form, name="block")]
    )
    outer = module.Input((size, size, 6))
    blocks.randomise(inner.layers[-1])
    return module.Model(outer, inner(outer))


def operations(model, x):
    graph = tf.function(model).get_concrete_function(tf.TensorSpec(x.shape)).graph.as_graph_def()
    return {node.op for nodes in [graph.node, *(each.node_def for each in graph.library.function)] for node in nodes}


@pytest.mark.parametrize("flavour", blocks.FLAVOURS)
@pytest.mark.parametrize("form", blocks.FORMS)
def test_a_block_inside_a_model(flavour, form):
    model, x = model_of(flavour, form), blocks.inputs(2, batch=1, positions=(72, 72)).astype("float32")
    # The matrix of so many examples is not made of one piece.
    before = operations(model, np.zeros([64, *x.shape[1:]]))
    expected = model(x)
    line = portable.portable(model)
    now = {"concatenation": "dense", "dot_product": "associated", "unembedded_dot_product": "associated"}
    assert line.startswith(f"block: {form}, {now.get(form, 'one_piece')}: ")
    after = operations(model, np.zeros([64, *x.shape[1:]]))
    assert not after & OPERATIONS and bool(before & OPERATIONS) == ("dot_product" not in form)
    blocks.close(model(x), expected, 1e-5)
    megabytes = int(line.split(" MB for an example")[0].split()[-1])
    assert (MATRIX_MB <= megabytes < MATRIX_MB + 1) if "dot_product" not in form else megabytes <= 1


def test_blocks_of_open_sizes_need_a_size():
    inputs = keras.Input((None, None, 6))
    layer = blocks.make("keras", 2, pairwise="concatenation")
    model = keras.Model(inputs, layer(inputs))
    with pytest.raises(ValueError, match="must say every size"):
        portable.portable(model)
    assert layer.implementation == "auto"
    assert " 27 MB for an example" in portable.portable(model, (72, 72, 6)) and layer.implementation == "dense"


def test_a_model_without_blocks_is_refused():
    with pytest.raises(ValueError, match="`model` has no non-local block"):
        portable.portable(tf_keras.Sequential([tf_keras.layers.Dense(2, input_shape=(3,))]))
