"""Where records are in their files, also in another file system, and which files are refused."""

import numpy as np
import pytest
import tensorflow as tf

from keras_nonlocal import errors
from keras_nonlocal.data.records import index

SIZES = (3, 0, 700, 11)


def write(path, sizes):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number, size in enumerate(sizes):
            writer.write(bytes([number]) * size)
    return str(path)


@pytest.mark.parametrize("scheme", ["", "ram://"])
def test_every_record_is_found(tmp_path, scheme):
    paths = [write(f"{scheme}{tmp_path}/{name}", sizes) for name, sizes in (("a", SIZES), ("b", ()), ("c", (5,)))]
    found = index.read(paths)
    assert found.files == tuple(paths) and len(found) == 5
    assert found.file.tolist() == [0, 0, 0, 0, 2] and found.length.tolist() == [*SIZES, 5]
    # 16 bytes around the data of each.
    assert found.offset.tolist() == [0, 19, 35, 751, 0]
    assert len(index.read([paths[1]])) == len(index.read([])) == 0


def test_checksums_are_those_of_the_format(tmp_path):
    # The Castagnoli polynomial's own test vector, masked as TFRecord files mask it.
    crc = 0xE3069283
    masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32
    assert index.masked_crc32c(np.frombuffer(b"123456789", np.uint8)[None]).tolist() == [masked]


def damaged(path, damage):
    content = bytearray(open(path, "rb").read())
    open(path, "wb").write(damage(content))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-1], "at byte 751 the file ends within the record there, after 777 bytes in all"),
        (lambda content: content[:-20], "at byte 751 the file ends within"),  # in a header
        (lambda content: content[:20] + b"\x07" + content[21:], "at byte 19 no record begins there"),
        (lambda content: content[:19] + b"\x01" + content[20:], "at byte 19 no record begins there"),
        (lambda content: content + b"0" * 12, "at byte 778 no record begins there"),
        (lambda content: b"label,youtube_id,time_start\n" * 9, "at byte 0 no record begins there"),
        (lambda content: b"x", "at byte 0 the file ends within"),
    ],
    ids=["data cut", "header cut", "long", "short", "appended", "csv", "one byte"],
)
def test_a_file_that_is_not_whole_is_named(tmp_path, damage, message):
    path = write(tmp_path / "bad", SIZES)
    damaged(path, damage)
    with pytest.raises(errors.UserError, match=f"{path} is not a whole TFRecord file: {message}"):
        index.read([write(tmp_path / "good", SIZES), path])


def test_a_file_that_is_not_there_is_named(tmp_path):
    for path in (f"{tmp_path}/none", f"ram://{tmp_path}/none"):
        with pytest.raises(errors.UserError, match=f"{path} cannot be read"):
            index.read([path])
