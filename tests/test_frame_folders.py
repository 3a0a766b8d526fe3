"""Folders of JPEGs as videos: which frames come, in which order, and one sentence where some are missing or damaged."""

import cv2
import numpy as np
import pytest
from video_files import jpeg, write_frames

from keras_nonlocal.data.video.frame_folder import FrameFolder
from keras_nonlocal.data.video.reader import VideoError


def greys(names, files=None, path="v/ID"):
    """The middle of each frame of a folder, of which file n is 10 n grey unless said."""
    files = files or {}
    folder = FrameFolder(
        path, names, lambda name: files.get(name, jpeg(10 * int("".join(filter(str.isdigit, name))))), 24
    )
    found = []
    for frame in folder.bgr_frames():
        assert frame.shape == (48, 64, 3)
        found.append(round(float(frame[24, 32].mean()) / 10))
    return found


@pytest.mark.parametrize(
    "names, wanted",
    [
        (["ID-000002.jpg", "ID-000001.jpg", "Thumbs.db", "notes.txt"], [1, 2]),
        ([f"{number}.jpg" for number in range(12)], list(range(12))),  # sorted as text, 10 would come before 2
        (["img_00001.JPG", "img_00002.JPEG"], [1, 2]),
        (["flow_x_00001.jpg", "flow_y_00001.jpg", "img_00001.jpg"], [1]),
        (["frame1.jpg", "ID-000001.jpg", "ID-000002.jpg"], [1, 2]),
    ],
)
def test_frames_come_by_their_numbers(names, wanted):
    assert greys(names) == wanted


@pytest.mark.parametrize(
    "names, says",
    [
        (["img_00001.jpg", "img_00003.jpg"], "frames between img_00001.jpg and img_00003.jpg are missing"),
        (["img_00002.jpg", "img_00003.jpg"], "frames between the start and img_00002.jpg are missing"),
        (["1.jpg", "01.jpg"], "01.jpg and 1.jpg are the same frame"),
        (["a1.jpg", "b1.jpg"], "holds several series of frames, a and b"),
        (["a.jpg", "b.png", "img_00001.png"], "is a folder without numbered JPEGs, such as img_00001.jpg"),
        ([], "is a folder without numbered JPEGs"),
    ],
)
def test_what_is_no_series_of_frames_is_refused(names, says):
    with pytest.raises(VideoError, match=f"v/ID: {says}"):
        greys(names)


def test_frames_that_are_no_frames_are_refused():
    good = jpeg(20)
    png = cv2.imencode(".png", np.zeros((48, 64, 3), np.uint8))[1].tobytes()
    cases = {
        b"": "2.jpg is no whole JPEG .0 bytes",
        good[:-200]: "2.jpg is no whole JPEG",
        png: "2.jpg is no whole JPEG",
        jpeg(20, height=32): "2.jpg is 64x32 while the ones before are 64x48",
        jpeg(20, height=16, width=272): "2.jpg: 272x16 pixels are too thin",
    }
    for data, says in cases.items():
        with pytest.raises(VideoError, match=says):
            greys(["1.jpg", "2.jpg"], {"2.jpg": data})


def test_colours_are_in_the_order_of_opencv(tmp_path):
    write_frames(tmp_path / "v", 1)
    cv2.imwrite(str(tmp_path / "v" / "v-000001.jpg"), np.full((48, 64, 3), (255, 0, 0), np.uint8))  # blue
    folder = FrameFolder("v", ["v-000001.jpg"], lambda name: (tmp_path / "v" / name).read_bytes(), 24)
    (frame,) = folder.bgr_frames()
    assert np.abs(frame[24, 32].astype(int) - (255, 0, 0)).max() < 5
    assert folder.jpeg == (tmp_path / "v" / "v-000001.jpg").read_bytes()
