"""Videos to sharded TFRecords of tf.train.SequenceExample, in the form tf-models-official reads."""

import collections
import dataclasses
import os
import sys

import tqdm

from keras_nonlocal.data.records import plan as record_plan
from keras_nonlocal.data.records import pool, writer
from keras_nonlocal.data.records import shards as record_shard
from keras_nonlocal.data.records.plan import Options
from keras_nonlocal.data.records.writer import RecordsError

__all__ = ["BadVideosError", "Options", "RecordsError", "check_bad", "check_videos", "summary", "write_records"]


class BadVideosError(RecordsError):
    """More videos are bad than allowed."""


def write_records(listed, labels, out_dir, options, workers=0, overwrite=False):
    """Writes `<out_dir>/<split>-00000-of-00008.tfrecord` and so on, reports and labels.txt. Rerun it to resume.

    Each record holds the feature list `image/encoded` (one JPEG a frame) and the context `clip/label/index`,
    `clip/label/string`, `clip/data_path`, `image/height`, `image/width`, `image/frame_rate` and `image/format`.

    Args:
      listed: list of video.lists.LabelledVideo.
      labels: list of class names.
      out_dir: the folder, made when missing.
      options: Options.
      workers: processes; default 0 is one for each CPU. With 1 the calling process does the work.
      overwrite: whether to remove what another plan wrote for this split; default False.

    Returns:
      The report, as in `<out_dir>/<split>-report.json`.

    Raises:
      RecordsError: the folder holds another plan or is in use, the disk is full, a worker died, or a signal came.
    """
    plan = record_plan.Plan(listed, labels, options)
    with pool.stoppable(), writer.writing_split(out_dir, options.split):
        plan.enter(out_dir, overwrite)
        shards = plan.shards(out_dir)
        kept = {shard.file: report for shard in shards if (report := shard.complete_report())}
        todo = [shard for shard in shards if shard.file not in kept]
        if todo:  # Until they are done, an older report would claim too much.
            writer.remove(os.path.join(out_dir, f"{options.split}-report.json"))
        with _Progress(len(listed), kept.values()) as progress:
            done = pool.run(record_shard.write, todo, workers, progress.tell)
        reports = sorted([*kept.values(), *done], key=lambda report: report["file"])
        keys = ("file", "videos", "written", "frames", "bytes")
        report = {
            **_joined(plan, reports),
            "options": dataclasses.asdict(options),
            "shards": [{key: shard[key] for key in keys} for shard in reports],
        }
        writer.write_json(_report_path(report, out_dir), report)
    return report


def check_videos(listed, labels, out_dir, options, workers=0):
    """Decodes every video and writes only `<out_dir>/<split>-check.json`; arguments and errors as `write_records`."""
    # No shards here: just parts, small enough to keep all workers busy to the end.
    plan = record_plan.Plan(listed, labels, dataclasses.replace(options, shards=min(len(listed), 1000)))
    writer.make_dir(out_dir)
    with pool.stoppable():
        with _Progress(len(listed)) as progress:
            report = _joined(plan, pool.run(record_shard.check, plan.shards(out_dir), workers, progress.tell))
        writer.write_json(_report_path(report, out_dir), report)
    return report


def summary(report, out_dir):
    """The report in a few lines for people."""
    good = f"{report['written']:,} of {report['videos']:,} videos are good, {report['frames']:,} frames"
    if "shards" in report:
        good += f", {sum(shard['bytes'] for shard in report['shards']) / 1e6:,.1f} MB"
    lines = [good]
    if report["truncated"]:
        lines.append(f"{len(report['truncated']):,} of these have fewer frames than their header states")
    if report["bad"]:
        lines.append(f"{len(report['bad']):,} are bad: the report says why")
    if "shards" in report:
        count = len(report["shards"])
        lines.append(f"shards: {os.path.join(out_dir, report['split'])}-*-of-{count:05d}.tfrecord ({count})")
        lines.append(f"labels: {os.path.join(out_dir, 'labels.txt')} ({len(report['labels'])} classes)")
    lines.append(f"report: {_report_path(report, out_dir)}")
    return "\n".join(lines)


def check_bad(report, max_bad, out_dir):
    """Raises BadVideosError when the report lists more than `max_bad` bad videos."""
    bad = len(report["bad"])
    if bad > max_bad:
        raise BadVideosError(
            f"{bad} of {report['videos']} videos are bad and {max_bad} may be (see {_report_path(report, out_dir)}); "
            f"replace them and rerun the same command, or allow them with --max_bad={bad}"
        )


def _report_path(report, out_dir):
    return os.path.join(out_dir, f"{report['split']}-{'report' if 'shards' in report else 'check'}.json")


def _joined(plan, reports):
    """What the reports of all shards say together."""
    labels = collections.Counter()
    for report in reports:
        labels.update(report["labels"])
    bad_keys = ("name", "path", "reason")
    return {
        "split": plan.options.split,
        **{key: sum(report[key] for report in reports) for key in ("videos", "written", "frames")},
        "truncated": [video for report in reports for video in report["truncated"]],
        "bad": [{key: bad[key] for key in bad_keys} for report in reports for bad in report["bad"]],
        "labels": {label: labels[label] for label in plan.labels},
    }


class _Progress:
    """A bar over videos, and a line for each bad one, on stderr."""

    def __init__(self, total, kept=()):
        # A log file gets a line now and then, a terminal a live one.
        interval = 0.2 if sys.stderr.isatty() else 30
        initial = sum(report["videos"] for report in kept)
        self._bar = tqdm.tqdm(
            total=total, initial=initial, unit="video", mininterval=interval, maxinterval=interval, dynamic_ncols=True
        )
        for report in kept:
            for bad in report["bad"]:
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
        self._bar.write(f"bad video: {bad['path']}: {bad['reason']}", file=sys.stderr)
