"""The plan of a split: which video goes into which shard, and what of it a folder already holds.

A shard gets its name when it is whole, and its report after that: whatever moment a run dies at, a shard with a report
that fits the plan is complete, and everything else is written again.
"""

import dataclasses
import hashlib
import json
import os
import re

from keras_nonlocal import files
from keras_nonlocal.data.records import writer
from keras_nonlocal.data.records.writer import RecordsError
from keras_nonlocal.data.video import reader


@dataclasses.dataclass(frozen=True)
class Options:
    """What decides the bytes of the shards.

    Args:
      split: first part of the shards' names, such as "train".
      videos_dir: the folder `clip/data_path` is relative to.
      shards: how many files; default 8.
      seed: of the order of the videos; default 0.
      jpeg_quality: 1 to 100; default 95.
      short_side: frames with a longer short side are shrunk to it, pixels; default 320. 0 keeps the size.
      keep_truncated: whether to accept videos with fewer frames than their header states; default False.

    Raises:
      RecordsError: a value out of range.
    """

    split: str
    videos_dir: str
    shards: int = 8
    seed: int = 0
    jpeg_quality: int = 95
    short_side: int = 320
    keep_truncated: bool = False

    def __post_init__(self):
        _require(re.fullmatch(r"[\w.-]+", self.split), "split", self.split, "of letters, digits, '.', '_' and '-'")
        _require(1 <= self.shards < 10**5, "shards", self.shards, "1 to 99999")
        _require(1 <= self.jpeg_quality <= 100, "jpeg_quality", self.jpeg_quality, "1 to 100")
        _require(self.short_side >= 0, "short_side", self.short_side, "0 (keep the size) or more")


@dataclasses.dataclass(frozen=True)
class Shard:
    """One shard's share of the plan: all that a worker needs.

    Args:
      file: path of the TFRecord.
      videos: tuple of video.lists.LabelledVideo.
      options: Options.
      plan_id: of the Plan.
    """

    file: str
    videos: tuple
    options: Options
    plan_id: str

    @property
    def report_file(self):
        """Path of the report, which says that the shard is complete."""
        return os.path.splitext(self.file)[0] + ".json"

    def complete_report(self):
        """The report of a shard that needs no work, or None."""
        report = writer.read_json(self.report_file)
        if not report or report["plan"] != self.plan_id:
            return None
        if not os.path.exists(self.file) or os.path.getsize(self.file) != report["bytes"]:
            return None
        if report["truncated"] and not self.options.keep_truncated:
            return None
        paths = {video.name: video.path for video in self.videos}
        for bad in report["bad"]:
            if bad["fingerprint"] != fingerprint(paths[bad["name"]]):
                return None
            if bad["kind"] == reader.TruncatedVideoError.__name__ and self.options.keep_truncated:
                return None
        return report


class Plan:
    """Deals the videos of a list out to shards.

    Args:
      listed: list of video.lists.LabelledVideo.
      labels: list of class names.
      options: Options.

    Raises:
      RecordsError: more shards than videos, or a class name that is not one line.
    """

    def __init__(self, listed, labels, options):
        if options.shards > len(listed):
            raise RecordsError(
                f"--shards={options.shards} is more than the {len(listed)} videos of split {options.split}; "
                f"use --shards={len(listed)} or less"
            )
        for label in labels:
            if label.splitlines() != [label]:
                raise RecordsError(
                    f"class name {label!r} is not one line, and labels.txt has one class a line; correct it"
                )
        # A hash for each name rather than a random shuffle: the same order for every Python and every order of rows.
        self.videos = sorted(listed, key=lambda video: _digest([options.seed, video.name]))
        self.labels = labels
        self.options = options
        self.description = {
            "split": options.split,
            "videos": len(listed),
            "list": _digest([[video.name, video.index] for video in self.videos]),
            "classes": len(labels),
            "labels": _digest(labels),
            "videos_dir": os.path.abspath(options.videos_dir),
            "shards": options.shards,
            "seed": options.seed,
            "jpeg_quality": options.jpeg_quality,
            "short_side": options.short_side,
        }
        self.id = _digest(self.description)

    def shards(self, out_dir):
        """The list of Shard, in the order of their numbers."""
        count = self.options.shards
        names = [f"{self.options.split}-{number:05d}-of-{count:05d}.tfrecord" for number in range(count)]
        return [
            Shard(os.path.join(out_dir, name), tuple(self.videos[number::count]), self.options, self.id)
            for number, name in enumerate(names)
        ]

    def enter(self, out_dir, overwrite):
        """Makes sure the folder holds this plan, and nothing of this split from another one.

        Args:
          out_dir: the folder.
          overwrite: whether to remove what another plan wrote for this split.

        Raises:
          RecordsError: the folder holds another plan, or other splits with other classes.
        """
        split = self.options.split
        self._check_labels(out_dir, overwrite)
        path = os.path.join(out_dir, f"{split}-plan.json")
        found = writer.read_json(path)
        finished = writer.finished_files(out_dir, split)
        if found != self.description and (found or finished):
            if not overwrite:
                differs = _difference(found, self.description) if found else f"no {path} says how they were made"
                raise RecordsError(
                    f"{out_dir} holds shards of split {split} from another plan ({differs}); use another --out, "
                    "or remove them with --overwrite"
                )
            # Reports first: a shard without one is never taken for a complete one.
            for file in sorted(finished, key=lambda file: file.endswith(".tfrecord")):
                os.remove(file)
        writer.write_json(path, self.description)
        # All splits share labels.txt; each has a temporary name of its own for it.
        temporary = files.temporary_path(os.path.join(out_dir, f"{split}-labels.txt"))
        writer.write_text(os.path.join(out_dir, "labels.txt"), self._labels_text(), temporary)

    def _check_labels(self, out_dir, overwrite):
        """All splits of a folder share labels.txt, so they must share the classes."""
        path = os.path.join(out_dir, "labels.txt")
        cure = f"give --labels={path} to use the same, or another --out"
        for name in sorted(os.listdir(out_dir)):
            other = writer.read_json(os.path.join(out_dir, name)) if name.endswith("-plan.json") else None
            if other and other["split"] != self.options.split and other["labels"] != self.description["labels"]:
                raise RecordsError(
                    f"split {other['split']} in {out_dir} has {other['classes']} classes and split "
                    f"{self.options.split} has {len(self.labels)} or other ones; {cure}"
                )
        if os.path.exists(path) and not overwrite:
            with open(path, encoding="utf-8", errors="replace") as file:
                if file.read() != self._labels_text():
                    raise RecordsError(f"{path} lists other classes than this list of videos; {cure}")

    def _labels_text(self):
        return "".join(f"{label}\n" for label in self.labels)


def fingerprint(path):
    """Changes when the file does: its size in bytes and time in ns; None when it is missing."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns]


def _digest(value):
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _difference(found, wanted):
    parts = []
    if found["list"] != wanted["list"]:
        parts.append(f"the list of videos differs: {found['videos']} then, {wanted['videos']} now")
    if found["labels"] != wanted["labels"]:
        parts.append(f"the classes differ: {found['classes']} then, {wanted['classes']} now")
    for key in ("videos_dir", "shards", "seed", "jpeg_quality", "short_side"):
        if found[key] != wanted[key]:
            parts.append(f"{key} was {found[key]} and is {wanted[key]}")
    return ", ".join(parts)


def _require(holds, name, value, rule):
    if not holds:
        raise RecordsError(f"--{name} must be {rule}. Received: {name}={value!r}")
