"""The paper's networks by name, as Keras 3 models."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_nonlocal import paper
from keras_nonlocal.models import c2d, presets


def get(name: str, /, input_shape: Sequence[int | None] = (32, 224, 224, 3), **overrides: Any) -> keras.Model:
    """Builds a network of the paper's tables; weights are random, and non-local blocks the identity.

    Args:
      name: one of keras_nonlocal.models.list(), such as "nl_c2d_r50_5"; its description says which rows it is in.
      input_shape: (T, H, W, 3) of a clip, normalised; any of T, H, W may be None. Default (32, 224, 224, 3).
      **overrides: arguments of keras_nonlocal.models.C2D in place of the preset's, such as `classes`, `include_top`,
        `temporal_stride`, `stem` or `width`. Those in a `non_local_block` are added to the preset's.

    Returns:
      A functional keras.Model from clips to logits (B, 400), named after the preset.

    Raises:
      ValueError: for a name that is not there, or an argument out of range, naming it.

    Example:

    >>> model = keras_nonlocal.models.get("nl_i3d_r101_5", classes=157)
    >>> model.output_shape
    (None, 157)

    Wang et al., "Non-local Neural Networks", CVPR 2018, section 4 and Tables 2 to 4.
    """
    network = presets.find(name)
    arguments = {"name": name, "depth": network.depth, **presets.arguments(network), **overrides}
    arguments["non_local_block"] = {**network.non_local_block, **(overrides.get("non_local_block") or {})}
    return c2d.c2d_or_i3d(input_shape=input_shape, **arguments)


def list() -> tuple[str, ...]:
    """The names of the paper's networks.

    Returns:
      A tuple of names for keras_nonlocal.models.get.

    Example:

    >>> "c2d_r50" in keras_nonlocal.models.list()
    True
    """
    return tuple(paper.NETWORKS)


def describe(name: str) -> str:
    """What a network is and which rows of the paper's tables it is in, on one line.

    Args:
      name: one of keras_nonlocal.models.list().

    Returns:
      A line of text.

    Raises:
      ValueError: for a name that is not there.

    Example:

    >>> print(keras_nonlocal.models.describe("nl_c2d_r50_1_res3"))
    C2D ResNet-50 with 1 non-local block (res3 [2]): Table 2(b), R50 res3
    """
    return presets.description(presets.find(name))
