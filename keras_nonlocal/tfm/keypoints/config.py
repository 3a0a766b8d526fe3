"""The configuration of a keypoint detector: tfm's of Mask R-CNN, and what keypoints need."""

import dataclasses

from official.modeling import hyperparams
from official.vision.configs import maskrcnn

from keras_nonlocal.skeleton import COCO_PERSON
from keras_nonlocal.tfm.backbones import configs


@dataclasses.dataclass
class KeypointHead(hyperparams.Config):
    """See keras_nonlocal.tfm.heads.keypoint.KeypointHead; `non_local` counts the convolutions from 0."""

    num_convs: int = 8
    num_filters: int = 512
    non_local: tuple[int, ...] = ()
    non_local_block: configs.NonLocalBlock2D = dataclasses.field(
        default_factory=lambda: configs.NonLocalBlock2D(norm=None)
    )


@dataclasses.dataclass
class KeypointSampler(hyperparams.Config):
    """How many regions of an image at most the keypoint head is trained on."""

    num_sampled_keypoints: int = 128


@dataclasses.dataclass
class KeypointAligner(maskrcnn.ROIAligner):
    """Of the keypoint head's regions; heat maps are four times as large as the crop."""

    crop_size: int = 14


@dataclasses.dataclass
class KeypointRCNN(maskrcnn.MaskRCNN):
    """tfm's Mask R-CNN with a keypoint head. Its masks are off by default, as in the paper's Table 6."""

    num_classes: int = 2
    include_mask: bool = False
    num_keypoints: int = len(COCO_PERSON.names)
    keypoint_head: KeypointHead = dataclasses.field(default_factory=KeypointHead)
    keypoint_sampler: KeypointSampler = dataclasses.field(default_factory=KeypointSampler)
    keypoint_roi_aligner: KeypointAligner = dataclasses.field(default_factory=KeypointAligner)
    backbone: configs.Backbone = dataclasses.field(default_factory=configs.Backbone)


@dataclasses.dataclass
class DataConfig(maskrcnn.DataConfig):
    """tfm's; a record without visible keypoints is not trained on."""


@dataclasses.dataclass
class Losses(maskrcnn.Losses):
    """tfm's, and the weight of the keypoints' cross-entropy."""

    keypoint_weight: float = 1.0


@dataclasses.dataclass
class KeypointTask(maskrcnn.MaskRCNNTask):
    """Of boxes and keypoints, and of masks where `model.include_mask` says so.

    Fields beside tfm's:
      mirrored: for each keypoint the number, from 0, of the one that takes its place in a mirror: left and right of a
        pair exchanged, others their own. Default as of COCO's person.
      sigmas: of the evaluation, one for each keypoint; default those of COCO's person.
      decoding: of heat maps in an evaluation, "quadratic" as in the exported model, or Detectron's "bicubic".
    """

    model: KeypointRCNN = dataclasses.field(default_factory=KeypointRCNN)
    train_data: DataConfig = dataclasses.field(default_factory=lambda: DataConfig(is_training=True))
    validation_data: DataConfig = dataclasses.field(
        default_factory=lambda: DataConfig(is_training=False, drop_remainder=False)
    )
    losses: Losses = dataclasses.field(default_factory=Losses)
    mirrored: list[int] = dataclasses.field(default_factory=lambda: list(COCO_PERSON.mirrored))
    sigmas: list[float] = dataclasses.field(default_factory=lambda: list(COCO_PERSON.sigmas))
    decoding: str = "quadratic"
