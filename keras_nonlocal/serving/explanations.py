"""Where chosen positions of a clip or photo look, as a served model explains it, and a picture of it."""

import dataclasses
import os
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from tensorflow.core.protobuf import meta_graph_pb2

from keras_nonlocal import drawing, errors
from keras_nonlocal.serving import constants, file_inputs

# What a position's numbers are, by how many it has.
COORDINATES = {1: ("t",), 2: ("y", "x"), 3: ("frame", "y", "x")}


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What Q queries attend to most, each position R numbers as COORDINATES says, in frames and pixels of the source.

    Args:
      source: what was sent, [T, H, W, 3] or [H, W, 3].
      queries: [Q, R], the centres of those that the model has nearest to the ones asked for.
      positions: [Q, K, R], the strongest first.
      weights: [Q, K], of all that the query attends to.
    """

    source: np.ndarray
    queries: np.ndarray
    positions: np.ndarray
    weights: np.ndarray


def request(
    source: str | os.PathLike[str] | np.ndarray,
    queries: npt.ArrayLike,
    signature: meta_graph_pb2.SignatureDef,
    stride: int | None = None,
) -> dict[str, np.ndarray]:
    """Makes a batch of one video or photo and of its queries.

    Args:
      source: video, JPEG or PNG file, or an array as the signature takes it, without the batch dimension.
      queries: [Q, R].
      signature: of the served function.
      stride: distance of the frames of a clip, see clip_inputs.sample_clip.

    Returns:
      {alias: value}.

    Raises:
      UserError: the file cannot be read, the signature takes or gives something else, or the queries are of another
        shape.
    """
    others = sorted(set(signature.inputs) - {constants.QUERIES})
    given = {constants.QUERIES, constants.POSITIONS, constants.WEIGHTS}
    if len(others) != 1 or len(signature.inputs) != 2 or not given <= set(signature.outputs):
        raise errors.UserError(
            f"the signature takes {sorted(signature.inputs)} and gives {sorted(signature.outputs)}, and explains "
            f"nothing: it would take one input and {constants.QUERIES!r} and give {sorted(given)}"
        )
    ((alias),) = others
    queries = np.asarray(queries, np.float32)
    rank = signature.inputs[constants.QUERIES].tensor_shape.dim[2].size
    if queries.ndim != 2 or queries.shape[1] != rank or not len(queries):
        raise errors.UserError(
            f"`queries` must be one or more of {rank} numbers: {', '.join(COORDINATES[rank])}. "
            f"Received: shape {queries.shape}"
        )
    if isinstance(source, np.ndarray):
        inputs = {alias: source[np.newaxis]}
    else:
        inputs = file_inputs.from_file(source, alias, signature.inputs[alias], stride)
    return inputs | {constants.QUERIES: queries[np.newaxis]}


def from_outputs(outputs: Mapping[str, np.ndarray], inputs: Mapping[str, np.ndarray]) -> Explanation:
    """The explanation in what a model answers.

    Args:
      outputs: {alias: array}, without the batch dimension.
      inputs: what was sent, with it.
    """
    (source,) = (value[0] for alias, value in inputs.items() if alias != constants.QUERIES)
    return Explanation(source, outputs[constants.QUERIES], outputs[constants.POSITIONS], outputs[constants.WEIGHTS])


def draw(found: Explanation) -> np.ndarray:
    """Draws arrows from the queries to what they look at, as in the paper's Fig. 3.

    Args:
      found: of uint8 frames or pixels.

    Returns:
      RGB uint8 [H', W', 3], see drawing.draw_arrows.

    Raises:
      UserError: what was sent is no picture.
    """
    if found.queries.shape[1] == 3:
        return drawing.draw_arrows(found.source, found.queries, found.positions, found.weights)
    first = [np.concatenate([np.zeros_like(at[..., :1]), at], -1) for at in (found.queries, found.positions)]
    return drawing.draw_arrows(found.source[np.newaxis], *first, found.weights)
