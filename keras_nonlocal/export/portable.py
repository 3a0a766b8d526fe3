"""Evaluations of non-local blocks that other engines than TensorFlow's can run, and the memory that they take."""

from collections.abc import Sequence
from typing import Any

from keras_nonlocal.analysis import cost
from keras_nonlocal.layers.non_local import NonLocalMixin
from keras_nonlocal.ops.pairwise import PairwiseForm
from keras_nonlocal.surgery import functional

# Measured: it takes the reshapes before and after such an attention for ones that it may leave out.
UNPOOLED = (
    "OpenVINO 2026.4.1 answers wrongly, without an error, for an embedded Gaussian without pooling, unless its "
    "implementation is 'chunked'"
)


def portable(model: Any, input_shape: Sequence[int] | None = None) -> str:
    """Makes a model's non-local blocks consist, in graphs traced from now on, of products, sums and softmax alone.

    That is `one_piece` for the softmax forms, in place of a loop, `associated` for the dot product, and `dense` for the
    concatenation, in place of a sort and a search. LiteRT, ONNX and OpenVINO have no rule for the latter, and LiteRT
    has none for loops of open sizes. The function computed stays the same; the first and the last hold a matrix of
    N x M numbers.

    Args:
      model: a layer or a model of either Keras. The attribute `implementation` of its blocks is changed.
      input_shape: of one example without the batch, which memory is counted for. Default: what a functional model was
        made for.

    Returns:
      Lines of text: the blocks, and the memory that each needs for one example, before (at most) and now.

    Raises:
      TypeError: if `model` is no layer of either Keras.
      ValueError: if it has no non-local block, or a size of the inputs is not known; nothing is changed then.

    Example:

    >>> layer = keras_nonlocal.NonLocal2D(pairwise="concatenation", name="block")
    >>> print(portable.portable(layer, (72, 72, 4)))
    block: concatenation, dense: 27 MB for an example, at most 27 MB before
    """
    before = cost.by_layer(model, input_shape)
    blocks = list(_blocks(model))
    if not blocks:
        raise ValueError(f"`model` has no non-local block, and needs no other evaluation. Received: {model.name}")
    for block in blocks:
        block.implementation = evaluation(block.form)
    after = cost.by_layer(model, input_shape)
    lines = []
    for block in blocks:
        was, is_now = (costs[block.name].activation_bytes / 1e6 for costs in (before, after))
        lines.append(
            f"{block.name}: {block.pairwise}, {block.implementation}: {is_now:.0f} MB for an example, "
            f"at most {was:.0f} MB before"
        )
        if block.form.normalization == "softmax" and block.form.embeds and set(block.pool_size) == {1}:
            lines.append(f"{block.name}: {UNPOOLED}")
    return "\n".join(lines)


def evaluation(form: PairwiseForm) -> str:
    """The `implementation` of a form that is made of products, sums and softmax alone."""
    if form.owns_w_f:
        return "dense"
    return "associated" if form.associates else "one_piece"


def _blocks(layer):
    if isinstance(layer, NonLocalMixin):
        yield layer
        return
    for part in functional.sublayers(layer):
        yield from _blocks(part)
