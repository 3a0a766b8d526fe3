"""The examples in docstrings run, and show what they say."""

import doctest
import importlib
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_nonlocal

PACKAGE = pathlib.Path(keras_nonlocal.__file__).parent


def _examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    for path in sorted(PACKAGE.rglob("*.py")):
        if ">>> " in path.read_text():
            parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
            module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
            known = {"np": np, "tf": tf, "keras": keras, "keras_nonlocal": keras_nonlocal, parts[-1]: module}
            for found in finder.find(module, globs={**vars(module), **known}):
                if found.examples:
                    yield pytest.param(found, id=found.name)


@pytest.mark.parametrize("example", _examples())
def test_an_example_shows_what_it_says(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failed, _ = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example)
    assert not failed
