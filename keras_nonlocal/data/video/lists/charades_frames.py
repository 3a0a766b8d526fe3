"""Lists of Charades' frames, as SlowFast has them: `original_vido_id video_id frame_id path labels`, a line a frame.

Labels are class indices: `"0,100"`, or `""` for none.
"""

import os
import re

from keras_nonlocal.data import texts
from keras_nonlocal.data.video.lists import rows as _rows
from keras_nonlocal.errors import UserError

# The typo is part of it.
COLUMNS = ("original_vido_id", "video_id", "frame_id", "path", "labels")


def rows(path, text):
    """A row of the list for each video, whose cells are the lines of its frames."""
    header, *lines = [
        (line, cells.split()) for line, cells in enumerate(re.split(r"\r\n|\r|\n", text), start=1) if cells.strip()
    ]
    if tuple(header[1]) != COLUMNS:
        raise UserError(f"list {path} is no list of frames; its first line must be {' '.join(COLUMNS)}")
    if not lines:
        raise UserError(f"list {path} has no row below its column names; add one row for each frame")
    videos = {}
    for line, cells in lines:
        where = f"list {path}, line {line}"
        if len(cells) != len(COLUMNS):
            raise UserError(f"{where}, has {len(cells)} cells and there are {len(COLUMNS)} columns; correct it")
        name = texts.printable(where, cells[0])
        row = videos.setdefault(name, _rows.Row(where, line, {"id": name, "frames": []}))
        labels = [label.strip() for label in cells[4].replace('"', "").replace("'", "").split(",")]
        row.cells["frames"].append((where, texts.printable(where, cells[3]), list(filter(None, labels))))
    return list(videos.values())


def labels(row):
    """The indices of the row's classes, as text."""
    return [label for _, _, labels in row.cells["frames"] for label in labels]


def entry(row):
    """The video is the folder of its frames, and an action a run of frames with the same class."""
    frames = row.cells["frames"]
    folder = _check_frames(frames)
    actions, running = [], {}
    for number, (_, _, present) in enumerate([*frames, ("", "", [])]):
        for label in [label for label in running if label not in present]:
            actions.append((label, running.pop(label), number - 1))
        for label in present:
            running.setdefault(label, number)
    actions.sort(key=lambda action: action[1:])
    return _rows.Entry(row.cells["id"], folder, tuple(labels(row)), tuple(actions), "frames", frames=len(frames))


def _check_frames(frames):
    """The folder of the frames, which must be all of it from the first one on, in their order."""
    folder, expected = os.path.dirname(frames[0][1]), None
    for where, path, _ in frames:
        match = re.search(r"(\d+)\.jpe?g$", path, re.I)
        number = int(match[1]) if match else None
        if number is None or os.path.dirname(path) != folder or number != (number if expected is None else expected):
            raise UserError(
                f"{where}: frame {texts.plain(path)} does not follow the frame before it; list the numbered frames of "
                "one folder one after the other"
            )
        if expected is None and number > 1:
            raise UserError(f"{where}: the first frame of a video is 0 or 1. Received: {texts.plain(path)}")
        expected = number + 1
    return folder
