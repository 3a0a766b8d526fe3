"""One list of blocks for every path a layer can take: saving, precision, distribution, XLA."""

import dataclasses

import blocks
import numpy as np
import pytest

CHANNELS = 8


@dataclasses.dataclass(frozen=True)
class Case:
    """A block and the inputs to try it on."""

    name: str
    rank: int
    kwargs: dict
    positions: tuple
    masked: bool = False

    def __str__(self):
        return self.name

    def layer(self, flavour, **kwargs):
        return blocks.make(flavour, self.rank, **self.kwargs, **kwargs)

    def x(self):
        return blocks.inputs(self.rank, positions=self.positions, channels=CHANNELS).astype("float32")

    def mask(self):
        return blocks.random_mask((2, self.positions[0])) if self.masked else None

    def model(self, flavour, unknown=True, scores=False, **kwargs):
        """A functional model of this block and something around it, with random weights.

        Args:
          flavour: "keras" or "tf_keras".
          unknown: leave all positions unknown.
          scores: return the attention too.
          **kwargs: more arguments for the block.
        """
        module = blocks.FLAVOURS[flavour].keras
        x = module.Input((*([None] * self.rank if unknown else self.positions), CHANNELS))
        mask = module.Input((None if unknown else self.positions[0],), dtype="bool") if self.masked else None
        layer = self.layer(flavour, **kwargs)
        z = layer(module.layers.Dense(CHANNELS)(x), mask=mask, return_attention_scores=scores)
        blocks.randomise(layer)
        return module.Model([x, mask] if self.masked else x, z)

    def model_inputs(self):
        return [self.x(), self.mask()] if self.masked else self.x()


CASES = (
    Case("3d_default", 3, {}, (4, 3, 5)),
    Case("1d_concatenation_masked", 1, {"pairwise": "concatenation"}, (7,), masked=True),
    Case("2d_gaussian", 2, {"pairwise": "gaussian"}, (5, 4)),
    Case("3d_dot_product_groups", 3, {"pairwise": "dot_product", "group_frames": 2, "norm": None}, (4, 3, 4)),
    Case("3d_space_pool_after", 3, {"extent": "space", "pool_before_projection": False}, (3, 5, 4)),
    Case("3d_time_masked", 3, {"extent": "time", "pool_size": (2, 1, 1)}, (5, 2, 3), masked=True),
    Case("3d_concatenation_masked", 3, {"pairwise": "concatenation", "use_bias": False}, (4, 4, 4), masked=True),
    Case("2d_unembedded_dot_product", 2, {"pairwise": "unembedded_dot_product", "pool_size": None}, (3, 4)),
    Case("3d_pool_time_masked", 3, {"pool_size": (2, 2, 2), "inner_channels": 3}, (5, 5, 4), masked=True),
    Case("1d_chunked_masked", 1, {"implementation": "chunked"}, (600,), masked=True),  # chunks of 300
    Case("2d_associated", 2, {"pairwise": "dot_product", "implementation": "associated"}, (5, 4)),
    Case("1d_sorted", 1, {"pairwise": "concatenation", "implementation": "sorted", "pool_size": 1}, (130,)),  # 2 blocks
)


def cases(first=None, only=None):
    """The cases as parameters of a test; those after the first so many are slow.

    Args:
      first: how many cases are in the default run; None for all.
      only: a function that picks cases.
    """
    picked = [case for case in CASES if only is None or only(case)]
    quick = picked[:first]
    return [pytest.param(case, id=case.name, marks=() if case in quick else pytest.mark.slow) for case in picked]


def outputs(model, case):
    """The model's outputs as a list of arrays."""
    result = model(case.model_inputs(), training=False)
    return [np.asarray(part) for part in (result if isinstance(result, (list, tuple)) else [result])]


def equal(actual, expected):
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(one, other)
