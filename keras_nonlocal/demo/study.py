"""Does it help? The demo's task with every pairwise form, number of blocks and extent, C2D and I3D, several seeds."""

import dataclasses
import json
import math
import pathlib
import statistics
import time

import yaml

from keras_nonlocal import files
from keras_nonlocal.analysis import plot
from keras_nonlocal.demo import clips, results, whole
from keras_nonlocal.processes import command, run, side_by_side

# One residual block more in res3 and two in res4 than the demo's trunk: room for the paper's five.
BLOCK_COUNTS = (1, 2, 3, 1)
ONE, FIVE = {"res4": [1]}, {"res3": [0, 1], "res4": [0, 1, 2]}
STEPS = 1000
# Two-sided 95 % quantiles of Student's t, by the number of seeds.
_T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}


@dataclasses.dataclass(frozen=True)
class Row:
    """A network of the study.

    Args:
      name: for people.
      blocks: where non-local blocks go, as Placement.
      inflate: None for C2D, "3x1x1" for I3D.
      block: arguments of the blocks that are not the demo's.
    """

    name: str
    blocks: dict = dataclasses.field(default_factory=dict)
    inflate: str | None = None
    block: dict = dataclasses.field(default_factory=dict)

    @property
    def slug(self) -> str:
        """The name as a folder has it."""
        return slug(self.name)

    @property
    def trunk(self) -> str:
        """The folder of the trunk that it starts from."""
        return "i3d_digits" if self.inflate else "c2d_digits"


ROWS = (
    Row("C2D"),
    Row("C2D, 1 block", ONE),
    Row("C2D, 5 blocks", FIVE),
    Row("C2D, 5 blocks, gaussian", FIVE, block={"pairwise": "gaussian"}),
    Row("C2D, 5 blocks, dot product", FIVE, block={"pairwise": "dot_product"}),
    Row("C2D, 5 blocks, dot product without embedding", FIVE, block={"pairwise": "unembedded_dot_product"}),
    Row("C2D, 5 blocks, concatenation", FIVE, block={"pairwise": "concatenation"}),
    Row("C2D, 5 blocks, space", FIVE, block={"extent": "space"}),
    Row("C2D, 5 blocks, time", FIVE, block={"extent": "time"}),
    Row("I3D", inflate="3x1x1"),
    Row("I3D, 1 block", ONE, "3x1x1"),
    Row("I3D, 5 blocks", FIVE, "3x1x1"),
)


def run_study(work_dir: str, seeds: int, steps: int = STEPS) -> None:
    """Trains and tests every row with every seed, by the commands that it prints, and draws and writes what came out.

    What an earlier run finished is not done again. The test clips are the same for all; training clips, initial weights
    and augmentation are of the seed.

    Args:
      work_dir: folder for everything; `study.md` and `study.png` are the result.
      seeds: how many, 2 to 5.
      steps: of training from the trunk. Default 1000.

    Raises:
      UserError: if a command fails.
    """
    started = time.monotonic()
    work = pathlib.Path(work_dir)
    for seed in range(seeds):
        folder = work / f"seed{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        whole.write_clips(folder, seed)
        trunks = {"c2d_digits": Row("C2D"), "i3d_digits": Row("I3D", inflate="3x1x1")}
        _train(folder, seed, {name: (row, "digits") for name, row in trunks.items()}, steps)
        pairs = [ROWS[first : first + 2] for first in range(0, len(ROWS), 2)]
        for number, rows in enumerate(pairs):
            _train(folder, seed, {row.slug: (row, "pairs") for row in rows}, steps)
            for row in rows:
                _test(folder, row)
            done = seed * len(pairs) + number + 1
            left = (time.monotonic() - started) / done * (seeds * len(pairs) - done)
            print(f"study: {2 * done} of {seeds * len(ROWS)} networks, about {left / 60:.0f} min left", flush=True)
    found = {row.name: [_accuracy(work / f"seed{seed}", row) for seed in range(seeds)] for row in ROWS}
    text = table(found)
    files.write_text(work / "study.md", text + "\n")
    label = f"test accuracy (dashed: {clips.CEILING}, the most for frames that never meet)"
    draw(found, label, clips.CEILING).savefig(work / "study.png", dpi=110)
    print(text)
    print(f"{work}/study.md, {work}/study.png; {(time.monotonic() - started) / 60:.0f} min in this run")


def slug(name: str) -> str:
    """A network's name as a folder has it.

    >>> slug("C2D, 1 block")
    'c2d__1_block'
    """
    return "".join(letter if letter.isalnum() else "_" for letter in name.lower())


def interval(values: list[float]) -> tuple[float, float]:
    """The mean of the seeds, and half the width of its two-sided 95 % interval by Student's t.

    Args:
      values: one of each seed, 2 to 5.

    Example:

    >>> mean, half = interval([0.8, 0.85, 0.9])
    >>> round(mean, 3), round(half, 3)
    (0.85, 0.124)
    """
    return statistics.mean(values), _T[len(values)] * statistics.stdev(values) / math.sqrt(len(values))


def table(found: dict[str, list[float]]) -> str:
    """The rows as Markdown: what each seed scored, mean and interval.

    Args:
      found: {row's name: [score of each seed, 0 to 1]}.

    Example:

    >>> print(table({"C2D": [0.48, 0.5]}))
    | network | seed 0 | seed 1 | mean | 95 % interval |
    | --- | --- | --- | --- | --- |
    | C2D | 0.480 | 0.500 | 0.490 | 0.363 to 0.617 |
    """
    seeds = len(next(iter(found.values())))
    heads = ["network", *(f"seed {seed}" for seed in range(seeds)), "mean", "95 % interval"]
    lines = [heads]
    for name, values in found.items():
        mean, half = interval(values)
        cells = [f"{value:.3f}" for value in (*values, mean)]
        lines.append([name, *cells, f"{max(mean - half, 0):.3f} to {min(mean + half, 1):.3f}"])
    return results.table(lines)


def draw(found: dict[str, list[float]], label: str, line: float):
    """A picture of the rows: the seeds as dots, mean and interval as a bar.

    Args:
      found: as in `table`.
      label: of the axis of scores.
      line: a score to draw as a dashed line.

    Returns:
      A matplotlib Figure.
    """
    figure, (axis,) = plot.new_figure(1, (8, 0.42 * len(found) + 1.2))
    places = range(len(found), 0, -1)
    for place, values in zip(places, found.values(), strict=True):
        mean, half = interval(values)
        axis.errorbar(mean, place, xerr=half, fmt="|", color="black", capsize=3)
        axis.plot(values, [place] * len(values), "o", color="C0", alpha=0.6, markersize=5)
    axis.axvline(line, color="gray", linestyle="--", linewidth=1)
    axis.set_yticks(list(places), list(found))
    axis.set_xlim(0.3, 1)
    axis.set_xlabel(label)
    axis.grid(alpha=0.3, axis="x")
    figure.tight_layout()
    return figure


def _train(folder, seed, networks, steps):
    """Trains networks side by side, {folder: (row, records)}, that are not trained yet."""
    commands = {}
    for name, (row, records) in networks.items():
        config = folder / f"{name}.yaml"
        files.write_text(config, yaml.safe_dump(_config(folder, row, records, steps)))
        commands[name] = command(
            "train",
            register=whole.EXPERIMENTS,
            experiment="c2d_demo",
            config_file=f"demo_{'digits' if records == 'digits' else 'clips'}",
            mode="train",
            model_dir=folder / name,
            seed=seed,
        ) + [f"--config_file={config}"]
    train_side_by_side(folder, commands)


def train_side_by_side(folder: pathlib.Path, commands: dict[str, list[str]]) -> None:
    """Runs the trainings that an earlier run has not finished, two processes of one thread each or one of several.

    Args:
      folder: of a seed.
      commands: {name, and folder of the training in it: command line}.

    Raises:
      UserError: if a command fails.
    """
    left = {name: arguments for name, arguments in commands.items() if not (folder / name / "done").exists()}
    if len(left) == 1:
        run(*left.values())
    elif left:
        side_by_side(left)
    for name in left:
        files.write_text(folder / name / "done", "")


def _config(folder, row, records, steps):
    """What a row's training has else than the demo's."""
    placed = {"block_counts": list(BLOCK_COUNTS), "inflate": row.inflate}
    if records == "pairs":
        placed |= {"non_local": row.blocks, "non_local_block": row.block}
    task = {"model": {"backbone": {"video_resnet": placed}}}
    for part, path in whole.records_of(folder, records).items():
        task[f"{part}_data"] = {"input_path": path}
    if records == "digits":
        return {"task": task}
    task["init_checkpoint"] = str(folder / row.trunk)
    task["init_checkpoint_modules"] = "trunk" if row.blocks else "backbone"
    rate = {"cosine": {"initial_learning_rate": 0.05, "decay_steps": steps}}
    return {"task": task, "trainer": {"train_steps": steps, "optimizer_config": {"learning_rate": rate}}}


def _test(folder, row):
    out = folder / row.slug / "test.json"
    if not out.exists():
        run(whole.test_command(folder, row.slug, "c2d_demo", out))


def _accuracy(folder, row):
    return json.loads((folder / row.slug / "test.json").read_text())["accuracy"]
