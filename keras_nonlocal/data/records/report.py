"""The report of a split: what its shards' reports say together, for machines and for people."""

import collections
import os

from keras_nonlocal.data.records.plan import Plan
from keras_nonlocal.errors import UserError


def join(plan, reports):
    """What the reports of all shards, or parts, of a plan say together."""
    items = plan.maker.plural
    labels = collections.Counter()
    for report in reports:
        labels.update(report["labels"])
    return {
        "split": plan.split,
        **{key: sum(report[key] for report in reports) for key in (items, "written")},
        **{key: sum((report[key] for report in reports), start) for key, start in plan.totals.items()},
        "bad": [{key: bad[key] for key in ("name", "path", "reason")} for report in reports for bad in report["bad"]],
        # What was not there had no fingerprint.
        "missing": sum(bad["fingerprint"] is None for report in reports for bad in report["bad"]),
        "labels": {label: labels[label] for label in plan.labels},
    }


def path(report, out_dir):
    """Where the report is: it is that of written records, or that of a check."""
    return os.path.join(out_dir, f"{report['split']}-{'report' if 'shards' in report else 'check'}.json")


def used_path(report, out_dir):
    """Where the names of the items in the records are, one a line and sorted."""
    return os.path.join(out_dir, f"{report['split']}-used.txt")


def used(report, plan):
    """What that file holds."""
    bad = {bad["name"] for bad in report["bad"]}
    return "".join(f"{name}\n" for name in sorted(item.name for item in plan.items if item.name not in bad))


def summary(report: dict, plan: Plan, out_dir: str) -> str:
    """The report in a few lines for people."""
    items, totals = plan.maker.plural, plan.maker.totals
    good = f"{report['written']:,} of {report[items]:,} {items} are good"
    good += "".join(f", {report[key]:,} {key}" for key, start in totals.items() if isinstance(start, int))
    if "shards" in report:
        good += f", {sum(shard['bytes'] for shard in report['shards']) / 1e6:,.1f} MB"
    lines = [good, *plan.maker.remarks(report)]
    if report["bad"]:
        lines.append(f"{len(report['bad']):,} are bad, {report['missing']:,} of them missing: the report says why")
    if "shards" in report:
        count = len(report["shards"])
        lines.append(f"shards: {os.path.join(out_dir, report['split'])}-*-of-{count:05d}.tfrecord ({count})")
        lines.append(f"used: {used_path(report, out_dir)} (their names: accuracies compare on equal lists)")
        lines.append(f"labels: {os.path.join(out_dir, 'labels.txt')} ({len(report['labels'])} classes)")
    lines.append(f"report: {path(report, out_dir)}")
    return "\n".join(lines)


def check_bad(report: dict, plan: Plan, out_dir: str, max_bad: int) -> None:
    """Raises a UserError when the report lists more than `max_bad` bad items, and bad parts of good ones."""
    items, parts = plan.maker.plural, plan.maker.bad_parts(report)
    bad = len(report["bad"]) + sum(parts.values())
    if bad > max_bad:
        told = [f"{len(report['bad'])} of {report[items]} {items}", *(f"{n} {name}" for name, n in parts.items() if n)]
        raise UserError(
            f"{' and '.join(told)} are bad and {max_bad} may be (see {path(report, out_dir)}); "
            f"replace them and rerun the same command, or allow them with --max_bad={bad}"
        )
