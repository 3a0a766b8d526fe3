"""What a served detector finds in a photo, over REST and over gRPC: a table and a picture of it."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from keras_nonlocal import drawing, errors, files, skeleton
from keras_nonlocal.data import labels_file
from keras_nonlocal.serving import client, compare, constants

# Of a keypoint, below which it is not drawn: as Detectron2 draws them.
SHOWN_KEYPOINT = 0.05


@dataclasses.dataclass(frozen=True)
class Detections:
    """Objects found in an image, the likeliest first; all in its pixels.

    Args:
      boxes: [N, 4], top, left, bottom, right.
      classes: [N] int, as in the records that the detector was trained on.
      scores: [N], from 0 to 1.
      masks: [N, h, w], each the probability that a part of the box is the object; None of a detector without masks.
      keypoints: [N, K, 3], y, x and score, in continuous coordinates; None of a detector without keypoints.
    """

    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    masks: np.ndarray | None = None
    keypoints: np.ndarray | None = None


def from_outputs(outputs: Mapping[str, np.ndarray], least: float = 0.0) -> Detections:
    """The detections in what a detector of ours answers for one image.

    Args:
      outputs: {output alias: array}, without the batch dimension.
      least: score; what has less is left out.
    """
    keep = np.flatnonzero(outputs[constants.SCORES][: int(outputs[constants.NUM_DETECTIONS])] >= least)

    def pick(name):
        return np.asarray(outputs[name])[keep] if name in outputs else None

    return Detections(
        pick(constants.BOXES),
        pick(constants.CLASSES).astype(int),
        pick(constants.SCORES),
        pick(constants.MASKS),
        pick(constants.KEYPOINTS),
    )


def image_inputs(path: str | os.PathLike[str], signature: meta_graph_pb2.SignatureDef) -> dict[str, np.ndarray]:
    """Makes a batch of one photo.

    Args:
      path: JPEG or PNG file.
      signature: SignatureDef of a detector, with one input: pixels, uint8 [batch, H, W, 3], or files, [batch].

    Returns:
      Dict of the input's alias to its value.

    Raises:
      UserError: the file cannot be read, or the signature takes something else.
    """
    if len(signature.inputs) == 1:
        ((alias, info),) = signature.inputs.items()
        rank = len(info.tensor_shape.dim)
        if info.dtype == tf.string.as_datatype_enum and rank == 1:
            return {alias: np.array([_read(path)], dtype=object)}
        if info.dtype == tf.uint8.as_datatype_enum and rank == 4:
            return {alias: read_pixels(path)[np.newaxis]}
    raise errors.UserError(
        f"the signature takes {sorted(signature.inputs)}, none of which a photo can fill; choose one that takes uint8 "
        "pixels [batch, H, W, 3] or the bytes of files [batch]"
    )


def read_pixels(path: str | os.PathLike[str]) -> np.ndarray:
    """A photo's pixels as a server decodes them: as they are stored, whatever its EXIF data says.

    Args:
      path: JPEG or PNG file.

    Returns:
      RGB uint8 [H, W, 3].

    Raises:
      UserError: the file cannot be read, or is no image.
    """
    try:
        return tf.io.decode_image(_read(path), channels=3, expand_animations=False).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise errors.UserError(f"{path} is not a whole JPEG or PNG image; give another file") from error


def detect(
    image: str | os.PathLike[str],
    server: str,
    rest: str,
    model_name: str,
    signature_name: str = constants.ENCODED_SIGNATURE,
    least: float = 0.5,
) -> compare.Comparison:
    """Finds objects in a photo over both protocols.

    Args:
      image: JPEG or PNG file.
      server: "host:port" of gRPC.
      rest: "http://host:port" of REST.
      model_name: name of the served model.
      signature_name: served function to call.
      least: score; what has less is left out. Default 0.5.

    Returns:
      Comparison of Detections.

    Raises:
      UserError: the photo cannot be read, a server does not answer or the model is no detector.
    """
    signature = client.signature_grpc(server, model_name, signature_name)
    missing = {constants.BOXES, constants.CLASSES, constants.SCORES, constants.NUM_DETECTIONS} - set(signature.outputs)
    if missing:
        raise errors.UserError(
            f"signature {signature_name!r} gives {sorted(signature.outputs)}, and lacks {sorted(missing)} of a detector"
        )
    found = compare.ask_both(image_inputs(image, signature), server, rest, model_name, signature_name)
    return dataclasses.replace(found, rest=from_outputs(found.rest, least), grpc=from_outputs(found.grpc, least))


def table(comparison: compare.Comparison, labels: str | os.PathLike[str] | None = None) -> str:
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
    names = class_names(found.classes, labels)
    width = max(map(len, [*names, "seconds"]))
    by_rest = [f"{score:8.6f}" for score in comparison.rest.scores] + ["       -"] * len(names)
    lines = [f"{'class':{width}}      REST      gRPC     top    left  bottom   right"]
    lines += [
        f"{name:{width}}  {other}  {score:8.6f}" + "".join(f"{side:8.1f}" for side in box)
        for name, other, score, box in zip(names, by_rest, found.scores, found.boxes, strict=False)
    ]
    return "\n".join([*lines, f"{'seconds':{width}}  {comparison.rest_seconds:8.3f}  {comparison.grpc_seconds:8.3f}"])


def class_names(classes: Sequence[int], labels: str | os.PathLike[str] | None = None) -> list[str]:
    """Names of classes.

    Args:
      classes: [N] int.
      labels: text file of names, one a line; the first is class 0, the background. Default gives class numbers.

    Raises:
      UserError: a class is beyond the labels.
    """
    if labels is None:
        return [f"class {number}" for number in classes]
    names = labels_file.read(labels)
    if beyond := [number for number in classes if number >= len(names)]:
        raise errors.UserError(
            f"{labels} has {len(names)} lines, but the model found class {beyond[0]}; give labels.txt of the records "
            "that it was trained on, whose first line is class 0, the background"
        )
    return [names[number] for number in classes]


def draw(image: np.ndarray, found: Detections, labels: str | os.PathLike[str] | None = None) -> np.ndarray:
    """Draws boxes with names and scores, masks and skeletons; those of 17 keypoints are COCO's persons.

    Args:
      image: RGB uint8 [H, W, 3].
      found: in it.
      labels: see class_names.

    Returns:
      RGB uint8 [H, W, 3].
    """
    names = class_names(found.classes, labels)
    texts = [f"{name} {score:.2f}" for name, score in zip(names, found.scores, strict=True)]
    masks = keypoints = None
    edges = ()
    if found.masks is not None:
        masks = paste_masks(found.masks, found.boxes, *image.shape[:2])
    if found.keypoints is not None:
        keypoints = np.concatenate([found.keypoints[..., :2], found.keypoints[..., 2:] >= SHOWN_KEYPOINT], -1)
        if keypoints.shape[1] == len(skeleton.COCO_PERSON.names):
            edges = skeleton.COCO_PERSON.edges
    return drawing.draw(image, found.boxes, texts, masks, keypoints, edges)


def write_png(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Writes RGB uint8 [H, W, 3] as a PNG file.

    Raises:
      UserError: the file cannot be written.
    """
    try:
        with files.whole_file(path) as temporary:
            Path(temporary).write_bytes(tf.io.encode_png(image).numpy())
    except OSError as error:
        raise errors.UserError(
            f"{path} cannot be written ({errors.first_line(error)}); choose another place"
        ) from error


def paste_masks(masks: np.ndarray, boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Masks of boxes as masks of the image: where, between the centres of their parts, they are at least one half.

    Args:
      masks: [N, h, w] probabilities.
      boxes: [N, 4], top, left, bottom, right in pixels.
      height: of the image.
      width: of the image.

    Returns:
      bool [N, height, width]. A pixel whose centre is outside the box is False.

    Example:

    >>> paste_masks(np.ones([1, 2, 2]), np.array([[0, 1.4, 2, 3.6]]), 2, 4).astype(int)
    array([[[0, 1, 1, 1],
            [0, 1, 1, 1]]])
    """
    pasted = np.zeros([len(masks), height, width], bool)
    for number, (mask, box) in enumerate(zip(masks, np.asarray(boxes, float), strict=True)):
        rows, columns = (
            _weights(cells, box[axis], box[axis + 2], size)
            for axis, (cells, size) in enumerate(zip(mask.shape, (height, width), strict=True))
        )
        pasted[number] = rows @ mask @ columns.T >= 0.5
    return pasted


def _weights(cells, start, end, size):
    """[size, cells]: how much each part of a box along one axis has in each pixel."""
    centres = np.arange(size) + 0.5
    inside = (start <= centres) & (centres <= end)
    at = np.clip((centres - start) / max(end - start, 1e-6) * cells - 0.5, 0, cells - 1)
    return inside[:, None] * np.maximum(0, 1 - abs(at[:, None] - np.arange(cells)))


def _read(path):
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise errors.UserError(
            f"image {path} cannot be read ({errors.first_line(error)}); give another file"
        ) from error
