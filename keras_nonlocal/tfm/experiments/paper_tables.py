"""The paper's tables beside ours: sizes that are counted now, accuracies that are not yet run."""

import tf_keras
from official.core import exp_factory, task_factory
from official.vision.configs import maskrcnn
from official.vision.modeling.backbones import factory

from keras_nonlocal import paper
from keras_nonlocal.analysis import cost
from keras_nonlocal.tfm.experiments import paper as experiments

COLUMNS = (
    "row",
    "experiment",
    "weights, M",
    "GMACs",
    "parameters, M",
    "operations, G",
    "weights / baseline (paper)",
    "MACs / baseline (paper)",
    "the paper",
    "ours",
)
NOT_RUN, NOT_BUILT, NONE = "not yet run", "not built yet", "-"
FORMATS = ("text", "markdown")
TABLES = tuple(paper.TITLES)
CONVENTIONS = """\
One clip or image, multiply-adds. Weights and GMACs are the paper's convention: kernels of convolutions and fully
connected layers only. Parameters and operations are in full: with biases and batch norm, and one operation for each
number that biases, batch norms, activations, pooling and sums take or give. A factor is against the table's baseline of
the same depth, in the paper's convention, and in brackets as the paper has it. Of detectors the backbone counts."""


def size(name):
    """What the network of an experiment costs, a cost.Cost for one clip or image as large as in training.

    Args:
      name: of an experiment in keras_nonlocal.tfm.experiments.paper.names().
    """
    experiment = exp_factory.get_exp_config(name)
    found = cost.cost(build(experiment), input_shape(experiment))
    tf_keras.backend.clear_session()
    return found


def stride_first_multiply_adds(name):
    """Multiply-adds of an experiment's network if the first 1x1 convolutions of stages strode, not the 3x3 ones.

    Args:
      name: of an experiment on clips.
    """
    model = build(exp_factory.get_exp_config(name))
    parts = cost.by_layer(model)
    multiply_adds = sum(part.multiply_adds for part in parts.values())
    for stage in ("res3", "res4", "res5"):
        first, second = (model.backbone.get_layer(f"{stage}_0_branch2{letter}").output.shape for letter in "ab")
        seen = (second[2] * second[3]) / (first[2] * first[3])  # about a quarter; the other layers do the same
        multiply_adds -= round(parts[f"{stage}_0_branch2a"].multiply_adds * (1 - seen))
    return multiply_adds


def build(experiment):
    """The network of an ExperimentConfig, with random weights; of a detector its backbone."""
    model = experiment.task.model
    if isinstance(experiment.task, maskrcnn.MaskRCNNTask):
        specs = tf_keras.layers.InputSpec(shape=[None, *model.input_size])
        return factory.build_backbone(specs, model.backbone, model.norm_activation)
    return task_factory.get_task(experiment.task).build_model()


def input_shape(experiment):
    """The sizes that an experiment trains on, without the batch."""
    if isinstance(experiment.task, maskrcnn.MaskRCNNTask):
        return tuple(experiment.task.model.input_size)
    return tuple(experiment.task.train_data.feature_shape)


def tables(only=None, style="text"):
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
        for row in rows:
            for run in (row.run, row.baseline):
                if experiments.is_built(run) and run.name not in sizes:
                    sizes[run.name] = size(run.name)
        text = layout(COLUMNS, [cells(row, sizes) for row in rows], style)
        title = f"## {paper.TITLES[table]}" if style == "markdown" else paper.TITLES[table]
        note = ["", stride_note(rows[0].run, sizes[rows[0].run.name])] if table == "2e" else []
        yield "\n".join([title, "", text, *note])


def cells(row, sizes):
    """The cells of a row, as text.

    Args:
      row: of keras_nonlocal.paper.ROWS.
      sizes: {name of an experiment: Cost}.
    """
    if not experiments.is_built(row.run):
        return [row.label, NONE, *[NONE] * 6, row.result, NOT_BUILT]
    ours = sizes[row.run.name]
    counts = (ours.weights / 1e6, ours.multiply_adds / 1e9, ours.parameters / 1e6, ours.operations / 1e9)
    factors = [NONE, NONE]
    if row.baseline is not None:
        base = sizes[row.baseline.name]
        found = (ours.weights / base.weights, ours.multiply_adds / base.multiply_adds)
        factors = [
            f"{factor:.2f}x ({papers})" for factor, papers in zip(found, row.factors or (NONE, NONE), strict=True)
        ]
    return [row.label, row.run.name, *(f"{count:.2f}" for count in counts), *factors, row.result, NOT_RUN]


def stride_note(run, found):
    """How the multiply-adds of Table 2(e)'s baseline compare with the paper's, on the two places a stride may be."""
    ours, other = (f"{count / 1e9:.2f}" for count in (found.multiply_adds, stride_first_multiply_adds(run.name)))
    return (
        f"The paper gives 43.2 M weights and 34.2 GMACs for the baseline. Ours has {found.weights / 1e6:.3f} M\n"
        f"weights and {ours} GMACs with strides on the 3x3 convolutions, as in the official code. With strides on\n"
        f"the 1x1 convolutions before them it would be {other} GMACs: that seems to be what the paper counted."
    )


def layout(columns, rows, style):
    """A table in plain text or Markdown."""
    if style == "markdown":
        lines = [columns, ["---"] * len(columns), *rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    widths = [max(len(line[i]) for line in [columns, *rows]) for i in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [columns, *rows]
    )
