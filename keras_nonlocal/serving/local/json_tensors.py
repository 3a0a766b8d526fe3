"""TensorFlow Serving's JSON for predict requests and replies, both ways."""

import base64
import itertools
import json
import math

import numpy as np
import tensorflow as tf

from keras_nonlocal.serving.local.servable import MAX_RANK, RequestError, dtype_name, shape_text

_VALUE_TEXT_LIMIT = 256  # characters of a bad value quoted back
_CHUNK = 2**16  # numbers that are texts at a time


def parse(body):
    """Parses a request body (bytes) into a dict; raises RequestError if it is no JSON object."""
    if not body:
        raise _bad("JSON Parse error: The document is empty")
    try:
        # NaN and Infinity are of a type of their own: a float that is infinite was a number too big.
        document = json.loads(body.decode("utf-8"), object_pairs_hook=_first_of_each, parse_constant=np.float64)
    except json.JSONDecodeError as error:
        raise _bad(f"JSON Parse error: {error.msg}. at offset: {error.pos}") from error
    except ValueError as error:  # not UTF-8, or a number of thousands of digits
        raise _bad(f"JSON Parse error: {error}") from error
    except RecursionError as error:
        raise _bad("JSON Parse error: The document is nested too deeply") from error
    if not isinstance(document, dict):
        raise _bad(f"JSON Value: {_text(document)} Is not object")
    return document


def _first_of_each(pairs):
    """Makes an object of its keys and values; of a key that comes twice the first counts, as in TensorFlow Serving."""
    found = dict(pairs)
    return found if len(found) == len(pairs) else dict(reversed(pairs))


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
    return f'{{\n    "{key}": {json.dumps(value)}\n}}'.encode()


def _read_instances(document, specs):
    rows = document["instances"]
    if not isinstance(rows, list):
        raise _bad(f"JSON Value: {_text(document)} Expecting 'instances' to be an list/array")
    if not rows:
        raise _bad(f"JSON Value: {_text(document)} No values in 'instances' array")
    if _is_named(rows[0]):
        return _read_named_rows(rows, specs)
    if len(specs) > 1:
        raise _bad(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as "
            "per tensorinfo_map"
        )
    for position, row in enumerate(rows):
        if _is_named(row):
            raise _bad(f"Expecting value/list but got object at item {position} of input list")
    ((alias, spec),) = specs.items()
    return {alias: _stack(rows, spec.dtype)}


def _read_named_rows(rows, specs):
    for position, row in enumerate(rows):
        if not _is_named(row):
            raise _bad(f"Expecting object but got list at item {position} of input list")
        for key in row:
            if key not in specs:
                key = key[:_VALUE_TEXT_LIMIT]
                raise _bad(
                    f"Failed to process element: {position} key: {key} of 'instances' list. "
                    f"Error: INVALID_ARGUMENT: JSON object: does not have named input: {key}"
                )
        if len(row) < len(specs):
            raise _bad(
                f"Failed to process element: {position} of 'instances' list. JSON object: {_text(row)} "
                f"keys must be equal to: {','.join(specs)}"
            )
    return {alias: _stack([row[alias] for row in rows], spec.dtype, f" key: {alias}") for alias, spec in specs.items()}


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


def _stack(rows, dtype, key_text=""):
    """Makes one tensor of all rows at once; looks for the row to blame only if that fails."""
    try:
        return _dense(rows, dtype)
    except RequestError:
        first = None
        for position, row in enumerate(rows):
            try:
                array = _dense(row, dtype)
                first = array if first is None else first
                _check_same_shape(first.shape, array.shape)
            except RequestError as error:
                raise RequestError(
                    error.code,
                    f"Failed to process element: {position}{key_text} of 'instances' list. "
                    f"Error: {error.code}: {error.message}",
                ) from error
        raise


def _check_same_shape(first, other):
    if np.prod(first) != np.prod(other):
        raise _bad(f"Expecting tensor size: {np.prod(first, dtype=int)} but got: {np.prod(other, dtype=int)}")
    if first != other:
        raise _bad(f"Expecting shape {shape_text(first)} but got: {shape_text(other)}")


def _dense(value, dtype):
    """Converts nested lists of one shape into an array."""
    shape, level = [], [value]
    while level and isinstance(level[0], list):
        for item in level if set(map(type, level)) != {list} else ():
            if not isinstance(item, list):
                raise _bad(
                    f"JSON Value: {_text(item)} found at incorrect level: {len(shape) + 1} in the JSON DOM. "
                    "Expected at a deeper level"
                )
        for size in set(map(len, level)) - {len(level[0])}:
            raise _bad(
                f"Encountered list at unexpected size: {size} at level: {len(shape)} expected size: {len(level[0])}"
            )
        shape.append(len(level[0]))
        if len(shape) > MAX_RANK:
            raise _bad(f"Encountered list at unexpected level: {len(shape)} expected < {MAX_RANK}")
        level = list(itertools.chain.from_iterable(level))
    if list in set(map(type, level)):
        raise _bad(f"Encountered list at unexpected level: {len(shape)} expected < {len(shape)}")
    return _leaves(level, dtype).reshape(shape)


def _leaves(values, dtype):
    """Converts a flat list of JSON values into a flat array, with no silent change of type or range."""
    if dtype == tf.string:
        array = np.empty(len(values), dtype=object)
        array[:] = [_read_bytes(value) for value in values]
        return array
    if dtype == tf.bool:
        _check_types(values, (bool,), dtype)
    elif dtype.is_integer and not dtype.is_quantized:
        _check_types(values, (int,), dtype)
        for value in (min(values, default=0), max(values, default=0)):
            if not dtype.min <= value <= dtype.max:
                raise _type_error(value, dtype)
    elif dtype in (tf.float32, tf.float64):
        _check_types(values, (int, float, np.float64), dtype)
        return _read_floats(values, dtype)
    else:
        raise RequestError(
            "UNIMPLEMENTED", f"Conversion of JSON Value: {_text(values[:1])} to type: {dtype_name(dtype)}"
        )
    return np.array(values, dtype=dtype.as_numpy_dtype)


def _check_types(values, allowed, dtype):
    # Exact types: to Python a bool is an int.
    if not set(map(type, values)) <= set(allowed):
        raise _type_error(next(value for value in values if type(value) not in allowed), dtype)


def _read_floats(values, dtype):
    with np.errstate(over="ignore"):
        try:
            wide = np.array(values, dtype=np.float64)
            array = wide.astype(dtype.as_numpy_dtype)
        except OverflowError:
            raise _lossy(max(values, key=abs), dtype) from None
    if np.isinf(wide).any() and any(type(value) is float and math.isinf(value) for value in values):
        raise _bad("JSON Parse error: Number too big to be stored in double.")
    overflown = np.isinf(array) & np.isfinite(wide)
    if overflown.any():
        raise _lossy(values[int(np.argmax(overflown))], dtype)
    return array


def _read_bytes(value):
    if isinstance(value, str):
        try:
            return value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise _bad(f"JSON Value: {_text(value)} is not valid Unicode") from error
    if not isinstance(value, dict):
        raise _type_error(value, tf.string)
    if not _is_base64(value):
        raise _bad(f"JSON Value: {_text(value)} not formatted correctly for base64 data")
    try:
        text = "".join(value["b64"].split())
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
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
    if dtype == tf.float64 or dtype == tf.bool or (dtype.is_integer and not dtype.is_quantized):
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
    return value.decode("utf-8", errors="replace")


def _bad(message):
    return RequestError("INVALID_ARGUMENT", message)


def _type_error(value, dtype):
    kind = {type(None): "Null", bool: str(value), dict: "Object", list: "Array", str: "String"}.get(
        type(value), "Number"
    )
    return _bad(f"JSON Value: {_text(value)} Type: {kind} is not of expected type: {dtype_name(dtype)}")


def _lossy(value, dtype):
    return _bad(f"Cannot convert JSON value: {_text(value)} to {dtype_name(dtype)} without loss of precision.")


def _text(value):
    """Writes the start of a value, without writing out all of a large one first."""
    chunks = itertools.islice(json.JSONEncoder().iterencode(value), _VALUE_TEXT_LIMIT)
    text = "".join(chunk[:_VALUE_TEXT_LIMIT] for chunk in chunks)
    return text if len(text) < _VALUE_TEXT_LIMIT else text[:_VALUE_TEXT_LIMIT] + "..."
