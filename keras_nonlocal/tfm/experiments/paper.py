"""The runs of the paper's tables as registered experiments, and their configuration files.

Every row of keras_nonlocal.paper has one, named after its run as `paper_nl_c2d_r50_5_32x2` is; rows that report
the same run share it. `python -m training.tables` lists them.
"""

import functools
import textwrap

from official.core import exp_factory

from keras_nonlocal import paper
from keras_nonlocal.tfm.experiments.paper_recipes import RECIPES


def is_built(run):
    """Whether a run of keras_nonlocal.paper has an experiment."""
    return run is not None and run.dataset in RECIPES


def names():
    """The names of the experiments, in the order of the paper's tables."""
    return [name for name, (run, _) in paper.runs().items() if is_built(run)]


def config_file(name):
    """The configuration file of an experiment, from the root of the repository.

    An experiment that starts from another one has a file of its own, the others one for each data set.
    """
    run, _ = paper.runs()[name]
    checkpoint, *_ = RECIPES[run.dataset].start(run)
    own = f"paper/{name.removeprefix('paper_')}"
    return f"training/configs/{own if checkpoint else run.dataset}.yaml"


def about(name):
    """What an experiment is: its rows of the paper, its command, hardware, schedule and start.

    Args:
      name: of an experiment in `names`.

    Returns:
      The lines of a comment (list of str).

    Example:

    >>> print(paper.about("paper_c2d_r50_32x2")[0])
    # Table 2(a), R50 baseline. The paper: 71.8 / 89.7.
    """
    run, rows = paper.runs()[name]
    recipe = RECIPES[run.dataset]
    *_, start = recipe.start(run)
    lines = [
        *(f"{paper.TITLES[row.table].split(':')[0]}, {row.label}. The paper: {row.result}." for row in rows),
        f"  python training/train.py --experiment={name} \\",
        f"      --config_file={config_file(name)} \\",
        f"      --mode=train_and_eval --model_dir=runs/{name}",
        *textwrap.wrap(f"{recipe.schedule(run)} {start}", width=118),
        "Accuracy: not yet run.",
    ]
    return [f"# {line}" for line in lines]


def config_text(name):
    """The configuration file of an experiment that starts from another one.

    Args:
      name: of an experiment in `names` whose `config_file` is its own.

    Returns:
      The text of a YAML file.
    """
    run, _ = paper.runs()[name]
    checkpoint, modules, _ = RECIPES[run.dataset].start(run)
    settings = ["runtime:", "  distribution_strategy: mirrored", "  num_gpus: 8", "task:"]
    settings += [f"  init_checkpoint: {checkpoint}", f"  init_checkpoint_modules: {modules}"]
    settings += ["  train_data:", f"    input_path: records/{run.dataset}/train-*.tfrecord"]
    settings += ["    shuffle_buffer_size: 1024"]
    settings += ["  validation_data:", f"    input_path: records/{run.dataset}/validate-*.tfrecord"]
    return "\n".join([*about(name), *settings, ""])


for _name, (_run, _) in paper.runs().items():
    if is_built(_run):
        exp_factory.register_config_factory(_name)(functools.partial(RECIPES[_run.dataset].experiment, _run))
