"""A split of items to sharded TFRecords, by several processes."""

import os
import sys

from keras_nonlocal import errors
from keras_nonlocal.data.records import pool, report, shards, writer
from keras_nonlocal.data.records.plan import Plan

with errors.needs_extra("video"):
    import tqdm


def write(plan: Plan, out_dir: str, workers: int = 0, overwrite: bool = False) -> dict:
    """Writes `<out_dir>/<split>-00000-of-00008.tfrecord` and so on, reports, labels.txt and the list of what was used.

    Rerun it to resume.

    Args:
      plan: Plan of the split.
      out_dir: the folder, made when missing.
      workers: processes; default 0 is one for each CPU. With 1 the calling process does the work.
      overwrite: whether to remove what another plan wrote for this split; default False.

    Returns:
      The report, as in `<out_dir>/<split>-report.json`.

    Raises:
      UserError: the folder holds another plan or is in use, the disk is full, a worker died, or a signal came.
    """
    planned = plan.shards(out_dir)
    with pool.stoppable(), writer.writing_split(out_dir, plan.split):
        plan.enter(out_dir, overwrite)
        kept = {shard.file: found for shard in planned if (found := plan.complete_report(shard))}
        todo = [shard for shard in planned if shard.file not in kept]
        if todo:  # Until they are done, an older report would claim too much.
            for name in ("report.json", "used.txt"):
                writer.remove(os.path.join(out_dir, f"{plan.split}-{name}"))
        with _Progress(plan, kept.values()) as progress:
            done = pool.run(shards.write, plan.maker, todo, workers, progress.tell)
        reports = sorted([*kept.values(), *done], key=lambda each: each["file"])
        numbers = [key for key, start in plan.maker.totals.items() if isinstance(start, int)]
        keys = ("file", plan.maker.plural, "written", *numbers, "bytes")
        joined = {
            **report.join(plan, reports),
            "options": plan.options,
            "shards": [{key: shard[key] for key in keys} for shard in reports],
        }
        writer.write_text(report.used_path(joined, out_dir), report.used(joined, plan))
        writer.write_json(report.path(joined, out_dir), joined)
    return joined


def check(plan: Plan, out_dir: str, workers: int = 0) -> dict:
    """Reads every item and writes only `<out_dir>/<split>-check.json`; arguments and errors as `write`."""
    # No shards here: just parts, small enough to keep all workers busy to the end.
    parts = plan.parts(min(len(plan.items), 1000))
    writer.make_dir(out_dir)
    with pool.stoppable():
        with _Progress(plan) as progress:
            joined = report.join(plan, pool.run(shards.check, plan.maker, parts, workers, progress.tell))
        writer.write_json(report.path(joined, out_dir), joined)
    return joined


class _Progress:
    """A bar over items, and a line for each bad one, on stderr."""

    def __init__(self, plan, kept=()):
        self._noun = plan.maker.noun
        # A log file gets a line now and then, a terminal a live one.
        interval = 0.2 if sys.stderr.isatty() else 30
        self._bar = tqdm.tqdm(
            total=len(plan.items),
            initial=sum(each[plan.maker.plural] for each in kept),
            unit=self._noun,
            mininterval=interval,
            maxinterval=interval,
            dynamic_ncols=True,
        )
        for each in kept:
            for bad in each["bad"]:
                self._show(bad)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self._bar.close()

    def tell(self, kind, value):
        if kind == "read":
            if value:
                self._show(value)
            self._bar.update()

    def _show(self, bad):
        self._bar.write(f"bad {self._noun}: {bad['path']}: {bad['reason']}", file=sys.stderr)
