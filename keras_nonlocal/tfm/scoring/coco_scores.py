"""COCO's metrics of result lines, by pycocotools, which stays the reference."""

import contextlib
import io
import json
from collections.abc import Iterable

import numpy as np
import tensorflow as tf
from pycocotools import coco, cocoeval

from keras_nonlocal import errors

_BOXES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "ARmax1", "ARmax10", "ARmax100", "ARs", "ARm", "ARl")
# The names of pycocotools' figures in its order, by its name of what is compared; tfm's names for boxes and masks.
METRICS = {
    "bbox": _BOXES,
    "segm": tuple(f"mask_{name}" for name in _BOXES),
    "keypoints": tuple(
        f"keypoint_{name}" for name in ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
    ),
}


def score(
    kind: str,
    truth: dict,
    lines: list[dict],
    image_ids: Iterable[int | str] | None = None,
    sigmas: Iterable[float] | None = None,
) -> dict[str, np.float32]:
    """What pycocotools says of result lines.

    Args:
      kind: what is compared, a key of METRICS.
      truth: annotations in COCO's format, as `read_annotations` and `of_keypoints` give them.
      lines: results in COCO's format; any number of them, also none.
      image_ids: the images that count. Default all of the annotations.
      sigmas: of keypoints, one each: see keras_nonlocal.skeleton.Skeleton.

    Returns:
      The metrics by name. One that there is not, as an AP of large objects where there are none, is -1, as
      pycocotools has it; without any result they are 0.

    Raises:
      UserError: if a result or one of image_ids is of an image that the annotations do not have.
    """
    known = {image["id"] for image in truth["images"]}
    chosen = known if image_ids is None else set(image_ids)
    if unknown := sorted(map(str, (chosen | {line["image_id"] for line in lines}) - known)):
        raise errors.UserError(
            f"{len(unknown)} images of the results are not in the annotations, as image_id {unknown[0]}: give the "
            "annotations of the images that were tested."
        )
    with contextlib.redirect_stdout(io.StringIO()):
        annotated = _index(truth, truth["annotations"])
        # pycocotools looks into the first result to know what they are.
        found = annotated.loadRes([dict(line) for line in lines]) if lines else _index(truth, [])
        evaluation = cocoeval.COCOeval(annotated, found, kind)
        evaluation.params.imgIds = sorted(chosen)
        if kind == "keypoints":
            evaluation.params.kpt_oks_sigmas = np.asarray(sigmas, np.float64)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(METRICS[kind], evaluation.stats.astype(np.float32), strict=True))


def _index(truth, annotations):
    """pycocotools' object; it writes into annotations, so that it gets its own."""
    made = coco.COCO()
    made.dataset = {**truth, "annotations": [dict(each) for each in annotations]}
    made.createIndex()
    return made


def read_annotations(path: str) -> dict:
    """Annotations in COCO's format as `score` takes them.

    Annotations are numbered anew from 1: pycocotools takes 0 for "not matched" and forgets one of two with the same id.
    An area that is missing is that of the box, a missing iscrowd is 0.

    Args:
      path: a JSON file, of any file system that TensorFlow reads.

    Returns:
      A dict with images, categories and annotations.

    Raises:
      UserError: if there is no such file, or it is something else.
    """
    try:
        with tf.io.gfile.GFile(path) as file:
            document = json.load(file)
        images = [{**each, "id": image_id(each["id"])} for each in document["images"]]
        categories = [{**each, "id": each["id"]} for each in document["categories"]]
        annotations = [_complete(number, given) for number, given in enumerate(document["annotations"], start=1)]
    except (OSError, tf.errors.OpError, ValueError, KeyError, TypeError) as error:
        raise errors.UserError(
            f"{path} is no file of annotations in COCO's format ({errors.first_line(error)}): give a JSON file with "
            "images, categories and annotations, each of which has image_id, category_id and bbox."
        ) from error
    return {"images": images, "categories": categories, "annotations": annotations}


def _complete(number, given):
    _, _, width, height = given["bbox"]
    ids = {"id": number, "image_id": image_id(given["image_id"]), "category_id": given["category_id"]}
    return {"iscrowd": 0, "area": width * height, **given, **ids}


def image_id(given: int | str | bytes) -> int | str:
    """An image's id, as a number wherever it is one: that is what tfm makes of the text in a record."""
    text = given.decode() if isinstance(given, bytes) else str(given)
    return int(text) if text.isdecimal() else text


def of_keypoints(truth: dict, count: int, path: str) -> dict:
    """The part of annotations that is of keypoints: pycocotools wants them in every annotation of a category.

    An annotation without them gets some that are not visible, and so counts as one of a crowd: what is found there is
    neither right nor wrong. A missing num_keypoints is counted: those with v > 0.

    Args:
      truth: as read_annotations gives it.
      count: how many keypoints there are.
      path: where it is from, for the error.

    Returns:
      The same, of the categories with keypoints.

    Raises:
      UserError: if there are no keypoints, or another number of them.
    """
    annotations = truth["annotations"]
    having = {each["category_id"] for each in annotations if each.get("keypoints")}
    having |= {each["id"] for each in truth["categories"] if each.get("keypoints")}
    if not having:
        raise errors.UserError(
            f"no annotation or category of {path} has keypoints: give a file of them, as person_keypoints_val2017.json."
        )
    annotations = [_with_keypoints(each, count, path) for each in annotations if each["category_id"] in having]
    categories = [each for each in truth["categories"] if each["id"] in having]
    return {**truth, "categories": categories, "annotations": annotations}


def _with_keypoints(given, count, path):
    keypoints = given.get("keypoints") or [0] * (3 * count)
    if len(keypoints) != 3 * count:
        raise errors.UserError(
            f"{path} has {len(keypoints)} numbers as keypoints of annotation {given['id']} (counted from 1), not 3 for "
            f"each of {count}: give annotations of the keypoints that the network has, or the sigmas of these."
        )
    visible = sum(v > 0 for v in keypoints[2::3])
    return {"num_keypoints": visible, **given, "keypoints": keypoints}
