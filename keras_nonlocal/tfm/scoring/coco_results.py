"""Results in COCO's format: what a detector says of images as lines in the pixels of the original images, and files."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from official.vision.ops import mask_ops
from pycocotools import mask as masks_of_coco

from keras_nonlocal import errors, files
from keras_nonlocal.tfm.scoring import coco_scores

# By what pycocotools calls the kind of results.
FILES = {"bbox": "bbox.json", "segm": "segm.json", "keypoints": "keypoints.json"}


def in_numpy(tensors: dict[str, Any]) -> dict[str, np.ndarray]:
    """A batch that tfm hands to an evaluator: its tensors as arrays, those of several replicas joined."""
    batch = {}
    for name, value in tensors.items():
        if not isinstance(value, dict):
            parts = value if isinstance(value, tuple) else (value,)
            batch[name] = np.concatenate([np.asarray(part) for part in parts])
    return batch


def boxes(batch: dict[str, np.ndarray], row: int) -> list[dict]:
    """The lines of one image's boxes.

    Args:
      batch: predictions of images as tfm's evaluators take them: source_id (B,), image_info (B, 4, 2), num_detections
        (B,), detection_boxes (B, D, 4) as y1, x1, y2, x2 in pixels of the network's input, detection_scores and
        detection_classes (B, D).
      row: the image's place in the batch.

    Returns:
      A list of {"image_id", "category_id", "bbox": [x, y, width, height], "score"}.
    """
    return _lines(batch, row, bbox=_xywh(batch, "detection_boxes", row).tolist())


def new_rows(batch: dict[str, np.ndarray], seen: set[int | str]) -> Iterator[int]:
    """The places in a batch of the images that were not seen yet; those that fill up a last batch are there twice.

    Args:
      batch: as that of boxes.
      seen: ids of images, to which those of the batch are added.
    """
    for row, source in enumerate(batch["source_id"]):
        image = coco_scores.image_id(source)
        if image not in seen:
            seen.add(image)
            yield row


def masks(batch: dict[str, np.ndarray], row: int) -> list[dict]:
    """The lines of one image's masks.

    They are pasted as tfm's evaluator pastes them. There is no box in them: pycocotools would take an object's size
    from it.

    Args:
      batch: as that of boxes, with detection_masks (B, D, h, w), and detection_outer_boxes (B, D, 4) if these are what
        the masks are in.
      row: the image's place in the batch.

    Returns:
      A list of {"image_id", "category_id", "segmentation": {"size": [height, width], "counts": text}, "score"}.
    """
    around = "detection_outer_boxes" if "detection_outer_boxes" in batch else "detection_boxes"
    height, width = (int(size) for size in batch["image_info"][row, 0])
    segmentations = []
    for mask, box in zip(_found(batch, "detection_masks", row), _xywh(batch, around, row), strict=True):
        pasted = mask_ops.paste_instance_masks(mask[np.newaxis], box[np.newaxis], height, width)[0]
        encoded = masks_of_coco.encode(np.asfortranarray(pasted, np.uint8))
        segmentations.append({"size": [height, width], "counts": encoded["counts"].decode("ascii")})
    return _lines(batch, row, segmentation=segmentations)


def keypoints(batch: dict[str, np.ndarray], row: int) -> list[dict]:
    """The lines of one image's keypoints.

    Coordinates of the network are continuous, those of COCO number pixels, whose centres are half a pixel further.

    Args:
      batch: as that of boxes, with detection_keypoints (B, D, K, 3) as y, x, score in pixels of the network's input.
      row: the image's place in the batch.

    Returns:
      A list of {"image_id", "category_id", "keypoints": [x, y, score] * K, "score"}.
    """
    found = _found(batch, "detection_keypoints", row).astype(np.float64)
    places = found[..., :2] / _scale(batch, row) - 0.5
    found = np.concatenate([places[..., ::-1], found[..., 2:]], axis=-1)  # (n, K, 3): x, y, score
    return _lines(batch, row, keypoints=[each.ravel().tolist() for each in found])


def _lines(batch, row, **values):
    ((name, values),) = values.items()
    image = coco_scores.image_id(batch["source_id"][row])
    classes, scores = (_found(batch, f"detection_{each}", row).tolist() for each in ("classes", "scores"))
    return [
        {"image_id": image, "category_id": int(category), name: value, "score": score}
        for category, score, value in zip(classes, scores, values, strict=True)
    ]


def _found(batch, name, row):
    """What there is without the padding."""
    return batch[name][row, : int(batch["num_detections"][row])]


def _xywh(batch, name, row):
    found = _found(batch, name, row).astype(np.float64) / np.tile(_scale(batch, row), 2)
    return np.concatenate([found[:, 1::-1], found[:, 3:1:-1] - found[:, 1::-1]], axis=1)  # (n, 4)


def _scale(batch, row):
    """How many pixels of the network's input one of the original image is, (2,) for y and x."""
    return batch["image_info"][row, 2].astype(np.float64)


def write(folder: str | os.PathLike, results: dict[str, Iterable[dict]]) -> list[str]:
    """Writes a whole JSON file of each kind of results, numbers with all their digits.

    Args:
      folder: where, made if it is not there.
      results: {kind: lines}, kinds as in FILES.

    Returns:
      The paths.

    Raises:
      UserError: if a result is no number, or the folder cannot be written.

    Example:

    >>> line = {"image_id": 7, "category_id": 1, "bbox": [0.5, 2.0, 3.0, 4.25], "score": 0.9}
    >>> [path] = coco_results.write("test", {"bbox": [line]})
    >>> json.load(open(path)) == [line]
    True
    """
    paths = {kind: os.path.join(folder, FILES[kind]) for kind in results}
    try:
        os.makedirs(folder, exist_ok=True)
        for kind, path in paths.items():
            files.write_text(path, json.dumps(list(results[kind]), allow_nan=False, separators=(",", ":")) + "\n")
    except ValueError as error:
        raise errors.UserError(
            f"{path} is not written, as some results are not numbers: the training went wrong, test an earlier "
            "checkpoint."
        ) from error
    except OSError as error:
        raise errors.UserError(
            f"--out_dir {folder} cannot be written ({errors.first_line(error)}): make room there, or give another one."
        ) from error
    return list(paths.values())


def read(path: str) -> tuple[str, list[dict]]:
    """Result lines of a file in COCO's format, and their kind as in FILES.

    Raises:
      UserError: if there is no such file or it is something else.
    """
    try:
        with tf.io.gfile.GFile(path) as file:
            lines = [{**line, "image_id": coco_scores.image_id(line["image_id"])} for line in json.load(file)]
        kinds = {_kind(line) for line in lines}
    except (OSError, tf.errors.OpError, ValueError, KeyError, TypeError) as error:
        raise errors.UserError(
            f"--predictions {path} is no file of results in COCO's format ({errors.first_line(error)}): give a list of "
            "dicts with image_id, category_id, score, and bbox, segmentation or keypoints."
        ) from error
    if len(kinds) != 1:
        known = "no results" if not kinds else " and ".join(sorted(kinds))
        raise errors.UserError(f"--predictions {path} has {known}: give a file of one kind, with a result at least.")
    return kinds.pop(), lines


def score_file(path: str, annotations: str, sigmas: Sequence[float]) -> dict[str, float]:
    """The metrics of a file of results, on all images of the annotations.

    Args:
      path: as write writes it.
      annotations: a file in COCO's format.
      sigmas: of keypoints, if it holds such.

    Returns:
      As coco_scores.score.

    Raises:
      UserError: for a file that is something else, or results of other images or keypoints.
    """
    kind, lines = read(path)
    truth = coco_scores.read_annotations(annotations)
    if kind == "keypoints":
        truth = coco_scores.of_keypoints(truth, len(sigmas), annotations)
        if wrong := [line for line in lines if len(line["keypoints"]) != 3 * len(sigmas)]:
            raise errors.UserError(
                f"--predictions {path} has {len(wrong[0]['keypoints'])} numbers as keypoints, not 3 for each of "
                f"{len(sigmas)}: give --sigmas of as many keypoints."
            )
    return {name: float(value) for name, value in coco_scores.score(kind, truth, lines, sigmas=sigmas).items()}


def _kind(line):
    line["category_id"], line["score"]  # noqa: B018
    for name, kind in (("keypoints", "keypoints"), ("segmentation", "segm"), ("bbox", "bbox")):
        if name in line:
            return kind
    raise KeyError("bbox")
