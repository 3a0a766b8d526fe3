"""Checkpoint files of any format as named arrays, the format recognised by what is in the file."""

import dataclasses
import hashlib
import io
import mmap
import pathlib
import struct
import zipfile
import zlib

import ml_dtypes
import numpy as np

from keras_nonlocal.weights.formats import pickles
from keras_nonlocal.weights.formats.values import MAX_SIZE, CheckpointError, Refused, Storage, Tensor, shown

# The pickle of a torch file, which has names and shapes and no numbers.
MAX_TORCH_PICKLE = 64 * 2**20
# Of a zip, or tensors of a safetensors file: a network of 101 layers has some 1,000 with its optimizer's.
MAX_ENTRIES = 20_000
ZIP_ENTRY = b"PK\x01\x02"
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
MAX_NAME = 200
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
# A safetensors file of our own, with our names and layout.
OURS = "keras_nonlocal"
# Where the state dict is, in the order in which they are looked for.
STATE_KEYS = ("blobs", "model_state", "state_dict")
LICENCES = {
    "official": "CC-BY-NC 4.0 (facebookresearch/video-nonlocal-net): not for commercial use, not to be passed on",
    "slowfast": "Apache-2.0 (facebookresearch/SlowFast); files converted from the official code stay CC-BY-NC 4.0",
    "mmaction2": "Apache-2.0 (open-mmlab/mmaction2)",
}
# Of a file with our own names that does not say.
UNKNOWN_LICENCE = "that of the checkpoint it was imported from"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Args:
      path: of the file.
      sha256: of the file, in hex.
      source: whose names the tensors have: "official", "slowfast", "mmaction2", or "keras_nonlocal".
      tensors: {name: array}, in the file's own layout, as read-only views.
      skipped: {name: why} of what is no weight.
      config: the text of the configuration in the file, or None.
      licence: of the weights: the source's, or for a file of our own what it says.
    """

    path: str
    sha256: str
    source: str
    tensors: dict
    skipped: dict
    config: str | None
    licence: str


def read(path, source="auto"):
    """Reads a checkpoint and executes nothing of it; PyTorch and Caffe2 are not needed.

    Args:
      path: an official .pkl, a SlowFast .pyth or .pkl, an mmaction2 .pth, or a .safetensors with names of one of
        them or of our own.
      source: "auto" for whose names the tensors have; or "official", "slowfast" (whose .pkl files have official names
        and its own stem) or "mmaction2".

    Returns:
      A Checkpoint.

    Raises:
      CheckpointError: for a file that is not one, is damaged, or asks for more than weights.

    Example:

    >>> keras_nonlocal.weights.read("i3d_nonlocal_32x2.pkl").tensors["conv1_w"].shape  # doctest: +SKIP
    (64, 3, 5, 7, 7)
    """
    path = pathlib.Path(path)
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise CheckpointError("It is no file.")
        with open(path, "rb") as file:
            if not size:
                raise CheckpointError("The file is empty.")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                sha256 = hashlib.sha256(content).hexdigest()
                values, said = _values(path, content)
        tensors, skipped = _sorted_out(values, pickles.COPIES * size)
        source = _source(tensors, source)
    except CheckpointError as e:
        raise CheckpointError(f"{path}: {e}") from None
    except (OSError, ValueError) as e:  # a path with a null character is a ValueError
        raise CheckpointError(f"{str(path)!r}: {getattr(e, 'strerror', None) or e}.") from None
    licence = LICENCES.get(source) or _printable(said.get("licence")) or UNKNOWN_LICENCE
    return Checkpoint(str(path), sha256, source, tensors, skipped, said.get("config"), licence)


def _values(path, content):
    """{name: value} of the file, and what else it says: `config` and `licence`, texts."""
    start = content[:16]
    if start.startswith(b"PK\x03\x04"):
        return _state(_read_zip(path, content))
    if start.startswith(HDF5_MAGIC):
        raise CheckpointError("It is an HDF5 file, such as Keras writes: load it with the model's load_weights.")
    if start.lstrip()[:1] == b"<":
        raise CheckpointError("This is an HTML page, so the download went wrong.")
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < len(content):
        return _read_safetensors(path)
    value = pickles.read(content)
    if type(value) is int and value == LEGACY_MAGIC:
        return _state(_read_legacy(content))
    if content.tell() != len(content):
        raise CheckpointError("Something follows the pickle, as no checkpoint has it: refused.")
    return _state(value)


def _state(value):
    """The dict of tensors in what a file holds, and what it says beside them."""
    if type(value) is not dict:
        raise CheckpointError(f"A checkpoint is a dict of names and arrays; this is a {type(value).__name__}.")
    for key in STATE_KEYS:
        if key in value:
            state = value[key]
            if type(state) is not dict:
                raise CheckpointError(f"{key!r} must be a dict of names and arrays; it is a {type(state).__name__}.")
            return state, {"config": _config(value)} if "cfg" in value else {}
    return value, {}


def _config(value):
    config = value["cfg"]
    if config is not None and not isinstance(config, str):
        raise CheckpointError(f"Its configuration `cfg` must be a text; it is a {type(config).__name__}.")
    return config


def _sorted_out(values, limit):
    """The arrays of weights among the values, and why the others are none.

    Args:
      values: {name: value}.
      limit: of the bytes of all arrays together.
    """
    tensors, skipped = {}, {}
    for name, value in values.items():
        if not isinstance(name, str) or _printable(name) is None:
            raise CheckpointError(f"Names are printable text of up to {MAX_NAME} characters, unlike {shown(name)}.")
        name = _unwrapped(name)
        value = value.array() if isinstance(value, Tensor) else value
        if name in tensors or name in skipped:
            raise CheckpointError(f"{name!r} is there twice.")
        if name.endswith("_momentum") or name in ("lr", "model_iter"):
            skipped[name] = "state of the training"
        elif name.endswith("num_batches_tracked"):
            skipped[name] = "a counter of the training"
        elif isinstance(value, Refused):
            raise CheckpointError(f"{name!r} is {value.reason}, not an array of numbers.")
        elif not isinstance(value, np.ndarray):
            raise CheckpointError(f"{name!r} is a {type(value).__name__}, not an array of numbers.")
        elif not _is_real(value.dtype):
            raise CheckpointError(f"{name!r} is an array of {value.dtype}, not of real numbers.")
        else:
            tensors[name] = value
            limit -= value.nbytes
            if limit < 0:
                raise CheckpointError("Its names have far more numbers than the file: refused.")
            if not np.isfinite(value).all():
                raise CheckpointError(f"{name!r} has numbers that are not finite.")
    if not tensors:
        raise CheckpointError("There are no weights in it.")
    return tensors, skipped


def _unwrapped(name):
    """A name without what PyTorch's DataParallel puts before it, once for every time that a model is wrapped."""
    while name.startswith("module."):
        name = name.removeprefix("module.")
    return name


def _printable(text):
    """A text of a file if it is short and may be printed as it is, or None."""
    return text if isinstance(text, str) and len(text) <= MAX_NAME and text.isprintable() else None


def _is_real(dtype):
    # bfloat16 is none of NumPy's own kinds.
    return dtype.kind in "fiub" or dtype == ml_dtypes.bfloat16


def _source(tensors, source):
    known = {
        "official": any(name in tensors for name in ("conv1_w", "pred_w")),
        "slowfast": any(name.startswith("s1.pathway0_stem.") for name in tensors),
        "mmaction2": any(name.startswith(("backbone.conv1.", "backbone.layer")) for name in tensors),
        OURS: "conv1/kernel" in tensors,
    }
    found = next((name for name, is_it in known.items() if is_it), None)
    if source == "auto":
        if found is None:
            raise CheckpointError(
                "Its names are neither the official code's, SlowFast's nor mmaction2's, such as "
                f"{next(iter(tensors))[:60]!r}; give `source` if it is one of theirs all the same."
            )
        return found
    if source not in known:
        raise CheckpointError(f"`source` must be 'auto' or one of {list(known)}. Received: source={source!r}")
    # SlowFast's model zoo has networks trained with its own code and stored under official names.
    if found not in (None, source) and (source, found) != ("slowfast", "official"):
        raise CheckpointError(f"Its names are those of {found}, but `source` says {source!r}.")
    return source


def _read_zip(path, content):
    """What torch.save has written since PyTorch 1.6."""
    if _count(content, ZIP_ENTRY, MAX_ENTRIES + 1) > MAX_ENTRIES:
        raise CheckpointError(f"It is a zip of more than {MAX_ENTRIES} entries: refused.")
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_torch(archive, len(content))
    except CheckpointError:
        raise
    except (ValueError, KeyError, IndexError, AttributeError, EOFError, OSError, RuntimeError, OverflowError) as e:
        raise CheckpointError(f"It is a damaged zip ({shown(str(e))}).") from None
    except (zipfile.BadZipFile, zlib.error, struct.error) as e:
        raise CheckpointError(f"It is a damaged zip ({shown(str(e))}).") from None


def _count(content, part, limit):
    """How often a part is in the content, or `limit` where it is more often."""
    found, at = 0, content.find(part)
    while at >= 0 and found < limit:
        found, at = found + 1, content.find(part, at + 1)
    return found


def _read_torch(archive, size):
    """The value in a zip of torch.save, with the storages that its tensors are of."""
    entries = {entry.filename: entry for entry in archive.infolist()}
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
        raise CheckpointError("It is a compressed zip, which torch.save does not write: refused.")
    if sum(entry.file_size for entry in entries.values()) > size:
        raise CheckpointError("Its entries are larger together than the file: refused.")
    if "model.weights.h5" in entries:
        raise CheckpointError("It is a model of Keras: load it with keras.models.load_model.")
    pickled = [name for name in entries if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickled) != 1:
        raise CheckpointError("It is a zip without a data.pkl, so torch.save has not written it.")
    folder = pickled[0].removesuffix("data.pkl")
    if entries[pickled[0]].file_size > MAX_TORCH_PICKLE:
        raise CheckpointError(f"Its data.pkl has more than {MAX_TORCH_PICKLE} bytes.")
    order = archive.read(entries[f"{folder}byteorder"]) if f"{folder}byteorder" in entries else b"little"
    if order not in (b"little", b"big"):
        raise CheckpointError("Its byte order is neither little nor big.")
    storages = {}
    value = pickles.read(io.BytesIO(archive.read(entries[pickled[0]])), _persistent(storages))
    for storage in storages.values():
        entry = entries.get(f"{folder}data/{storage.key}")
        if entry is None:
            raise CheckpointError(f"Its data/{shown(storage.key)} is missing.")
        if entry.file_size != storage.count * storage.dtype.itemsize:
            raise CheckpointError(
                f"data/{shown(storage.key)} has {entry.file_size} bytes and is declared as {storage.count} numbers of "
                f"{storage.dtype}."
            )
        storage.fill(archive.read(entry), order == b"big")
    return value


def _read_legacy(content):
    """What torch.save wrote before 1.6, from after its magic number: four pickles, then the storages' numbers."""
    version = pickles.read(content)
    if type(version) is not int or version != LEGACY_PROTOCOL:
        raise CheckpointError(f"It is a PyTorch file of another protocol than {LEGACY_PROTOCOL}.")
    system = pickles.read(content)
    if type(system) is not dict or not system.get("little_endian", True):
        raise CheckpointError("It is an old PyTorch file that a big-endian machine has written.")
    storages = {}
    value = pickles.read(content, _persistent(storages))
    keys = pickles.read(content)
    if type(keys) is not list or not all(type(key) is str for key in keys) or set(keys) != set(storages):
        raise CheckpointError("Its list of storages is not that of its tensors.")
    for key in keys:
        storage = storages[key]
        count = int.from_bytes(content.read(8), "little")
        if count != storage.count:
            raise CheckpointError(f"Storage {shown(key)} has {count} numbers and is declared with {storage.count}.")
        storage.fill(content.read(count * storage.dtype.itemsize))
    if content.tell() != len(content):
        raise CheckpointError("Something follows the weights, as no checkpoint has it: refused.")
    return value


def _persistent(storages):
    """A function from torch's persistent ids to Storages, which it also puts into `storages`."""

    def find(identifier):
        if type(identifier) is not tuple or len(identifier) not in (5, 6) or type(identifier[0]) is not str:
            raise CheckpointError("It refers to something that is no storage.")
        kind, dtype, key, _, count = identifier[:5]
        valid = isinstance(dtype, np.dtype) and type(key) is str and type(count) is int and 0 <= count <= MAX_SIZE
        if kind != "storage" or not valid or any(part is not None for part in identifier[5:]):
            raise CheckpointError("It refers to a storage in a way that torch.save does not.")
        storage = storages.setdefault(key, Storage(key, dtype, count))
        if (storage.dtype, storage.count) != (dtype, count):
            raise CheckpointError(f"Storage {shown(key)} is declared twice, differently.")
        return storage

    return find


def _read_safetensors(path):
    try:
        import safetensors
    except ImportError:
        raise CheckpointError("It is a safetensors file: `pip install 'keras_nonlocal[convert]'` to read it.") from None
    try:
        with safetensors.safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            said = {"config": metadata.get(OURS), "licence": metadata.get("licence")}
            names = file.keys()
            if len(names) > MAX_ENTRIES:
                raise CheckpointError(f"It has more than {MAX_ENTRIES} tensors: refused.")
            return {name: file.get_tensor(name) for name in names}, said
    except CheckpointError:
        raise
    except (safetensors.SafetensorError, TypeError, ValueError, AttributeError, OverflowError, MemoryError) as e:
        # Among them that of a type of numbers that NumPy does not have, as one of 8 bits.
        raise CheckpointError(f"It is a safetensors file that cannot be read ({shown(str(e))}).") from None
