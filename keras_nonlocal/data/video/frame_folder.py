"""Folders of JPEGs as videos: `ID/ID-000001.jpg` as Charades has them, `img_00001.jpg` as mmaction2 writes them."""

import os
import re
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import tensorflow as tf

from keras_nonlocal.data.video import frame_limits
from keras_nonlocal.data.video.reader import VideoError

_NAME = re.compile(r"(.*?)(\d{1,18})\.jpe?g", re.I)


class FrameFolder:
    """The JPEGs of one folder, in the order of their numbers.

    What an EXIF header says of their orientation is not heeded, as TensorFlow does not when it reads records.

    Args:
      path: the folder, for messages.
      names: what it holds; all but JPEGs is left alone.
      read: function that gives the bytes of a name.
      frame_rate: frames per second.

    Attributes:
      frame_rate: as given.
      jpeg: the bytes of the frame that came last.
      truncated: None: no header states how many there should be.

    Raises:
      VideoError: no numbered JPEG, several series of them or a gap in one; while iterating, a JPEG that does not decode
        or is of another size than the first.
    """

    truncated = None

    def __init__(self, path: str, names: Iterable[str], read: Callable[[str], bytes], frame_rate: float):
        self.path = path
        self.frame_rate = frame_rate
        self.jpeg = None
        self._read = read
        self._names = _in_order(path, names)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        pass

    def bgr_frames(self) -> Iterator[np.ndarray]:
        """The frames, uint8 [H, W, 3], with their channels in OpenCV's order."""
        size = None
        for name in self._names:
            self.jpeg = self._bytes(name)
            frame = self._decoded(name)
            size = size or frame.shape
            if frame.shape != size:
                raise VideoError(
                    self.path,
                    f"{name} is {frame.shape[1]}x{frame.shape[0]} while the ones before are {size[1]}x{size[0]}; "
                    "extract the frames again in one size",
                )
            yield frame[..., ::-1]

    def _bytes(self, name):
        try:
            return self._read(name)
        except OSError as error:
            raise VideoError(
                self.path, f"{name} cannot be read ({error.strerror}); extract its frames again"
            ) from error

    def _decoded(self, name):
        try:
            # Other formats decode too, but records say that their frames are JPEG.
            height, width, _ = tf.io.extract_jpeg_shape(self.jpeg).numpy().tolist()
            broken = frame_limits.broken_limit(height, width)
            if broken:
                raise VideoError(self.path, f"{name}: {broken}; extract its frames again in another size")
            return tf.io.decode_jpeg(self.jpeg, channels=3).numpy()
        except tf.errors.InvalidArgumentError as error:
            raise VideoError(
                self.path, f"{name} is no whole JPEG ({len(self.jpeg):,} bytes); extract its frames again"
            ) from error


def _in_order(path, names):
    """The names of the series of frames, by number."""
    series = {}
    for name in sorted(names):
        match = _NAME.fullmatch(name)
        if match:
            numbers = series.setdefault(match[1], {})
            number = int(match[2])
            if number in numbers:
                raise VideoError(path, f"{numbers[number]} and {name} are the same frame; remove one")
            numbers[number] = name
    # Optical flow may lie beside the pictures.
    chosen = next((series[prefix] for prefix in ("img_", f"{os.path.basename(path)}-") if prefix in series), None)
    if chosen is None and len(series) > 1:
        raise VideoError(path, f"holds several series of frames, {' and '.join(sorted(series)[:2])}; keep one of them")
    chosen = chosen or next(iter(series.values()), None)
    if not chosen:
        raise VideoError(path, "is a folder without numbered JPEGs, such as img_00001.jpg; extract its frames again")
    numbers = sorted(chosen)
    for before, number in zip([None, *numbers], numbers, strict=False):
        if number > 1 if before is None else number != before + 1:
            gap = f"{chosen[before]} and {chosen[number]}" if before is not None else f"the start and {chosen[number]}"
            raise VideoError(path, f"frames between {gap} are missing; extract its frames again")
    return [chosen[number] for number in numbers]
