"""Detectors of people's keypoints on COCO: Mask R-CNN with a keypoint head, with and without non-local blocks.

The schedule is Detectron's 1x; `--config_file=coco_keypoints_s1x` is its longer one. What stays different from
Detectron is what experiments.coco says, and that tfm takes one sample a bin in RoIAlign where Detectron takes four:
do not expect the paper's AP.
"""

import functools

from official.core import config_definitions as cfg
from official.core import exp_factory

from keras_nonlocal import paper
from keras_nonlocal.tfm.experiments import coco
from keras_nonlocal.tfm.keypoints import config


def of_paper(detector: paper.Detector, recipe: paper.Recipe) -> cfg.ExperimentConfig:
    """A detector of Table 6 (section 5.3): one of Table 5 with keypoints instead of masks, of one class, people."""
    experiment = coco.of_paper(detector, recipe)
    task = config.KeypointTask(experiment.task.as_dict())
    task.annotation_file = "coco/person_keypoints_val2017.json"
    task.model.num_classes, task.model.include_mask = 2, False
    task.model.keypoint_head.non_local = detector.head_non_local
    experiment.task = task
    return experiment


DETECTORS = {
    "keypoint_rcnn_r50_coco": paper.Detector("keypoint_rcnn_r50", 50),
    "non_local_keypoint_rcnn_r50_coco": paper.Detector(
        "nl_keypoint_rcnn_r50", 50, non_local={"res4": (4,)}, head_non_local=(1, 3, 5, 7)
    ),
}
NAMES = tuple(DETECTORS)

for _name, _detector in DETECTORS.items():
    _of_this = functools.partial(of_paper, _detector, paper.RECIPES["coco_keypoints"])
    exp_factory.register_config_factory(_name)(_of_this)
