"""Which block and which position the demo's picture of attention shows: by a rule, not by eye.

The task is to compare two digits that no frame shows together.

- The block is the one that the network needs most: without which it answers the fewest of many clips right.
- The position is the one on either digit that has the most of its attention in other frames. Where in them that goes,
  to the other digit or not, is left to the network. Positions of the background say nothing: attention that is spread
  evenly lies in other frames as well.
- The clip, of those of one class twice that are answered right, is the one whose position has the middle share of its
  attention on the other digit: neither the best nor the worst.
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


def choose_block(right_without):
    """The block that the network needs most.

    Args:
      right_without: {block: how many clips are answered right without it}.

    Returns:
      The block's name; of several the first.
    """
    return min(right_without, key=right_without.get)


def choose_clip(looks, candidates):
    """The candidate, an index of looks, whose share on the other digit is the middle one."""
    return sorted(candidates, key=lambda clip: looks[clip].on_other)[len(candidates) // 2]


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
