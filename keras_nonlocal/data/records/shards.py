"""One shard: its items, made into examples, and their report."""

import collections
import os

from keras_nonlocal.data.records import plan, writer


def write(shard, maker, tell):
    """Writes a shard's TFRecord and its report.

    Args:
      shard: plan.Shard.
      maker: ExampleMaker.
      tell: function of a kind and a value: ("reading", path) before each item, ("read", None or what is bad) after it.

    Returns:
      The report, a dict.

    Raises:
      UserError: the disk is full or may not be written to.
    """
    writer.remove(shard.report_file)
    with writer.WholeFile(shard.file) as temporary, writer.RecordWriter(temporary, shard.file) as records:
        report = _report(shard, maker, tell, maker.make, records.write)
    report["bytes"] = records.size
    writer.write_json(shard.report_file, report)
    return report


def check(shard, maker, tell):
    """Checks a shard's items and writes nothing; arguments and result as `write`."""
    return _report(shard, maker, tell, lambda item: ([], maker.check(item)), None)


def _report(shard, maker, tell, make, write_example):
    report = {
        "plan": shard.plan_id,
        "file": os.path.basename(shard.file),
        maker.plural: len(shard.items),
        "written": 0,
        "bytes": 0,
        "labels": collections.Counter(),
        "bad": [],
        **maker.totals,
    }
    for item in shard.items:
        tell("reading", item.path)
        # Before reading it: a change in the meantime must count as one.
        fingerprint = plan.fingerprint(maker.file(item))
        bad = None
        try:
            examples, additions = make(item)
        except maker.bad_item as error:
            bad = {"name": item.name, "path": item.path, "reason": error.reason, "kind": type(error).__name__}
            report["bad"].append({**bad, "fingerprint": fingerprint})
        else:  # All of the item or nothing of it.
            for example in examples:
                write_example(example)
            report["written"] += 1
            report["labels"].update(item.labels)
            for key, value in additions.items():
                report[key] = report[key] + value
        tell("read", bad)
    return report
