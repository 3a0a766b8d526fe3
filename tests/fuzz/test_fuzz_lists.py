"""Whatever stands in a list: it ends in what a plain reading of its cells says too, or in one sentence."""

import csv
import io
import os
import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import CASES, CORPUS, corpus, fuzzing, mutated
from video_files import write_tar

from keras_nonlocal.data import labels_file
from keras_nonlocal.data.video import lists
from keras_nonlocal.errors import UserError

FILES = [
    *("a.mp4", "b.MP4", "c.mp4", "a,1.mp4", "caf\u00e9.mp4", "twice.MP4", "twice.mp4.mkv", "y_000003_000013.mp4.mkv"),
    *("sub/a.mp4", "riding_a_bike/x_000000_000010.mov", "abseiling/-aB_9_000007_000017.mp4"),
]
TOKENS = [
    *(b",", b'"', b"\n", b"\r\n", b"\r", b"\x00", b"\xef\xbb\xbf", b"\xff", b" ", b"\t", b"\xe2\x80\xa8", b"\xc2\x85"),
    *(b"path", b"label", b"youtube_id", b"time_start", b"split", b"train", b"test", b"walk", b"run", b"a.mp4", b"sub/"),
    *(b"0", b"1.0", b"2.", b"+1", b"-1", b"1e1", b"2.5", b"nan", b"inf", b"99999", b"100000", b"9" * 5000, b"1_0"),
    *(b"..", b"/", b"/etc/passwd", b"cafe\xcc\x81", b"caf\xc3\xa9", b"\xd9\xa1", b".mp4", b"twice.mp4", b"%03d", b"\\"),
]
PATHS = [
    "a.mp4",
    "b.mp4",
    "b.MP4",
    "./c.mp4",
    "sub/a.mp4",
    "a,1.mp4",
    "cafe\u0301.mp4",
    "twice.mp4",
    "no.mp4",
    "../a.mp4",
]
INTEGERS = ["0", "1", "2", "2.0", "+1", "01", "10.", "12"]
WORDS = ["walk", "run", "Walk", "riding a bike", "caf\u00e9", "cafe\u0301", " walk ", "pull, push", "abseiling"]
OTHERS = ["-1", "1e1", "2.5", "nan", "", "inf", "\u0661", "1" * 30, "wa\nlk", "wa\u2028lk", "<NA>", "1_0", "x\x00"]
CELLS = {
    "path": PATHS,
    "youtube_id": ["x", "x", "x", "y", "-aB_9", "", "../x"],
    "time_start": ["0", "0.0", "3", "7", "nan", "-1"],
    "time_end": ["10", "10", "10", "13", "1e1", ""],
    "split": ["train", "train", "test", ""],
    "extra": ["", "1", "a\nb"],
}
NAMES = ["walk", "run", "riding a bike", "abseiling"]


@st.composite
def csv_files(draw):
    """A list of cells that alone are mostly good, as a table would write it."""
    columns = draw(st.sampled_from([("path", "label"), ("label", "youtube_id", "time_start", "time_end")]))
    columns = draw(st.permutations([*columns, *draw(st.sets(st.sampled_from(["split", "extra"])))]))
    cells = {**CELLS, "label": draw(st.sampled_from([INTEGERS, WORDS, INTEGERS + WORDS, INTEGERS + WORDS + OTHERS]))}
    rows = draw(st.lists(st.tuples(*(st.sampled_from(cells[column]) for column in columns)), min_size=1, max_size=3))
    text = io.StringIO()
    csv.writer(text, lineterminator=draw(st.sampled_from(["\n", "\r\n", "\r"]))).writerows([columns, *rows])
    return draw(st.sampled_from(["", "\ufeff"])).encode() + text.getvalue().encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the videos that the corpus lists, and room for the list."""
    folder = tmp_path_factory.mktemp("lists")
    for file in FILES:
        path = folder / "videos" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def read(folder, data, split=None, labels=None, list_format=None):
    """What read_list makes of these bytes, or None if it refuses them in one sentence that names the file."""
    path = folder / "list.csv"
    path.write_bytes(data)
    try:
        return lists.read_list(path, folder / "videos", split, labels, list_format)
    except UserError as error:
        check_sentence(str(error), path)
        return None


def check_sentence(message, path):
    assert str(path) in message and len(message.splitlines()) == 1 and len(message) < 1500, message


def plain_rows(data, split):
    """The cells of every row as dicts, in the plainest way, and those of the split."""
    text = data.decode("utf-8-sig")
    columns, *rows = [
        [cell.strip() for cell in row]
        for row in csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
        if "".join(row).strip()
    ]
    rows = [dict(zip(columns, row, strict=False)) for row in rows]
    return rows, [row for row in rows if split is None or "split" not in columns or row.get("split") == split]


def is_missing(label):
    return label.lower() in ("", "nan", "<na>")


def is_integer(label):
    try:
        return float(label) == int(float(label))
    except (ValueError, OverflowError):
        return False


def plain_index(label, names):
    """The place of the name; of an integer as integers are written, or the integer itself."""
    if label in names:
        return names.index(label)
    return names.index(str(int(float(label)))) if str(int(float(label))) in names else int(float(label))


def check_path(video, folder):
    """The file is the one that is named, or of its name but for extensions and normalisation, or there is none."""
    videos = folder / "videos"
    exact = os.path.join(videos, video.name)
    if os.path.isfile(exact):
        assert video.path == exact
    elif os.path.isfile(video.path):
        wanted, found = (unicodedata.normalize("NFC", os.path.basename(path)) for path in (video.name, video.path))
        assert found.lower().startswith(wanted.lower()) and os.path.relpath(video.path, videos) in FILES
    else:
        assert os.path.basename(video.path).startswith(os.path.basename(video.name))


@settings(fuzzing, max_examples=CASES or 800)
@given(
    data=st.one_of(csv_files(), mutated(corpus("lists"), TOKENS)),
    split=st.sampled_from([None, None, "train", "test"]),
    labels=st.sampled_from([None, None, None, NAMES, ["2", "0", "1"]]),
)
def test_a_list_is_read_as_its_cells_say_or_refused(folder, data, split, labels):
    result = read(folder, data, split, labels)
    if result is None:
        return
    videos, names = result
    every, rows = plain_rows(data, split)
    assert len(videos) == len(rows) > 0
    found = [unicodedata.normalize("NFC", row.get("label", "")) for row in every]
    found = [label for label in found if not is_missing(label)]
    if labels is not None:
        assert names == labels
    elif all(map(is_integer, found)):
        assert names == [str(index) for index in range(int(max(map(float, found), default=-1)) + 1)]
    else:
        assert names == sorted(set(found)) and not any(map(is_integer, found))
    for video, row in zip(videos, rows, strict=True):
        label = unicodedata.normalize("NFC", row["label"])
        ((index,), (name,)) = video.indices, video.labels
        assert index == plain_index(label, names) and name == names[index]
        assert name == label or is_integer(label)
        assert len(name.splitlines()) == len(video.name.splitlines()) == 1
        check_path(video, folder)
    for attribute in ("name", "path"):
        assert len({getattr(video, attribute) for video in videos}) == len(videos)


LIST_TOKENS = [
    b",",
    b";",
    b" ",
    b"\t",
    b"|",
    b"c001",
    b"c999",
    b"0",
    b"-1",
    b"+2",
    b"1.5",
    b"nan",
    b"9" * 30,
    b'"',
    b".jpg",
]


def plain_paths(data, numbers):
    """Of a list without column names, what stands before the last integers of each line; None where it has commas."""
    lines = [line.strip() for line in re.split(r"[\r\n]", data.decode("utf-8-sig")) if line.strip()]
    if any(set(line) & set(",;|") for line in lines):
        return None
    found = []
    for line in lines:
        path = re.fullmatch(rf"(.*?)(\s+[+-]?[0-9]+){{{numbers}}}", line)
        found.append(os.path.normpath(unicodedata.normalize("NFC", path[1].rstrip())))
    return found


@settings(fuzzing, max_examples=CASES or 400)
@given(
    data=mutated(corpus("list_formats"), LIST_TOKENS),
    list_format=st.sampled_from([None, None, *lists.FORMATS]),
    labels=st.sampled_from([None, NAMES, ["c000 sit", "c001 run", "c002 walk"]]),
)
def test_a_list_of_any_format_is_read_or_refused(folder, data, list_format, labels):
    result = read(folder, data, None, labels, list_format)
    if result is None:
        return
    videos, names = result
    assert videos and names == (labels or names)
    for video in videos:
        assert list(video.indices) == sorted(set(video.indices)) and all(0 <= i < len(names) for i in video.indices)
        assert video.labels == tuple(names[index] for index in video.indices) and len(video.name.splitlines()) == 1
        assert video.frames is None or video.frames > 0 <= video.first_frame
        for index, first, last in video.action_frames(50, 24.0) if video.actions else ():
            assert index in video.indices and 0 <= first <= last < 50
    paths = plain_paths(data, 1) if list_format == "path_label" else None
    if paths:
        assert [video.name for video in videos] == paths


SAMPLES = {"a/1.mp4": b"video", "a/1.cls": b"2", "a/2.json": b'{"labels": [0, 1]}', "a/2.mp4": b"video", "3.jpg": b"x"}


@pytest.fixture(scope="module")
def tar(tmp_path_factory):
    path = tmp_path_factory.mktemp("tars") / "x.tar"
    write_tar(path, SAMPLES)
    return path, path.read_bytes()


@settings(fuzzing, max_examples=CASES or 300)
@given(
    edits=st.lists(st.tuples(st.integers(0, 6143), st.binary(min_size=1, max_size=12)), max_size=3),
    end=st.none() | st.integers(0, 6143),
)
def test_a_damaged_tar_is_read_or_refused(tar, edits, end):
    path, data = tar
    data = bytearray(data)
    for at, new in edits:
        data[at : at + len(new)] = new
    path.write_bytes(data[:end])
    try:
        videos, names = lists.read_list(None, path)
        for video in videos:
            ((name, content),) = video.stored.members()
            assert video.path.endswith(name) and len(content) <= len(data) and set(video.labels) <= set(names)
    except UserError as error:
        check_sentence(str(error), path)


@settings(fuzzing, max_examples=CASES or 300)
@given(data=mutated(corpus("lists"), TOKENS))
def test_a_labels_file_gives_its_lines_or_is_refused(folder, data):
    path = folder / "labels.txt"
    path.write_bytes(data)
    try:
        labels = labels_file.read(path)
    except UserError as error:
        check_sentence(str(error), path)
        return
    lines = io.StringIO(data.decode("utf-8-sig"), newline=None).read().rstrip().split("\n")
    assert labels == [unicodedata.normalize("NFC", line.strip()) for line in lines]
    assert len(set(labels)) == len(labels) and all(labels)
    # Whoever reads the file that is written of them counts the same lines.
    assert "".join(f"{label}\n" for label in labels).splitlines() == labels


@pytest.mark.parametrize("path", sorted((CORPUS / "lists").glob("*.csv")), ids=lambda path: path.name)
def test_the_corpus_is_good_and_bad(folder, path):
    assert (read(folder, path.read_bytes(), "train") is not None) == path.name.startswith("good_")
