"""Positions: which a non-local operation sums over, how they are pooled, and how they become rows of a matrix.

Everything here takes tensors of (B, *positions, C), with one position axis for 1D (T), two for 2D (H, W) and three
for 3D (T, H, W); batch and positions may be unknown until run time.
"""

import math

import tensorflow as tf

AXES = {1: ("T",), 2: ("H", "W"), 3: ("T", "H", "W")}


def dims(tensor):
    """The tensor's dimensions: ints where they are known statically, scalar tensors elsewhere."""
    dynamic = tf.shape(tensor)
    return [dynamic[axis] if size is None else size for axis, size in enumerate(tensor.shape)]


def max_pool(x, pool_size):
    """Max-pools in windows that do not overlap; positions that do not fill a window are left out.

    Args:
      x: (B, *positions, C) of any float dtype.
      pool_size: one int for each position axis.

    Returns:
      (B, *(positions // pool_size), C).
    """
    # Such windows can be pooled an axis at a time, and TensorFlow's 2D pooling runs in every float dtype, which its
    # 3D pooling does not.
    if math.prod(pool_size) == 1:
        return x
    if len(pool_size) == 1:
        return _max_pool_2d(x[:, :, None], (*pool_size, 1))[:, :, 0]  # (B, T, C) -> (B, T, 1, C) -> (B, T', C)
    if len(pool_size) == 2:
        return _max_pool_2d(x, pool_size)
    batch, time, height, width, channels = dims(x)
    if pool_size[0] > 1:
        x = tf.reshape(x, [batch, time, product([height, width]), channels])  # (B, T, H, W, C) -> (B, T, H*W, C)
        x = _max_pool_2d(x, (pool_size[0], 1))
        time = time // pool_size[0]
    x = tf.reshape(x, [product([batch, time]), height, width, channels])  # -> (B*T, H, W, C)
    x = _max_pool_2d(x, pool_size[1:])
    return tf.reshape(x, [batch, time, height // pool_size[1], width // pool_size[2], channels])


def max_pool_valid(x, mask, pool_size, whole_windows=False):
    """Max-pools the valid positions only; a window without any becomes zeros.

    Args:
      x: (B, *positions, C).
      mask: (B, *positions) boolean.
      pool_size: one int for each position axis.
      whole_windows: whether also a window with a position that is not valid becomes zeros.

    Returns:
      The pooled x, and the pooled mask: True where a window holds a valid position, or with whole_windows no other.
    """
    if whole_windows:
        pooled_mask = max_pool(tf.cast(~mask, tf.float32)[..., None], pool_size) == 0  # (B, *positions', 1)
    else:
        pooled_mask = max_pool(tf.cast(mask, tf.float32)[..., None], pool_size) > 0
    pooled = max_pool(tf.where(mask[..., None], x, x.dtype.min), pool_size)
    return tf.where(pooled_mask, pooled, tf.zeros_like(pooled)), pooled_mask[..., 0]


def expand_mask(mask, batch, positions):
    """Broadcasts a mask over the position axes it lacks: (B, T) of frames covers their pixels, (B,) whole clips.

    Raises:
      ValueError: for a mask of other sizes than the inputs', or of more axes than they have positions.
    """
    mask = tf.convert_to_tensor(mask)
    sizes = [batch, *positions]
    missing = len(sizes) - len(mask.shape)
    known = [size if isinstance(size, int) else None for size in sizes]
    if missing < 0 or len(mask.shape) < 1 or not mask.shape.is_compatible_with(known[: len(mask.shape)]):
        raise ValueError(
            f"`mask` must be (batch, positions...) with the inputs' sizes {tuple(known)}, or the first of them. "
            f"Received: mask.shape={tuple(mask.shape)}"
        )
    mask = tf.reshape(mask, dims(mask) + [1] * missing)
    return tf.broadcast_to(tf.cast(mask, tf.bool), sizes)


def product(sizes):
    """The product of ints and scalar tensors; 1 for none."""
    result = 1
    for size in sizes:
        result = result * size
    return result


class Sets:
    """Splits positions into the sets inside which every query meets every key, and puts them together again.

    Args:
      rank: number of position axes.
      extent: "spacetime", one set of all positions; "space", a set for each frame; "time", a set for each pixel.
      group_frames: cut time into runs of this many frames first; None does not cut.
    """

    def __init__(self, rank, extent, group_frames=None):
        self._frame_by_frame = rank == 3 and extent == "space"
        self._pixel_by_pixel = rank == 3 and extent == "time"
        self._group_frames = group_frames

    @property
    def single(self):
        """Whether all positions are one set."""
        return not (self._frame_by_frame or self._pixel_by_pixel or self._group_frames)

    def split(self, positions):
        """The sizes whose product is the number of sets, and those whose product is the positions inside one."""
        if self.single:
            return [], positions
        time, *space = positions
        if self._frame_by_frame:
            return [time], space
        groups, frames = ([time // self._group_frames], self._group_frames) if self._group_frames else ([], time)
        return (groups + space, [frames]) if self._pixel_by_pixel else (groups, [frames, *space])

    def to_sets(self, x):
        """(B, *positions, C) -> (B*S, N, C): S sets of N positions for each example."""
        batch, *positions, channels = dims(x)
        sets, inside = self.split(positions)
        if self._pixel_by_pixel:
            groups = product([batch, *sets[:-2]])
            x = tf.reshape(x, [groups, inside[0], product(positions[1:]), channels])  # -> (B*G, F, P, C)
            x = tf.transpose(x, [0, 2, 1, 3])  # -> (B*G, P, F, C)
        return tf.reshape(x, [product([batch, *sets]), product(inside), channels])

    def from_sets(self, y, batch, positions):
        """(B*S, N, C) -> (B, *positions, C), the inverse of to_sets."""
        if self._pixel_by_pixel:
            _, frames, channels = dims(y)
            y = tf.reshape(y, [-1, product(positions[1:]), frames, channels])  # (B*G*P, F, C) -> (B*G, P, F, C)
            y = tf.transpose(y, [0, 2, 1, 3])  # -> (B*G, F, P, C)
        return tf.reshape(y, [batch, *positions, y.shape[-1]])

    def mask_to_sets(self, mask):
        """(B, *positions) -> (B*S, N)."""
        return self.to_sets(mask[..., None])[..., 0]

    def set_of(self, cells, positions):
        """Which set each cell of a grid is in, as they are numbered in `to_sets`.

        Args:
          cells: (..., rank) int32, the indices of cells on the position axes.
          positions: the sizes of these axes.

        Returns:
          (...) int32.
        """
        time = cells[..., 0]
        if self._frame_by_frame:
            return time
        number = time // self._group_frames if self._group_frames else tf.zeros_like(time)
        if self._pixel_by_pixel:
            number = (number * positions[1] + cells[..., 1]) * positions[2] + cells[..., 2]
        return number

    def cells(self, sets, inside, positions):
        """The cells that have these numbers in these sets, as they are numbered in `to_sets`.

        Args:
          sets: (...) int32, from `set_of`.
          inside: (...) int32, numbers of positions inside the sets.
          positions: the sizes of the position axes.

        Returns:
          (..., rank) int32.
        """
        sizes = self.split(positions)
        outer, inner = (_unravel(*each) for each in zip((sets, inside), sizes, strict=True))
        if self.single:
            indices = inner
        elif self._frame_by_frame:
            indices = [sets, *inner]
        else:
            first = outer[0] * self._group_frames if self._group_frames else 0  # frame of the run
            indices = [first + inner[0], *(outer[-2:] if self._pixel_by_pixel else inner[1:])]
        return tf.stack(indices, axis=-1)

    def attention_from_sets(self, attention, batch, positions):
        """(B*S, N, M) -> (B, N, M) for a single set, (B, S, N, M) otherwise."""
        if self.single:
            return attention
        _, queries, keys = dims(attention)
        return tf.reshape(attention, [batch, product(self.split(positions)[0]), queries, keys])


def _unravel(numbers, sizes):
    """The indices, one tensor for each axis, of numbers that count through axes of these sizes, the last one first."""
    indices = []
    for size in reversed(sizes):
        indices.insert(0, numbers % size)
        numbers = numbers // size
    return indices


def _max_pool_2d(x, pool_size):
    return tf.nn.max_pool2d(x, pool_size, pool_size, "VALID")
