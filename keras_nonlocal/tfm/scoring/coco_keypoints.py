"""COCO's evaluation of keypoints, as tfm's evaluators are used.

tfm's own one does not run with pycocotools as it is, cuts coordinates to integers and takes a keypoint at (0, 0) for
one that is not there.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_nonlocal import errors
from keras_nonlocal.tfm.keypoints.bicubic import bicubic
from keras_nonlocal.tfm.scoring import coco_results, coco_scores

DECODINGS = ("quadratic", "bicubic")


class KeypointEvaluator:
    """COCO's metrics of keypoints, from batch to batch; an image that comes again does not count again.

    A metric that there is not, as the one of large objects where there are none, is -1, as pycocotools has it.

    Args:
      annotation_file: in COCO's format, with keypoints. None takes the decoded objects: `groundtruths` of update_state.
      sigmas: one for each keypoint: see keras_nonlocal.skeleton.Skeleton.
      decoding: "quadratic", the model's own, or Detectron's "bicubic", of its heat maps; then the model's own is
        reported beside it, as keypoint_AP_quadratic.

    Raises:
      UserError: for another decoding, sigmas that are not positive, or a file that is not of these keypoints.
    """

    def __init__(self, annotation_file: str | None, sigmas: Sequence[float], decoding: str = "quadratic"):
        if decoding not in DECODINGS:
            raise errors.UserError(f"decoding must be one of {', '.join(DECODINGS)}. Received: {decoding!r}")
        if not len(sigmas) or not all(0 < sigma < np.inf for sigma in sigmas):
            raise errors.UserError(f"sigmas must be positive, one for each keypoint. Received: {list(sigmas)}")
        self._sigmas = tuple(sigmas)
        self._decoding = decoding
        self._annotated = None
        if annotation_file:
            annotations = coco_scores.read_annotations(annotation_file)
            self._annotated = coco_scores.of_keypoints(annotations, len(self._sigmas), annotation_file)
        self._last: list[dict] = []
        self.reset_states()

    @property
    def name(self) -> str:
        """Under which a task's logs have what is given to update_state."""
        return "keypoint_metric"

    def reset_states(self) -> None:
        """Forgets all images; `results` keeps the last ones."""
        self._images: set[int] = set()
        self._lines: dict[str, list[dict]] = {decoding: [] for decoding in {"quadratic", self._decoding}}
        self._objects: list[dict] = []

    def update_state(self, groundtruths: dict[str, Any], predictions: dict[str, Any]) -> None:
        """Takes the detections of a batch.

        Args:
          groundtruths: tensors, used if there is no annotation_file, padded to M objects: source_id (B,),
            num_detections (B,), boxes (B, M, 4) as y1, x1, y2, x2 and keypoints (B, M, K, 2) as y, x, both continuous
            and in pixels of the original image, visibility (B, M, K), classes, areas and is_crowds (B, M).
          predictions: tensors, see keras_nonlocal.tfm.scoring.coco_results: source_id, image_info, num_detections,
            detection_boxes, detection_scores, detection_classes, detection_keypoints (B, D, K, 3), and for the bicubic
            decoding keypoint_outputs (B, D, S, S, K).

        Raises:
          UserError: if there are not as many keypoints as sigmas.
        """
        batch = coco_results.in_numpy(predictions)
        count = batch["detection_keypoints"].shape[2]
        if count != len(self._sigmas):
            raise errors.UserError(
                f"task.sigmas must be one for each of the {count} keypoints of the model. Received: {len(self._sigmas)}"
            )
        objects = None if self._annotated else coco_results.in_numpy(groundtruths)
        for row in coco_results.new_rows(batch, self._images):
            self._lines["quadratic"] += coco_results.keypoints(batch, row)
            if self._decoding == "bicubic":
                self._lines["bicubic"] += coco_results.keypoints(_decoded_anew(batch, row), 0)
            if objects is not None:
                self._objects += _annotations(objects, row)

    def result(self) -> dict[str, np.float32]:
        """The metrics of all images since the last reset, by name; then resets.

        Raises:
          UserError: if an image is not in the annotation file.
        """
        truth = self._annotated or self._decoded_truth()
        scored = {
            decoding: coco_scores.score("keypoints", truth, lines, self._images, self._sigmas)
            for decoding, lines in self._lines.items()
        }
        metrics = scored[self._decoding]
        if self._decoding != "quadratic":
            metrics["keypoint_AP_quadratic"] = scored["quadratic"]["keypoint_AP"]
        self._last = self._lines[self._decoding]
        self.reset_states()
        return metrics

    def results(self) -> list[dict]:
        """The lines in COCO's format that the last result is of."""
        return self._last

    def _decoded_truth(self):
        annotations = [{**each, "id": number} for number, each in enumerate(self._objects, start=1)]
        categories = sorted({each["category_id"] for each in annotations})
        return {
            "images": [{"id": image} for image in sorted(self._images)],
            "categories": [{"id": category} for category in categories],
            "annotations": annotations,
        }


def _decoded_anew(batch, row):
    """A batch of the one image with the keypoints of its heat maps."""
    own = {name: value[row : row + 1] for name, value in batch.items()}
    heat_maps, places = own.pop("keypoint_outputs")[0], own["detection_keypoints"].astype(np.float64)
    for number in range(int(own["num_detections"][0])):
        places[0, number] = bicubic(heat_maps[number], own["detection_boxes"][0, number])
    return {**own, "detection_keypoints": places}


def _annotations(objects, row):
    """The annotations of an image's decoded objects; those that the padding has no room for are not known."""
    for place in range(min(int(objects["num_detections"][row]), objects["boxes"].shape[1])):
        top, left, bottom, right = objects["boxes"][row, place].tolist()
        visibility = objects["visibility"][row, place].astype(np.int64)
        # Pixels are numbered, their centres are half a pixel further.
        places = objects["keypoints"][row, place, :, ::-1] - 0.5
        yield {
            "image_id": coco_scores.image_id(objects["source_id"][row]),
            "category_id": int(objects["classes"][row, place]),
            "bbox": [left, top, right - left, bottom - top],
            "area": float(objects["areas"][row, place]),
            "iscrowd": int(objects["is_crowds"][row, place]),
            "keypoints": np.concatenate([places, visibility[:, np.newaxis]], axis=1).ravel().tolist(),
            "num_keypoints": int((visibility > 0).sum()),
        }
