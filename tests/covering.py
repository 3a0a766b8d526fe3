"""Pairwise arrays: a few cases of a grid in which every two values of two arguments meet, if they do in the grid.

Most faults show in one value of one argument, or where two values meet: `python tests/mutants/run.py` tries it. Those
cases are the default run; the rest of the grid is slow.
"""

import itertools
import random

import pytest


def picked(rows):
    """The indices of rows in which every two values occur together that do so in any.

    Greedy: the row that adds most pairs, the first of equals, so that the same rows give the same choice.

    Args:
      rows: list of tuples of one length, of values that can be hashed.

    Returns:
      A sorted list.
    """
    left = [pairs(row) for row in rows]
    chosen = []
    while any(left):
        best = max(range(len(rows)), key=lambda index: len(left[index]))
        chosen.append(best)
        added = set(left[best])
        left = [remaining - added for remaining in left]
    return sorted(chosen)


def array(legal, candidates=600, **values):
    """Rows in which every two values of two arguments meet, of more arguments than all combinations can be listed of.

    Args:
      legal: function of the arguments by name that says whether a combination exists.
      candidates: how many random rows, always the same, are picked from.
      **values: for each argument its values.
    """
    generator, rows = random.Random(0), []
    while len(rows) < candidates:
        row = tuple(generator.choice(several) for several in values.values())
        if legal(**dict(zip(values, row, strict=True))):
            rows.append(row)
    return [rows[index] for index in picked(rows)]


def pairs(row):
    """{((argument, value), (argument, value))} of a row, its arguments numbered."""
    return set(itertools.combinations(enumerate(row), 2))


def parameters(cases, rows, ids):
    """Cases as parameters of a test, slow unless they are picked.

    Args:
      cases: list of tuples, the arguments of the test.
      rows: for each case what `picked` pairs of it.
      ids: for each case its name.
    """
    quick = set(picked(rows))
    return [
        pytest.param(*case, id=name, marks=() if index in quick else pytest.mark.slow)
        for index, (case, name) in enumerate(zip(cases, ids, strict=True))
    ]


def parametrize(legal=None, **values):
    """A decorator as pytest.mark.parametrize for all combinations, of which the picked are the default run.

    Args:
      legal: function of the arguments by name that says whether a combination exists. Default: all do.
      **values: for each argument of the test its values, told apart by their str.
    """
    cases = list(itertools.product(*values.values()))
    if legal:
        cases = [case for case in cases if legal(**dict(zip(values, case, strict=True)))]
    names = [[getattr(value, "__name__", str(value)).replace(" ", "") for value in case] for case in cases]
    ids = ["-".join(_told(values, row)) for row in names]
    return pytest.mark.parametrize(list(values), parameters(cases, [tuple(row) for row in names], ids))


def _told(arguments, row):
    """Values that say nothing by themselves with the name of their argument."""
    return [
        f"{argument}={value}" if value in ("True", "False", "None") or value.isdigit() else value
        for argument, value in zip(arguments, row, strict=True)
    ]
