"""Whatever a checkpoint's bytes are, reading it and planning its network end in arrays or in the one documented error.

In bounded memory and time, and with a message that can be printed. The corpus has small good files of each format and
what was found; tests/data/weights/hostile has more.
"""

import contextlib
import io
import json
import math
import pathlib
import pickle
import signal
import string
import struct
import tempfile
import tracemalloc
import zipfile

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from mutations import CORPUS, corpus, fuzzing, mutated

from keras_nonlocal.weights import building, reading, shapes, sources
from keras_nonlocal.weights.formats import torch
from keras_nonlocal.weights.formats.values import CheckpointError
from keras_nonlocal.weights.sources import own, slowfast_config

HOSTILE = pathlib.Path(__file__).parent.parent / "data" / "weights" / "hostile"
FILES = corpus("checkpoints") + [
    path.read_bytes() for path in sorted(HOSTILE.glob("*.p*")) if path.stat().st_size < 8_000
]
ZIPS = [data for data in FILES if data.startswith(b"PK") and zipfile.is_zipfile(io.BytesIO(data))]
DATA_PICKLES = [
    archive.read(name)
    for archive in (zipfile.ZipFile(io.BytesIO(data)) for data in ZIPS)
    for name in archive.namelist()
    if name.endswith("data.pkl")
]
SAFETENSORS = [data for data in FILES if data[8:9] == b"{"]
PICKLES = [data for data in FILES if data[:1] == b"\x80"]
# Our own, so that they may be unpickled.
NETWORKS = {
    name: pickle.loads((CORPUS / "checkpoints" / f"{name}.pkl").read_bytes())
    for name in ("slowfast", "official_affine")
}
OPTIONS = {"temporal_stride": 2, "pairwise": "dot_product"}
# Of CPU, and of memory besides some copies of the file.
SECONDS, MEMORY, COPIES = 20, 64 * 2**20, 24


def check(data):
    """Reads a file of these bytes and plans its network, which may only fail by a CheckpointError."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        with bounded(len(data)):
            checkpoint = reading.read(file.name)
            wanted = shapes.expected(sources.SOURCES[checkpoint.source], building.plan(checkpoint, OPTIONS))
            assert sum(math.prod(n or 1 for n in shape) for shape in wanted.values()) <= COPIES * len(data)


@contextlib.contextmanager
def bounded(size):
    """What is done inside with `size` bytes takes little time and memory, and ends well or in a CheckpointError."""

    def too_slow(*_):
        raise AssertionError(f"takes more than {SECONDS} s of CPU")

    signal.signal(signal.SIGVTALRM, too_slow)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    tracemalloc.start()
    try:
        yield
    except CheckpointError as e:
        assert str(e).isprintable() and len(str(e)) < 1500, e
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    assert peak < MEMORY + COPIES * size, peak


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value


def integer(value):
    size = value.bit_length() // 8 + 1
    return b"\x8b" + struct.pack("<i", size) + value.to_bytes(size, "little", signed=True)


GLOBALS = [
    b"cnumpy.core.multiarray\n_reconstruct\n",
    b"cnumpy._core.multiarray\nscalar\n",
    b"cnumpy._core.numeric\n_frombuffer\n",
    b"cnumpy\nndarray\n",
    b"cnumpy\ndtype\n",
    b"c_codecs\nencode\n",
    b"ccollections\nOrderedDict\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch._utils\n_rebuild_parameter\n",
    b"ctorch\nSize\n",
    b"ctorch\nFloatStorage\n",
    b"ctorch\nBFloat16Storage\n",
    b"cos\nsystem\n",
]
F4 = b"cnumpy\ndtype\n" + text(b"f4") + b"K\x00K\x01\x87R"
UNFILLED = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR"
STORAGE = b"(" + text(b"storage") + b"ctorch\nFloatStorage\n" + text(b"0") + text(b"cpu") + b"K\x04tQ"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n("
# Programs that leave one value on the stack: numbers, texts, constructors, and the parts of arrays and tensors.
VALUES = [
    *(b"K\x00", b"K\x01", b"K\x04", b"M\x00\x01", b"I9\n", b"F1.5\n", b"N", b"\x88", b"\x89", b")", b"]", b"}"),
    *(text(name) for name in (b"a", b"conv1_w", b"storage", b"0", b"cpu", b"f4", b"O8", b"<", b"latin1", b"C")),
    *(text(name) for name in (b"blobs", b"model_state", b"cfg", b"numpy", b"dtype", b"s1.pathway0_stem.conv.weight")),
    *(b"U\x04aaaa", b"C\x04aaaa", b"C\x01b", b"\x96\x04" + bytes(7) + b"aaaa", b"S'\\x00a'\n", b"V\\u1234\n"),
    *(b"K\x04\x85", b"K\x01\x85", F4, UNFILLED, STORAGE, *GLOBALS),
]
# Such that are not to be computed with, hashed, parsed or printed.
POISON = [
    b"K\x01" + b"q\x00h\x00\x86" * 60,  # a tuple of 2**60 leaves
    b")" + b"\x85" * 3000,
    *(integer(2**70), integer(-(2**40)), integer(2**20_000), b"L" + b"9" * 5000 + b"L\n"),
    b"K\x00" + integer(2**62) * 2 + b"\x87",
    b"cnumpy\ndtype\n" + text(b"(2,f4") + b"K\x00K\x01\x87R",
    *(text(name) for name in (b"(2,f4", b"f4,O8", b"a\x1b[31m\n")),
]
# Whatever is on the stack.
STEPS = [*(bytes([code]) for code in b"(.012atlsudebRQ\x81\x85\x86\x87\x93\x94"), b"q\x00", b"h\x00", b"p1\n", b"g1\n"]


def larger(inner):
    """Values made of values: containers, calls, states, and references to something outside."""
    some = st.lists(inner, max_size=5).map(b"".join)
    return st.one_of(
        some.map(lambda items: b"(" + items + b"t"),
        some.map(lambda items: b"(" + items + b"l"),
        st.lists(inner, max_size=4).map(lambda items: b"}(" + b"".join(items[: len(items) // 2 * 2]) + b"u"),
        st.builds(lambda function, items: function + b"(" + items + b"tR", st.sampled_from(GLOBALS), some),
        st.builds(lambda value, items: value + b"(" + items + b"tb", st.sampled_from([UNFILLED, F4]), some),
        st.builds(lambda shape, data: UNFILLED + b"(K\x01" + shape + F4 + b"\x89" + data + b"tb", inner, inner),
        st.builds(lambda shape: UNFILLED + b"(K\x01" + shape + F4 + b"\x89C\x04aaaatb", inner),
        st.builds(lambda *numbers: TENSOR + STORAGE + b"".join(numbers) + b"\x89}tR", inner, inner, inner),
        st.builds(lambda value, state: value + state + b"b", inner, inner),
        st.builds(lambda module, name: module + name + b"\x93", inner, inner),
        inner.map(lambda value: value + b"Q"),
    )


expressions = st.recursive(st.one_of(st.sampled_from(VALUES), st.sampled_from(POISON)), larger, max_leaves=12)
soups = st.lists(st.sampled_from([*VALUES, *POISON, *STEPS]), max_size=30).map(b"".join)
programs = st.one_of(
    expressions.map(lambda value: b"\x80\x02" + value + b"."),
    expressions.map(lambda value: b"\x80\x02}" + text(b"conv1_w") + value + b"s."),
    expressions.map(lambda value: b"\x80\x02}" + value + b"K\x01s."),
    soups.map(lambda steps: b"\x80\x02" + steps + b"."),
)


def in_zip(pickled, storage=b"a" * 16):
    """A file of torch.save around a data.pkl, with sums that are right."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/data/0", storage)
    return content.getvalue()


def in_legacy(pickled, storage=b"a" * 16):
    """A file of an old torch.save around a pickle of tensors."""
    before = [pickle.dumps(part, 2) for part in (torch.LEGACY_MAGIC, torch.LEGACY_PROTOCOL, {"little_endian": True})]
    return b"".join([*before, pickled, pickle.dumps(["0"], 2), struct.pack("<Q", len(storage) // 4), storage])


@fuzzing
@given(st.one_of(programs, mutated(PICKLES, [*VALUES, *POISON, *STEPS])))
def test_pickles(data):
    check(data)


@fuzzing
@given(st.one_of(programs, mutated(DATA_PICKLES, [*VALUES, *POISON, *STEPS])), st.booleans())
def test_pickles_of_torch(pickled, legacy):
    check(in_legacy(pickled) if legacy else in_zip(pickled))


@fuzzing
@given(mutated(FILES, [b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"\xff" * 4, bytes(4), b"\x89HDF\r\n\x1a\n"]))
def test_files_of_any_format(data):
    check(data)


JSON_WORDS = [
    b"[" * 3000,
    b"9" * 5000,
    b"{",
    b"}",
    b"null",
    b"-1",
    b'"F8_E4M3"',
    b'"BF16"',
    b'"C64"',
    b"1e999",
    b"\\u0000",
]


@fuzzing
@given(st.sampled_from(SAFETENSORS), st.data())
def test_headers_of_safetensors(data, draw):
    size = struct.unpack("<Q", data[:8])[0]
    header = draw.draw(mutated([data[8 : 8 + size]], JSON_WORDS))
    check(struct.pack("<Q", len(header)) + header + data[8 + size :])


@fuzzing
@given(st.sampled_from(SAFETENSORS), st.data())
def test_what_a_file_of_our_own_says(data, draw):
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    text = header.get("__metadata__", {}).get(own.NAME, "{}")
    text = draw.draw(mutated([text.encode()], JSON_WORDS)).decode("latin-1")
    header["__metadata__"] = {own.NAME: text, "licence": text[:300]}
    header = json.dumps(header).encode()
    check(struct.pack("<Q", len(header)) + header + data[8 + size :])


YAML_WORDS = [
    "- ",
    "- - - ",
    "[" * 3000,
    "[[1], [2]]",
    ": ",
    "\n",
    "  ",
    "NONLOCAL:",
    "GROUP:",
    "POOL:",
    "9" * 5000,
    "0",
    "x",
]


@fuzzing
@given(mutated([NETWORKS["slowfast"]["cfg"].encode()], [word.encode() for word in YAML_WORDS]))
def test_slowfasts_configurations(data):
    with bounded(len(data)):
        settings = slowfast_config.settings(data.decode("latin-1"))
        slowfast_config.group_frames(settings, {"res3", "res4"})


names = st.text(string.ascii_letters + string.digits + "._\x00\n\u0661", max_size=40)
sizes = st.lists(st.sampled_from([0, 1, 2, 3, 4, 7, 50_000]), max_size=5).filter(
    lambda shape: math.prod(shape) < 60_000
)


@fuzzing
@given(st.sampled_from(sorted(NETWORKS)), st.data())
def test_tensors_that_are_lost_renamed_or_of_another_shape(name, data):
    network = NETWORKS[name]
    key = next(key for key in sources.state_keys() if key in network)
    state = dict(network[key])
    for _ in range(data.draw(st.integers(1, 4))):
        name = data.draw(st.sampled_from(sorted(state)))
        array = state.pop(name)
        edit = data.draw(st.sampled_from(["lost", "renamed", "swapped", "shape", "type", "number", "many"]))
        if edit == "renamed":
            state[data.draw(names)] = array
        elif edit == "swapped":
            other = data.draw(st.sampled_from(sorted(state)))
            state[name], state[other] = state[other], array
        elif edit == "shape":
            state[name] = np.ones(data.draw(sizes), np.float32)
        elif edit == "type":
            state[name] = np.ones(array.shape, data.draw(st.sampled_from(["f8", "i1", "?", "c8", "S1", "O"])))
        elif edit == "number":
            state[name] = np.full(array.shape, data.draw(st.sampled_from([np.nan, np.inf, 1e300])))
        elif edit == "many":
            state |= {name: array, **{name.replace("0", str(i)): array for i in range(300)}}
    check(pickle.dumps({**network, key: state}, data.draw(st.integers(0, 5))))
