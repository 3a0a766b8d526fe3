"""Golden requests and answers, kept beside a SavedModel: arrays, JSON for curl, and sums of all files."""

import base64
import hashlib
import json
import os
import zipfile
from pathlib import Path

import numpy as np

from keras_nonlocal.errors import UserError
from keras_nonlocal.serving import constants

Golden = dict[str, tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]
# A clip of 32 frames of 224 x 224 is 17 MB of JSON: such requests are kept as arrays only.
MAX_JSON_BYTES = 4 * 2**20


def save(path: str | os.PathLike[str], golden: Golden) -> None:
    """Writes `assets.extra/golden/<signature>.npz`, and `.request.json` and `.answer.json` of those that are small.

    Args:
      path: of the SavedModel.
      golden: {signature: (inputs, outputs)}, each {name: array}, strings as arrays of bytes objects.
    """
    folder = Path(path) / constants.GOLDEN_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for signature, sides in golden.items():
        arrays = {}
        for side, values in zip(("inputs", "outputs"), sides, strict=True):
            for name, value in values.items():
                arrays.update(_without_objects(f"{side}/{name}", value))
        np.savez(_file(path, signature), **arrays)
        request = {"signature_name": signature, "inputs": _as_json(sides[0])}
        text = json.dumps(request, separators=(",", ":"))
        if len(text) <= MAX_JSON_BYTES:
            request_file(path, signature).write_text(text)
            answer = _as_json(sides[1])
            # A server leaves the name of a single output out.
            answer = answer if len(answer) > 1 else next(iter(answer.values()))
            request_file(path, signature, "answer").write_text(json.dumps({"outputs": answer}, separators=(",", ":")))


def read(path: str | os.PathLike[str]) -> Golden:
    """What `save` has kept beside a SavedModel, {signature: (inputs, outputs)}.

    Args:
      path: of the SavedModel.

    Raises:
      UserError: if nothing is, or a file is damaged.
    """
    found = {}
    for file in sorted((Path(path) / constants.GOLDEN_FOLDER).glob("*.npz")):
        found[file.stem] = _read(file)
    if not found:
        raise UserError(f"{path} has no golden requests and answers to be verified by: export it again with --verify")
    return found


def is_kept(path: str | os.PathLike[str], signature: str) -> bool:
    """Whether a signature has a golden request beside the SavedModel."""
    return _file(path, signature).is_file()


def first_row(path: str | os.PathLike[str], signature: str) -> dict[str, np.ndarray]:
    """The first row of the golden request of a signature, {name: (1, ...)}; {} if none is kept.

    Raises:
      UserError: if the file is damaged.
    """
    if not is_kept(path, signature):
        return {}
    inputs, _ = _read(_file(path, signature))
    return {name: value[:1] for name, value in inputs.items()}


def request_file(path: str | os.PathLike[str], signature: str, what: str = "request") -> Path:
    """Where the golden request of a signature is as JSON, or its "answer"; large ones are not written."""
    return Path(path) / constants.GOLDEN_FOLDER / f"{signature}.{what}.json"


def _file(path, signature):
    return Path(path) / constants.GOLDEN_FOLDER / f"{signature}.npz"


def _read(file):
    """(inputs, outputs) of one signature."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return _with_objects(dict(arrays))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{file} is no golden request and answer: {error}") from error


def write_sums(path: str | os.PathLike[str]) -> None:
    """Writes `assets.extra/SHA256SUMS` of all other files, for `sha256sum -c assets.extra/SHA256SUMS`."""
    path = Path(path)
    names = sorted(each.relative_to(path).as_posix() for each in path.rglob("*") if each.is_file())
    lines = [f"{_sum(path / name)}  {name}\n" for name in names if name != constants.SUMS_FILE]
    (path / constants.SUMS_FILE).write_text("".join(lines))


def check_sums(path: str | os.PathLike[str]) -> int:
    """The number of files that are what they were when `write_sums` ran: all of them.

    Raises:
      UserError: if one is not, or is gone, or there are no sums.
    """
    path = Path(path)
    try:
        lines = (path / constants.SUMS_FILE).read_text().splitlines()
    except OSError as error:
        raise UserError(f"{path} has no sums of its files, {constants.SUMS_FILE}: export it with --verify") from error
    for line in lines:
        expected, _, name = line.partition("  ")
        if not (path / name).is_file():
            raise UserError(f"{path} is not whole: {name} is missing; publish it again")
        if _sum(path / name) != expected:
            raise UserError(f"{path} is damaged: {name} is not what was exported; publish it again")
    return len(lines)


def _sum(file):
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _without_objects(name, value):
    """Strings as their bytes, one after the other, and how many each has: NumPy's own strings drop zeros at the end."""
    value = np.asarray(value)
    if value.dtype.kind in "SU":
        raise ValueError(f"strings must be an array of bytes objects. Received: {name} of dtype {value.dtype}")
    if value.dtype.kind != "O":
        return {name: value}
    strings = value.ravel().tolist()
    lengths = np.array([len(each) for each in strings], np.int64).reshape(value.shape)
    return {f"{name}/bytes": np.frombuffer(b"".join(strings), np.uint8), f"{name}/lengths": lengths}


def _with_objects(arrays):
    sides = {"inputs": {}, "outputs": {}}
    for key, value in arrays.items():
        side, name, *part = key.split("/")
        if not part:
            sides[side][name] = value
        elif part == ["lengths"]:
            ends = np.cumsum(value.ravel())
            content = arrays[f"{side}/{name}/bytes"].tobytes()
            strings = np.empty(value.size, object)
            strings[:] = [content[end - length : end] for end, length in zip(ends, value.ravel(), strict=True)]
            sides[side][name] = strings.reshape(value.shape)
    return sides["inputs"], sides["outputs"]


def _as_json(values):
    """{name: nested lists, of strings what JSON has for bytes} of {name: array}."""
    return {name: _json_leaves(np.asarray(value).tolist()) for name, value in values.items()}


def _json_leaves(value):
    if isinstance(value, list):
        return [_json_leaves(each) for each in value]
    return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
