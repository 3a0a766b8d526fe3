"""Kills trainings at random moments, runs them again until they are done, and compares what they learned."""

import re
import signal
import time

import report
import zygote

STEPS, SAVE_EVERY = 48, 3
WIDTH = 4


class Found:
    """What happened to killed trainings."""

    def __init__(self):
        self.kills = self.while_saving = self.trainings = self.damaged = 0
        self.divergences, self.half_written, self.lost, self.seconds = [], [], [], 0.0

    def table(self):
        mean = sum(self.lost) / max(len(self.lost), 1)
        rows = [
            ["kills", self.kills],
            ["of them with a checkpoint half written, under a temporary name", self.while_saving],
            ["trainings", self.trainings],
            ["**trainings whose weights, momentum or step differ in a bit**", len(self.divergences)],
            ["half-written files under a final name", len(self.half_written)],
            ["damaged checkpoints met when going on", self.damaged],
            [f"lost steps a kill (a checkpoint every {SAVE_EVERY}), mean", f"{mean:.1f}"],
            ["at most", max(self.lost, default=0)],
            ["seconds", f"{self.seconds:.0f}"],
        ]
        return report.table(["", "count"], rows) + "".join(f"\n- {line}" for line in self.divergences)


def kill(work, kills, moments):
    """Trains below `work`, kills so often, and compares; returns what it found.

    Args:
      work: pathlib.Path of a folder for everything.
      kills: how often.
      moments: random.Random for when.
    """
    write_records(work)
    found, started = Found(), time.monotonic()
    with zygote.Zygote("keras_nonlocal.demo.experiments") as commands:
        code, printed = commands.run("train", work / "log", **arguments(work, "whole", "train_and_eval"))
        if code:
            raise RuntimeError(printed)
        while found.kills < kills or not found.trainings:
            name = f"killed{found.trainings}"
            live_until_done(commands, work, name, found, kills, moments)
            found.trainings += 1
            different, count = differing(work / "whole", work / name)
            if different:
                found.divergences.append(f"{name}: {len(different)} of {count} tensors, first {different[0]}")
    found.seconds = time.monotonic() - started
    return found


def live_until_done(commands, work, name, found, kills, moments):
    """Runs one training to its end, through as many lives as its kills leave it."""
    reached = 0
    while True:
        life = commands.start("train", work / "log", **arguments(work, name, "train"))
        # Now and then while it builds; otherwise some steps after it has gone on, which include saving.
        doomed = found.kills < kills
        if doomed and moments.random() < 0.2:
            time.sleep(moments.uniform(0, 2))
        else:
            pattern = re.compile(r"^train +\d+/", re.M)
            while life.is_alive() and not pattern.search(life.printed()):
                time.sleep(0.005)
            if doomed:
                time.sleep(moments.uniform(0, 1.0))
        if doomed:
            life.send(signal.SIGKILL)
        code, printed = life.wait(), life.printed()
        found.damaged += "is damaged" in printed
        if begun := re.search(r"^(?:going on from step (\d+)|a new run)", printed, re.M):
            if reached is not None:
                found.lost.append(max(reached - int(begun[1] or 0), 0))
            reached = None
        steps = re.findall(r"^train +(\d+)/", printed, re.M)
        if steps or begun:
            reached = int(steps[-1]) if steps else int(begun[1] or 0)
        if code == 0:
            return
        if code != -signal.SIGKILL:
            raise RuntimeError(printed)
        found.kills += 1
        found.while_saving += any((work / name).glob(".ckpt-*.tmp-*"))
        found.half_written += half_written(work / name)
        print(f"kill {found.kills}/{kills}: step {reached} of {STEPS} of {name}", flush=True)


def half_written(folder):
    """The files of a run that have their names and are not whole."""
    import json

    import yaml

    from keras_nonlocal.tfm.runs import checkpoints

    wrong = []
    for path in folder.rglob("[!.]*"):
        if any(part.startswith(".") for part in path.relative_to(folder).parts) or not path.is_file():
            continue
        try:
            if path.suffix == ".index" and checkpoints.damage(str(path.with_suffix(""))):
                wrong.append(path)
            elif path.suffix == ".yaml":
                yaml.full_load(path.read_text())["trainer"]
            elif path.suffix == ".json":
                json.loads(path.read_text())
            elif path.name == "checkpoint" and "model_checkpoint_path" not in path.read_text():
                wrong.append(path)
        except (ValueError, TypeError, KeyError, yaml.YAMLError):
            wrong.append(path)
    return wrong


def differing(folder, other):
    """What the last checkpoints of two runs hold that is not the same bit for bit, and how many tensors there are."""
    import tensorflow as tf

    from keras_nonlocal.tfm.runs import checkpoints

    return checkpoints.differing(*(tf.train.latest_checkpoint(str(each)) for each in (folder, other)))


def arguments(work, name, mode):
    """Flags of the same training in a folder of its own."""
    settings = {
        "task.train_data.input_path": f"{work}/records/train-*.tfrecord",
        "task.validation_data.input_path": f"{work}/records/validation-*.tfrecord",
        "task.train_data.global_batch_size": 4,
        "task.validation_data.global_batch_size": 4,
        "task.model.backbone.video_resnet.width": WIDTH,
        "trainer.train_steps": STEPS,
        "trainer.steps_per_loop": 1,
        "trainer.summary_interval": 1,
        "trainer.checkpoint_interval": SAVE_EVERY,
        "trainer.validation_interval": STEPS // 3,
        "trainer.optimizer_config.learning_rate.cosine.initial_learning_rate": 0.05,
        "trainer.optimizer_config.learning_rate.cosine.decay_steps": STEPS,
    }
    return dict(
        experiment="non_local_c2d_demo", register="keras_nonlocal.demo.experiments", mode=mode, seed=1,
        model_dir=work / name, params_override=",".join(f"{key}={value}" for key, value in settings.items()),
    )  # fmt: skip


def write_records(work):
    """Videos of two digits as records."""
    from keras_nonlocal.data.records import plan, split
    from keras_nonlocal.data.video import examples, lists
    from keras_nonlocal.demo import clips

    counts = {"train": 24, "validation": 8, "test": 1}
    pairs, _ = clips.write(work, counts, dict.fromkeys(counts, 0))
    for name in ("train", "validation"):
        videos, labels = lists.read_list(pairs, str(work / "videos"), name)
        maker = examples.VideoExamples(str(work / "videos"), short_side=0)
        split.write(plan.Plan(name, videos, labels, maker, shards=2), str(work / "records"), workers=1)
