"""The whole way from video files to a served model, stage by stage."""

import contextlib
import json
import os
import pathlib
import subprocess
import time
from collections.abc import Iterator

from keras_nonlocal import errors, files
from keras_nonlocal.demo import stages
from keras_nonlocal.processes import command, run, running, show, side_by_side
from keras_nonlocal.serving import constants

EXPERIMENTS = "keras_nonlocal.demo.experiments"


def run_demo(work_dir, seed, export_dir):
    """Composes, writes records, trains, evaluates, exports, serves, asks and draws, by the commands that it prints.

    What an earlier run finished is not done again.

    Args:
      work_dir: folder for everything; the results go to `work_dir/seedN`.
      seed: of the training clips, the initial weights and the augmentation.
      export_dir: where the model is published.

    Raises:
      UserError: if a command fails.
    """
    started = time.monotonic()
    begin = stages.Stages(stages.SECONDS).start
    work = pathlib.Path(work_dir) / f"seed{seed}"
    work.mkdir(parents=True, exist_ok=True)
    videos, labels = work / "clips" / "videos", work / "records" / "pairs" / "labels.txt"

    begin("compose the clips and write the records")
    write_clips(work, seed)

    begin("train the trunk on single digits")
    run(_train(work, seed, "c2d_demo", "demo_digits", "digits", "digits"))

    begin("train C2D and non-local C2D")
    names = ("c2d", "non_local_c2d")
    seconds = side_by_side({name: _train(work, seed, f"{name}_demo", "demo_clips", "pairs", name) for name in names})
    keep_seconds(work / "seconds.json", seconds)

    begin("evaluate")
    for name in names:
        run(test_command(work, name, f"{name}_demo", work / name / "test.json"))

    begin("export")
    run(
        command(
            "export",
            register=EXPERIMENTS,
            experiment="non_local_c2d_demo",
            model_dir=work / "non_local_c2d",
            export_dir=export_dir,
            labels=labels,
        )
    )

    begin("serve and ask")
    asked = ((0, constants.TF_EXAMPLE_SIGNATURE), (1, constants.DEFAULT_SIGNATURE))
    questions = [(videos / f"pairs-test-{index:05}_000000_000001.mp4", signature) for index, signature in asked]
    serve_and_ask(export_dir, questions, labels, stride=2)

    begin("draw")
    run(command("demo_report", work_dir=work))
    print(f"\nAll of it in {time.monotonic() - started:.0f} s.")


def write_clips(work: pathlib.Path, seed: int) -> None:
    """Composes the clips and writes their records, unless that is done.

    Args:
      work: the folder of a seed.
      seed: of the training clips.
    """
    # The lists are written last, one after the other.
    if not all((work / "clips" / f"{kind}.csv").exists() for kind in ("pairs", "digits")):
        run(command("make_demo_clips", out=work / "clips", seed=seed))
    for kind, splits in (("digits", ["train", "validation"]), ("pairs", ["train", "validation", "test"])):
        for split in splits:
            videos, out = work / "clips" / "videos", work / "records" / kind
            run(command("prepare_videos", list=work / "clips" / f"{kind}.csv", videos=videos, out=out, split=split,
                        short_side=0))  # fmt: skip


def keep_seconds(path: pathlib.Path, seconds: dict[str, float]) -> None:
    """Writes how long trainings took, unless they had been done before and took no time now."""
    if not path.exists():
        files.write_text(path, json.dumps(seconds))


def records_of(work: pathlib.Path, records: str) -> dict[str, str]:
    """The patterns of a seed's records, by the part of the data that reads them: train or validation."""
    return {part: f"{work}/records/{records}/{part}-*.tfrecord" for part in ("train", "validation")}


def test_command(work: pathlib.Path, name: str, experiment: str, out: pathlib.Path) -> list[str]:
    """The command line of a network's test: three clips of each held-out video.

    Args:
      work: the folder of a seed.
      name: that of the network's run in it.
      experiment: of the run.
      out: where the result goes.
    """
    return command(
        "evaluate",
        register=EXPERIMENTS,
        experiment=experiment,
        model_dir=work / name,
        input_path=f"{work}/records/pairs/test-*.tfrecord",
        protocol="spread",
        clips=3,
        crops=1,
        out=out,
    )


def _train(work, seed, experiment, config, records, name):
    """The command line of a training."""
    overrides = [f"task.{part}_data.input_path={path}" for part, path in records_of(work, records).items()]
    if records == "pairs":
        overrides.append(f"task.init_checkpoint={work}/digits")
    return command(
        "train",
        register=EXPERIMENTS,
        experiment=experiment,
        config_file=config,
        mode="train_and_eval",
        model_dir=work / name,
        seed=seed,
        params_override=",".join(overrides),
    )


def serve_and_ask(base_path: str | os.PathLike, questions: list[tuple], labels: os.PathLike, stride: int) -> None:
    """Starts the server, has it classify videos over REST and gRPC, and stops it.

    Args:
      base_path: where the model is published.
      questions: (video file, signature) of each.
      labels: file of class names.
      stride: distance of the frames that are sent, as in training.
    """
    with serving(base_path) as address:
        for video, signature in questions:
            run(command("client", video=video, labels=labels, signature=signature, stride=stride, **address))


@contextlib.contextmanager
def serving(base_path: str | os.PathLike) -> Iterator[dict[str, str]]:
    """A server of a published model, which ends with the context.

    Args:
      base_path: where the model is published.

    Yields:
      The flags by which the client finds it.
    """
    name = pathlib.Path(base_path).name
    arguments = command("serve", model_base_path=base_path, model_name=name, port=0, rest_api_port=0)
    show(arguments)
    with running(arguments, stdout=subprocess.PIPE, text=True) as server:
        ports = {}
        for line in server.stdout:
            print(line, end="", flush=True)
            if line.startswith("ready "):
                ports = dict(word.split("=", 1) for word in line.split()[1:])
                break
        if not ports:
            raise errors.UserError(f"the server ended with exit code {server.wait()}.")
        yield {"model_name": name, "server": ports["grpc"], "rest": ports["rest"]}
