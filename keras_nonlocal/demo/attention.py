"""Which block and which position the demo's pictures of attention show: by a rule, not by eye.

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

from keras_nonlocal.analysis import attention_numbers
from keras_nonlocal.analysis.attention_maps import BlockAttention
from keras_nonlocal.demo import clips

SIDE = 4  # of the points on a digit: closer to each other than the positions of any block


@dataclasses.dataclass
class Look:
    """What the position that the rule chooses attends to.

    Args:
      query: its number, of those asked for.
      digit: the digit that it is on, 0 the early one, 1 the late one.
      elsewhere: the share of its attention in other frames.
      on_other: the share of its attention on the square of the other digit; a key counts as far as that covers it.
      even: what both would be if attention were spread evenly, (elsewhere, on_other).
    """

    query: int
    digit: int
    elsewhere: float
    on_other: float
    even: tuple


def points(place):
    """Points all over the square of a digit, the places to ask a block for.

    Args:
      place: (frame of the clip, y, x) of the digit's centre, in pixels.

    Returns:
      (SIDE * SIDE, 3), (frame, y, x).
    """
    along = (np.arange(SIDE) + 0.5) * clips.DIGIT / SIDE - clips.DIGIT // 2
    t, y, x = place
    return np.array([(t, y + down, x + right) for down in along for right in along])


def covered(place, centres, sizes):
    """How much of each key the square of a digit covers.

    Args:
      place: (frame of the clip, y, x) of the digit's centre, in pixels.
      centres: (K, 3) of the keys, (frame, y, x).
      sizes: of a key, frames and pixels.

    Returns:
      (K,), 0 to 1; 0 of keys that are not pooled of the digit's frame.
    """
    frame, *centre = place
    result = (np.abs(centres[:, 0] - frame) < sizes[0] / 2).astype(float)
    for middle, size, pixel in zip(centres[:, 1:].T, sizes[1:], centre, strict=True):
        start = pixel - clips.DIGIT // 2
        overlap = np.minimum(middle + size / 2, start + clips.DIGIT) - np.maximum(middle - size / 2, start)
        result *= np.maximum(overlap, 0) / size
    return result


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


def look(found: BlockAttention, example, digits):
    """What the position on either digit attends to that has the most of its attention in other frames.

    Args:
      found: of attention_maps with top_k=None, of a softmax form; its queries are the points of the early digit, then
        those of the late one.
      example: which of its examples.
      digits: (frame of the clip, y, x) of the early digit and of the late one.

    Returns:
      A Look.
    """
    elsewhere = ~attention_numbers.in_same_frame(found)[example]  # (Q, K)
    shares = (found.weights[example] * elsewhere).sum(axis=-1)
    query = int(np.argmax(shares))
    digit = query // (SIDE * SIDE)
    other = covered(digits[1 - digit], found.positions[example, query], found.key_size)
    on_other = float((found.weights[example, query] * other).sum())
    even = (float(elsewhere[query].mean()), float(other.mean()))
    return Look(query, digit, float(shares[query]), on_other, even)
