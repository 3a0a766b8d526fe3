"""Whatever the body of a request: it ends in tensors that hold what a plain reading finds, or in one answer."""

import base64
import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import CASES, CORPUS, corpus, fuzzing, mutated

from keras_nonlocal.serving.local import json_tensors, rest_service
from keras_nonlocal.serving.local.servable import RequestError

SIGNATURES = {
    "floats": {"x": tf.TensorSpec([None, 3])},
    "doubles": {"x": tf.TensorSpec([None], tf.float64)},
    "pair": {"a": tf.TensorSpec([None, 2]), "b": tf.TensorSpec([None], tf.int32)},
    "strings": {"s": tf.TensorSpec([None], tf.string)},
    "pixels": {"frames": tf.TensorSpec([None, None, None], tf.uint8)},
    "counts": {"n": tf.TensorSpec([None], tf.int64)},
    "flags": {"flag": tf.TensorSpec([None], tf.bool)},
    "halves": {"h": tf.TensorSpec([None], tf.float16)},
}
WORDS = ["signature_name", "instances", "inputs", "x", "a", "b", "s", "b64", "flag", "n", "frames", *SIGNATURES]
NUMBERS = ["0", "-1", "1.5", "255", "256", "1e39", "1e-50", "1e400", "-0.0", "2147483648", "18446744073709551616"]
HUGE = ["1e999999", "-1E+999999", "9" * 4300, "9" * 4301, "1." + "3" * 9000, "NaN", "-Infinity", "0" * 30]
STRINGS = ['""', '"a"', r'"\ud800"', r'"\ud83d\ude00"', r'"\u0000"', '{"b64": "YQ=="}', '{"b64": "YQ"}', '{"b64": "%"}']
DEEP = ["[" * 30_000, '{"a":' * 30_000, "[" * 40 + "1" + "]" * 40, "[" * 900 + "]" * 900, "[]", "[[]]", "{}", "null"]
TOKENS = [text.encode() for text in [f'"{word}"' for word in WORDS] + NUMBERS + HUGE + STRINGS + DEEP]
TOKENS += [b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\x00", b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\", b"true"]


def leaves(value):
    """The values of nested lists, in order."""
    return [leaf for item in value for leaf in leaves(item)] if isinstance(value, list) else [value]


def plain(leaf, dtype):
    """What a JSON value stands for, in Python's numbers and bytes."""
    if dtype == tf.string:
        return base64.b64decode(leaf["b64"] + "==") if isinstance(leaf, dict) else leaf.encode()
    floats = (int, float)
    assert type(leaf) in {tf.bool: (bool,), tf.float32: floats, tf.float64: floats}.get(dtype, (int,))
    if dtype in (tf.bool, tf.float64):
        return dtype.as_numpy_dtype(leaf).item()
    with np.errstate(over="ignore"):
        if dtype == tf.float32:
            return np.float64(leaf).astype(np.float32).item()
    wide = np.uint64 if leaf >= 2**63 else np.int64
    assert dtype.size < 4 or dtype.min <= leaf <= dtype.max  # only what is shorter wraps
    return np.array(leaf, wide).astype(dtype.as_numpy_dtype).item()


def written(tensor):
    """The values of a tensor, one text each: NaN equals NaN, and -0.0 not 0.0."""
    return list(map(repr, np.array(tensor.numpy(), object if tensor.dtype == tf.string else None).ravel().tolist()))


def answer(body):
    """The tensors of a body, after a comparison, or None if it is refused."""
    try:
        document = json_tensors.parse(body)
        specs = SIGNATURES.get(json_tensors.signature_name(document), SIGNATURES["floats"])
        tensors, by_row = json_tensors.read_inputs(document, specs)
    except RequestError as error:
        assert rest_service._HTTP_STATUS[error.code] in (400, 501)
        assert 0 < len(error.message) < 2000
        json.dumps(error.message)
        return None
    assert tensors.keys() == specs.keys()
    values = document["instances" if by_row else "inputs"]
    for alias, spec in specs.items():
        found = values
        if by_row and isinstance(values[0], dict) and values[0].keys() == specs.keys():
            found = [row[alias] for row in values]
        elif not by_row and isinstance(values, dict) and alias in values:
            found = values[alias]
        assert tensors[alias].dtype == spec.dtype
        assert written(tensors[alias]) == [repr(plain(leaf, spec.dtype)) for leaf in leaves(found)]
    return tensors


def check(body):
    tensors = answer(body)
    if tensors is not None:
        # What was read can be written, and reads the same.
        outputs = {f"{alias}_bytes": np.array(tensor) for alias, tensor in tensors.items()}
        reply = json_tensors.parse(json_tensors.write_outputs(outputs, by_row=False))["outputs"]
        specs = {f"{alias}_bytes": tf.TensorSpec(None, tensor.dtype) for alias, tensor in tensors.items()}
        again, _ = json_tensors.read_inputs({"inputs": reply}, specs)
        assert {alias: written(tensor) for alias, tensor in tensors.items()} == {
            alias: written(again[f"{alias}_bytes"]) for alias in tensors
        }
    return tensors


@settings(fuzzing, max_examples=CASES or 1500)
@given(mutated(corpus("json_tensors"), TOKENS))
def test_mutated_bodies(body):
    check(body)


@st.composite
def bodies(draw):
    """Documents of the right form, most of whose values fit the signature."""
    kinds = st.sampled_from([NUMBERS[:4]] * 4 + [STRINGS] * 2 + [["true", "false"], NUMBERS + HUGE, STRINGS + DEEP[2:]])
    kind = st.sampled_from(draw(kinds))
    shape = draw(st.lists(st.integers(0, 3), max_size=4))

    def nested(sizes):
        if not sizes:
            return draw(kind)
        return "[" + ", ".join(nested(sizes[1:]) for _ in range(sizes[0] + draw(ragged))) + "]"

    ragged = st.sampled_from([0] * draw(st.integers(0, 30)) + [1])
    name = draw(st.sampled_from([*SIGNATURES, "floats", "strings", "nope"]))
    aliases = draw(st.sampled_from([list(SIGNATURES.get(name, "x"))] * 6 + [WORDS[3:6], ["a", "a", "b"]]))
    key = draw(st.sampled_from(["instances", "inputs"]))

    def named(sizes):
        return "{" + ", ".join(f'"{alias}": {nested(sizes)}' for alias in aliases) + "}"

    if draw(st.booleans()):
        value = nested(shape)
    elif key == "inputs":
        value = named(shape)
    else:
        value = "[" + ", ".join(named(shape) for _ in range(draw(st.integers(0, 3)))) + "]"
    return f'{{"signature_name": "{name}", "{key}": {value}}}'.encode()


@settings(fuzzing, max_examples=CASES or 1500)
@given(bodies())
def test_composed_bodies(body):
    check(body)


@pytest.mark.parametrize("path", sorted((CORPUS / "json_tensors").iterdir()), ids=lambda path: path.stem)
def test_the_corpus_holds_good_and_bad(path):
    assert (check(path.read_bytes()) is None) == path.name.startswith("bad")


@pytest.mark.parametrize(
    "frame", ['{"inputs": %s}', '{"instances": [%s]}', '{"instances": [{"x": %s}]}', '{"instances": [{"%s": 1}]}']
)
def test_what_is_large_or_deep_is_answered_briefly(frame):
    for text in [*DEEP[:2], "[" * 10**6, "9" * 10**6, "1." + "3" * 10**6, '"' + "a" * 10**6 + '"', "a" * 10**6]:
        answer((frame % text).encode())
