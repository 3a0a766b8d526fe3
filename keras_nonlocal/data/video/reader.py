"""Video files to RGB frames, with OpenCV. Every frame is counted by decoding it; headers are only compared with."""

import os
import re
from collections.abc import Iterator

# OpenCV reads these once, when it is first used. FFmpeg's own lines name no file: VideoError says it better.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

import numpy as np  # noqa: E402

from keras_nonlocal import errors  # noqa: E402
from keras_nonlocal.data.video import finder, frame_limits, tracks  # noqa: E402

with errors.needs_extra("video"):
    import cv2

# Where a header states a duration and no count, sound may last longer than the pictures.
_DURATION_SLACK_SECONDS = 1.0
# Codecs of photos, GIF and covers of songs; 0 stands for BMP.
_PICTURE_CODECS = ("mjpg", "mpng", "gif ", "webp", "tiff", "mjp2", "0x00000000")
# FFmpeg's clock of 90 kHz: a cover has no rate of its own.
_RATE_OF_COVERS = 90000
# HEIF photos are ISO media files as MP4 is, with these for what they are.
_PICTURE_BRANDS = (b"heic", b"heix", b"mif1", b"avif")
_REENCODE = "`ffmpeg -i in -c:v libx264 out.mp4`"


class VideoError(errors.UserError):
    """A video file that cannot be used; the message names the file, what is wrong and the cure.

    Args:
      path: the file.
      reason: what is wrong with it and the cure.
    """

    def __init__(self, path, reason):
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self):
        return f"{self.path if self.path.isprintable() else repr(self.path)}: {self.reason}"


class TruncatedVideoError(VideoError):
    """A video that decodes fewer frames than its header states."""


class VideoReader:
    """Iterates over the frames of one video file as RGB uint8 [H, W, 3], rotated and mirrored as players show them.

        with VideoReader("clip.mp4") as video:
            for frame in video:
                ...

    Args:
      path: the video file.
      keep_truncated: whether to accept fewer frames than the header states; default False. Then `truncated` says so.

    Attributes:
      frame_rate: frames per second of the header, 0.0 when it states none.
      stated_frames: the header's frame count, or None when it states none.
      fourcc: the codec's four letters.
      frames_read: how many frames have been decoded so far.
      truncated: None, or once the last frame is read, what is missing.
      jpeg: None; a FrameFolder has the bytes of its last frame there.

    Raises:
      VideoError: missing, empty, not a video or a list of other files, of several tracks of which players may show
        another than the first, turned by other than right angles, or of a frame size beyond frame_limits; while
        iterating, also for no frame at all, one picture (a photo, the cover of a song) and frames of several sizes.
      TruncatedVideoError: after the last frame, unless `keep_truncated`.
    """

    jpeg = None

    def __init__(self, path: str | os.PathLike, keep_truncated: bool = False):
        self.path = os.fspath(path)
        self.keep_truncated = keep_truncated
        self.frames_read = 0
        self.truncated = None
        self._size = None
        self._last_seconds = 0.0
        _check_file(self.path)
        found = _read_file(self.path, tracks.read)
        _check_tracks(self.path, found)
        self._capture = _open(self.path)
        self._track = found[0] if found else None
        self._flips = found[0].flips if found else (False, False, False)
        # OpenCV takes a mirror for a rotation, so that it turns only what the container does not tell us.
        self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0 if found else 1)
        # Before anything is decoded, where the header says it.
        size = (self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT), self._capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        if all(size):
            _check_limits(self.path, *map(int, size))
        # Without a rate or count OpenCV gives 0, NaN or a huge negative number.
        rate, count = self._capture.get(cv2.CAP_PROP_FPS), self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.frame_rate = float(rate) if 0 < rate < float("inf") else 0.0
        self.stated_frames = int(count) if 0 < count < float("inf") else None
        self.fourcc = _fourcc(self._capture.get(cv2.CAP_PROP_FOURCC))

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    def close(self):
        """Lets go of the file."""
        self._capture.release()

    def __iter__(self) -> Iterator[np.ndarray]:
        for frame in self.bgr_frames():
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)

    def bgr_frames(self) -> Iterator[np.ndarray]:
        """The frames with their channels in OpenCV's order, for what hands them on to OpenCV."""
        while True:
            got, frame = self._read()
            if not got:
                break
            self._check_size(frame.shape)
            frame = _upright(frame, *self._flips)
            self.frames_read += 1
            self._last_seconds = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            yield frame
        self._check_end()

    def _read(self):
        try:
            return self._capture.read()
        except cv2.error as error:
            raise VideoError(
                self.path,
                f"OpenCV fails after {_frames(self.frames_read)} ({str(error).strip()}); re-encode it with {_REENCODE}",
            ) from error

    def _check_size(self, shape):
        if self._size is None:
            _check_limits(self.path, *shape[:2])
            self._size = shape
        elif shape != self._size:
            raise VideoError(
                self.path,
                f"frame {self.frames_read} is {shape[1]}x{shape[0]} while the ones before are "
                f"{self._size[1]}x{self._size[0]}; re-encode it to one size with {_REENCODE}",
            )

    def _check_end(self):
        if not self.frames_read:
            stated = f" although its header states {self.stated_frames}" if self.stated_frames else ""
            raise VideoError(
                self.path,
                f"no frame can be decoded{stated} (codec {self.fourcc}); this OpenCV cannot decode it or "
                f"the file is damaged: re-encode it with {_REENCODE} or download it again",
            )
        if self._is_picture():
            raise VideoError(
                self.path,
                f"is a picture and no video (codec {self.fourcc}), such as a photo or the cover of a song; "
                "take it out of the list",
            )
        if self._is_cover():
            raise VideoError(
                self.path,
                "its cover comes before its video, and OpenCV decodes no more than that; take the video out of it with "
                "`ffmpeg -i in -map 0:V:0 -c copy out.mp4`",
            )
        self.truncated = self._missing()
        if self.truncated and not self.keep_truncated:
            raise TruncatedVideoError(
                self.path,
                f"{self.truncated} (cut off, damaged, or trimmed without re-encoding); download it again, "
                f"re-encode it with {_REENCODE}, or accept it with --keep_truncated",
            )

    def _is_picture(self):
        if self.frames_read == 1:
            is_photo = _head(self.path, 12)[8:] in _PICTURE_BRANDS
            return is_photo or (self._track is None and self.fourcc.lower() in _PICTURE_CODECS)
        # The JPEG of a phone holds a second one, of brightness or depth; files of many JPEGs are named for it.
        is_jpeg = _head(self.path, 3) == b"\xff\xd8\xff"
        return is_jpeg and os.path.splitext(self.path)[1].lower() not in (".mjpeg", ".mjpg")

    def _is_cover(self):
        is_picture = self.fourcc.lower() in _PICTURE_CODECS
        return self.frames_read == 1 and is_picture and self.frame_rate == _RATE_OF_COVERS

    def _missing(self):
        if self.stated_frames is None or self.frames_read >= self.stated_frames:
            return None
        if _states_frame_count(self.path):
            return f"only {self.frames_read} of the {self.stated_frames} frames its header states can be decoded"
        # The count is OpenCV's estimate, duration x rate: compare times, which hold for a variable rate as well.
        if not self.frame_rate:
            return None
        duration = self.stated_frames / self.frame_rate
        if self._last_seconds + _DURATION_SLACK_SECONDS >= duration:
            return None
        return f"its frames end at {self._last_seconds:.1f} s of the {duration:.1f} s its header states"


def read_video(path: str | os.PathLike, keep_truncated: bool = False) -> np.ndarray:
    """All frames of a video.

    Args:
      path: the video file.
      keep_truncated: whether to accept fewer frames than the header states; default False.

    Returns:
      RGB uint8 [T, H, W, 3].

    Raises:
      VideoError: as VideoReader.
    """
    with VideoReader(path, keep_truncated) as video:
        return np.stack(list(video))


def count_frames(path: str | os.PathLike, keep_truncated: bool = False) -> int:
    """How many frames of a video decode; arguments and errors as `read_video`, in the memory of one frame."""
    with VideoReader(path, keep_truncated) as video:
        return sum(1 for _ in video)


def _check_file(path):
    if not os.path.exists(path):
        raise VideoError(path, "no such file; download it or take it out of the list")
    if not os.path.isfile(path):
        raise VideoError(path, "is not a file but a folder or device; name the video file itself")
    if not _head(path, 1):
        raise VideoError(path, "is empty (0 bytes); download it again")


def _read_file(path, read):
    try:
        return read(path)
    except OSError as error:
        raise VideoError(path, f"cannot be read ({error.strerror}); check its permissions and its disk") from error


def _check_tracks(path, found):
    """Players show the default track, and of several the one of the most bits; OpenCV decodes the first."""
    is_default = [track.is_default for track in found]
    if len(found) > 1 and is_default != [True, *[False] * (len(found) - 1)]:
        raise VideoError(
            path,
            f"holds {len(found)} video tracks, and players may show another than the first; keep one of them with "
            "`ffmpeg -i in -map 0:v:0 -c copy out.mp4`, with the number of the track for the last 0",
        )
    if found and found[0].angle % 90:
        raise VideoError(
            path, f"players turn its frames by {found[0].angle} degrees; re-encode it as shown with {_REENCODE}"
        )


def _open(path):
    _check_name(path)
    if _head(path, 8) == b"ffconcat" or _head(path, 7) == b"#EXTM3U":
        raise VideoError(path, "is a list of other files and no video; put the videos themselves into the list")
    # One thread: many videos are decoded side by side. FFmpeg only: other backends count and rotate differently.
    # An absolute path is one for FFmpeg too: it takes 10:30.mp4 for a protocol.
    capture = cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    if capture.isOpened():
        return capture
    if not cv2.videoio_registry.hasBackend(cv2.CAP_FFMPEG):
        raise VideoError(path, "this OpenCV is built without FFmpeg; pip install opencv-python-headless")
    raise VideoError(
        path,
        f"is not a video OpenCV can open ({os.path.getsize(path):,} bytes, first ones {_head(path, 12)!r}); "
        "download it again or take it out of the list",
    )


def _check_name(path):
    try:
        path.encode()
    except UnicodeEncodeError as error:  # OpenCV would crash.
        raise VideoError(path, "its name is not UTF-8; rename it") from error
    # FFmpeg takes photo%03d.jpg for a series of photos, and knows these by their extensions alone.
    if re.search(r"%\d*d", os.path.abspath(path)) and os.path.splitext(path)[1].lower() not in (
        "",
        *finder.EXTENSIONS,
    ):
        raise VideoError(path, "its name holds %d, which FFmpeg may take for the number of a picture; rename it")


def _upright(frame, transposes, mirrors_x, mirrors_y):
    frame = cv2.transpose(frame) if transposes else frame
    if mirrors_x or mirrors_y:
        frame = cv2.flip(frame, -1 if mirrors_x and mirrors_y else int(mirrors_x))
    return frame


def _check_limits(path, height, width):
    broken = frame_limits.broken_limit(height, width)
    if broken:
        raise VideoError(path, f"{broken}; scale or crop it with `ffmpeg -i in -vf scale=W:H out.mp4`")


def _states_frame_count(path):
    """Whether the container stores a frame count (mp4, mov, avi) rather than a duration (mkv, webm, fragmented mp4)."""
    head = _head(path, 4096)
    is_avi = head[:4] == b"RIFF" and head[8:12] == b"AVI "
    is_mp4 = head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
    return is_avi or (is_mp4 and b"mvex" not in head)


def _head(path, size):
    def read(path):
        with open(path, "rb") as file:
            return file.read(size)

    return _read_file(path, read)


def _fourcc(code):
    letters = (int(code) & 0xFFFFFFFF).to_bytes(4, "little")
    text = letters.decode("ascii", "replace")
    return text if text.isprintable() and "\ufffd" not in text else f"0x{letters.hex()}"


def _frames(count):
    return f"{count} frame" if count == 1 else f"{count} frames"
