"""What torch.save writes, without torch: a zip since PyTorch 1.6, and one pickle after the other before."""

import io
import zipfile

import numpy as np

from keras_nonlocal.weights.formats import pickles
from keras_nonlocal.weights.formats.values import MAX_SIZE, CheckpointError, Storage, shown

# The pickle of a zip, which has names and shapes and no numbers.
MAX_PICKLE = 64 * 2**20
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001


def read_zip(archive, size):
    """The value in a zip of torch.save, with the storages that its tensors are of.

    Args:
      archive: zipfile.ZipFile.
      size: of the file in bytes.

    Raises:
      CheckpointError: for any other zip.
    """
    entries = {entry.filename: entry for entry in archive.infolist()}
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
        raise CheckpointError("It is a compressed zip, which torch.save does not write: refused.")
    if sum(entry.file_size for entry in entries.values()) > size:
        raise CheckpointError("Its entries are larger together than the file: refused.")
    pickled = [name for name in entries if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickled) != 1:
        raise CheckpointError("It is a zip without a data.pkl, so torch.save has not written it.")
    folder = pickled[0].removesuffix("data.pkl")
    if entries[pickled[0]].file_size > MAX_PICKLE:
        raise CheckpointError(f"Its data.pkl has more than {MAX_PICKLE} bytes.")
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


def read_legacy(content):
    """The value in a file of torch.save before 1.6, from after its magic number: four pickles, then the numbers.

    Args:
      content: an mmap, of which the magic number has been read.

    Raises:
      CheckpointError: for anything else.
    """
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
