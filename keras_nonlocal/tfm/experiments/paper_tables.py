"""The paper's tables beside ours: sizes that are counted now, accuracies that are not yet run."""

from collections.abc import Iterator, Sequence

import tf_keras
from official.core import exp_factory

from keras_nonlocal import paper
from keras_nonlocal.analysis import cost
from keras_nonlocal.tfm.tasks import answers

SIZES = (
    "weights, M",
    "GMACs",
    "parameters, M",
    "operations, G",
    "weights / baseline (paper)",
    "MACs / baseline (paper)",
)
NOT_RUN, NONE = "not yet run", "-"
FORMATS = ("text", "markdown")
TABLES = tuple(paper.TITLES)
CONVENTIONS = """\
One clip or image, multiply-adds. Weights and GMACs are the paper's convention: kernels of convolutions and fully
connected layers only. Parameters and operations are in full: with biases and batch norm, and one operation for each
number that biases, batch norms, activations, pooling and sums take or give. A factor is against the table's baseline of
the same depth, in the paper's convention, and in brackets as the paper has it. Of detectors the backbone counts."""


def size(name: str) -> cost.Cost:
    """What the network of an experiment costs for one clip or image as large as in training, as its task counts it.

    Args:
      name: of a run in keras_nonlocal.paper.RUNS.
    """
    model, input_shape = _answers(name).counted()
    found = cost.cost(model, input_shape)
    tf_keras.backend.clear_session()
    return found


def _answers(name):
    return answers.of(exp_factory.get_exp_config(name).task)


def stride_first_multiply_adds(name: str) -> int:
    """Multiply-adds of an experiment's network if the first 1x1 convolutions of stages strode, not the 3x3 ones.

    Args:
      name: of a run on clips.
    """
    model, _ = _answers(name).counted()
    parts = cost.by_layer(model)
    multiply_adds = sum(part.multiply_adds for part in parts.values())
    for stage in ("res3", "res4", "res5"):
        first, second = (model.backbone.get_layer(f"{stage}_0_branch2{letter}").output.shape for letter in "ab")
        seen = (second[2] * second[3]) / (first[2] * first[3])  # about a quarter; the other layers do the same
        multiply_adds -= round(parts[f"{stage}_0_branch2a"].multiply_adds * (1 - seen))
    return multiply_adds


def tables(only: Sequence[str] | None = None, style: str = "text") -> Iterator[str]:
    """The text of the tables, one after the other; a network is built once, when its first row comes.

    Args:
      only: tables to make, such as ("2e",). Default all.
      style: "text" or "markdown".

    Yields:
      The text of each table.

    Example:

    >>> for text in paper_tables.tables(["2e"]):
    ...     print(text)  # doctest: +SKIP

    Wang et al., "Non-local Neural Networks", CVPR 2018, Tables 2 to 6.
    """
    sizes = {}
    for table in only or TABLES:
        rows = [row for row in paper.ROWS if row.table == table]
        for name in {name: None for row in rows for name in (row.run, row.baseline) if name}:
            if name not in sizes:
                sizes[name] = size(name)
        text = layout(columns(rows), [cells(row, sizes) for row in rows], style)
        title = f"## {paper.TITLES[table]}" if style == "markdown" else paper.TITLES[table]
        note = ["", NOTES[table](rows, sizes)] if table in NOTES else []
        yield "\n".join([title, "", text, *note])


def columns(rows: Sequence[paper.Row]) -> list[str]:
    """The heads of a table's columns; how the paper scores its runs is for their task to say."""
    return ["row", "experiment", *SIZES, f"the paper, {_answers(rows[0].run).score}", "ours"]


def cells(row: paper.Row, sizes: dict[str, cost.Cost]) -> list[str]:
    """The cells of a row, as text.

    Args:
      row: of keras_nonlocal.paper.ROWS.
      sizes: {name of a run: Cost}.
    """
    ours = sizes[row.run]
    counts = (ours.weights / 1e6, ours.multiply_adds / 1e9, ours.parameters / 1e6, ours.operations / 1e9)
    factors = [NONE, NONE]
    if row.baseline is not None:
        base = sizes[row.baseline]
        found = (ours.weights / base.weights, ours.multiply_adds / base.multiply_adds)
        factors = [
            f"{factor:.2f}x ({papers})" for factor, papers in zip(found, row.factors or (NONE, NONE), strict=True)
        ]
    return [row.label, row.run, *(f"{count:.2f}" for count in counts), *factors, row.result, NOT_RUN]


def stride_note(rows: Sequence[paper.Row], sizes: dict[str, cost.Cost]) -> str:
    """How the multiply-adds of Table 2(e)'s baseline compare with the paper's, on the two places a stride may be."""
    found = sizes[rows[0].run]
    ours, other = (f"{count / 1e9:.2f}" for count in (found.multiply_adds, stride_first_multiply_adds(rows[0].run)))
    return (
        f"The paper gives 43.2 M weights and 34.2 GMACs for the baseline. Ours has {found.weights / 1e6:.3f} M\n"
        f"weights and {ours} GMACs with strides on the 3x3 convolutions, as in the official code. With strides on\n"
        f"the 1x1 convolutions before them it would be {other} GMACs: that seems to be what the paper counted."
    )


def head_note(rows: Sequence[paper.Row], sizes: dict[str, cost.Cost]) -> str:
    """What the keypoint heads of Table 6 cost, which the backbones' sizes leave out."""
    heads = (cost.cost(*_answers(row.run).counted_head()) for row in rows)
    counts = (f"{head.weights / 1e6:.2f} M weights, {head.multiply_adds / 1e9:.3f} GMACs" for head in heads)
    return "\n".join(
        ["The keypoint head comes on top, its multiply-adds for each region of an image:"]
        + [f"{row.label}: {count}." for row, count in zip(rows, counts, strict=True)]
    )


NOTES = {"2e": stride_note, "6": head_note}


def layout(heads: list[str], rows: list[list[str]], style: str) -> str:
    """A table in plain text or Markdown."""
    if style == "markdown":
        lines = [heads, ["---"] * len(heads), *rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    widths = [max(len(line[i]) for line in [heads, *rows]) for i in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [heads, *rows]
    )
