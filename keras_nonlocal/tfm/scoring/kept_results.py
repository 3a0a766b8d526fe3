"""What a detector finds in the images of a test, kept while tfm's task sums up its metrics."""

from typing import Any

import numpy as np
from official.core import base_task

from keras_nonlocal.tfm.scoring import coco_results


class KeepingEvaluator:
    """tfm's evaluator of boxes and masks, which also keeps the lines of its results; an image's first ones.

    tfm's tasks make the evaluator themselves, and it forgets what it was given when it has summed it up.

    Args:
      evaluator: an official.vision.evaluation.coco_evaluator.COCOEvaluator.
    """

    def __init__(self, evaluator):
        self._evaluator = evaluator
        self.reset_states()

    @property
    def name(self) -> str:
        """Under which a task's logs have what is given to update_state."""
        return self._evaluator.name

    def reset_states(self) -> None:
        """Forgets all images, lines too."""
        self._evaluator.reset_states()
        self._images: set[int] = set()
        self._lines: dict[str, list[dict]] = {"bbox": []}

    def update_state(self, groundtruths: dict[str, Any], predictions: dict[str, Any]) -> None:
        """Takes a batch, as tfm's evaluator does."""
        self._evaluator.update_state(groundtruths, predictions)
        batch = coco_results.in_numpy(predictions)
        for row in coco_results.new_rows(batch, self._images):
            self._lines["bbox"] += coco_results.boxes(batch, row)
            if "detection_masks" in batch:
                self._lines.setdefault("segm", []).extend(coco_results.masks(batch, row))

    def result(self) -> dict[str, np.float32]:
        """The metrics of tfm's evaluator. The lines stay."""
        return self._evaluator.result()

    def results(self) -> dict[str, list[dict]]:
        """The lines in COCO's format of all images since the last reset, by their kind."""
        return self._lines


class KeptResults:
    """The results of one test, from watching its task.

    A task has evaluators where tfm's tasks have theirs, `coco_metric`, and of keypoints in `keypoint_metric`.
    """

    def __init__(self):
        self._task = None

    def watch(self, task: base_task.Task) -> None:
        """Lets a task, whose metrics are built, keep its results."""
        task.coco_metric = KeepingEvaluator(task.coco_metric)
        self._task = task

    def results(self) -> dict[str, list[dict]]:
        """The lines in COCO's format, by their kind, as coco_results.write takes them."""
        results = self._task.coco_metric.results()
        if keypoints := getattr(self._task, "keypoint_metric", None):
            results = {**results, "keypoints": keypoints.results()}
        return results
