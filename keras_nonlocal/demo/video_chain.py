"""From real footage to served models of one label and of several, with trainings that are killed on the way."""

import os
import pathlib
import time

from keras_nonlocal import files
from keras_nonlocal.demo import camera, stages, video_report, whole
from keras_nonlocal.processes import command, run, side_by_side
from keras_nonlocal.serving import constants

CLIPS = {"train": 1400, "validation": 140, "test": 280}
LONG_CLIPS = {"train": 700, "validation": 100, "test": 160}
# At these steps the killed trainings are killed: between two checkpoints.
KILLS = {"i3d_killed": (230, 680), "charades_killed": (280,)}
# On two idle cores; the pace of a run corrects them.
SECONDS = {
    "compose the clips and write the records": 60,
    "train C2D and I3D on one label, and I3D once more, killed": 200,
    "train the non-local I3D on several labels, and once more, killed": 180,
    "evaluate": 60,
    "export": 30,
    "serve and ask": 40,
}
# {run: (experiment, configuration file, records)}
RUNS = {
    "c2d": ("paper_c2d_r50_32x2", "demo_video", "kinetics"),
    "i3d": ("paper_i3d_3x1x1_r50_32x2", "demo_video", "kinetics"),
    "charades": ("paper_nl_i3d_r101_5_charades", "demo_video_charades", "charades"),
}


def run_chain(work_dir: str | os.PathLike, seed: int, export_dir: str | os.PathLike) -> None:
    """Composes, writes records, trains, kills, goes on, compares, evaluates, exports, serves, asks and draws.

    By the commands that it prints. What an earlier run finished is not done again.

    Args:
      work_dir: folder for everything; the results go to `work_dir/seedN`.
      seed: of the training clips, the initial weights and the augmentation.
      export_dir: where the models are published, as export_dir/camera and export_dir/camera_actions.

    Raises:
      UserError: if a command fails.
    """
    started = time.monotonic()
    begin = stages.Stages(SECONDS).start
    names = iter(SECONDS)
    work = pathlib.Path(work_dir) / f"seed{seed}"
    work.mkdir(parents=True, exist_ok=True)

    begin(next(names))
    if not (work / "clips" / "kinetics.csv").exists():  # it is written last
        camera.write(work / "clips", CLIPS, LONG_CLIPS, seed)
    write_records(work)

    for trained in (("c2d", "i3d", "i3d_killed"), ("charades", "charades_killed")):
        begin(next(names))
        _train(work, seed, trained)

    begin(next(names))
    for name in RUNS:
        run(_test_command(work, name))
    # A clip that wraps around the end of a video has a jump in it.
    run(_test_command(work, "i3d", protocol="spread", out_dir=work / "i3d" / "test_spread"))

    begin(next(names))
    published = {"i3d": "camera", "charades": "camera_actions"}
    for name, model in published.items():
        experiment, _, records = RUNS[name]
        labels = work / "records" / records / "labels.txt"
        run(command("export", experiment=experiment, model_dir=work / name, export_dir=pathlib.Path(export_dir) / model,
                    labels=labels))  # fmt: skip

    begin(next(names))
    videos = {"i3d": "kinetics/test-00000_000000_000001.mp4", "charades": "charades/TE0000.mp4"}
    for name, model in published.items():
        labels = work / "records" / RUNS[name][2] / "labels.txt"
        question = (work / "clips" / videos[name], constants.DEFAULT_SIGNATURE)
        whole.serve_and_ask(pathlib.Path(export_dir) / model, [question], labels, stride=1)

    text = video_report.report(work)
    files.write_text(work / "report.md", text + "\n")
    video_report.draw_curves(work)
    print(f"\n{text}\n\n{work}/report.md, curves.png. All of it in {time.monotonic() - started:.0f} s.")


def write_records(work: pathlib.Path) -> None:
    """Writes the records of all splits, unless that is done.

    Args:
      work: the folder of a seed, in which the clips are.
    """
    clips = work / "clips"
    for records in ("kinetics", "charades"):
        for split in camera.MOMENTS:
            arguments = dict(videos=clips / records, out=work / "records" / records, split=split, short_side=0)
            if records == "charades":
                arguments |= dict(list=clips / f"charades_{split}.csv", labels=clips / "classes.txt")
            else:
                arguments |= dict(list=clips / "kinetics.csv")
            run(command("prepare_videos", **arguments))


def _test_command(work, name, **flags):
    """The command line of a test, by the protocol of the run's task unless told otherwise."""
    experiment, _, records = RUNS[name]
    pattern = f"{work}/records/{records}/test-*.tfrecord"
    return command("evaluate", experiment=experiment, model_dir=work / name, input_path=pattern, **flags)


def _train(work, seed, names):
    """Trains runs of which some are killed, side by side; how long each took is kept."""
    killed = [name for name in names if name in KILLS]
    commands = {name: train_command(work, seed, name) for name in names}
    seconds = side_by_side(commands, {name: KILLS[name] for name in killed})
    whole.keep_seconds(work / f"seconds_{names[0]}.json", seconds)
    for name in killed:
        video_report.compare(work, name.removesuffix("_killed"), name)


def train_command(work: pathlib.Path, seed: int, name: str) -> list[str]:
    """The command line of a training.

    Args:
      work: the folder of a seed.
      seed: of the run.
      name: of the run, with `_killed` behind it for the one that is compared with it.
    """
    experiment, config, records = RUNS[name.removesuffix("_killed")]
    overrides = [f"task.{part}_data.input_path={path}" for part, path in whole.records_of(work, records).items()]
    if records == "charades":
        overrides.append(f"task.init_checkpoint={work}/i3d")
    return command(
        "train",
        experiment=experiment,
        config_file=config,
        # What is validated in between changes nothing.
        mode="train" if name in KILLS else "train_and_eval",
        model_dir=work / name,
        seed=seed,
        params_override=",".join(overrides),
    )
