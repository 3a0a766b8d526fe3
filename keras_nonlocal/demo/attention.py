"""Which block and which position the demo's picture of attention shows: by a rule, not by eye.

The task is to compare two digits that no frame shows together. What a network does about it shows in the attention of
the positions on the digits, as far as that goes to other frames; over a position of the background it says nothing,
since attention that is spread evenly lies in other frames as well.

- The block is the one in which the positions on the digits have the most of their attention in other frames, averaged
  over many clips.
- The position, in the clip that is shown, is the one on either digit that has the most of its attention there, in other
  frames. Where in them that goes, to the other digit or not, is left to the network.
"""

import dataclasses

import numpy as np

from keras_nonlocal.analysis.attention_maps import AttentionMap
from keras_nonlocal.demo import clips


@dataclasses.dataclass
class Look:
    """What the position that the rule chooses attends to.

    Args:
      query: (t, y, x) on the query grid.
      digit: the digit that it is on, 0 the early one, 1 the late one.
      elsewhere: the share of its attention in other frames.
      on_other: the share of its attention on the square of the other digit; a cell counts as far as that covers it.
      even: what both would be if attention were spread evenly, (elsewhere, on_other).
    """

    query: tuple
    digit: int
    elsewhere: float
    on_other: float
    even: tuple


def covered(place, grid, frames):
    """How much of each cell of a grid the square of a digit covers.

    Args:
      place: (frame of the clip, y, x) of the digit's centre, in pixels.
      grid: (T, H, W) of the queries or keys.
      frames: of the clip.

    Returns:
      Shaped as the grid, 0 to 1; 0 in all frames but the digit's.
    """
    t, *centre = place
    parts = []
    for cells, pixel in zip(grid[1:], centre, strict=True):
        side = clips.SIZE / cells
        first = np.arange(cells) * side
        start = pixel - clips.DIGIT // 2
        overlap = np.minimum(first + side, start + clips.DIGIT) - np.maximum(first, start)
        parts.append(np.maximum(overlap, 0) / side)
    result = np.zeros(grid)
    result[t * grid[0] // frames] = np.outer(*parts)
    return result


def on_digit(place, grid, frames):
    """The cells of a grid that are on a digit, boolean: it covers a quarter of them or more, as it does of some."""
    return covered(place, grid, frames) >= 0.25


def choose_block(attention, places, frames):
    """The block whose positions on the digits have the most of their attention in other frames.

    Args:
      attention: {block: [AttentionMap of each clip]}.
      places: for each clip its digits' two (frame of the clip, y, x).
      frames: of a clip.

    Returns:
      The block's name, and {block: the mean over all clips of the mean share over the positions on digits}.
    """
    shares = {}
    for block, maps in attention.items():
        means = [
            each.share_of_other_frames()[np.logical_or(*(on_digit(place, each.query_grid, frames) for place in digits))]
            for each, digits in zip(maps, places, strict=True)
        ]
        shares[block] = float(np.mean([mean.mean() for mean in means]))
    return max(shares, key=shares.get), shares


def look(attention: AttentionMap, digits, frames):
    """What the position on either digit attends to that has the most of its attention in other frames.

    Args:
      attention: an AttentionMap.
      digits: (frame of the clip, y, x) of the early digit and of the late one.
      frames: of the clip.

    Returns:
      A Look.
    """
    shares = attention.share_of_other_frames()
    queries = [on_digit(place, attention.query_grid, frames) for place in digits]
    candidates = np.where(np.logical_or(*queries), shares, -1)
    query = tuple(int(i) for i in np.unravel_index(np.argmax(candidates), candidates.shape))
    digit = int(queries[1][query])
    other = covered(digits[1 - digit], attention.key_grid, frames)
    even = (1 - 1 / attention.key_grid[0], float(other.mean()))
    return Look(query, digit, float(shares[query]), float(attention.share(other)[query]), even)
