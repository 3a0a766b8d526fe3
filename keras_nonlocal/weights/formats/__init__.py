"""Checkpoint files of several formats, as named arrays: the format is recognised by what is in the file."""

from keras_nonlocal.weights.formats import keras_files, pickles, safetensors, torch, zips
from keras_nonlocal.weights.formats.values import CheckpointError, KerasFile


def read(path, content):
    """What a file holds.

    Args:
      path: pathlib.Path of the file.
      content: the same as an mmap.

    Returns:
      The value that was pickled, or {name: array}; and {name: text} of what the format itself says beside it.

    Raises:
      KerasFile: for a file of Keras.
      CheckpointError: for a file of any other format, or a damaged one.
    """
    start = content[:16]
    if start.startswith(zips.MAGIC):
        with zips.opened(path, content) as archive:
            if keras_files.WEIGHTS in archive.namelist():
                raise KerasFile(keras_files.describe(path))
            return torch.read_zip(archive, len(content)), {}
    if start.startswith(keras_files.HDF5_MAGIC):
        raise KerasFile(keras_files.describe(path))
    if start.lstrip()[:1] == b"<":
        raise CheckpointError("It is an HTML page, so the download went wrong.")
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < len(content):
        return safetensors.read(path)
    value = pickles.read(content)
    if type(value) is int and value == torch.LEGACY_MAGIC:
        return torch.read_legacy(content), {}
    if content.tell() != len(content):
        raise CheckpointError("Something follows the pickle, as no checkpoint has it: refused.")
    return value, {}
