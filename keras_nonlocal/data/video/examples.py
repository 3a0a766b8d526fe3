"""Videos to tf.train.SequenceExample, in the form tf-models-official reads."""

import contextlib
import dataclasses
import itertools
import os
import tempfile
from typing import ClassVar

import numpy as np
import tensorflow as tf

from keras_nonlocal import errors, features
from keras_nonlocal.data.records.maker import ExampleMaker
from keras_nonlocal.data.video import reader
from keras_nonlocal.data.video.frame_folder import FrameFolder
from keras_nonlocal.data.video.lists import LabelledVideo

with errors.needs_extra("video"):
    import cv2

# Protocol buffers end at 2 GiB.
MAX_RECORD_BYTES = 2**31 - 2**20


@dataclasses.dataclass(frozen=True)
class VideoExamples(ExampleMaker):
    """Makes one example of each video: its frames as JPEG in the feature list `image/encoded`, and a context.

    The context holds `clip/label/index`, `clip/label/string`, `clip/data_path`, `image/height`, `image/width`,
    `image/frame_rate` and `image/format`; where labels have times also `clip/action/index`, `clip/action/first` and
    `clip/action/last`: a class, and the first and the last of the frames that show it, counted from 0. Actions that no
    frame shows are left out there.

    Args:
      videos_dir: the folder `clip/data_path` is relative to, or the tar files: then it is the path in these.
      jpeg_quality: 1 to 100; default 95.
      short_side: frames with a longer short side are shrunk to it, pixels; default 320. 0 keeps the size.
      keep_truncated: whether to accept videos with fewer frames than their header states; default False.
      frame_rate: of videos that are folders of frames; default 24, that of Charades'.

    Raises:
      UserError: a value out of range.
    """

    videos_dir: str
    jpeg_quality: int = 95
    short_side: int = 320
    keep_truncated: bool = False
    frame_rate: float = 24.0

    noun: ClassVar = "video"
    bad_item: ClassVar = reader.VideoError
    totals: ClassVar = {"frames": 0, "truncated": []}

    def __post_init__(self):
        if not 1 <= self.jpeg_quality <= 100:
            raise errors.UserError(f"--jpeg_quality must be 1 to 100. Received: jpeg_quality={self.jpeg_quality!r}")
        if self.short_side < 0:
            raise errors.UserError(
                f"--short_side must be 0 (keep the size) or more. Received: short_side={self.short_side!r}"
            )
        if not 0 < self.frame_rate < 1000:
            raise errors.UserError(
                f"--frame_rate must be above 0 and below 1000. Received: frame_rate={self.frame_rate!r}"
            )

    @property
    def byte_options(self) -> tuple[str, ...]:
        """The default rate is not among them, so that folders of versions that had none are resumed."""
        return ("jpeg_quality", "short_side", *(["frame_rate"] if self.frame_rate != 24.0 else []))

    @property
    def folder(self) -> str:
        """The folder of the videos."""
        return self.videos_dir

    def make(self, item: LabelledVideo) -> tuple[list[bytes], dict]:
        """The example of a video, in a list, and what it adds to the report."""
        with self._open(item) as video:
            example, count = self._example(item, video)
        return [example], _additions(item, video, count)

    def check(self, item: LabelledVideo) -> dict:
        """Decodes a video and returns what it adds to the report."""
        with self._open(item) as video:
            count = sum(1 for _ in _frames(item, video))
        return _additions(item, video, count)

    def frames(self, item: LabelledVideo) -> tuple[np.ndarray, float]:
        """The frames that a record of a video would hold, without JPEG, and how many there are a second.

        Returns:
          RGB uint8 (T, H, W, 3), and the rate, 0 where the file states none.

        Raises:
          VideoError: as `make`.
        """
        with self._open(item) as video:
            shrunk = (_shrink(frame, self.short_side) for frame in _frames(item, video))
            return np.stack([cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) for frame in shrunk]), video.frame_rate

    def file(self, item: LabelledVideo) -> str:
        """The video, or the tar that holds it."""
        return item.file

    def accepts(self, report: dict) -> bool:
        """Whether truncated videos are in the shard, or left out of it, as `keep_truncated` says."""
        if self.keep_truncated:
            return all(bad["kind"] != reader.TruncatedVideoError.__name__ for bad in report["bad"])
        return not report["truncated"]

    def remarks(self, report: dict) -> list[str]:
        """A line about truncated videos, if there are some."""
        count = len(report["truncated"])
        return [f"{count:,} of these have fewer frames than their header states"] if count else []

    def start_worker(self) -> None:
        """Leaves the other CPUs to the other workers."""
        cv2.setNumThreads(1)

    @contextlib.contextmanager
    def _open(self, item):
        """The video, as a VideoReader or a FrameFolder."""
        if item.stored and item.stored.is_folder:
            members = dict(item.stored.members())
            yield FrameFolder(item.path, members, members.get, self.frame_rate)
        elif item.stored:
            with _unpacked(item) as path, reader.VideoReader(path, self.keep_truncated) as video:
                yield video
        elif os.path.isdir(item.path):
            yield FrameFolder(
                item.path, os.listdir(item.path), lambda name: _read(os.path.join(item.path, name)), self.frame_rate
            )
        else:
            with reader.VideoReader(item.path, self.keep_truncated) as video:
                yield video

    def _example(self, item, video):
        example = tf.train.SequenceExample()
        frames = example.feature_lists.feature_list[features.ENCODED].feature
        size = 0
        for original in _frames(item, video):
            frame = _shrink(original, self.short_side)
            jpeg = video.jpeg if video.jpeg and frame is original else _encode(frame, self.jpeg_quality)
            frames.add().bytes_list.value.append(jpeg)
            size += len(jpeg)
            if size > MAX_RECORD_BYTES:
                raise reader.VideoError(
                    item.path, f"its first {len(frames)} frames already fill the 2 GB of a record; cut it into clips"
                )
        context = example.context.feature
        _set(context[features.LABEL_INDEX].int64_list, item.indices)
        _set(context[features.LABEL_NAME].bytes_list, [label.encode() for label in item.labels])
        context[features.DATA_PATH].bytes_list.value.append(self.data_path(item))
        if item.actions is not None:
            found = item.action_frames(len(frames), video.frame_rate)
            for number, name in enumerate((features.ACTION_INDEX, features.ACTION_FIRST, features.ACTION_LAST)):
                _set(context[name].int64_list, [action[number] for action in found])
        context[features.HEIGHT].int64_list.value.append(frame.shape[0])
        context[features.WIDTH].int64_list.value.append(frame.shape[1])
        context[features.FRAME_RATE].float_list.value.append(video.frame_rate)
        context[features.FORMAT].bytes_list.value.append(b"jpeg")
        # Features are a map: without an order the same video would give other bytes in another run.
        return example.SerializeToString(deterministic=True), len(frames)

    def data_path(self, item: LabelledVideo) -> bytes:
        """What a record calls its video: the path in the folder or in the tars."""
        if item.stored:
            return os.fsencode(item.stored.path)
        path = os.path.relpath(item.path, self.videos_dir)
        return os.fsencode(item.path if path.startswith(os.pardir) else path)


def encode_jpeg(frame: np.ndarray, quality: int = 95) -> bytes:
    """A frame, RGB uint8 [H, W, 3], as JPEG of this quality, 1 to 100."""
    return _encode(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), quality)


def _encode(bgr, quality):
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _additions(item, video, count):
    truncated = [{"name": item.name, "path": item.path, "reason": video.truncated}] if video.truncated else []
    return {"frames": count, "truncated": truncated}


def _frames(item, video):
    """Yields the frames of the file that belong to the video."""
    if item.actions and item.actions_in == "seconds" and not video.frame_rate:
        raise reader.VideoError(
            item.path, "states no frame rate, so nobody knows when its actions happen; re-encode it"
        )
    if item.frames is None:
        yield from video.bgr_frames()
        return
    count = 0
    for frame in itertools.islice(video.bgr_frames(), item.first_frame, item.first_frame + item.frames):
        count += 1
        yield frame
    if count < item.frames:
        raise reader.VideoError(
            item.path,
            f"has {count} frames from frame {item.first_frame} on and its list says {item.frames}; download it again "
            "or correct the list",
        )


@contextlib.contextmanager
def _unpacked(item):
    """A path for a video in a tar, whose file is gone when its last reader is, however that ends."""
    if not os.path.isdir("/proc/self/fd"):
        raise errors.UserError(f"videos in tar files are read on Linux only; unpack {item.file}")
    with tempfile.TemporaryFile() as file:
        ((_, data),) = item.stored.members()
        file.write(data)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


def _read(path):
    with open(path, "rb") as file:
        return file.read()


def _set(values, found):
    """Puts numbers or texts into a list of a feature, which is one even where there are none."""
    values.SetInParent()
    values.value.extend(found)


def _shrink(frame, short_side):
    height, width = frame.shape[:2]
    scale = short_side / min(height, width)
    if not short_side or scale >= 1:
        return frame
    return cv2.resize(frame, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
