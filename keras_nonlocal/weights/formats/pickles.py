"""Reads the pickles of checkpoints without running anything that is in them.

A pickle is a program for a small machine, and one that came from outside can do whatever Python can. This machine knows
only what checkpoints consist of: numbers, strings, lists, tuples, dicts, and arrays and tensors made by the
constructors listed in CONSTRUCTORS. Anything else ends the reading before it has had an effect.
"""

import math
import pickletools
import re

import numpy as np

from keras_nonlocal.weights.formats.values import (
    STORAGE_TYPES,
    CheckpointError,
    Refused,
    Storage,
    Tensor,
    are_sizes,
    shown,
)

# Of a pickle, counting an item that a call copies as one more. A network of 101 layers with the state of its optimizer
# has some 50,000; in memory these are 60 MB at most.
MAX_STEPS = 250_000
# Of an integer: the largest in a checkpoint is the magic number of old PyTorch files, of 80.
MAX_BITS = 128
# Of an integer that is a key, as an optimizer numbers its parameters: such an integer is its own hash.
MAX_KEY = 2**31
# Bytes of arrays for a byte of the file: an array as text is made twice on its way to one, and names may share tensors.
COPIES = 4
MAX_PROTOCOL = 5
NUMERIC = r"[<>=|]?(?:[iu][1248]|f[248]|b1)"
BYTE_ORDERS = ("<", ">", "=", "|")


class _Array:
    """A NumPy array of which so far only the constructor has run, and where the memo has it."""

    slot = None


class _DType:
    """A NumPy dtype: its name, then its byte order."""

    def __init__(self, name):
        self.name, self.order = name, "="

    def numpy(self):
        """The dtype, or None for one that is not of numbers."""
        # np.dtype knows a language of its own, which no text of a file gets to speak.
        return np.dtype(self.name).newbyteorder(self.order) if re.fullmatch(NUMERIC, self.name) else None


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
        self.steps = self.made = self.limit = 0

    def run(self, stream):
        start = stream.tell()
        self.limit = COPIES * (stream.seek(0, 2) or stream.tell())
        stream.seek(start)
        try:
            for opcode, argument, position in pickletools.genops(stream):
                self.step()
                if opcode.name == "STOP":
                    return self.pop(1)[0]
                if opcode.name in _CONSTANTS:
                    self.stack.append(_constant(argument))
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
            raise CheckpointError(f"The pickle is damaged or cut off ({shown(str(e))}).") from None
        raise CheckpointError("The pickle is cut off.")

    def step(self, count=1):
        self.steps += count
        if self.steps > MAX_STEPS:
            raise CheckpointError(f"The pickle has more than {MAX_STEPS} instructions.")

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
        if type(module) is not str or type(name) is not str:
            raise CheckpointError("The pickle asks for something by a name that is no text.")
        if (module, name) not in CONSTRUCTORS:
            raise CheckpointError(
                f"The pickle asks for {shown(module)}, {shown(name)}, which weights do not consist of: refused."
            )
        self.stack.append(CONSTRUCTORS[module, name])

    def reduce(self, _):
        function, arguments = self.pop(2)
        if not callable(function) or type(arguments) is not tuple:
            raise CheckpointError("The pickle calls something that is no constructor.")
        self.step(sum(len(argument) for argument in arguments if type(argument) in (tuple, list, dict)))
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
        if isinstance(value, _Array | _DType) and (type(state) is not tuple or not 2 <= len(state) <= 9):
            raise CheckpointError("An array or a dtype has a state that NumPy does not write.")
        if isinstance(value, _Array):
            built = self.counted(_set_array(*state))
            # Whatever refers to the unfinished array by the memo means the finished one.
            self.stack[-1] = built
            if value.slot is not None:
                self.memo[value.slot] = built
        elif isinstance(value, _DType):
            if type(state[1]) is not str or state[1] not in BYTE_ORDERS:
                raise CheckpointError(f"A dtype has the byte order {shown(state[1])}.")
            value.order = state[1]
        elif type(value) is not dict:  # an OrderedDict's attributes, PyTorch's _metadata, which nobody needs
            raise CheckpointError("The pickle gives a state to something that has none.")

    def persistent_id(self, _):
        if self.persistent is None:
            raise CheckpointError("The pickle refers to data outside of it, where there is none.")
        self.stack.append(self.persistent(self.pop(1)[0]))


def _constant(value):
    if type(value) is int and value.bit_length() > MAX_BITS:
        raise CheckpointError(f"The pickle has an integer of {value.bit_length()} bits.")
    return value


def _pairs(items):
    if len(items) % 2:
        raise CheckpointError("A dict has a key without a value.")
    return [(_key(key), value) for key, value in zip(items[::2], items[1::2], strict=True)]


def _key(key):
    """A key of a dict, if it is one that checkpoints have; of others, not even the hash is safe to take."""
    if type(key) in (str, bytes) or (type(key) is int and abs(key) < MAX_KEY):
        return key
    raise CheckpointError(f"A dict has the key {shown(key)}; names are text.")


def _set_array(version, shape, dtype, fortran, data):
    return _array(data, dtype, shape, "F" if fortran else "C")


def _array(data, dtype, shape, order="C"):
    """The array of shape whose memory is data, without a copy where data is bytes."""
    numbers = dtype.numpy() if isinstance(dtype, _DType) else None
    if numbers is None:
        return Refused(f"an array of {shown(dtype.name) if isinstance(dtype, _DType) else 'objects'}")
    if isinstance(data, str):
        data = data.encode("latin-1")  # what Python 2 called a string
    if not isinstance(data, bytes | bytearray) or type(order) is not str or order not in ("C", "F"):
        raise CheckpointError("An array has no data or no order.")
    if not are_sizes(shape):
        raise CheckpointError("An array has a shape that makes no sense.")
    if math.prod(shape) * numbers.itemsize != len(data):
        raise CheckpointError(f"An array of shape {shape} and {numbers} has {len(data)} bytes of data.")
    array = np.frombuffer(data, numbers).reshape(shape, order=order)
    array.flags.writeable = False
    return array


def _reconstruct(subtype, shape, _):
    if subtype is not _Array or not are_sizes(shape) or shape != (0,):
        raise CheckpointError("An array is declared with another shape than (0,) before its data.")
    return _Array()


def _dtype(name, *_):
    if type(name) is not str:
        raise CheckpointError("A dtype has no name.")
    return _DType(name)


def _scalar(dtype, data):
    return _array(data, dtype, ())


def _encode(text, encoding):
    if type(text) is not str or type(encoding) is not str or encoding not in ("latin1", "latin-1"):
        raise CheckpointError("The pickle encodes text in a way that no array is written in.")
    return text.encode("latin-1")


def _ordered_dict(items=()):
    if type(items) not in (tuple, list) or any(type(item) not in (tuple, list) or len(item) != 2 for item in items):
        raise CheckpointError("An ordered dict is not made of keys with their values.")
    return {_key(key): value for key, value in items}


def _rebuild_tensor(storage, offset, shape, strides, *_):
    if not isinstance(storage, Storage):
        raise CheckpointError("A tensor has no storage.")
    return Tensor(storage, offset, shape, strides)


def _rebuild_parameter(tensor, *_):
    return tensor


def _size(sizes=()):
    if type(sizes) not in (tuple, list):
        raise CheckpointError("A size is not made of integers.")
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
