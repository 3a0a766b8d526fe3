"""What is known of the published versions of a model: size, date, parameters, signatures, whether they load."""

import dataclasses
import datetime
import math
import os
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2

from keras_nonlocal.errors import UserError, first_line
from keras_nonlocal.serving import constants, publish

_INIT_SIGNATURE = "__saved_model_init_op"
# In the checkpoint beside the variables: the graph of objects, and a count of savings.
_NO_PARAMETERS = ("_CHECKPOINTABLE_OBJECT_GRAPH", "save_counter/.ATTRIBUTES/VARIABLE_VALUE")


@dataclasses.dataclass(frozen=True)
class VersionFacts:
    """One version on disk.

    Args:
      version: its number.
      path: its directory.
      bytes: of all its files.
      written: when its saved_model.pb was.
      parameters: how many numbers its variables hold, those of batch norms included; None if they cannot be read.
      signatures: names of the served functions.
      problem: why TensorFlow Serving would not load it; None if it would.
    """

    version: int
    path: Path
    bytes: int
    written: datetime.datetime
    parameters: int | None
    signatures: tuple[str, ...]
    problem: str | None


def describe_versions(base_path: str | os.PathLike[str]) -> list[VersionFacts]:
    """Describes all versions of a model, the highest first, each loaded once to see that it can be.

    Args:
      base_path: directory of a model, `saved_models/<name>`.

    Raises:
      UserError: nothing there is a version.
    """
    found = publish.versions(base_path)
    if not found:
        raise UserError(f"{base_path} holds no version: publish a model there first, or correct the path")
    return [_describe(version, found[version]) for version in sorted(found, reverse=True)]


def _describe(version, path):
    problem = None
    try:
        publish.check_servable(path)
    except UserError as error:
        problem = str(error)
    files = [file.stat() for file in path.rglob("*") if file.is_file()]
    graph = path / constants.SAVED_MODEL_FILE
    written = (graph if graph.exists() else path).stat().st_mtime
    return VersionFacts(
        version=version,
        path=path,
        bytes=sum(file.st_size for file in files),
        written=datetime.datetime.fromtimestamp(written),
        parameters=_parameters(path),
        signatures=_signatures(graph),
        problem=problem,
    )


def _parameters(path):
    try:
        shapes = tf.train.load_checkpoint(str(path / "variables" / "variables")).get_variable_to_shape_map()
    except (tf.errors.OpError, ValueError):
        return None
    return sum(math.prod(shape) for name, shape in shapes.items() if name not in _NO_PARAMETERS)


def _signatures(graph):
    try:
        saved_model = saved_model_pb2.SavedModel.FromString(graph.read_bytes())
    except (OSError, DecodeError):  # what is wrong with the file is in `problem`, by the loader
        return ()
    names = {name for meta_graph in saved_model.meta_graphs for name in meta_graph.signature_def}
    return tuple(sorted(names - {_INIT_SIGNATURE}))


def table(versions: list[VersionFacts], labels: dict[str, int], served: list[int] | None) -> str:
    """Lists versions, one a line.

    Args:
      versions: as describe_versions returns them.
      labels: {label: version}.
      served: versions that a server is told to load; None if it takes the highest.
    """
    rows = [("version", "served", "labels", "size", "written", "parameters", "signatures", "loads")]
    highest = max((facts.version for facts in versions), default=None)
    for facts in versions:
        is_served = facts.version in (served if served is not None else [highest])
        rows.append(
            (
                str(facts.version),
                "yes" if is_served else "-",
                ",".join(sorted(label for label, version in labels.items() if version == facts.version)) or "-",
                f"{facts.bytes / 1e6:.1f} MB",
                f"{facts.written:%Y-%m-%d %H:%M}",
                "?" if facts.parameters is None else f"{facts.parameters:,}",
                ",".join(facts.signatures) or "-",
                "yes" if facts.problem is None else "NO",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [f"version {facts.version}: {first_line(facts.problem)}" for facts in versions if facts.problem]
    return "\n".join(lines)
