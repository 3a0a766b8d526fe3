"""From photos with annotations to served detectors of boxes, masks and keypoints that know them by heart."""

import dataclasses
import os
import pathlib
import resource
import time

from keras_nonlocal import files
from keras_nonlocal.demo import coco_photos, coco_report, stages, whole
from keras_nonlocal.processes import command, run

# On two idle cores; the pace of a run corrects them.
SECONDS = {
    "write the photos and the records": 30,
    "train RetinaNet": 200,
    "train Mask R-CNN": 250,
    "train keypoint R-CNN": 150,
    "evaluate": 60,
    "export": 90,
    "serve and ask": 60,
}
# What of the photos is in the records, beside boxes.
RECORDS = {"objects": "masks", "quokka": "keypoints"}


@dataclasses.dataclass(frozen=True)
class Kind:
    """A detector of the demo.

    Args:
      experiment: of the run; `--config_file=demo_coco_<name>` makes it small.
      records: that it learns.
    """

    experiment: str
    records: str


KINDS = {
    "retinanet": Kind("non_local_retinanet_r50_coco", "objects"),
    "mask_rcnn": Kind("non_local_mask_rcnn_r50_coco", "objects"),
    "keypoint_rcnn": Kind("non_local_keypoint_rcnn_r50_coco", "quokka"),
}


def run_chain(work_dir: str | os.PathLike, seed: int, export_dir: str | os.PathLike) -> None:
    """Writes records, trains, evaluates, exports, serves, asks and draws, by the commands that it prints.

    What an earlier run finished is not done again.

    Args:
      work_dir: folder for everything; the results go to `work_dir/seedN`.
      seed: of the initial weights and the mirroring.
      export_dir: where the models are published, as export_dir/coco_retinanet and so on.

    Raises:
      UserError: if a command fails, a package is missing, or a detector did not learn its photos by heart.
    """
    started = time.monotonic()
    begin = stages.Stages(SECONDS).start
    names = iter(SECONDS)
    work = pathlib.Path(work_dir) / f"seed{seed}"

    begin(next(names))
    write_records(work)

    for name in KINDS:
        begin(next(names))
        _train(work, seed, name)

    begin(next(names))
    for name, kind in KINDS.items():
        run(command("evaluate", experiment=kind.experiment, model_dir=work / name))

    begin(next(names))
    for name, kind in KINDS.items():
        run(command("export", experiment=kind.experiment, model_dir=work / name, labels=_labels(work, kind),
                    export_dir=_published(export_dir, name)))  # fmt: skip

    begin(next(names))
    for name, kind in KINDS.items():
        with whole.serving(_published(export_dir, name)) as address:
            for photo in sorted((work / "photos" / kind.records).glob("*.png")):
                drawn = work / f"{name}_{photo.name}"
                run(command("client", image=photo, labels=_labels(work, kind), out=drawn, **address))
        coco_report.join(sorted(work.glob(f"{name}_*.png")), work / f"{name}.jpg")

    text = coco_report.report(work)
    files.write_text(work / "report.md", text + "\n")
    gigabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"\n{text}\n\n{work}/report.md and pictures. All of it in {time.monotonic() - started:.0f} s; the largest "
          f"process had {gigabytes:.1f} GB.")  # fmt: skip
    coco_report.check(work)


def write_records(work: pathlib.Path) -> None:
    """Writes photos and records, unless that is done.

    Args:
      work: the folder of a seed.
    """
    for records, extra in RECORDS.items():
        photos = work / "photos" / records
        if not (photos / "annotations.json").exists():  # it is written last
            coco_photos.WRITERS[records](photos)
        run(command("prepare_coco", f"--{extra}", annotations=photos / "annotations.json", images=photos,
                    out=work / "records" / records, split="train", shards=1))  # fmt: skip


def train_command(work: pathlib.Path, seed: int, name: str) -> list[str]:
    """The command line of a training; what it is tested on is what it learned.

    Args:
      work: the folder of a seed.
      seed: of the run.
      name: one of KINDS.
    """
    path = f"{work}/records/{KINDS[name].records}/train-*.tfrecord"
    return command(
        "train",
        experiment=KINDS[name].experiment,
        config_file=f"demo_coco_{name}",
        mode="train_and_eval",
        model_dir=work / name,
        seed=seed,
        params_override=f"task.train_data.input_path={path},task.validation_data.input_path={path}",
    )


def _train(work, seed, name):
    """Trains a detector; how long it took, and how long the CPUs did, is kept."""
    wall, cpu = time.monotonic(), _cpu_seconds()
    run(train_command(work, seed, name))
    took = {"seconds": time.monotonic() - wall, "cpu_seconds": _cpu_seconds() - cpu}
    whole.keep_seconds(work / f"seconds_{name}.json", took)


def _cpu_seconds():
    """Of all commands that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _labels(work, kind):
    return work / "records" / kind.records / "labels.txt"


def _published(export_dir, name):
    return pathlib.Path(export_dir) / f"coco_{name}"
