"""A few cases of a grid, in which every two values of two arguments meet, or every value is met.

Most faults show in one value of one argument, or where two values meet: `python tests/mutants/run.py` tries it. Those
cases are the default run; the rest of the grid is slow.
"""

import itertools
import random

import pytest


def picked(rows, strength=2):
    """The indices of rows in which every two values occur together that do so in any.

    Greedy: the row that adds most; of equals the first in an order that is random, but always the same.

    Args:
      rows: list of tuples of one length, of values that can be hashed.
      strength: how many values; 1 for every value by itself.

    Returns:
      A sorted list.
    """
    left = [meetings(row, strength) for row in rows]
    order = random.Random(0).sample(range(len(rows)), len(rows))
    chosen = []
    while any(left):
        best = max(order, key=lambda index: len(left[index]))
        chosen.append(best)
        added = set(left[best])
        left = [met - added for met in left]
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


def meetings(row, strength=2):
    """{((argument, value), (argument, value))} of a row, its arguments numbered."""
    return set(itertools.combinations(enumerate(row), strength))


def parametrize(legal=None, strength=2, **values):
    """A decorator as pytest.mark.parametrize for all combinations, which are slow but for those that are picked.

    Args:
      legal: function of the arguments by name that says whether a combination exists. Default: all do.
      strength: see `picked`.
      **values: for each argument of the test its values, told apart by their str.
    """
    cases = list(itertools.product(*values.values()))
    if legal:
        cases = [case for case in cases if legal(**dict(zip(values, case, strict=True)))]
    names = [[getattr(value, "__name__", str(value)).replace(" ", "") for value in case] for case in cases]
    quick = set(picked([tuple(row) for row in names], strength))
    parameters = [
        pytest.param(*case, id="-".join(_told(values, row)), marks=() if index in quick else pytest.mark.slow)
        for index, (case, row) in enumerate(zip(cases, names, strict=True))
    ]
    return pytest.mark.parametrize(list(values), parameters)


def _told(arguments, row):
    """Values that say nothing by themselves with the name of their argument."""
    return [
        f"{argument}={value}" if value in ("True", "False", "None") or value.isdigit() else value
        for argument, value in zip(arguments, row, strict=True)
    ]
