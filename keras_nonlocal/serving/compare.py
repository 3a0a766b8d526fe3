"""The predictions for one video or photo over REST and over gRPC, side by side."""

import dataclasses
import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_nonlocal.data import labels_file
from keras_nonlocal.errors import UserError
from keras_nonlocal.serving import client, clip_inputs
from keras_nonlocal.serving.constants import DEFAULT_SIGNATURE, PROBABILITIES


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The answer and seconds, by each protocol: of a video the class probabilities [classes], of others all outputs."""

    rest: Any
    rest_seconds: float
    grpc: Any
    grpc_seconds: float


def ask_both(
    inputs: Mapping[str, npt.ArrayLike], server: str, rest: str, model_name: str, signature_name: str
) -> Comparison:
    """Sends a batch of one over both protocols.

    Args:
      inputs: {input alias: array}.
      server: "host:port" of gRPC.
      rest: "http://host:port" of REST.
      model_name: name of the served model.
      signature_name: served function to call.

    Returns:
      Comparison of {output alias: array}, without the batch dimension.

    Raises:
      UserError: a server does not answer, or refuses the request.
    """
    by_rest, rest_seconds = _timed(client.predict_rest, rest, model_name, inputs, signature_name)
    by_grpc, grpc_seconds = _timed(client.predict_grpc, server, model_name, inputs, signature_name)
    by_rest, by_grpc = ({alias: values[0] for alias, values in outputs.items()} for outputs in (by_rest, by_grpc))
    return Comparison(by_rest, rest_seconds, by_grpc, grpc_seconds)


def compare_protocols(
    video: str | os.PathLike[str],
    server: str,
    rest: str,
    model_name: str,
    signature_name: str = DEFAULT_SIGNATURE,
    stride: int | None = None,
) -> Comparison:
    """Classifies a video over both protocols.

    Args:
      video: video file.
      server: "host:port" of gRPC.
      rest: "http://host:port" of REST.
      model_name: name of the served model.
      signature_name: served function to call.
      stride: distance of the frames of a clip that is sent; default spreads them over the video.

    Returns:
      Comparison.

    Raises:
      UserError: the video cannot be read, a server does not answer or the model gives no probabilities.
    """
    signature = client.signature_grpc(server, model_name, signature_name)
    if PROBABILITIES not in signature.outputs:
        raise UserError(f"signature {signature_name!r} gives {sorted(signature.outputs)}, not {PROBABILITIES!r}")
    inputs = clip_inputs.from_video(video, signature, stride)
    found = ask_both(inputs, server, rest, model_name, signature_name)
    return dataclasses.replace(found, rest=found.rest[PROBABILITIES], grpc=found.grpc[PROBABILITIES])


def table(comparison: Comparison, labels: str | os.PathLike[str] | None = None, top: int = 5) -> str:
    """Writes the most probable classes (by gRPC) with both probabilities and both times.

    Args:
      comparison: Comparison.
      labels: text file with one class name a line; default gives class numbers.
      top: how many classes.

    Returns:
      Lines of text (str).
    """
    names = _read_labels(labels, len(comparison.grpc))
    chosen = np.argsort(-comparison.grpc, kind="stable")[:top]
    width = max([len(names[index]) for index in chosen] + [len("class")])
    lines = [f"{'class':{width}}      REST      gRPC"]
    lines += [
        f"{names[index]:{width}}  {comparison.rest[index]:8.6f}  {comparison.grpc[index]:8.6f}" for index in chosen
    ]
    lines += [f"{'seconds':{width}}  {comparison.rest_seconds:8.3f}  {comparison.grpc_seconds:8.3f}"]
    return "\n".join(lines)


def _timed(function, *args):
    start = time.perf_counter()
    return function(*args), time.perf_counter() - start


def _read_labels(path, classes):
    if path is None:
        return [f"class {index}" for index in range(classes)]
    names = labels_file.read(path)
    if len(names) != classes:
        raise UserError(f"{path} has {len(names)} lines, but the model has {classes} classes; give one name a line")
    return names
