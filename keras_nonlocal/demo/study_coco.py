"""Does it help a detector? Objects whose class another object decides, near or far, without and with a block in res4.

A class in tf-models-official's RetinaNet depends, through convolutions alone, on a square of the image. The plain R18
of the study sees 222 to 277 pixels to each side, by where in the grid the object is, of images 640 wide.
"""

import dataclasses
import json
import pathlib
import time

import numpy as np
import yaml
from pycocotools import mask

from keras_nonlocal import files
from keras_nonlocal.demo import cues, study
from keras_nonlocal.processes import command, run
from keras_nonlocal.tfm.scoring import coco_scores

COUNTS = {"train": 6000, "validation": 500, "test": 1000}
STEPS = 1500
EXPERIMENT, CONFIG = "retinanet_r50_coco", "study_coco"
# Boxes that share as much of their union are of the same object.
SAME_BOX = 0.5
# Pixels to the cue, where each range begins and the last one ends. Up to 208 the plain network sees the whole cue from
# every place, from 292 on nothing of it from any.
RANGES = (0, 100, 208, 292, 450, 640)
CHANCE = 0.5


@dataclasses.dataclass(frozen=True)
class Network:
    """A network of the study.

    Args:
      name: for people.
      blocks: where non-local blocks go, as Placement.
    """

    name: str
    blocks: dict = dataclasses.field(default_factory=dict)

    @property
    def slug(self) -> str:
        """The name as a folder has it."""
        return study.slug(self.name)


NETWORKS = (Network("R18"), Network("R18, 1 block in res4", {"res4": [0]}))


def run_study(
    work_dir: str, seeds: int, steps: int = STEPS, images: int = COUNTS["train"], split: str = "test"
) -> None:
    """Trains and tests every network with every seed, by the commands that it prints, and draws and writes the result.

    What an earlier run finished is not done again. Validation and test images are the same for all; training images,
    initial weights and the order of images are of the seed.

    Args:
      work_dir: folder for everything; `study_coco.md` and `study_coco.png` are the result.
      seeds: how many, 2 to 5.
      steps: of each training. Default 1500.
      images: to train on. Default 6000.
      split: what the networks are tested on, "test" or, where settings are chosen, "validation". Default "test".

    Raises:
      UserError: if a command fails.
    """
    started = time.monotonic()
    work = pathlib.Path(work_dir)
    scores = {network.name: [] for network in NETWORKS}
    for seed in range(seeds):
        folder = work / f"seed{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        write_records(folder, seed, {**COUNTS, "train": images})
        study.train_side_by_side(
            folder, {network.slug: _train_command(folder, seed, network, steps) for network in NETWORKS}
        )
        for network in NETWORKS:
            scores[network.name].append(_test(folder, network, split))
        left = (time.monotonic() - started) / (seed + 1) * (seeds - seed - 1)
        print(f"study_coco: {seed + 1} of {seeds} seeds, about {left / 60:.0f} min left", flush=True)
    measures = scores[NETWORKS[0].name][0]
    found = {f"{measure}: {name}": [of_seed[measure] for of_seed in scores[name]]
             for measure in measures for name in scores}  # fmt: skip
    text = study.table(found)
    files.write_text(work / "study_coco.md", text + "\n")
    told_right = {name: values for name, values in found.items() if name.startswith("right")}
    label = f"part of the {split} digits told right (dashed: {CHANCE}, without the cue)"
    study.draw(told_right, label, CHANCE).savefig(work / "study_coco.png", dpi=110)
    minutes = (time.monotonic() - started) / 60
    print(f"{text}\n{work}/study_coco.md, {work}/study_coco.png; {minutes:.0f} min in this run")


def write_records(folder: pathlib.Path, seed: int, counts: dict[str, int]) -> None:
    """Composes the images and writes their records, unless that is done.

    Args:
      folder: of the seed.
      seed: of the training images.
      counts: {split: how many images}.
    """
    images = folder / "images"
    if not all((images / f"{split}.json").exists() for split in counts):
        cues.write(images, counts, seed)
    for split in counts:
        run(command("prepare_coco", annotations=images / f"{split}.json", images=images / split,
                    out=folder / "records", split=split, shards=2))  # fmt: skip


def _train_command(folder, seed, network, steps):
    """The command line of a training; what it has else than CONFIG is written beside its folder."""
    task = {"model": {"backbone": {"non_local_resnet": {"non_local": network.blocks}}}}
    for part in ("train", "validation"):
        task[f"{part}_data"] = {"input_path": f"{folder}/records/{part}-*.tfrecord"}
    rate = {"cosine": {"decay_steps": steps}}
    trainer = {"train_steps": steps, "optimizer_config": {"learning_rate": rate}}
    config = folder / f"{network.slug}.yaml"
    files.write_text(config, yaml.safe_dump({"task": task, "trainer": trainer}))
    return command(
        "train",
        experiment=EXPERIMENT,
        config_file=CONFIG,
        mode="train",
        model_dir=folder / network.slug,
        seed=seed,
    ) + [f"--config_file={config}"]


def _test(folder, network, split):
    """What a network scores on a split."""
    out = folder / network.slug / split
    if not (out / "result.json").exists():
        run(command("evaluate", experiment=EXPERIMENT, model_dir=folder / network.slug, out_dir=out,
                    input_path=f"{folder}/records/{split}-*.tfrecord"))  # fmt: skip
    truth = coco_scores.read_annotations(str(folder / "images" / f"{split}.json"))
    return score(truth, json.loads((out / "bbox.json").read_text()))


def score(truth: dict, lines: list[dict]) -> dict[str, float]:
    """What a detector makes of the images.

    Args:
      truth: annotations in COCO's format, of cues.CATEGORIES.
      lines: what was found, in COCO's format.

    Returns:
      AP50 of the cues, and of the digits that they decide on; and of the latter, by the pixels to the cue, the part
      that was found and whose best box says the right category.
    """
    parts = {"AP50 of cues": cues.CUE_IDS, "AP50 of digits": cues.RULED_IDS}
    found = {name: _average_precision(truth, lines, ids) for name, ids in parts.items()}
    distances, right = decisions(truth, lines)
    for first, last in zip(RANGES, RANGES[1:], strict=False):
        chosen = (distances >= first) & (distances < last)
        found[f"right, {first} to {last} pixels"] = float(right[chosen].mean())
    return found


def decisions(truth: dict, lines: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """How far each digit is from its cue, and whether it was told right; arguments as those of `score`.

    Returns:
      (N,) float, in pixels, and (N,) bool: whether the box with the highest score on the digit, of both categories
      that it may be of, has its category. Of two with the same score it is the first in `lines`. A digit without a box
      is not told right.
    """
    annotated, detected = _by_image(truth["annotations"]), _by_image(lines)
    distances, right = [], []
    for image_id, objects in annotated.items():
        cue = next(each for each in objects if each["category_id"] in cues.CUE_IDS)
        boxes = [each for each in detected.get(image_id, ()) if each["category_id"] in cues.RULED_IDS]
        boxes.sort(key=lambda each: -each["score"])
        for digit in objects:
            if digit["category_id"] not in cues.RULED_IDS:
                continue
            on_it = (each for each in boxes if _overlap(each["bbox"], digit["bbox"]) >= SAME_BOX)
            best = next(on_it, None)
            distances.append(cues.distance(digit["bbox"], cue["bbox"]))
            right.append(best is not None and best["category_id"] == digit["category_id"])
    return np.array(distances), np.array(right)


def _overlap(box, other):
    """Intersection over union of two boxes [x, y, width, height]."""
    return mask.iou(np.array([box], float), np.array([other], float), [0])[0, 0]


def _by_image(annotations):
    """{image id: its annotations or results, in order}."""
    found = {}
    for each in annotations:
        found.setdefault(each["image_id"], []).append(each)
    return found


def _average_precision(truth, lines, ids):
    """AP50 of some of the categories."""
    part = {**truth, **{name: [each for each in truth[name] if each[key] in ids]
                        for name, key in (("categories", "id"), ("annotations", "category_id"))}}  # fmt: skip
    chosen = [line for line in lines if line["category_id"] in ids]
    return float(coco_scores.score("bbox", part, chosen)["AP50"])
