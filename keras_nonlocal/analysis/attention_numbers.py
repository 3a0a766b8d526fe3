"""What kind of attention a block pays, as a few numbers; `plot.overview` draws them for all blocks of a model."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from keras_nonlocal.analysis.attention_maps import BlockAttention


@dataclasses.dataclass(frozen=True)
class Numbers:
    """Of one block, over its queries and examples. Weights of any sign count by their size.

    Args:
      elsewhere: how much of a query's weight lies in other frames than its own, or in other steps of a sequence: 0 to
        1. NaN for a block that has no time axis.
      entropy: how evenly a query's weight is spread: 0 if one key has all of it, 1 if all have the same. NaN if
        there is only one key.
      frames: how far away a query's weight lies, in frames or steps. NaN without a time axis.
      pixels: how far away it lies, in pixels. NaN for sequences.
      difference: "is the attention the same for every query?" The cosine distance, (1 - cos) / 2, of the weights of two
        queries that meet the same keys, averaged over all pairs of them: 0 if each query attends to the same. Cao et
        al., "GCNet" (2019), found it close to 0 for embedded Gaussian blocks of image models: what such a block adds
        does not depend on the query, and one pooled vector for all would do. NaN if no two queries meet the same keys.
    """

    elsewhere: float
    entropy: float
    frames: float
    pixels: float
    difference: float


def numbers(found: BlockAttention) -> Numbers:
    """The numbers of a block.

    Args:
      found: of attention_maps with top_k=None.

    Raises:
      ValueError: if it holds the strongest keys only.

    Example:

    >>> queries = np.array([[[0.0, 0.5, 0.5], [1.0, 0.5, 0.5]]])
    >>> keys = np.stack([queries, queries], axis=1)
    >>> weights = np.array([[[0.5, 0.5], [0.0, 1.0]]])
    >>> found = BlockAttention("block", "embedded_gaussian", True, 2, (1, 1, 1), queries, keys, weights)
    >>> attention_numbers.numbers(found).elsewhere
    0.25
    """
    if not found.whole:
        raise ValueError(
            "numbers are of all keys: call attention_maps with top_k=None. "
            f"Received: {found.weights.shape[-1]} of {found.keys} keys"
        )
    sizes = np.abs(found.weights.astype(np.float64))
    total = sizes.sum(axis=-1, keepdims=True)
    shares = np.divide(sizes, total, out=np.zeros_like(sizes), where=total > 0)
    seen = total[..., 0] > 0  # a query without any weight has no shares
    away = np.abs(found.positions - found.queries[:, :, None])  # (B, Q, M, R)
    time, space = split_axes(away)

    def mean(values):
        return float((shares * values).sum(axis=-1)[seen].mean()) if values is not None and seen.any() else np.nan

    return Numbers(
        elsewhere=mean(None if time is None else ~in_same_frame(found)),
        entropy=_entropy(shares, seen),
        frames=mean(time),
        pixels=mean(space),
        difference=_difference(found),
    )


def even_numbers(found: BlockAttention) -> Numbers:
    """What the numbers would be if every query attended to all its keys alike, to compare with."""
    return numbers(dataclasses.replace(found, weights=np.ones_like(found.weights)))


def split_axes(distances: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Distances along each axis, (..., R), as those in time and in space, (...); None for what there is none of."""
    rank = distances.shape[-1]
    time = None if rank == 2 else distances[..., 0]
    space = None if rank == 1 else np.hypot(distances[..., -2], distances[..., -1])
    return time, space


def in_same_frame(found: BlockAttention) -> np.ndarray:
    """Which keys are pooled of the query's own frame, or step, too: (B, Q, K) boolean; all of a block without time."""
    if found.rank == 2:
        return np.ones(found.weights.shape, bool)
    return np.abs(found.positions[..., 0] - found.queries[:, :, None, 0]) < found.key_size[0] / 2


def most_telling(maps: Mapping[str, BlockAttention]) -> tuple[str, int, int]:
    """The block and the query whose attention goes furthest: what to show when nobody says what.

    The rule: of blocks with a time axis, the query with the largest share of its weight in other frames; of others, the
    one whose weight is furthest away in pixels. Both are for what the query's keys have above an even spread, which for
    a query at the edge is far away by itself.

    Args:
      maps: of attention_maps with top_k=None, of blocks of one rank.

    Returns:
      (path of the block, number of the example, number of the query).
    """
    best = {}
    for path, found in maps.items():
        sizes = np.abs(found.weights)
        shares = sizes / np.maximum(sizes.sum(axis=-1, keepdims=True), np.finfo(np.float32).tiny)
        _, space = split_axes(np.abs(found.positions - found.queries[:, :, None]))
        far = ~in_same_frame(found) if found.rank != 2 else space
        gain = (shares * far).sum(axis=-1) - far.mean(axis=-1)  # (B, Q)
        best[path] = gain.max(), np.unravel_index(int(gain.argmax()), gain.shape)
    path = max(best, key=lambda each: best[each][0])
    example, query = best[path][1]
    return path, int(example), int(query)


def _entropy(shares, seen):
    keys = shares.shape[-1]
    if keys < 2 or not seen.any():
        return float("nan")
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return float(-(shares * logs).sum(axis=-1)[seen].mean() / np.log(keys))


def _difference(found):
    """See Numbers. The mean cosine of all pairs is that of the sum of the unit vectors with itself."""
    distances, pairs = 0.0, 0
    for weights, positions in zip(found.weights.astype(np.float64), found.positions, strict=True):
        # Queries of one set have the same first key.
        _, sets = np.unique(positions[:, 0], axis=0, return_inverse=True)
        for number in np.unique(sets):
            rows = weights[sets.reshape(-1) == number]
            norms = np.linalg.norm(rows, axis=-1, keepdims=True)
            units = (rows / np.where(norms > 0, norms, 1))[norms[:, 0] > 0]
            count = len(units)
            cosines = np.square(units.sum(axis=0)).sum() - count  # of ordered pairs of two
            distances += (count * (count - 1) - cosines) / 2
            pairs += count * (count - 1)
    return max(0.0, float(distances / pairs)) if pairs else float("nan")
