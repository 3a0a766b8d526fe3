"""What a configuration of keypoint detection must satisfy, said in a sentence before anything is built."""

from collections.abc import Callable

from keras_nonlocal import errors
from keras_nonlocal.tfm.keypoints import config

DECODINGS = ("quadratic", "bicubic")


def check(task: config.KeypointTask) -> None:
    """Refuses a configuration that cannot work.

    Raises:
      UserError: for the first thing that is wrong.
    """
    for rule in (_skeleton, _head, _data, _evaluation):
        rule(task, _refuse)


def _refuse(name, must, value):
    raise errors.UserError(f"task.{name} must {must}. Received: {value}")


def _skeleton(task: config.KeypointTask, refuse: Callable) -> None:
    count = task.model.num_keypoints
    if not errors.is_positive_int(count):
        refuse("model.num_keypoints", "be a positive integer", count)
    mirrored = list(task.mirrored)
    if sorted(mirrored) != list(range(count)):
        refuse(
            "mirrored", f"be the numbers from 0 to {count - 1}, one for each of the model.num_keypoints", task.mirrored
        )
    if [mirrored[number] for number in mirrored] != list(range(count)):
        refuse("mirrored", "exchange keypoints in pairs, so that a mirror of a mirror changes nothing", task.mirrored)
    if len(task.sigmas) != count or min(task.sigmas) <= 0:
        refuse("sigmas", f"be positive, one for each of the {count} keypoints of model.num_keypoints", task.sigmas)


def _head(task: config.KeypointTask, refuse: Callable) -> None:
    head = task.model.keypoint_head
    blocks = list(head.non_local)
    if len(set(blocks)) < len(blocks) or not set(blocks) <= set(range(head.num_convs)):
        refuse(
            "model.keypoint_head.non_local",
            f"number convolutions from 0 to num_convs - 1 = {head.num_convs - 1}, each once",
            blocks,
        )


def _data(task: config.KeypointTask, refuse: Callable) -> None:
    for part in ("train_data", "validation_data"):
        data = getattr(task, part)
        if data.decoder.type != "simple_decoder":
            refuse(f"{part}.decoder.type", "be simple_decoder, which reads keypoints", data.decoder.type)
    if not task.train_data.drop_remainder:
        refuse("train_data.drop_remainder", "be true, for tfm samples regions in batches of one size", False)
    if task.train_data.parser.aug_rand_vflip:
        refuse(
            "train_data.parser.aug_rand_vflip",
            "be false, for an image upside down has keypoints where no other image has them",
            True,
        )


def _evaluation(task: config.KeypointTask, refuse: Callable) -> None:
    if task.decoding not in DECODINGS:
        refuse("decoding", f"be one of {', '.join(DECODINGS)}", task.decoding)
