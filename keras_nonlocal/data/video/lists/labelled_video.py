"""What a list says of a video, once its file is found and its classes are numbers."""

import dataclasses
import os
from typing import Any

import numpy as np

from keras_nonlocal.data.video.tars import Stored


@dataclasses.dataclass(frozen=True)
class Action:
    """A class, and when it happens.

    Args:
      index: the class index.
      start: of the first moment.
      end: of the last moment, which belongs to it.
    """

    index: int
    start: float
    end: float


@dataclasses.dataclass(frozen=True)
class LabelledVideo:
    """A video of a list.

    Args:
      name: what identifies the video in its list: `<youtube_id>_<start>_<end>`, the list's path, or its id.
      path: the file or the folder of frames; it need not exist.
      labels: names of its classes, in the order of their indices.
      indices: its classes, sorted, each once; one, or in lists of several labels a video any number.
      actions: when they happen; None where the list does not say.
      actions_in: what starts and ends count: "seconds" or "frames".
      first_frame: the first frame of the file that belongs to the video.
      frames: how many frames belong to it; None for all.
      stored: where tars hold it; None where it is a file, a folder or missing.
    """

    name: str
    path: str
    labels: tuple[str, ...]
    indices: tuple[int, ...]
    actions: tuple[Action, ...] | None = None
    actions_in: str = "seconds"
    first_frame: int = 0
    frames: int | None = None
    stored: Stored | None = None

    @property
    def annotation(self) -> Any:
        """All that decides its record besides the name and the file: the class index, where there is no more to say."""
        if self.actions is None and self.frames is None:
            return self.indices[0] if len(self.indices) == 1 else self.indices
        actions = self.actions and [dataclasses.astuple(action) for action in self.actions]
        return [self.indices, actions, self.actions_in, self.first_frame, self.frames]

    @property
    def file(self) -> str:
        """What is on the disk: the path, or the tar that holds it."""
        return self.stored.tar if self.stored else self.path

    def exists(self) -> bool:
        """Whether there is anything to read."""
        return self.stored is not None or os.path.exists(self.path)

    def action_frames(self, count: int, rate: float) -> list[tuple[int, int, int]]:
        """Where actions happen: the class, the first and the last frame, for each that covers any frame.

        Args:
          count: frames of the video.
          rate: of them in a second: frame i happens at i / rate.
        """
        if not self.actions:
            return []
        times = np.arange(count) / (rate if self.actions_in == "seconds" else 1)
        found = []
        for action in self.actions:
            covered = np.flatnonzero((action.start <= times) & (times <= action.end))
            if covered.size:
                found.append((action.index, int(covered[0]), int(covered[-1])))
        return found
