"""What the demo on real footage found: tables, curves, and whether killed trainings ended with the same bits."""

import csv
import os
import pathlib

from keras_nonlocal import errors
from keras_nonlocal.data.records import writer
from keras_nonlocal.demo import camera, curves, results
from keras_nonlocal.tfm import train
from keras_nonlocal.tfm.runs import checkpoints

ONE_LABEL = {"c2d": "C2D", "i3d": "I3D"}
SEVERAL = {"charades": "non-local I3D"}


def compare(work: str | os.PathLike, name: str, killed: str) -> None:
    """Compares the last checkpoints of a run and of one that was killed, and keeps and prints what came out.

    Args:
      work: the folder of a seed.
      name: of the run that was not interrupted.
      killed: of the other one.

    Raises:
      UserError: if a bit is different.
    """
    paths = [train.latest_checkpoint(str(pathlib.Path(work) / each)) for each in (name, killed)]
    differing, count = checkpoints.differing(*paths)
    writer.write_json(pathlib.Path(work) / f"{killed}.json", {"tensors": count, "differing": differing})
    if differing:
        raise errors.UserError(
            f"{paths[1]} was killed and differs from {paths[0]} in {len(differing)} of {count} tensors, first "
            f"{differing[0]}: report it with both folders."
        )
    print(f"{paths[1]}, killed on the way, and {paths[0]}: all {count} tensors are the same bit for bit", flush=True)


def report(work: str | os.PathLike) -> str:
    """What came out, as Markdown.

    Args:
      work: the folder of a seed with <run>/test/ of keras-nonlocal evaluate, seconds_<run>.json and <run>_killed.json.
    """
    work = pathlib.Path(work)
    seconds = _read(work / "seconds_c2d.json") | _read(work / "seconds_charades.json")
    sizes = [["network", "test", "score", "parameters", "GMACs a view", "training seconds"]]
    for name, folder in (("c2d", "test"), ("i3d", "test"), ("i3d", "test_spread"), ("charades", "test")):
        result = _read(work / name / folder / "result.json")
        if name in SEVERAL:
            score = (
                f"mAP {result['mean_average_precision']:.3f}, weighted {result['weighted_average_precision']:.3f}, "
                f"by SlowFast's rule {result['mean_average_precision_slowfast']:.3f}"
            )
        else:
            score = f"accuracy {result['accuracy']:.3f}"
        views = f"{result['protocol']}, {result['clips']} x {result['crops']} views, {result['combine']}"
        sizes.append([{**ONE_LABEL, **SEVERAL}[name], views, score, f"{result['parameters']:,}",
                      f"{result['multiply_adds'] / 1e9:.3f}", f"{seconds[name]:.0f}"])  # fmt: skip
    scores = {name: _of_classes(work, name) for name in (*ONE_LABEL, *SEVERAL)}
    classes = [["class", *(f"{title}, accuracy" for title in ONE_LABEL.values()),
                *(f"{title}, average precision" for title in SEVERAL.values())]]  # fmt: skip
    for label in [camera.STILL, *camera.ACTIONS]:
        classes.append([label, *(scores[name].get(label, "-") for name in (*ONE_LABEL, *SEVERAL))])
    killed = []
    for name in ("i3d_killed", "charades_killed"):
        found = _read(work / f"{name}.json")
        killed.append(f"{name}: {len(found['differing'])} of {found['tensors']} tensors differ from the run that was "
                      f"not interrupted.")  # fmt: skip
    notes = _read(work / "charades" / "test" / "result.json")["notes"]
    return "\n\n".join([results.table(sizes), results.table(classes), "\n".join(killed), *notes])


def draw_curves(work: str | os.PathLike) -> None:
    """Draws the accuracy of the networks of one label over training, as curves.png into the folder of a seed."""
    work = pathlib.Path(work)
    runs = {title: str(work / name) for name, title in ONE_LABEL.items()}
    bound = f"{camera.ORDER_BLIND:.3f}: the most without the order of frames"
    curves.draw(runs, camera.ORDER_BLIND, bound).savefig(work / "curves.png", dpi=90)


def _of_classes(work, name):
    """{class: its score as text}."""
    with open(work / name / "test" / "classes.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    score = "average_precision" if name in SEVERAL else "accuracy"
    return {_bare(row["name"]): f"{float(row[score]):.3f}" if row[score] else "-" for row in rows}


def _bare(name):
    """A class without the code that Charades has before it."""
    return name.split(" ", 1)[1] if name[1:4].isdigit() else name


def _read(path):
    return results.read(path, "demo_video")
