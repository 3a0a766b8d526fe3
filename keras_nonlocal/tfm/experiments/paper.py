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
    """Where the configuration file of an experiment is, from the root of the repository."""
    return f"training/configs/paper/{name.removeprefix('paper_')}.yaml"


def config_text(name):
    """The configuration file of an experiment: what it takes besides the code, and as comments what it is.

    Args:
      name: of an experiment in `names`.

    Returns:
      The text of a YAML file.

    Example:

    >>> print(paper.config_text("paper_c2d_r50_32x2").splitlines()[0])
    # Table 2(a), R50 baseline. The paper: 71.8 / 89.7.
    """
    run, rows = paper.runs()[name]
    recipe = RECIPES[run.dataset]
    checkpoint, modules, start = recipe.start(run)
    comments = [
        *(f"{paper.TITLES[row.table].split(':')[0]}, {row.label}. The paper: {row.result}." for row in rows),
        f"  python training/train.py --experiment={name} \\",
        f"      --config_file={config_file(name)} \\",
        f"      --mode=train_and_eval --model_dir=runs/{name}",
        *textwrap.wrap(f"{recipe.schedule(run)} {start}", width=118),
        "Accuracy: not yet run.",
    ]
    settings = ["runtime:", "  distribution_strategy: mirrored", "  num_gpus: 8", "task:"]
    if checkpoint:
        settings += [f"  init_checkpoint: {checkpoint}", f"  init_checkpoint_modules: {modules}"]
    if run.dataset == "coco":
        settings += ["  annotation_file: records/coco/instances_val2017.json"]
    settings += ["  train_data:", f"    input_path: records/{run.dataset}/train-*.tfrecord"]
    settings += ["    shuffle_buffer_size: 1024"]
    settings += ["  validation_data:", f"    input_path: records/{run.dataset}/validate-*.tfrecord"]
    return "\n".join([*(f"# {line}" for line in comments), *settings, ""])


for _name, (_run, _) in paper.runs().items():
    if is_built(_run):
        exp_factory.register_config_factory(_name)(functools.partial(RECIPES[_run.dataset].experiment, _run))
