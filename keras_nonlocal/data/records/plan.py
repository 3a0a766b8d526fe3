"""The plan of a split: which item goes into which shard, and what of it a folder already holds.

A shard gets its name when it is whole, and its report after that: whatever moment a run dies at, a shard with a report
that fits the plan is complete, and everything else is written again.
"""

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Sequence

from keras_nonlocal import files
from keras_nonlocal.data import labels_file
from keras_nonlocal.data.records import writer
from keras_nonlocal.data.records.maker import ExampleMaker, Item
from keras_nonlocal.errors import UserError


@dataclasses.dataclass(frozen=True)
class Shard:
    """One shard's share of the plan.

    Args:
      file: path of the TFRecord.
      items: tuple of Item.
      plan_id: of the Plan.
    """

    file: str
    items: tuple
    plan_id: str

    @property
    def report_file(self):
        """Path of the report, which says that the shard is complete."""
        return os.path.splitext(self.file)[0] + ".json"


class Plan:
    """Deals the items of a split out to shards.

    Args:
      split: first part of the shards' names, such as "train".
      items: list of Item, such as video.lists.LabelledVideo.
      labels: list of class names.
      maker: ExampleMaker, such as video.examples.VideoExamples.
      shards: how many files; default 8.
      seed: of the order of the items; default 0.
      additions: what the list itself, rather than an item, adds to each of the maker's totals; default nothing.

    Raises:
      UserError: a value out of range, or a class name that is not one line.
    """

    def __init__(
        self,
        split: str,
        items: Sequence[Item],
        labels: Sequence[str],
        maker: ExampleMaker,
        shards: int = 8,
        seed: int = 0,
        additions: dict | None = None,
    ):
        if not re.fullmatch(r"[\w.-]+", split):
            raise UserError(f"--split must be of letters, digits, '.', '_' and '-'. Received: split={split!r}")
        if not 1 <= shards < 10**5:
            raise UserError(f"--shards must be 1 to 99999. Received: shards={shards!r}")
        self.split = split
        self.labels = labels
        self.maker = maker
        self.totals = {**maker.totals, **(additions or {})}
        # A hash for each name rather than a random shuffle: the same order for every Python and every order of rows.
        self.items = sorted(items, key=lambda item: _digest([seed, item.name]))
        self.options = {"split": split, "shards": shards, "seed": seed, **dataclasses.asdict(maker)}
        self._labels_text = labels_file.text(labels)
        # The order counts: a folder that is half written says by this digest what its shards are of.
        self.description = {
            "split": split,
            maker.plural: len(items),
            "list": _digest([[item.name, item.annotation] for item in self.items]),
            "classes": len(labels),
            "labels": _digest(labels),
            f"{maker.plural}_dir": os.path.abspath(maker.folder),
            "shards": shards,
            "seed": seed,
            **{name: getattr(maker, name) for name in maker.byte_options},
        }
        self.id = _digest(self.description)

    def shards(self, out_dir):
        """The list of Shard, in the order of their numbers.

        Raises:
          UserError: there are more shards than items.
        """
        count, items = self.options["shards"], self.maker.plural
        if count > len(self.items):
            raise UserError(
                f"--shards={count} is more than the {len(self.items)} {items} of split {self.split}; "
                f"use --shards={len(self.items)} or less"
            )
        return self.parts(count, out_dir)

    def parts(self, count, out_dir=""):
        """The items dealt out to this many parts, as a list of Shard."""
        names = [f"{self.split}-{number:05d}-of-{count:05d}.tfrecord" for number in range(count)]
        return [
            Shard(os.path.join(out_dir, name), tuple(self.items[number::count]), self.id)
            for number, name in enumerate(names)
        ]

    def complete_report(self, shard):
        """The report of a shard that needs no work, or None."""
        report = writer.read_json(shard.report_file)
        if not report or report.get("plan") != self.id:
            return None
        if not os.path.exists(shard.file) or os.path.getsize(shard.file) != report["bytes"]:
            return None
        paths = {item.name: self.maker.file(item) for item in shard.items}
        if any(bad["fingerprint"] != fingerprint(paths[bad["name"]]) for bad in report["bad"]):
            return None
        return report if self.maker.accepts(report) else None

    def enter(self, out_dir, overwrite):
        """Makes sure the folder holds this plan, and nothing of this split from another one.

        Args:
          out_dir: the folder.
          overwrite: whether to remove what another plan wrote for this split.

        Raises:
          UserError: the folder holds another plan, or other splits with other classes.
        """
        self._check_labels(out_dir, overwrite)
        path = os.path.join(out_dir, f"{self.split}-plan.json")
        found = writer.read_json(path)
        finished = writer.finished_files(out_dir, self.split)
        if found != self.description and (found or finished):
            if not overwrite:
                differs = self._difference(found) if found else f"no {path} says how they were made"
                raise UserError(
                    f"{out_dir} holds shards of split {self.split} from another plan ({differs}); use another --out, "
                    "or remove them with --overwrite"
                )
            # Reports first: a shard without one is never taken for a complete one.
            for file in sorted(finished, key=lambda file: file.endswith(".tfrecord")):
                os.remove(file)
        writer.write_json(path, self.description)
        # All splits share labels.txt; each has a temporary name of its own for it.
        temporary = files.temporary_path(os.path.join(out_dir, f"{self.split}-labels.txt"))
        writer.write_text(os.path.join(out_dir, "labels.txt"), self._labels_text, temporary)

    def _check_labels(self, out_dir, overwrite):
        """All splits of a folder share labels.txt, so they must share the classes."""
        path = os.path.join(out_dir, "labels.txt")
        cure = f"give --labels={path} to use the same, or another --out"
        for name in sorted(os.listdir(out_dir)):
            other = writer.read_json(os.path.join(out_dir, name)) if name.endswith("-plan.json") else None
            if other and other["split"] != self.split and other["labels"] != self.description["labels"]:
                raise UserError(
                    f"split {other['split']} in {out_dir} has {other['classes']} classes and split "
                    f"{self.split} has {len(self.labels)} or other ones; {cure}"
                )
        if os.path.exists(path) and not overwrite:
            with open(path, encoding="utf-8", errors="replace") as file:
                if file.read() != self._labels_text:
                    raise UserError(f"{path} lists other classes than this list of {self.maker.plural}; {cure}")

    def _difference(self, found):
        items, wanted = self.maker.plural, self.description
        if items not in found:
            return f"it is not one of {items}"
        parts = []
        if found["list"] != wanted["list"]:
            parts.append(f"the list of {items} differs: {found[items]} then, {wanted[items]} now")
        if found["labels"] != wanted["labels"]:
            parts.append(f"the classes differ: {found['classes']} then, {wanted['classes']} now")
        for key in (f"{items}_dir", "shards", "seed", *self.maker.byte_options):
            if found.get(key) != wanted[key]:
                parts.append(f"{key} was {found.get(key, 'its default')} and is {wanted[key]}")
        return ", ".join(parts)


def fingerprint(path):
    """Changes when the file, or one in the folder, does: size in bytes and time in ns; None when it is missing."""
    try:
        stats = [os.stat(path)]
        if os.path.isdir(path):
            stats += [entry.stat() for entry in os.scandir(path)]
    except OSError:
        return None
    return [sum(stat.st_size for stat in stats), max(stat.st_mtime_ns for stat in stats)]


def _digest(value):
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
