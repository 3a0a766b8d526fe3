"""Checkpoint files as named arrays, with their source recognised by the names."""

from __future__ import annotations

import dataclasses
import hashlib
import mmap
import os
import pathlib

import ml_dtypes
import numpy as np

from keras_nonlocal.weights import formats, sources
from keras_nonlocal.weights.formats import pickles
from keras_nonlocal.weights.formats.values import (
    MAX_NAME,
    CheckpointError,
    KerasFile,
    Refused,
    Tensor,
    printable,
    shown,
)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Args:
      path: of the file.
      sha256: of the file, in hex.
      source: whose names the tensors have, a key of keras_nonlocal.weights.sources.SOURCES: "official", "slowfast",
        "mmaction2", or "keras_nonlocal".
      tensors: {name: array}, in the file's own layout, as read-only views.
      skipped: {name: why} of what is no weight.
      config: the text of the configuration in the file, or None.
      licence: of the weights: the source's, or for a file of our own what it says.
    """

    path: str
    sha256: str
    source: str
    tensors: dict[str, np.ndarray]
    skipped: dict[str, str]
    config: str | None
    licence: str


def read(path: str | os.PathLike, source: str = "auto") -> Checkpoint:
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
                values, metadata = _state(*formats.read(path, content))
        values = _named(values)
        found = sources.find(values, source)
        tensors, skipped = _sorted_out(values, found, pickles.COPIES * size)
        config, licence = found.config(metadata), found.licence_of(metadata)
    except KerasFile as e:
        raise KerasFile(
            f"{path}: It is {e}, which Keras itself loads (load_model, or load_weights of the same model); what is "
            f"read here is {sources.accepted()}."
        ) from None
    except CheckpointError as e:
        raise CheckpointError(f"{path}: {e}") from None
    except (OSError, ValueError) as e:  # a path with a null character is a ValueError
        raise CheckpointError(f"{str(path)!r}: {getattr(e, 'strerror', None) or e}.") from None
    return Checkpoint(str(path), sha256, found.name, tensors, skipped, config, licence)


def _state(value, metadata):
    """The dict of tensors in what a file holds, and what else is in it."""
    if type(value) is not dict:
        raise CheckpointError(f"A checkpoint is a dict of names and arrays; this is a {type(value).__name__}.")
    for key in sources.state_keys():
        if key in value:
            state = value[key]
            if type(state) is not dict:
                raise CheckpointError(f"{key!r} must be a dict of names and arrays; it is a {type(state).__name__}.")
            return state, value
    return value, metadata


def _named(values):
    """The values by names that can be printed, without what PyTorch's DataParallel puts before them."""
    if not values:
        raise CheckpointError("There are no weights in it.")
    named = {}
    for name, value in values.items():
        if printable(name) is None:
            raise CheckpointError(f"Names are printable text of up to {MAX_NAME} characters, unlike {shown(name)}.")
        while name.startswith("module."):  # once for every time that a model is wrapped
            name = name.removeprefix("module.")
        if name in named:
            raise CheckpointError(f"{name!r} is there twice.")
        named[name] = value
    return named


def _sorted_out(values, source, limit):
    """The arrays of weights among the values, and why the others are none.

    Args:
      values: {name: value}.
      source: sources.source.Source.
      limit: of the bytes of all arrays together.
    """
    tensors, skipped = {}, {}
    for name, value in values.items():
        value = value.array() if isinstance(value, Tensor) else value
        if why := source.why_no_weight(name):
            skipped[name] = why
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


def _is_real(dtype):
    # bfloat16 is none of NumPy's own kinds.
    return dtype.kind in "fiub" or dtype == ml_dtypes.bfloat16
