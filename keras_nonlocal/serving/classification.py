"""What a served classifier says of a video or photo: its likeliest classes."""

import os
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2

from keras_nonlocal.data import labels_file
from keras_nonlocal.errors import UserError
from keras_nonlocal.serving import constants, file_inputs


class Scored(NamedTuple):
    """A class: its name, its number and its probability."""

    name: str
    number: int
    probability: float


def default_signature(path: str | os.PathLike[str]) -> str:
    """The served function for a file: `encoded` for a photo, else `serving_default`."""
    return constants.ENCODED_SIGNATURE if file_inputs.is_photo(path) else constants.DEFAULT_SIGNATURE


def request(
    path: str | os.PathLike[str], signature: meta_graph_pb2.SignatureDef, stride: int | None = None
) -> dict[str, np.ndarray]:
    """Makes a batch of one video or photo for a classifier.

    Args:
      path: video, JPEG or PNG file.
      signature: of the served function.
      stride: distance of the frames of a clip, see clip_inputs.sample_clip.

    Returns:
      {alias: value}.

    Raises:
      UserError: the file cannot be read, or the signature takes something else or gives no probabilities.
    """
    if constants.PROBABILITIES not in signature.outputs:
        raise UserError(
            f"the signature gives {sorted(signature.outputs)}, not {constants.PROBABILITIES!r}; choose one that does"
        )
    return file_inputs.from_file(path, *file_inputs.single_input(signature), stride)


def from_outputs(outputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """The probabilities [classes] in what a classifier answers, given without the batch dimension."""
    return outputs[constants.PROBABILITIES]


def top(probabilities: np.ndarray, labels: str | os.PathLike[str] | None = None, count: int = 5) -> list[Scored]:
    """The likeliest classes.

    Args:
      probabilities: [classes].
      labels: text file with one class name a line; default gives class numbers.
      count: how many classes.

    Returns:
      The likeliest first.

    Raises:
      UserError: there are not as many labels as classes.

    Example:

    >>> top(np.array([0.25, 0.75]), count=1)
    [Scored(name='class 1', number=1, probability=0.75)]
    """
    names = _names(labels, len(probabilities))
    chosen = np.argsort(-probabilities, kind="stable")[:count].tolist()
    return [Scored(names[number], number, float(probabilities[number])) for number in chosen]


def _names(path, classes):
    if path is None:
        return [f"class {number}" for number in range(classes)]
    names = labels_file.read(path)
    if len(names) != classes:
        raise UserError(f"{path} has {len(names)} lines, but the model has {classes} classes; give one name a line")
    return names
