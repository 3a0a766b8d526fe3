"""Reads the pickles of checkpoints without running anything that is in them.

A pickle is a program for a small machine, and one that came from outside can do whatever Python can. This machine knows
only what checkpoints consist of: numbers, strings, lists, tuples, dicts, and arrays and tensors made by the
constructors listed in CONSTRUCTORS. Anything else ends the reading before it has had an effect.
"""

import math
import pickletools

import ml_dtypes
import numpy as np

# Of a pickle: far more than a checkpoint of a video network has, some twenty for each of its tensors.
MAX_INSTRUCTIONS = 5_000_000
MAX_DIMENSIONS = 8
# Bytes of arrays for a byte of the file: an array as text is made twice on its way to one.
COPIES = 4
MAX_PROTOCOL = 5
NUMERIC = "fiub"
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


class CheckpointError(ValueError):
    """A checkpoint file that cannot be read, or does not fit; its message is one sentence."""


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


class Tensor:
    """A PyTorch tensor: a storage, where in it the tensor starts, its shape, and its strides in elements."""

    def __init__(self, storage, offset, shape, strides):
        sizes = (offset, *shape, *strides)
        if len(shape) != len(strides) or len(shape) > MAX_DIMENSIONS or any(type(n) is not int or n < 0 for n in sizes):
            raise CheckpointError(
                f"A tensor has an offset, a shape and strides that make no sense: {offset}, {shape}, {strides}."
            )
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
        base = self.storage.array[self.offset :]
        strides = [stride * self.storage.dtype.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(base, self.shape, strides, writeable=False)


class _Array:
    """A NumPy array of which so far only the constructor has run, and where the memo has it."""

    slot = None


class _DType:
    """A NumPy dtype: its name, then its byte order."""

    def __init__(self, name):
        self.name, self.order = name, "="

    def numpy(self):
        """The dtype, or None for one that is not of numbers."""
        try:
            dtype = np.dtype(self.name)
        except (TypeError, ValueError):
            return None
        return dtype.newbyteorder(self.order) if dtype.kind in NUMERIC else None


def read(stream, persistent=None):
    """The value of the pickle that starts at the stream's position, which is left after the pickle.

    Args:
      stream: with read, readline and tell, whose read never gives memory for more than it has, as mmap and BytesIO.
      persistent: from the tuple of a persistent id to its value; None where there are none.

    Returns:
      Python numbers, strings, bytes, lists, tuples and dicts; numpy arrays; Tensors; Refused.

    Raises:
      CheckpointError: for anything that is not part of a checkpoint.
    """
    return _Machine(persistent).run(stream)


class _Machine:
    """The stack, the marks in it and the memo, and a method for each kind of instruction."""

    def __init__(self, persistent):
        self.stack, self.marks, self.memo = [], [], {}
        self.persistent = persistent
        self.made, self.limit = 0, 0

    def run(self, stream):
        start = stream.tell()
        self.limit = COPIES * (stream.seek(0, 2) or stream.tell())
        stream.seek(start)
        try:
            for count, (opcode, argument, position) in enumerate(pickletools.genops(stream)):
                if count > MAX_INSTRUCTIONS:
                    raise CheckpointError(f"The pickle has more than {MAX_INSTRUCTIONS} instructions.")
                if opcode.name == "STOP":
                    return self.stack.pop()
                if opcode.name in _CONSTANTS:
                    self.stack.append(argument)
                elif opcode.name in _LITERALS:
                    self.stack.append(_LITERALS[opcode.name]())
                elif opcode.name in _STEPS:
                    _STEPS[opcode.name](self, argument)
                else:
                    raise CheckpointError(
                        f"The pickle uses {opcode.name} at byte {position}, which no checkpoint of weights needs."
                    )
        except CheckpointError:
            raise
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, MemoryError) as e:
            # What the machine's own steps and pickletools raise for broken files.
            raise CheckpointError(f"The pickle is damaged or cut off: {str(e)[:200]}.") from None
        raise CheckpointError("The pickle is cut off.")

    def pop_mark(self):
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def pop(self, count):
        items = self.stack[-count:]
        if len(items) < count or (self.marks and len(self.stack) - count < self.marks[-1]):
            raise CheckpointError("The pickle takes more from its stack than there is.")
        del self.stack[-count:]
        return tuple(items)

    def protocol(self, version):
        if version > MAX_PROTOCOL:
            raise CheckpointError(f"The pickle is of protocol {version}; there are 0 to {MAX_PROTOCOL}.")

    def mark(self, _):
        self.marks.append(len(self.stack))

    def put(self, index):
        self.memo[index] = value = self.stack[-1]
        if isinstance(value, _Array):
            value.slot = index

    def memoize(self, _):
        self.put(len(self.memo))

    def get(self, index):
        self.stack.append(self.memo[index])

    def tuple_of(self, count):
        self.stack.append(self.pop(count))

    def append(self, items):
        if type(self.stack[-1]) is not list:
            raise CheckpointError("The pickle appends to something that is no list.")
        self.stack[-1].extend(items)

    def set_items(self, items):
        if type(self.stack[-1]) is not dict:
            raise CheckpointError("The pickle sets items of something that is no dict.")
        self.stack[-1].update(_pairs(items))

    def find(self, module, name):
        if (module, name) not in CONSTRUCTORS:
            raise CheckpointError(
                f"The pickle asks for {module}.{name}"[:150] + ", which weights do not consist of: refused."
            )
        self.stack.append(CONSTRUCTORS[module, name])

    def reduce(self, _):
        function, arguments = self.pop(2)
        if not callable(function) or type(arguments) is not tuple:
            raise CheckpointError("The pickle calls something that is no constructor.")
        self.stack.append(self.counted(function(*arguments)))

    def counted(self, value):
        """value, if what has been made so far is not far more than what the file has."""
        self.made += value.nbytes if isinstance(value, np.ndarray) else len(value) if isinstance(value, bytes) else 0
        if self.made > self.limit:
            raise CheckpointError("The pickle makes more numbers than it has.")
        return value

    def build(self, _):
        state = self.pop(1)[0]
        value = self.stack[-1]
        if isinstance(value, _Array):
            built = self.counted(_set_array(*state))
            # Whatever refers to the unfinished array by the memo means the finished one.
            self.stack[-1] = built
            if value.slot is not None:
                self.memo[value.slot] = built
        elif isinstance(value, _DType):
            if state[1] not in ("<", ">", "=", "|"):
                raise CheckpointError(f"A dtype has the byte order {state[1]!r}.")
            value.order = state[1]
        elif type(value) is not dict:  # an OrderedDict's attributes, PyTorch's _metadata, which nobody needs
            raise CheckpointError("The pickle gives a state to something that has none.")

    def persistent_id(self, _):
        if self.persistent is None:
            raise CheckpointError("The pickle refers to data outside of it, where there is none.")
        self.stack.append(self.persistent(self.pop(1)[0]))


def _pairs(items):
    if len(items) % 2:
        raise CheckpointError("A dict has a key without a value.")
    return zip(items[::2], items[1::2], strict=True)


def _set_array(version, shape, dtype, fortran, data):
    return _array(data, dtype, shape, "F" if fortran else "C")


def _array(data, dtype, shape, order="C"):
    """The array of shape whose memory is data, without a copy where data is bytes."""
    numbers = dtype.numpy() if isinstance(dtype, _DType) else None
    if numbers is None:
        return Refused(f"an array of {getattr(dtype, 'name', 'objects')!s:.20}")
    if isinstance(data, str):
        data = data.encode("latin-1")  # what Python 2 called a string
    if not isinstance(data, (bytes, bytearray)) or type(shape) is not tuple or order not in ("C", "F"):
        raise CheckpointError("An array has no data, no shape or no order.")
    if any(type(n) is not int or n < 0 for n in shape) or len(shape) > MAX_DIMENSIONS:
        raise CheckpointError(f"An array has the shape {shape}.")
    if math.prod(shape) * numbers.itemsize != len(data):
        raise CheckpointError(f"An array of shape {shape} and {numbers} has {len(data)} bytes of data.")
    array = np.frombuffer(data, numbers).reshape(shape, order=order)
    array.flags.writeable = False
    return array


def _reconstruct(subtype, shape, _):
    if subtype is not _Array or shape != (0,):
        raise CheckpointError(f"An array is declared with the shape {shape!s:.60} before its data.")
    return _Array()


def _dtype(name, *_):
    if not isinstance(name, str):
        raise CheckpointError("A dtype has no name.")
    return _DType(name)


def _scalar(dtype, data):
    return _array(data, dtype, ())


def _encode(text, encoding):
    if encoding not in ("latin1", "latin-1") or not isinstance(text, str):
        raise CheckpointError("The pickle encodes text in a way that no array is written in.")
    return text.encode("latin-1")


def _ordered_dict(items=()):
    return dict(items)


def _rebuild_tensor(storage, offset, shape, strides, *_):
    if not isinstance(storage, Storage):
        raise CheckpointError("A tensor has no storage.")
    return Tensor(storage, offset, shape, strides)


def _rebuild_parameter(tensor, *_):
    return tensor


def _size(sizes=()):
    return tuple(sizes)


CONSTRUCTORS = {
    **{
        key: value
        for core in ("numpy.core", "numpy._core")
        for key, value in {
            (f"{core}.multiarray", "_reconstruct"): _reconstruct,
            (f"{core}.multiarray", "scalar"): _scalar,
            (f"{core}.numeric", "_frombuffer"): _array,
        }.items()
    },
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): _ordered_dict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch", "Size"): _size,
    **{("torch", name): dtype for name, dtype in STORAGE_TYPES.items()},
}
# Instructions whose argument is the value.
_CONSTANTS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_LITERALS = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_STEPS = {
    "PROTO": _Machine.protocol,
    "FRAME": lambda machine, _: None,
    "MARK": _Machine.mark,
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.pop_mark())),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "LIST": lambda machine, _: machine.stack.append(machine.pop_mark()),
    "DICT": lambda machine, _: machine.stack.append(dict(_pairs(machine.pop_mark()))),
    "APPEND": lambda machine, _: machine.append(machine.pop(1)),
    "APPENDS": lambda machine, _: machine.append(machine.pop_mark()),
    "SETITEM": lambda machine, _: machine.set_items(machine.pop(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_mark()),
    "PUT": _Machine.put,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.memoize,
    "GET": _Machine.get,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "GLOBAL": lambda machine, name: machine.find(*name.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.find(*machine.pop(2)),
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent_id,
}
