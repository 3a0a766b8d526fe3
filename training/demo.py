"""The whole way from video files to a served model, command by command: what `make demo` runs.

    python training/demo.py --work_dir=demo_work --seed=0

Composes clips that ask "did the same digit come back?", writes them as TFRecords, trains the trunk on single digits and
then C2D and non-local C2D from it, evaluates, exports, serves, queries over REST and gRPC, and ends with a table and
pictures. Every command is printed before it runs and can be run by hand. Running it again goes on where it stopped.
"""

import contextlib
import json
import os
import pathlib
import shlex
import subprocess
import sys
import threading
import time

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # oneDNN's kernels, off by default on CPUs without AVX-512

from absl import app, flags  # noqa: E402

flags.DEFINE_string("work_dir", "demo_work", "Folder for everything; the results go to WORK_DIR/seedN.")
flags.DEFINE_integer("seed", 0, "Draws the training clips, initial weights and augmentation; the test clips stay.")
flags.DEFINE_string("export_dir", "saved_models/same_digit", "Where the model is published.")
FLAGS = flags.FLAGS
CLIPS, DIGITS = "training/configs/demo_clips.yaml", "training/configs/demo_digits.yaml"


def main(_):
    try:
        from_videos_to_answers()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr, flush=True)
        sys.exit(130)


def from_videos_to_answers():
    """Every command of the demo, one after the other."""
    started = time.monotonic()
    work = pathlib.Path(FLAGS.work_dir) / f"seed{FLAGS.seed}"
    work.mkdir(parents=True, exist_ok=True)
    # The lists are written last, one after the other.
    if not all((work / "clips" / f"{kind}.csv").exists() for kind in ("pairs", "digits")):
        run("training/make_demo_clips.py", out=work / "clips", seed=FLAGS.seed)
    for kind, splits in (("digits", ["train", "validation"]), ("pairs", ["train", "validation", "test"])):
        for split in splits:
            run(
                "training/prepare_videos.py",
                csv=work / "clips" / f"{kind}.csv",
                videos=work / "clips" / "videos",
                out=work / "records" / kind,
                split=split,
                short_side=0,
            )
    run("training/train.py", **training(work, "c2d_demo", DIGITS, "digits", "digits"))
    seconds = side_by_side(
        {
            name: command("training/train.py", **training(work, f"{name}_demo", CLIPS, "pairs", name))
            for name in ("c2d", "non_local_c2d")
        }
    )
    keep_seconds(work / "seconds.json", seconds)
    for name in seconds:
        run(
            "training/evaluate.py",
            experiment=f"{name}_demo",
            model_dir=work / name,
            input_path=f"{work}/records/pairs/test-*.tfrecord",
            clips=3,
            out=work / name / "test.json",
        )
    labels = work / "records" / "pairs" / "labels.txt"
    run(
        "saved_models/export.py",
        experiment="non_local_c2d_demo",
        model_dir=work / "non_local_c2d",
        export_dir=FLAGS.export_dir,
        labels=labels,
    )
    serve_and_predict(FLAGS.export_dir, work / "clips" / "videos", labels)
    run("training/demo_report.py", work_dir=work)
    print(f"\nAll of it in {time.monotonic() - started:.0f} s.")


def training(work, experiment, config, records, name):
    """The flags of a training command."""
    overrides = [f"task.{part}_data.input_path={work}/records/{records}/{part}-*.tfrecord"
                 for part in ("train", "validation")]  # fmt: skip
    if records == "pairs":
        overrides.append(f"task.init_checkpoint={work}/digits")
    return dict(experiment=experiment, config_file=config, mode="train_and_eval", model_dir=work / name,
                seed=FLAGS.seed, params_override=",".join(overrides))  # fmt: skip


def command(script, **arguments):
    """The command line of a script of this repository."""
    return [sys.executable, script, *(f"--{name}={value}" for name, value in arguments.items())]


def show(arguments):
    print("\n$ python", shlex.join(arguments[1:]), flush=True)


@contextlib.contextmanager
def running(arguments, **options):
    """A command's process, which ends with the context. It is no member of our group: Ctrl-C reaches us alone."""
    process = subprocess.Popen(arguments, start_new_session=True, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def run(script, **arguments):
    """Runs a command; if it fails so do we."""
    arguments = command(script, **arguments)
    show(arguments)
    with running(arguments) as process:
        if code := process.wait():
            sys.exit(f"error: the command above ended with exit code {code}.")


def side_by_side(commands):
    """Runs commands at once, each line with the name of who says it; returns the seconds each took."""
    # A small network cannot keep two cores busy: one core for each is faster than both for one after the other.
    environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    seconds, codes = {}, {}

    def follow(name, process):
        start = time.monotonic()
        for line in process.stdout:
            print(f"{name:>13} | {line}", end="", flush=True)
        codes[name] = process.wait()
        seconds[name] = time.monotonic() - start

    with contextlib.ExitStack() as stack:
        threads = []
        for name, arguments in commands.items():
            show(arguments)
            piped = running(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            threads.append(threading.Thread(target=follow, args=(name, stack.enter_context(piped))))
            threads[-1].start()
        for thread in threads:
            thread.join()
    if any(codes.values()):
        sys.exit(f"error: exit codes {codes} of the commands above.")
    return {name: seconds[name] for name in commands}


def keep_seconds(path, seconds):
    """Writes how long training took, unless it had been done before and took no time now."""
    if not path.exists():
        path.write_text(json.dumps(seconds))


def serve_and_predict(base_path, videos, labels):
    """Starts the server, has it predict one clip of each label over REST and gRPC, and stops it."""
    name = pathlib.Path(base_path).name
    arguments = command("saved_models/serve.py", model_base_path=base_path, model_name=name, port=0, rest_api_port=0)
    show(arguments)
    with running(arguments, stdout=subprocess.PIPE, text=True) as server:
        ports = {}
        for line in server.stdout:
            print(line, end="", flush=True)
            if line.startswith("ready "):
                ports = dict(word.split("=", 1) for word in line.split()[1:])
                break
        if not ports:
            sys.exit(f"error: the server ended with exit code {server.wait()}.")
        for index, signature in ((0, "tf_example"), (1, "serving_default")):
            run(
                "saved_models/client.py",
                video=videos / f"pairs-test-{index:05}_000000_000001.mp4",
                model_name=name,
                server=ports["grpc"],
                rest=ports["rest"],
                labels=labels,
                signature=signature,
                stride=2,
            )


if __name__ == "__main__":
    app.run(main)
