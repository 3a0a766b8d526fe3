"""What a served function takes, and an example of it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Signature:
    """A served function of one or several named tensors.

    Args:
      function: a tf.function whose arguments have the names in `specs`, and that answers with {output: tensor}.
      specs: {argument: what it takes}.
      example: {argument: an array that fits it}, of two or more rows that differ: an export is verified and described
        by it, and a server is warmed up with its first row.
    """

    function: Callable[..., Mapping[str, tf.Tensor]]
    specs: Mapping[str, tf.TensorSpec]
    example: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        if set(self.specs) != set(self.example):
            raise ValueError(
                f"`example` must have the arguments of `specs`, {sorted(self.specs)}. Received: "
                f"example={sorted(self.example)}"
            )
        for name, spec in self.specs.items():
            example = tf.convert_to_tensor(self.example[name])
            if not (spec.dtype == example.dtype and spec.shape.is_compatible_with(example.shape)):
                raise ValueError(
                    f"`example` must fit `specs`: {name!r} takes {spec.dtype.name} of shape {spec.shape}. Received: "
                    f"{example.dtype.name} of shape {example.shape}"
                )

    def concrete(self) -> Any:
        """The tf.ConcreteFunction of these arguments, as it is saved; called by keywords."""
        named = {name: tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in self.specs.items()}
        return self.function.get_concrete_function(**named)


def strings(*values: bytes) -> np.ndarray:
    """Strings as an argument of a signature takes them, (N,)."""
    return np.array(values, object)
