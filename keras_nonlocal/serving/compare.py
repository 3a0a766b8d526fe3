"""The answers of one model over REST and over gRPC, side by side."""

import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy.typing as npt
from tensorflow.core.protobuf import meta_graph_pb2

from keras_nonlocal.serving import classification, client, detections, explanations


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The answer and the seconds that it took, by each protocol."""

    rest: Any
    rest_seconds: float
    grpc: Any
    grpc_seconds: float

    def map(self, function: Callable[[Any], Any]) -> "Comparison":
        """With what a function makes of either answer."""
        return dataclasses.replace(self, rest=function(self.rest), grpc=function(self.grpc))


class BothProtocols:
    """Clients of one model over either protocol; a context manager, whose end closes both.

    Args:
      server: "grpc://host:port", as Client takes it.
      rest: "http://host:port".
      model_name: name of the served model.
    """

    def __init__(self, server: str, rest: str, model_name: str):
        self.grpc = client.Client(server, model_name)
        self.rest = client.Client(rest, model_name)

    def signature(self, name: str) -> meta_graph_pb2.SignatureDef:
        """What a served function takes and gives; errors as Client.signature."""
        return self.grpc.signature(name)

    def predict(self, inputs: Mapping[str, npt.ArrayLike], signature_name: str) -> Comparison:
        """Sends a batch of one over both protocols.

        Args:
          inputs: {alias: array}.
          signature_name: served function to call.

        Returns:
          Comparison of {alias: array}, without the batch dimension.

        Raises:
          UserError: a server does not answer, or refuses the request.
        """
        self.rest.signature(signature_name)  # so that no time is that of connecting and asking for it
        by_rest, rest_seconds = _timed(self.rest.predict, inputs, signature_name)
        by_grpc, grpc_seconds = _timed(self.grpc.predict, inputs, signature_name)
        found = Comparison(by_rest, rest_seconds, by_grpc, grpc_seconds)
        return found.map(lambda outputs: {alias: values[0] for alias, values in outputs.items()})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.grpc.close()
        self.rest.close()


def class_table(comparison: Comparison, labels: str | os.PathLike[str] | None = None, top: int = 5) -> str:
    """Writes the most probable classes (by gRPC) with both probabilities and both times.

    Args:
      comparison: of probabilities [classes].
      labels: text file with one class name a line; default gives class numbers.
      top: how many classes.

    Returns:
      Lines of text (str).
    """
    chosen = classification.top(comparison.grpc, labels, top)
    width = max([len(scored.name) for scored in chosen] + [len("seconds")])
    lines = [f"{'class':{width}}      REST      gRPC"]
    lines += [
        f"{scored.name:{width}}  {comparison.rest[scored.number]:8.6f}  {scored.probability:8.6f}" for scored in chosen
    ]
    lines += [f"{'seconds':{width}}  {comparison.rest_seconds:8.3f}  {comparison.grpc_seconds:8.3f}"]
    return "\n".join(lines)


def detection_table(comparison: Comparison, labels: str | os.PathLike[str] | None = None) -> str:
    """Writes the detections (by gRPC) with both scores, and both times.

    Args:
      comparison: of Detections.
      labels: text file of names, one a line; the first is class 0, the background. Default gives class numbers.

    Returns:
      Lines of text (str).

    Raises:
      UserError: a class is beyond the labels.
    """
    found = comparison.grpc
    names = detections.class_names(found.classes, labels)
    width = max(map(len, [*names, "seconds"]))
    by_rest = [f"{score:8.6f}" for score in comparison.rest.scores] + ["       -"] * len(names)
    lines = [f"{'class':{width}}      REST      gRPC     top    left  bottom   right"]
    lines += [
        f"{name:{width}}  {other}  {score:8.6f}" + "".join(f"{side:8.1f}" for side in box)
        for name, other, score, box in zip(names, by_rest, found.scores, found.boxes, strict=False)
    ]
    return "\n".join([*lines, f"{'seconds':{width}}  {comparison.rest_seconds:8.3f}  {comparison.grpc_seconds:8.3f}"])


def explanation_table(comparison: Comparison, top: int = 5) -> str:
    """Writes what each query looks at (by gRPC) with both weights, and both times.

    Args:
      comparison: of Explanations.
      top: how many positions of each query.

    Returns:
      Lines of text (str).
    """
    rest, found = comparison.rest, comparison.grpc
    names = explanations.COORDINATES[found.queries.shape[1]]
    texts = [["query", "looks at", "REST", "gRPC"]]
    for number, query in enumerate(found.queries):
        for rank, position in enumerate(found.positions[number, :top]):
            weights = (f"{answer.weights[number, rank]:.6f}" for answer in (rest, found))
            texts.append([_place(names, query), _place(names, position), *weights])
    texts.append(["seconds", "", f"{comparison.rest_seconds:.3f}", f"{comparison.grpc_seconds:.3f}"])
    wide = [max(map(len, column)) for column in zip(*texts, strict=True)]
    return "\n".join(
        f"{query:{wide[0]}}  {place:{wide[1]}}  {one:>{wide[2]}}  {other:>{wide[3]}}"
        for query, place, one, other in texts
    )


def _place(names, position):
    return " ".join(f"{name} {value:.1f}" for name, value in zip(names, position, strict=True))


def _timed(function, *args):
    start = time.perf_counter()
    return function(*args), time.perf_counter() - start
