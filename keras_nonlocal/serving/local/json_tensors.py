"""TensorFlow Serving's JSON for predict requests and replies, both ways."""

import base64
import itertools
import json
import re
from decimal import Decimal

import numpy as np
import tensorflow as tf

from keras_nonlocal.serving.apis import rapidjson
from keras_nonlocal.serving.local.servable import MAX_RANK, RequestError, dtype_name, shape_text

_TEXT_LIMIT = 1024  # characters of a bad value quoted back
_KEY_LIMIT = 256  # the same of a key
_CHUNK = 2**16  # numbers that are texts at a time
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_NUMBERS = rapidjson.NM_NAN | rapidjson.NM_NATIVE  # whole numbers of 64 bits, doubles for all others
# What a JSON integer must fit into for a dtype: what is shorter than 32 bits wraps around, as in TensorFlow Serving.
_INTEGERS = {
    tf.int8: tf.int32,
    tf.int16: tf.int32,
    tf.uint8: tf.int32,
    tf.int32: tf.int32,
    tf.uint32: tf.uint32,
    tf.int64: tf.int64,
    tf.uint64: tf.uint64,
}


class _Decoder(rapidjson.Decoder):
    """TensorFlow Serving's own parser; of a key that comes twice the first counts there."""

    def start_object(self):
        return []

    def end_object(self, pairs):
        found = dict(pairs)
        return found if len(found) == len(pairs) else dict(reversed(pairs))


def parse(body):
    """Parses a request body (bytes) into a dict; raises RequestError if it is no JSON object."""
    if not body:
        raise _bad("JSON Parse error: The document is empty")
    body = body.partition(b"\0")[0]  # the end of a document, wherever it is
    if body.startswith(_BYTE_ORDER_MARK):
        body = b" " * len(_BYTE_ORDER_MARK) + body[len(_BYTE_ORDER_MARK) :]
    text = body.decode("utf-8", "surrogateescape").encode("utf-8", "replace")  # ? for each byte that is not UTF-8
    try:
        document = _Decoder(number_mode=_NUMBERS)(text)
    except rapidjson.JSONDecodeError as error:
        offset, reason = re.fullmatch(r"Parse error at offset (\d+): (.*)", str(error)).groups()
        raise _bad(f"JSON Parse error: {reason} at offset: {offset}") from error
    except RecursionError as error:
        raise _bad("JSON Parse error: The document is nested too deeply") from error
    if text != body:
        raise _bad('JSON Parse error: A string is not UTF-8; send other bytes as {"b64": "..."}')
    if not isinstance(document, dict):
        raise _bad(f"JSON Value: {_text(document)} Is not object")
    return document


def signature_name(document):
    """Returns the signature a parsed request names, "" if none."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise _bad(
            f"JSON Value: {_text(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return name


def read_inputs(document, specs):
    """Converts the values of a parsed request.

    Args:
      document: dict with one of the keys `instances` (a list of examples) and `inputs` (whole batches).
      specs: dict of input alias to tf.TensorSpec.

    Returns:
      (tensors, by_row): dict of alias to tf.Tensor, and whether the format was `instances`.

    Raises:
      RequestError: the values do not make tensors of the inputs' dtypes.
    """
    if "instances" in document and "inputs" in document:
        raise _bad(
            f"JSON Value: {_text(document)} Not formatted correctly expecting only one of 'inputs' or "
            "'instances' keys to exist "
        )
    by_row = "instances" in document
    if not by_row and "inputs" not in document:
        raise _bad("Missing 'inputs' or 'instances' key")
    arrays = _read_instances(document, specs) if by_row else _read_columns(document["inputs"], specs)
    return {alias: tf.constant(array, specs[alias].dtype) for alias, array in arrays.items()}, by_row


def write_outputs(arrays, by_row):
    """Writes a reply.

    Args:
      arrays: dict of output alias to numpy array; rank 1 or more and one batch size if by_row.
      by_row: True for a list of examples under `predictions`, False for whole batches under `outputs`.

    Returns:
      The JSON document, bytes.

    Raises:
      RequestError: an output has a dtype JSON cannot hold, or no batch to split.
    """
    if by_row:
        _check_batch(arrays)
    columns = {alias: _to_json(alias, array) for alias, array in arrays.items()}
    if len(columns) == 1:
        (value,) = columns.values()
    elif by_row:
        value = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    else:
        value = columns
    key = "predictions" if by_row else "outputs"
    # A string that is not UTF-8 goes out as it is: TensorFlow Serving's clients meet such bytes too.
    return f'{{\n    "{key}": {json.dumps(value, ensure_ascii=False)}\n}}'.encode("utf-8", "surrogateescape")


def _read_instances(document, specs):
    rows = document["instances"]
    if not isinstance(rows, list):
        raise _bad(f"JSON Value: {_text(document)} Expecting 'instances' to be an list/array")
    if not rows:
        raise _bad(f"JSON Value: {_text(document)} No values in 'instances' array")
    named = _is_named(rows[0])
    if len(specs) > 1 and not named:
        raise _bad(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as "
            "per tensorinfo_map"
        )
    try:
        if not named:
            ((alias, spec),) = specs.items()
            return {alias: _dense(rows, spec.dtype)}
        if all(map(_is_named, rows)) and set(map(len, rows)) == {len(specs)}:
            return {alias: _dense([row[alias] for row in rows], spec.dtype) for alias, spec in specs.items()}
    except (RequestError, KeyError):
        pass
    raise _first_fault(rows, named, specs)


def _first_fault(rows, named, specs):
    """Returns the error of rows that do not make tensors: row by row, which is too slow for those that do."""
    shapes = {}
    for position, row in enumerate(rows):
        if _is_named(row) != named:
            expected, found = ("object", "list") if named else ("value/list", "object")
            return _bad(f"Expecting {expected} but got {found} at item {position} of input list")
        for key, value in row.items() if named else [(next(iter(specs)), row)]:
            try:
                if key not in specs:
                    raise _bad(f"JSON object: does not have named input: {key[:_KEY_LIMIT]}")
                shape = _dense(value, specs[key].dtype).shape
                _check_same_shape(shapes.setdefault(key, shape), shape)
            except RequestError as error:
                where = f" key: {key[:_KEY_LIMIT]}" if named else ""
                return _bad(
                    f"Failed to process element: {position}{where} of 'instances' list. "
                    f"Error: {error.code}: {error.message}"
                )
        if named and row.keys() != specs.keys():
            return _bad(
                f"Failed to process element: {position} of 'instances' list. JSON object: {_text(row)} "
                f"keys must be equal to: {','.join(specs)}"
            )
    return _bad(f"The instances have more than {MAX_RANK - 1} dimensions")


def _read_columns(value, specs):
    if not _is_named(value):
        if len(specs) > 1:
            raise _bad(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as "
                "per tensorinfo_map"
            )
        ((alias, spec),) = specs.items()
        return {alias: _dense(value, spec.dtype)}
    for alias in specs:
        if alias not in value:
            raise _bad(f"Missing named input: {alias} in 'inputs' object.")
    return {alias: _dense(value[alias], spec.dtype) for alias, spec in specs.items()}


def _is_named(value):
    return isinstance(value, dict) and not _is_base64(value)


def _is_base64(value):
    return len(value) == 1 and isinstance(value.get("b64"), str)


def _check_same_shape(first, other):
    if np.prod(first) != np.prod(other):
        raise _bad(f"Expecting tensor size: {np.prod(first, dtype=int)} but got: {np.prod(other, dtype=int)}")
    if first != other:
        raise _bad(f"Expecting shape {shape_text(first)} but got: {shape_text(other)}")


def _dense(value, dtype):
    """Converts nested lists of one shape, which their first elements tell, into an array."""
    shape, first = [], value
    while isinstance(first, list):
        shape.append(len(first))
        first = first[0] if first else None
    if len(shape) > MAX_RANK:
        raise _bad(f"The list has more than {MAX_RANK} dimensions")
    level = [value]
    for size in shape:
        if set(map(type, level)) != {list} or set(map(len, level)) != {size}:
            _check_nesting(value, 0, shape, dtype)
        level = list(itertools.chain.from_iterable(level))
    if list in set(map(type, level)):
        _check_nesting(value, 0, shape, dtype)
    return _leaves(level, dtype).reshape(shape)


def _check_nesting(value, level, shape, dtype):
    """Raises the error of the first value, in the order they are written, that does not fit into the shape."""
    if not isinstance(value, list):
        if level != len(shape):
            raise _bad(
                f"JSON Value: {_text(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        _leaves([value], dtype)
    elif level >= len(shape):
        raise _bad(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    elif len(value) != shape[level]:
        raise _bad(f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}")
    else:
        for item in value:
            _check_nesting(item, level + 1, shape, dtype)


def _leaves(values, dtype):
    """Converts a flat list of JSON values into a flat array."""
    if dtype == tf.string:
        array = np.empty(len(values), dtype=object)
        array[:] = [_read_bytes(value) for value in values]
        return array
    if dtype in _INTEGERS:
        limits = _INTEGERS[dtype]
        _check_types(values, (int,), dtype)
        if not limits.min <= min(values, default=0) <= max(values, default=0) <= limits.max:
            raise _type_error(next(value for value in values if not limits.min <= value <= limits.max), dtype)
        return np.array(values, dtype=limits.as_numpy_dtype).astype(dtype.as_numpy_dtype)
    if dtype == tf.bool:
        _check_types(values, (bool,), dtype)
        return np.array(values, dtype=bool)
    if dtype in (tf.float32, tf.float64):
        _check_types(values, (int, float), dtype)
        with np.errstate(over="ignore"):  # 1e39 is infinite
            return np.array(values, dtype=np.float64).astype(dtype.as_numpy_dtype)
    if values and isinstance(values[0], dict):
        raise _type_error(values[0], dtype)
    if values:
        raise RequestError(
            "UNIMPLEMENTED", f"Conversion of JSON Value: {_text(values[0])} to type: {dtype_name(dtype)}"
        )
    return np.array(values, dtype=dtype.as_numpy_dtype)


def _check_types(values, allowed, dtype):
    # Exact types: to Python a bool is an int.
    if not set(map(type, values)) <= set(allowed):
        raise _type_error(next(value for value in values if type(value) not in allowed), dtype)


def _read_bytes(value):
    if isinstance(value, str):
        return value.encode("utf-8")
    if not isinstance(value, dict):
        raise _type_error(value, tf.string)
    if not _is_base64(value):
        raise _bad(f"JSON Value: {_text(value)} not formatted correctly for base64 data")
    text = "".join(value["b64"].split())
    bare = text.rstrip("=")
    padded = bare + "=" * (-len(bare) % 4)
    try:
        if text not in (bare, padded):
            raise ValueError("wrong padding")
        return base64.b64decode(padded, validate=True)
    except ValueError as error:
        raise _bad("Unable to base64 decode") from error


def _check_batch(arrays):
    sizes = {}
    for alias, array in arrays.items():
        if array.ndim == 0:
            raise _bad(f"Tensor name: {alias} has no shape information ")
        sizes[alias] = array.shape[0]
        expected = next(iter(sizes.values()))
        if sizes[alias] != expected:
            raise _bad(f"Tensor name: {alias} has inconsistent batch size: {sizes[alias]} expecting: {expected}")


def _to_json(alias, array):
    dtype = tf.string if array.dtype == object else tf.as_dtype(array.dtype)
    if dtype == tf.string:
        return _map_leaves(array.tolist(), _encode_base64 if alias.endswith("_bytes") else _decode_text)
    if dtype == tf.float32:
        return _shortest(array).tolist()
    if dtype in (tf.float64, tf.bool, *_INTEGERS) or not array.size:
        return array.tolist()
    raise _bad(f"Failed to write JSON value for tensor type: {dtype_name(dtype)}")


def _shortest(array):
    """Widens float32 by way of text: 0.1 is to read 0.1, not 0.10000000149011612."""
    wide = np.empty(array.size)
    for start in range(0, array.size, _CHUNK):  # a text takes 128 bytes
        chunk = slice(start, start + _CHUNK)
        wide[chunk] = array.ravel()[chunk].astype(str).astype(np.float64)
    return wide.reshape(array.shape)


def _map_leaves(value, function):
    if isinstance(value, list):
        return [_map_leaves(item, function) for item in value]
    return function(value)


def _encode_base64(value):
    return {"b64": base64.b64encode(value).decode("ascii")}


def _decode_text(value):
    return value.decode("utf-8", errors="surrogateescape")


def _bad(message):
    return RequestError("INVALID_ARGUMENT", message)


def _type_error(value, dtype):
    kind = {type(None): "Null", bool: str(value), dict: "Object", list: "Array", str: "String"}.get(
        type(value), "Number"
    )
    return _bad(f"JSON Value: {_text(value)} Type: {kind} is not of expected type: {dtype_name(dtype)}")


def _text(value):
    """Writes the start of a value as TensorFlow Serving's library does."""
    text = rapidjson.dumps(
        value, indent=4, write_mode=rapidjson.WM_SINGLE_LINE_ARRAY, ensure_ascii=False, number_mode=_NUMBERS
    )
    text = text if len(text) <= _TEXT_LIMIT else text[:_TEXT_LIMIT] + "..."
    return re.sub(r"(?<![\w.])-?\d+(\.\d+)?e[+-]\d+", _positional, text)


def _positional(match):
    """Writes out a number that has an exponent in Python, but none in that library: from 1e-6 to below 1e21."""
    number = Decimal(match[0])
    if not Decimal("1e-6") <= abs(number) < Decimal("1e21"):
        return match[0].replace("e+", "e")
    text = f"{number:f}"
    return text if "." in text else f"{text}.0"
