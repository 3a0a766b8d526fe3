"""The lists of Kinetics: `label,youtube_id,time_start,time_end[,split[,is_cc]]`, the columns in any order."""

from keras_nonlocal.data.video.lists import rows as _rows

COLUMNS = ("label", "youtube_id", "time_start", "time_end")
# File names hold six digits of them.
_MAX_SECONDS = 10**9


def rows(path, text):
    """The rows of the list."""
    return _rows.of_csv(path, text, COLUMNS, ", as Kinetics' test lists have none; give the list of a labelled split")


def labels(row):
    """What the row calls its class; a row of a test split may have none."""
    return [row.cell("label")] if row.has("label") else []


def entry(row):
    """The video is `<youtube_id>_<start>_<end>`; the id may hold `_` and `-`."""
    start, end = (
        int(_rows.seconds(row.where, column, row.cell(column), _MAX_SECONDS)) for column in ("time_start", "time_end")
    )
    name = f"{row.cell('youtube_id')}_{start:06d}_{end:06d}"
    return _rows.Entry(name, name, (row.cell("label"),), is_stem=True)
