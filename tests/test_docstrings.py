"""Docstrings have one form, and the examples in them show what they say."""

import ast
import doctest
import importlib
import itertools
import pathlib
import re

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


ROOT = PACKAGE.parent
SOURCES = sorted(
    path for name in (PACKAGE.name, "training", "saved_models", "benchmarks") for path in (ROOT / name).rglob("*.py")
)
SECTION = re.compile(r"(Args|Attributes|Returns|Yields|Raises):")  # an Example stands at the margin
INDENT = re.compile("  [^ ]")


def _wrong_indents(source):
    """The first lines of sections that are not indented by two."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            lines = [line for line in (ast.get_docstring(node) or "").splitlines() if line.strip()]
            yield from (
                line for title, line in itertools.pairwise(lines) if SECTION.fullmatch(title) and not INDENT.match(line)
            )


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_sections_are_indented_by_two(path):
    assert not list(_wrong_indents(path.read_text()))


def test_the_check_sees_other_indents():
    form = 'def f(x):\n    """Does.\n\n    Args:\n{}x: a number.\n    """\n'
    assert [len(list(_wrong_indents(form.format(" " * count)))) for count in (4, 5, 6, 7, 8)] == [1, 1, 0, 1, 1]
