"""What a configuration of keypoint detection must satisfy, said in a sentence before anything is built."""

from typing import Any

from keras_nonlocal import errors
from keras_nonlocal.tfm.keypoints import config
from keras_nonlocal.tfm.scoring import coco_keypoints


def check(task: config.KeypointTask) -> None:
    """Refuses a configuration that cannot work.

    Raises:
      UserError: for the first thing that is wrong.
    """
    _check_skeleton(task)
    _check_data(task)
    if task.decoding not in coco_keypoints.DECODINGS:
        _refuse("decoding", f"be one of {', '.join(coco_keypoints.DECODINGS)}", task.decoding)


def _refuse(name: str, must: str, value: Any) -> None:
    raise errors.UserError(f"task.{name} must {must}. Received: {value}")


def _check_skeleton(task):
    count, mirrored = task.model.num_keypoints, list(task.mirrored)
    if not errors.is_positive_int(count):
        _refuse("model.num_keypoints", "be a positive integer", count)
    if sorted(mirrored) != list(range(count)):
        _refuse("mirrored", f"be the numbers from 0 to model.num_keypoints - 1 = {count - 1}, each once", mirrored)
    if [mirrored[number] for number in mirrored] != list(range(count)):
        _refuse("mirrored", "exchange keypoints in pairs, so that a mirror of a mirror changes nothing", mirrored)
    if len(task.sigmas) != count or min(task.sigmas) <= 0:
        _refuse("sigmas", f"be positive, one for each of model.num_keypoints = {count}", list(task.sigmas))


def _check_data(task):
    for part in ("train_data", "validation_data"):
        decoder = getattr(task, part).decoder.type
        if decoder != "simple_decoder":
            _refuse(f"{part}.decoder.type", "be simple_decoder, which reads keypoints", decoder)
    if not task.train_data.drop_remainder:
        _refuse("train_data.drop_remainder", "be true, for tfm samples regions in batches of one size", False)
    if task.train_data.parser.aug_rand_vflip:
        _refuse(
            "train_data.parser.aug_rand_vflip",
            "be false, for people are upside down in no other image, and the mirror's pairs are of left and right",
            True,
        )
