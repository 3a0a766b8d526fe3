"""Texts as items of records: what records do with items that are no videos, and with ones that take their time.

A text makes one example a line. The line `wait` writes its process's number into `<path>.waits` and waits for
`<path>.go`; a line such as `raise OSError` raises it.
"""

import dataclasses
import os
import time
from typing import ClassVar

import tensorflow as tf

from keras_nonlocal import files
from keras_nonlocal.data.records import maker


class BadText(Exception):
    """A text that cannot be used."""

    def __init__(self, reason):
        super().__init__(reason)
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class Text:
    """One text of a list."""

    name: str
    path: str
    labels: tuple
    annotation: dict


@dataclasses.dataclass(frozen=True)
class TextExamples(maker.ExampleMaker):
    """Makes a tf.train.Example of each line, in capitals if asked for."""

    texts_dir: str
    capitals: bool = False

    noun: ClassVar = "text"
    bad_item: ClassVar = BadText
    totals: ClassVar = {"lines": 0, "empty": []}
    byte_options: ClassVar = ("capitals",)

    @property
    def folder(self):
        return self.texts_dir

    def make(self, item):
        if not os.path.exists(item.path):
            raise BadText("no such file; write it")
        with open(item.path, "rb") as file:
            lines = file.read().splitlines()
        examples = [self._example(item, line) for line in lines]
        return examples, {"lines": len(lines), "empty": [] if lines else [item.name]}

    def _example(self, item, line):
        if line == b"wait":
            wait(item.path)
        if line.startswith(b"raise "):
            raise ERRORS[line[6:].decode()]
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise BadText("is not UTF-8; save it as such") from error
        example = tf.train.Example()
        example.features.feature["name"].bytes_list.value.append(item.name.encode())
        example.features.feature["text"].bytes_list.value.append((text.upper() if self.capitals else text).encode())
        return example.SerializeToString(deterministic=True)


ERRORS = {
    "OSError": OSError(5, "Input/output error"),
    "ConnectionResetError": ConnectionResetError(104, "Connection reset by peer"),
    "InvalidArgumentError": tf.errors.InvalidArgumentError(None, None, "Invalid JPEG data"),
}


def wait(path):
    files.write_text(f"{path}.waits", str(os.getpid()))
    wait_until(lambda: os.path.exists(f"{path}.go"))


def wait_until(holds, seconds=120):
    """Polls, for two minutes at most."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.005)
