"""What checkpoints consist of besides Python's own values, and how a value from outside is shown.

Nothing here walks into a value that a file has made: one of three hundred bytes can be 2**60 leaves or nest 300,000
deep, so hashing, comparing or printing it would never end, or end the process.
"""

import contextlib
import math

import ml_dtypes
import numpy as np

from keras_nonlocal import errors

MAX_DIMENSIONS = 8
# Of a zip, or tensors of a safetensors file: a network of 101 layers has some 1,000 with its optimizer's.
MAX_ENTRIES = 20_000
# Of one size, offset or stride, and of all sizes multiplied: far more than memory holds, and safe to compute with.
MAX_SIZE = 2**40
# Of a name.
MAX_NAME = 200
SHOWN_CHARACTERS = 80
STORAGE_TYPES = {
    "FloatStorage": np.dtype("f4"),
    "DoubleStorage": np.dtype("f8"),
    "HalfStorage": np.dtype("f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("i8"),
    "IntStorage": np.dtype("i4"),
    "ShortStorage": np.dtype("i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


class CheckpointError(errors.UserError):
    """A checkpoint file that cannot be read, or does not fit; its message is one sentence."""


class KerasFile(CheckpointError):
    """A file of Keras, which no source writes."""


@contextlib.contextmanager
def of_file(path):
    """Puts the path before the message of a CheckpointError that is raised inside."""
    try:
        yield
    except CheckpointError as e:
        raise CheckpointError(f"{path}: {e}") from e.__cause__


class Refused:
    """Stands for a value that is no array of numbers; whoever needs it says which one and why."""

    def __init__(self, reason):
        self.reason = reason


class Storage:
    """The numbers that PyTorch tensors are views of: a dtype, and the array once it has been read.

    Args:
      key: what the checkpoint calls it.
      dtype: of its numbers.
      count: how many there are.
    """

    def __init__(self, key, dtype, count):
        self.key, self.dtype, self.count = key, dtype, count
        self.array = None

    def fill(self, data, big_endian=False):
        """Takes the numbers from bytes; CheckpointError if these are not as many as declared."""
        if len(data) != self.count * self.dtype.itemsize:
            raise CheckpointError(
                f"Storage {shown(self.key)} is declared as {self.count} numbers of {self.dtype} and has {len(data)} "
                "bytes."
            )
        array = np.frombuffer(data, self.dtype)
        self.array = array.byteswap() if big_endian else array


class Tensor:
    """A PyTorch tensor: a storage, where in it the tensor starts, its shape, and its strides in elements."""

    def __init__(self, storage, offset, shape, strides):
        if not (are_sizes(shape) and are_sizes(strides) and are_sizes((offset,)) and len(shape) == len(strides)):
            raise CheckpointError("A tensor has an offset, a shape and strides that make no sense.")
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        count = math.prod(shape)
        # A view larger than what it views repeats numbers; saved weights never do, and copies of it could be huge.
        if count > storage.count or (count and last >= storage.count):
            raise CheckpointError(
                f"A tensor of shape {shape}, offset {offset} and strides {strides} does not fit into its storage of "
                f"{storage.count} numbers."
            )
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def array(self):
        """The tensor as a read-only array on the storage's memory."""
        if not math.prod(self.shape):
            return np.empty(self.shape, self.storage.dtype)
        base = self.storage.array[self.offset :]
        strides = [stride * self.storage.dtype.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(base, self.shape, strides, writeable=False)


def are_sizes(value):
    """Whether a value is a tuple of few integers, none of them negative or, all multiplied, beyond any memory."""
    return (
        type(value) is tuple
        and len(value) <= MAX_DIMENSIONS
        and all(type(n) is int and 0 <= n <= MAX_SIZE for n in value)
        and math.prod(max(n, 1) for n in value) <= MAX_SIZE
    )


def shown(value, characters=SHOWN_CHARACTERS):
    """A value of a file as it is put into a message: short, on one line, without looking inside of containers."""
    if isinstance(value, str | bytes):
        return repr(value[:characters])
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and value.bit_length() <= 64):
        return repr(value)
    return f"a {type(value).__name__}"


def printable(text):
    """A text of a file if it is short and may be printed as it is, or None."""
    return text if isinstance(text, str) and len(text) <= MAX_NAME and text.isprintable() else None
