"""Whether an export answers as the Keras model does: loaded as TensorFlow Serving does, and by a running server."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_nonlocal import serving
from keras_nonlocal.errors import UserError, first_line
from keras_nonlocal.export import describe, golden, ranked, saved_graph
from keras_nonlocal.serving import constants, quiet

# How far an answer may be from Keras', in parts of the largest number of that output, by the narrowest dtype that the
# graph computes in. Servers fuse and order operations as they like; folded norms round otherwise, too.
TOLERANCES = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}
_WIDTH = 12


@dataclasses.dataclass(frozen=True)
class Row:
    """What was found of a signature.

    Args:
      signature: its name.
      operations: how many a request may run.
      dtype: the narrowest that it computes in.
      rows: of its golden request.
      differences: {from what: of all outputs the largest, in parts of the largest number of the output}. "alone" is
        that of the rows answered one by one, missing where a signature takes no batch of any size.
    """

    signature: str
    operations: int
    dtype: str
    rows: int
    differences: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Report:
    """What was found of a SavedModel, as a table.

    Args:
      path: of the SavedModel.
      size: bytes on disk, all files.
      rows: one for each signature.
    """

    path: str
    size: int
    rows: tuple[Row, ...]

    def __str__(self) -> str:
        names = list(dict.fromkeys(name for row in self.rows for name in row.differences))
        width = max(len("signature"), *(len(row.signature) for row in self.rows))
        titles = ["operations", "rows", *names, "allowed"]
        lines = [f"{'signature':{width}}" + "".join(f"{title:>{_WIDTH}}" for title in titles)]
        for row in self.rows:
            found = [_number(row.differences.get(name)) for name in names]
            cells = [str(row.operations), str(row.rows), *found, _number(TOLERANCES[row.dtype])]
            lines.append(f"{row.signature:{width}}" + "".join(f"{cell:>{_WIDTH}}" for cell in cells))
        return "\n".join([*lines, f"{self.size / 1e6:.1f} MB on disk"])


def verify(path: str | os.PathLike[str], wanted: golden.Golden) -> Report:
    """Verifies a SavedModel that was just written, prints a table, and keeps beside it what it was verified by.

    That is, in assets.extra: golden requests and answers, a card, and the SHA-256 sums of all files. Loaded in a
    session as TensorFlow Serving loads it, on the CPU, every signature has to

    - give Keras' answer to its golden request, within TOLERANCES; integers and strings to the last bit;
    - give each row of the request, sent alone, the answer it has in the batch;
    - consist of TensorFlow's own operations, without Python's, and change no variable;
    - take and give dtypes that REST can write, and give finite numbers.

    Args:
      path: of the SavedModel.
      wanted: {signature: (inputs, outputs)}, each {name: array} with strings as bytes objects: a request to every
        signature, of two or more rows that differ, and Keras' answer to it.

    Returns:
      A Report.

    Raises:
      UserError: if the SavedModel is not as it has to be; nothing is kept then.
      ValueError: if `wanted` does not fit the signatures.
    """
    path = Path(path)
    meta_graph = saved_graph.read(path)
    _check_golden(saved_graph.signatures(meta_graph), wanted)
    rows = _rows(path, meta_graph, wanted)
    golden.save(path, wanted)
    (path / constants.CARD_FILE).write_text(_card(path, rows))
    golden.write_sums(path)
    report = Report(str(path), _size(path), rows)
    print(report)
    return report


def verify_again(
    path: str | os.PathLike[str], rest: str | None = None, server: str | None = None, model_name: str | None = None
) -> Report:
    """Verifies a version by what `verify` kept beside it, without the Keras model, and a server that serves it.

    Args:
      path: `saved_models/<name>/<version>`, or `saved_models/<name>` for the newest.
      rest: "http://host:port" of a server's REST. Default: none is asked.
      server: "grpc://host:port" of a server's gRPC. Default: none is asked.
      model_name: of the served model; default is the name of the folder of the version.

    Returns:
      A Report, also of what the server answered, as "REST" and "gRPC".

    Raises:
      UserError: if a file is not what it was, the SavedModel or the server answers otherwise, or does not.
    """
    path = saved_graph.version_path(path)
    golden.check_sums(path)
    wanted = golden.read(path)
    meta_graph = saved_graph.read(path)
    rows = _rows(path, meta_graph, wanted)
    model = model_name or path.resolve().parent.name
    version = int(path.resolve().name) if path.resolve().name.isdecimal() else None
    asked = [("REST", rest), ("gRPC", server)]
    served = {protocol: (address, model, version) for protocol, address in asked if address}
    rows = tuple(_with_served(row, wanted[row.signature], served) for row in rows)
    return Report(str(path), _size(path), rows)


def _check_golden(signatures, wanted):
    if wanted.keys() != signatures.keys():
        raise ValueError(
            f"`wanted` must have a request and its answer for each of {sorted(signatures)}. Received: {sorted(wanted)}"
        )
    for name, signature in signatures.items():
        for side, tensors, given in zip(
            ("inputs", "outputs"), (signature.inputs, signature.outputs), wanted[name], strict=True
        ):
            specs = saved_graph.specs(tensors)
            if given.keys() != specs.keys():
                raise ValueError(
                    f"`wanted` must have the {side} {sorted(specs)} of {name!r}. Received: {sorted(given)}"
                )
        inputs = [np.asarray(value) for value in wanted[name][0].values()]
        if _is_batched(signature) and not _has_other_rows(inputs):
            raise ValueError(
                f"`wanted` must have two or more rows that differ for {name!r}, or nobody sees it when they depend on "
                f"each other. Received: {', '.join(map(_said, inputs))}"
            )


def _has_other_rows(inputs):
    """Whether there are two or more rows, as many in all inputs, and not all the same."""
    counts = {len(value) for value in inputs}
    return len(counts) == 1 and any(not np.array_equal(value[0], row) for value in inputs for row in value[1:])


def _said(value):
    return f"{value.dtype} {value.shape}, {'all rows equal' if len(value) > 1 else 'one row'}"


def _is_batched(signature):
    """Whether a signature takes, and so has to give, a batch of any size."""
    shapes = [spec.shape for spec in saved_graph.specs(signature.inputs).values()]
    return all(shape.rank is None or (shape.rank > 0 and shape[0] is None) for shape in shapes)


def _rows(path, meta_graph, wanted):
    signatures = saved_graph.signatures(meta_graph)
    nodes = {name: saved_graph.nodes(meta_graph, signature) for name, signature in signatures.items()}
    for name, signature in signatures.items():
        if name not in wanted:
            raise UserError(f"{path} has no golden request to its signature {name!r}: export it with --verify")
        _check_operations(name, nodes[name])
        _check_dtypes(name, signature)
    with _session(path) as session:
        return tuple(_answered(session, name, each, nodes[name], *wanted[name]) for name, each in signatures.items())


@contextlib.contextmanager
def _session(path) -> Iterator[tf.compat.v1.Session]:
    """A session that holds a SavedModel, by the loader TensorFlow Serving uses."""
    quiet.quiet_sessions()
    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph, config=quiet.cpu_only()) as session:
        try:
            with quiet.quiet_loading():
                tf.compat.v1.saved_model.loader.load(session, [constants.SERVE_TAG], str(path))
        except Exception as error:  # The loader has no class of its own for a broken file.
            raise UserError(f"{path} cannot be loaded for serving: {first_line(error)}") from error
        yield session


def _check_operations(name, nodes):
    operations = {node.op for node in nodes}
    python = operations & saved_graph.PYTHON_OPERATIONS
    if python:
        raise UserError(f"signature {name!r} calls Python ({', '.join(sorted(python))}), which no server has")
    unknown = sorted(operation for operation in operations if not saved_graph.is_stock(operation))
    if unknown:
        raise UserError(f"signature {name!r} has operations that TensorFlow has not: {', '.join(unknown)}")
    writing = sorted({node.op for node in nodes if saved_graph.writes(node)})
    if writing:
        raise UserError(
            f"signature {name!r} changes variables ({', '.join(writing)}), so that a request changes the answers to "
            "the next ones: call the model with training=False"
        )


def _check_dtypes(name, signature):
    for alias, spec in saved_graph.specs({**signature.inputs, **signature.outputs}).items():
        if spec.dtype in (tf.float16, tf.bfloat16):
            raise UserError(
                f"{alias!r} of signature {name!r} is {spec.dtype.name}, which REST cannot write: cast it to float32"
            )


def _answered(session, name, signature, nodes, inputs, outputs):
    dtype = _narrowest(nodes)
    batch = _run(session, name, signature, inputs)
    differences = {"Keras": _difference(name, "it and Keras", batch, outputs, TOLERANCES[dtype])}
    count = len(next(iter(inputs.values()))) if _is_batched(signature) else 1
    if _is_batched(signature):
        for alias, value in batch.items():
            if not value.ndim or len(value) != count:
                raise UserError(
                    f"output {alias!r} of signature {name!r} has the shape {value.shape} for {count} rows: servers "
                    "that batch requests need one row for each"
                )
        alone = [
            _run(session, name, signature, {alias: value[row : row + 1] for alias, value in inputs.items()})
            for row in range(count)
        ]
        alone = {alias: np.concatenate([answer[alias] for answer in alone]) for alias in batch}
        differences["alone"] = _difference(
            name, "rows that are sent alone and in a batch", alone, batch, TOLERANCES[dtype]
        )
    return Row(name, len(nodes), dtype, count, differences)


def _run(session, name, signature, inputs):
    specs = saved_graph.specs(signature.inputs)
    feeds = {
        signature.inputs[alias].name: np.asarray(value).astype(specs[alias].dtype.as_numpy_dtype)
        for alias, value in inputs.items()
    }
    try:
        return session.run({alias: output.name for alias, output in signature.outputs.items()}, feeds)
    except (tf.errors.OpError, ValueError) as error:
        raise UserError(f"signature {name!r} does not answer its golden request: {first_line(error)}") from error


def _narrowest(nodes):
    """The dtype of TOLERANCES that a graph computes in: that of the "T" of what does more than cast."""
    found = {node.attr["T"].type for node in nodes if "T" in node.attr}
    for dtype in (tf.bfloat16, tf.float16):
        if dtype.as_datatype_enum in found:
            return dtype.name
    return "float32"


def _difference(name, between, found, wanted, tolerance):
    """The largest of all outputs, in parts of the largest number of that output.

    Args:
      name: of the signature.
      between: what is compared, in words.
      found: {output: array}.
      wanted: {output: array}.
      tolerance: of floats.

    Raises:
      UserError: if it is above the tolerance, or a number is not finite.
    """
    largest = 0.0
    found, wanted = ({alias: np.asarray(side[alias]) for alias in wanted} for side in (found, wanted))
    found, wanted = ranked.aligned(found, wanted, tolerance)
    for alias, expected in wanted.items():
        what = f"output {alias!r} of signature {name!r}"
        allowed = tolerance if expected.dtype.kind == "f" else 0
        difference = _of_output(what, between, found[alias], expected)
        if not difference <= allowed:
            raise UserError(
                f"{what} differs between {between} by {difference:.1e} of its largest number, allowed is {allowed:g}; "
                "to publish it all the same, export it with --noverify"
            )
        largest = max(largest, difference)
    return largest


def _of_output(what, between, found, expected):
    if found.shape != expected.shape:
        raise UserError(f"{what} differs between {between} in its shape: {found.shape} and {expected.shape}")
    if expected.dtype.kind in "OSU":
        return float(_as_bytes(found) != _as_bytes(expected))
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    infinite = ~(np.isfinite(found) & np.isfinite(expected))
    if infinite.any():
        raise UserError(f"{what} holds NaN or infinity, in {np.count_nonzero(infinite)} of {infinite.size} numbers")
    scale = np.abs(expected).max(initial=0)
    return float(np.abs(found - expected).max(initial=0) / (scale or 1.0))


def _as_bytes(strings):
    return [each if isinstance(each, bytes) else str(each).encode() for each in strings.ravel().tolist()]


def _with_served(row, pair, served):
    inputs, outputs = pair
    differences = dict(row.differences)
    for protocol, (address, model, version) in served.items():
        with serving.Client(address, model) as client:
            answer = client.predict(inputs, row.signature, version)
        if answer.keys() != outputs.keys():
            raise UserError(f"{address} answers {row.signature!r} with {sorted(answer)}, not {sorted(outputs)}")
        between = f"{protocol} of {address} and Keras"
        differences[protocol] = _difference(row.signature, between, answer, outputs, TOLERANCES[row.dtype])
    return dataclasses.replace(row, differences=differences)


def _size(path):
    return sum(each.stat().st_size for each in Path(path).rglob("*") if each.is_file())


def _number(value):
    return "" if value is None else "0" if value == 0 else f"{value:.0e}"


def _card(path, rows):
    """A text for who finds the folder."""
    described = describe.describe(path, shown=".").removeprefix(".\n\n")
    labels = f"Its classes, one a line from 0, are in `{constants.LABELS_FILE}`.\n\n"
    return (
        f"# {path.resolve().parent.name}\n\nA SavedModel for TensorFlow Serving, run from this folder:\n\n"
        f"```\n{described}\n```\n\n"
        + (labels if (path / constants.LABELS_FILE).is_file() else "")
        + "## Verified\n\nDifferences from the Keras model, and between rows answered alone and in a batch, in parts "
        f"of the largest number of the output:\n\n```\n{Report(str(path), _size(path), rows)}\n```\n\n"
        "`sha256sum -c assets.extra/SHA256SUMS` checks the files, `keras-nonlocal verify .` the answers, those of a "
        "running server with `--rest=http://host:port` and\n`--server=grpc://host:port`.\n"
    )
