"""Mutated files for the fuzz targets: what a parser gets when somebody, or a disk, has been at a good file.

The default run tries FUZZ_CASES cases of each target, drawn from a fixed seed; `make fuzz` tries many more, drawn anew.
"""

import os
import pathlib

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

CORPUS = pathlib.Path(__file__).parent / "corpus"
CASES = int(os.environ.get("FUZZ_CASES", "0"))

EDITS = ("replace", "insert", "delete", "repeat", "splice", "cut", "token")

fuzzing = settings(
    max_examples=CASES or 300,
    derandomize=not CASES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def corpus(target):
    """The good and the bad files kept for a target, sorted by name: a list of bytes."""
    return [path.read_bytes() for path in sorted((CORPUS / target).iterdir())]


@st.composite
def mutated(draw, files, tokens=()):
    """One of the files after up to eight edits: bytes flipped, cut, repeated, spliced from another, tokens put in.

    Args:
      files: a list of bytes.
      tokens: byte strings that mean something to the parser.
    """
    data = bytearray(draw(st.sampled_from(files)))
    for _ in range(draw(st.integers(0, 8))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 64))
        edit = draw(st.sampled_from(EDITS if tokens else EDITS[:-1]))
        if edit == "replace":
            data[at : at + length] = draw(st.binary(min_size=0, max_size=length))
        elif edit == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=8))
        elif edit == "delete":
            del data[at : at + length]
        elif edit == "repeat":
            data[at:at] = bytes(data[at : at + length]) * draw(st.sampled_from([1, 2, 70]))
        elif edit == "splice":
            other = draw(st.sampled_from(files))
            start = draw(st.integers(0, len(other)))
            data[at : at + length] = other[start : start + draw(st.integers(0, 256))]
        elif edit == "cut":
            del data[at:]
        else:
            data[at : at + draw(st.integers(0, 8))] = draw(st.sampled_from(tokens))
    return bytes(data)
