"""Images that cost more than they look, and what a call costs."""

import io
import pathlib
import re
import struct
import zlib

import numpy as np
import PIL.Image
import pytest

SIZE = b"\xff\xc0"  # the marker of the segment that holds height and width; once more for progressive images
PROGRESSIVE_SIZE, SCAN = b"\xff\xc2", b"\xff\xda"


def jpeg(height, width, **options):
    """A smooth picture."""
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.stack([rows * 255 // height, columns * 255 // width, (rows + columns) % 256], -1).astype(np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "JPEG", **options)
    return file.getvalue()


def resized(data, height, width):
    """The same image with another size in its header."""
    at = data.index(SIZE) + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def with_scans(count):
    """A progressive JPEG whose last scan comes again and again."""
    data = jpeg(64, 64, progressive=True)
    last = data[data.rindex(SCAN) : -2]
    return data[:-2] + last * (count - data.count(SCAN)) + data[-2:]


def png(height, width, mode="RGB"):
    """The same picture in one of Pillow's modes."""
    file = io.BytesIO()
    PIL.Image.open(io.BytesIO(jpeg(height, width))).convert(mode).save(file, "PNG")
    return file.getvalue()


def resized_png(data, height, width):
    """The same image with another size in its header."""
    head = data[12:16] + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]


def peak_growth(run):
    """By how many bytes a call raises the memory of the process, at its highest."""

    def read(key):
        return 1024 * int(re.search(rf"{key}:\s+(\d+)", pathlib.Path("/proc/self/status").read_text())[1])

    try:
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # the highest is now what it is now
    except OSError:
        pytest.skip("needs Linux' count of the memory of a process")
    before = read("VmRSS")
    run()
    return read("VmHWM") - before
