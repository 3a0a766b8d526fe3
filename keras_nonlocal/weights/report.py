"""What came from where: for every variable of a network the tensor that its values are from."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from keras_nonlocal.weights.reading import Checkpoint


@dataclasses.dataclass(frozen=True)
class Row:
    """One variable.

    Args:
      variable: its name in the model, or in the checkpoint that is written.
      tensor: where its values come from, in words that start with a name; None for one that is new.
      shape: of the variable.
      norm: square root of the sum of its squares.
      layer: name of the layer that it is in, where `variable` does not have it.
    """

    variable: str
    tensor: str | None
    shape: tuple[int, ...]
    norm: float
    layer: str | None = None

    @classmethod
    def of(cls, variable: str, tensor: str | None, values: np.ndarray, layer: str | None = None) -> Row:
        """The row of a variable with these values."""
        return cls(variable, tensor, tuple(values.shape), float(np.linalg.norm(values.astype(np.float64))), layer)

    @property
    def parameters(self) -> int:
        """How many numbers it holds."""
        return int(np.prod(self.shape))


@dataclasses.dataclass(frozen=True)
class Report:
    """What came from where.

    Args:
      path: that the weights came from.
      rows: a Row for every variable of the network.
      skipped: {tensor: why it is not in the network}.
      notes: sentences on the weights, and on how their network differs.
      checkpoint: the keras_nonlocal.weights.Checkpoint of a peer; None where tfm or Keras wrote the file.
      arguments: of the network, as models.video_resnet.video_resnet takes them, and `classes`; None without checkpoint.
    """

    path: str
    rows: list[Row]
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    checkpoint: Checkpoint | None = None
    arguments: dict | None = None

    def lines(self) -> list[str]:
        """A line for every variable, skipped tensor and note, and at the end one of all together."""
        variables = max(len(row.variable) for row in self.rows)
        tensors = max(len(row.tensor or "new") for row in self.rows)
        lines = []
        for row in self.rows:
            shape = "x".join(map(str, row.shape)) or "scalar"
            layer = f"  ({row.layer})" if row.layer else ""
            line = f"{row.variable:<{variables}}  <- {row.tensor or 'new':<{tensors}}  {shape:>18}  norm {row.norm:.6g}"
            lines.append(f"{line}{layer}")
        old, new = ([row for row in self.rows if (row.tensor is None) == is_new] for is_new in (False, True))
        return [
            *lines,
            *(f"skipped {name}: {why}" for name, why in self.skipped.items()),
            *(f"note: {note}" for note in self.notes),
            f"{len(old)} variables ({sum(row.parameters for row in old):,} parameters) from {self.path}, "
            f"{len(new)} new ({sum(row.parameters for row in new):,} parameters), {len(self.skipped)} tensors skipped",
        ]

    def __str__(self) -> str:
        return "\n".join(self.lines())
