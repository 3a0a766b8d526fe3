"""The notebooks in docs/examples: their cells run from the first to the last, and what the text says of them, they
assert.
"""

import pathlib
import re

import pytest

EXAMPLES = pathlib.Path(__file__).parent.parent / "docs" / "examples"
QUICK = ["sequences"]
SLOW = sorted(page.stem for page in EXAMPLES.glob("*.md") if page.stem not in QUICK)


@pytest.mark.parametrize("example", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_a_notebook_runs(example):
    page = (EXAMPLES / f"{example}.md").read_text()
    cells = re.findall(r"^```\{code-cell\} ipython3\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert any("assert " in cell for cell in cells)
    names = {}
    for number, cell in enumerate(cells):
        exec(compile(cell, f"{example}, cell {number}", "exec"), names)  # noqa: S102
