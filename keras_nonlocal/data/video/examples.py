"""Videos to tf.train.SequenceExample, in the form tf-models-official reads."""

import collections
import dataclasses
import os
from typing import ClassVar

import numpy as np
import tensorflow as tf

from keras_nonlocal import errors, features
from keras_nonlocal.data.records.maker import ExampleMaker
from keras_nonlocal.data.video import reader
from keras_nonlocal.data.video.lists import LabelledVideo

with errors.needs_extra("video"):
    import cv2

# Protocol buffers end at 2 GiB.
MAX_RECORD_BYTES = 2**31 - 2**20


@dataclasses.dataclass(frozen=True)
class VideoExamples(ExampleMaker):
    """Makes one example of each video: its frames as JPEG in the feature list `image/encoded`, and a context.

    The context holds `clip/label/index`, `clip/label/string`, `clip/data_path`, `image/height`, `image/width`,
    `image/frame_rate` and `image/format`.

    Args:
      videos_dir: the folder `clip/data_path` is relative to.
      jpeg_quality: 1 to 100; default 95.
      short_side: frames with a longer short side are shrunk to it, pixels; default 320. 0 keeps the size.
      keep_truncated: whether to accept videos with fewer frames than their header states; default False.

    Raises:
      UserError: a value out of range.
    """

    videos_dir: str
    jpeg_quality: int = 95
    short_side: int = 320
    keep_truncated: bool = False

    noun: ClassVar = "video"
    bad_item: ClassVar = reader.VideoError
    totals: ClassVar = {"frames": 0, "truncated": []}
    byte_options: ClassVar = ("jpeg_quality", "short_side")

    def __post_init__(self):
        if not 1 <= self.jpeg_quality <= 100:
            raise errors.UserError(f"--jpeg_quality must be 1 to 100. Received: jpeg_quality={self.jpeg_quality!r}")
        if self.short_side < 0:
            raise errors.UserError(
                f"--short_side must be 0 (keep the size) or more. Received: short_side={self.short_side!r}"
            )

    @property
    def folder(self) -> str:
        """The folder of the videos."""
        return self.videos_dir

    def make(self, item: LabelledVideo) -> tuple[list[bytes], dict]:
        """The example of a video, in a list, and what it adds to the report."""
        with reader.VideoReader(item.path, self.keep_truncated) as video:
            return [self._example(item, video)], _additions(item, video)

    def check(self, item: LabelledVideo) -> dict:
        """Decodes a video and returns what it adds to the report."""
        with reader.VideoReader(item.path, self.keep_truncated) as video:
            collections.deque(video, maxlen=0)
        return _additions(item, video)

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

    def _example(self, item, video):
        example = tf.train.SequenceExample()
        frames = example.feature_lists.feature_list[features.ENCODED].feature
        size = 0
        for frame in video:
            frame = _shrink(frame, self.short_side)
            jpeg = encode_jpeg(frame, self.jpeg_quality)
            frames.add().bytes_list.value.append(jpeg)
            size += len(jpeg)
            if size > MAX_RECORD_BYTES:
                raise reader.VideoError(
                    item.path, f"its first {len(frames)} frames already fill the 2 GB of a record; cut it into clips"
                )
        data_path = os.path.relpath(item.path, self.videos_dir)
        if data_path.startswith(os.pardir):
            data_path = item.path
        context = example.context.feature
        context[features.LABEL_INDEX].int64_list.value.append(item.index)
        context[features.LABEL_NAME].bytes_list.value.append(item.label.encode())
        context[features.DATA_PATH].bytes_list.value.append(os.fsencode(data_path))
        context[features.HEIGHT].int64_list.value.append(frame.shape[0])
        context[features.WIDTH].int64_list.value.append(frame.shape[1])
        context[features.FRAME_RATE].float_list.value.append(video.frame_rate)
        context[features.FORMAT].bytes_list.value.append(b"jpeg")
        # Features are a map: without an order the same video would give other bytes in another run.
        return example.SerializeToString(deterministic=True)


def encode_jpeg(frame: np.ndarray, quality: int = 95) -> bytes:
    """A frame, RGB uint8 [H, W, 3], as JPEG of this quality, 1 to 100."""
    # OpenCV's encoder takes BGR.
    bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _additions(item, video):
    truncated = [{"name": item.name, "path": item.path, "reason": video.truncated}] if video.truncated else []
    return {"frames": video.frames_read, "truncated": truncated}


def _shrink(frame, short_side):
    height, width = frame.shape[:2]
    scale = short_side / min(height, width)
    if not short_side or scale >= 1:
        return frame
    return cv2.resize(frame, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
