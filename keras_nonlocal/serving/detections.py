"""What a served detector finds in a photo, and a picture of it."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from keras_nonlocal import drawing, errors, files, skeleton
from keras_nonlocal.data import labels_file
from keras_nonlocal.serving import constants, file_inputs

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


def request(path: str | os.PathLike[str], signature: meta_graph_pb2.SignatureDef) -> dict[str, np.ndarray]:
    """Makes a batch of one photo for a detector.

    Args:
      path: JPEG or PNG file.
      signature: of the served function.

    Returns:
      {alias: value}.

    Raises:
      UserError: the file cannot be read, or the signature takes something else or is of no detector.
    """
    missing = {constants.BOXES, constants.CLASSES, constants.SCORES, constants.NUM_DETECTIONS} - set(signature.outputs)
    if missing:
        raise errors.UserError(
            f"the signature gives {sorted(signature.outputs)}, and lacks {sorted(missing)} of a detector"
        )
    return file_inputs.from_photo(path, *file_inputs.single_input(signature))


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
