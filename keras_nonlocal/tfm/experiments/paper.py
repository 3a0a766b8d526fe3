"""The runs of the paper's tables as registered experiments, and their configuration files.

Every run of keras_nonlocal.paper is one, under its name there, such as `paper_nl_i3d_r50_5_32x2`.
`keras-nonlocal tables` lists them.
"""

import functools
import textwrap

from official.core import config_definitions as cfg
from official.core import exp_factory

from keras_nonlocal import paper
from keras_nonlocal.tfm.experiments import charades, coco, keypoints, kinetics

NETWORKS = {**paper.NETWORKS, **paper.DETECTORS}
DATASETS = {
    "kinetics400": kinetics.of_paper,
    "charades": charades.of_paper,
    "coco": coco.of_paper,
    "coco_keypoints": keypoints.of_paper,
}


def experiment(run: paper.Run) -> cfg.ExperimentConfig:
    """The experiment of a run of the paper."""
    recipe = paper.RECIPES[run.recipe]
    return DATASETS[recipe.dataset](NETWORKS[run.network], recipe)


for _run in paper.RUNS.values():
    exp_factory.register_config_factory(_run.name)(functools.partial(experiment, _run))


def names() -> list[str]:
    """The names of the experiments, in the order of the paper's tables."""
    return list(paper.RUNS)


def config_file(name: str) -> str:
    """The name of an experiment's configuration file, one of configs.names().

    An experiment that starts from another one has a file of its own, the others one for each data set.
    """
    run = paper.RUNS[name]
    own = f"paper/{name.removeprefix('paper_')}"
    return own if run.start else paper.RECIPES[run.recipe].dataset


def about(name: str) -> list[str]:
    """What an experiment is: its rows of the paper, its command, hardware, schedule and start.

    Args:
      name: of an experiment in `names`.

    Returns:
      The lines of a comment.

    Example:

    >>> print(paper.about("paper_c2d_r50_32x2")[0])
    # Table 2(a), R50 baseline. The paper: 71.8 / 89.7.
    """
    recipe = paper.RECIPES[paper.RUNS[name].recipe]
    schedule = (
        f"Hardware: {recipe.hardware}. Schedule: {recipe.steps:,} steps, learning rate {recipe.learning_rate}, a tenth "
        f"of it from step {recipe.falls[0]:,} and a hundredth from step {recipe.falls[1]:,}."
    )
    lines = [
        *(f"{paper.place(row)}. The paper: {row.result}." for row in paper.ROWS if row.run == name),
        f"  keras-nonlocal train --experiment={name} --config_file={config_file(name)} \\",
        f"      --mode=train_and_eval --model_dir=runs/{name}",
        *textwrap.wrap(f"{schedule} {recipe.note} {recipe.start}", width=118, break_on_hyphens=False),
        "Accuracy: not yet run.",
    ]
    return [f"# {line}" for line in lines]


def config_text(name: str) -> str:
    """The configuration file of an experiment that starts from another one.

    Args:
      name: of an experiment in `names` whose `config_file` is its own.

    Returns:
      The text of a YAML file.
    """
    run = paper.RUNS[name]
    dataset = paper.RECIPES[run.recipe].dataset
    # A trunk has no non-local blocks where this network has some.
    modules = "backbone" if paper.RUNS[run.start].network == run.network else "trunk"
    settings = ["runtime:", "  distribution_strategy: mirrored", "  num_gpus: 8", "task:"]
    settings += [f"  init_checkpoint: runs/{run.start}", f"  init_checkpoint_modules: {modules}"]
    settings += ["  train_data:", f"    input_path: records/{dataset}/train-*.tfrecord"]
    settings += ["    shuffle_buffer_size: 1024"]
    settings += ["  validation_data:", f"    input_path: records/{dataset}/validate-*.tfrecord"]
    return "\n".join([*about(name), *settings, ""])
