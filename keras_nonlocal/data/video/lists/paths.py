"""Lists of `path,label[,split]`."""

import os

from keras_nonlocal.data.video.lists import rows as _rows

COLUMNS = ("path", "label")


def rows(path, text):
    """The rows of the list."""
    return _rows.of_csv(path, text, COLUMNS)


def labels(row):
    """What the row calls its class; a row of a test split may have none."""
    return [row.cell("label")] if row.has("label") else []


def entry(row):
    """The video is its path."""
    name = os.path.normpath(row.cell("path"))
    return _rows.Entry(name, name, (row.cell("label"),))
