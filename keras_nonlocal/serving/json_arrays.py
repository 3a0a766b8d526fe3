"""Arrays as the JSON of TensorFlow Serving's REST interface, and back."""

import base64
import contextlib
import gc
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

# Each value of uint8 as four characters; JSON takes spaces before a number.
_BYTE_TEXTS = np.array([b"%3d," % value for value in range(256)]).view(np.uint8).reshape(256, 4)


def request_body(inputs: Mapping[str, npt.ArrayLike], signature_name: str) -> bytes:
    """Writes a predict request in column format.

    Args:
      inputs: {alias: array}; bytes travel in base64.
      signature_name: served function to call.
    """
    with _collector_paused():
        columns = b", ".join(json.dumps(alias).encode() + b": " + _text(value) for alias, value in inputs.items())
    return b'{"signature_name": %s, "inputs": {%s}}' % (json.dumps(signature_name).encode(), columns)


def parse(data: bytes) -> Any:
    """Reads a reply; texts may hold bytes that are no UTF-8. Raises ValueError where it is no JSON."""
    with _collector_paused():
        return json.loads(data.decode("utf-8", "surrogateescape"))


def to_array(alias: str, value: Any, info: meta_graph_pb2.TensorInfo) -> np.ndarray:
    """Makes an output's array of the signature's dtype.

    Args:
      alias: the output's; strings are base64 where it ends in `_bytes`.
      value: nested lists of a reply, as parse gives them.
      info: what the signature says of the output.

    Returns:
      Array; strings as bytes, dtype object.

    Raises:
      ValueError: the value is of another type.
    """
    dtype = tf.as_dtype(info.dtype)
    if dtype != tf.string:
        return np.asarray(value, dtype.as_numpy_dtype)
    decode = _from_base64 if alias.endswith("_bytes") else _from_text
    return np.asarray(_map_leaves(value, decode), object)


def _text(value):
    value = np.asarray(value, dtype=object) if _holds_bytes(value) else np.asarray(value)
    if value.dtype == np.uint8 and value.size:
        return _pixels_text(value)
    leaves = value.tolist()
    return json.dumps(_map_leaves(leaves, _to_base64) if value.dtype.kind in "OSU" else leaves).encode()


def _pixels_text(array):
    """Ten times as fast as json, which makes an object of every pixel of a clip."""
    text = _BYTE_TEXTS[array]  # (...) -> (..., 4)
    for _ in range(array.ndim):
        # (..., N, L) -> (..., 1 + N * L + 1): in brackets, the last comma going behind them
        size = text.shape[-2] * text.shape[-1]
        row = np.empty([*text.shape[:-2], size + 2], np.uint8)
        row[..., 0] = ord("[")
        row[..., 1:-1] = text.reshape(*text.shape[:-2], size)
        row[..., -2:] = ord("]"), ord(",")
        text = row
    return text[..., :-1].tobytes()


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Keeps the garbage collector from looking, again and again, through the millions of lists a clip becomes."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _holds_bytes(value):
    # NumPy's own bytes type drops trailing zero bytes.
    while isinstance(value, list | tuple) and value:
        value = value[0]
    return isinstance(value, bytes)


def _map_leaves(value, function):
    return [_map_leaves(item, function) for item in value] if isinstance(value, list) else function(value)


def _to_base64(value):
    data = value if isinstance(value, bytes) else str(value).encode("utf-8")
    return {"b64": base64.b64encode(data).decode("ascii")}


def _from_base64(leaf):
    return base64.b64decode(leaf["b64"])


def _from_text(leaf):
    return leaf.encode("utf-8", "surrogateescape")
