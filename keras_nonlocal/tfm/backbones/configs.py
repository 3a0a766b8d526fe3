"""The backbones' configurations; the words are those of NonLocal2D, NonLocal3D and models.video_resnet."""

import dataclasses

from official.modeling import hyperparams
from official.vision.configs import backbones, backbones_3d


@dataclasses.dataclass
class Placement(hyperparams.Config):
    """Residual blocks, counted from 0 in each stage, that are followed by a non-local block."""

    res2: tuple[int, ...] = ()
    res3: tuple[int, ...] = ()
    res4: tuple[int, ...] = ()
    res5: tuple[int, ...] = ()


@dataclasses.dataclass
class NonLocalBlock(hyperparams.Config):
    """Arguments of NonLocal3D, with its defaults."""

    pairwise: str = "embedded_gaussian"
    inner_channels: int | None = None
    pool_size: tuple[int, ...] = (1, 2, 2)
    pool_before_projection: bool = True
    scale: bool = True
    extent: str = "spacetime"
    group_frames: int | None = None
    norm: str | None = "batch_norm"
    use_bias: bool = True
    use_out_bias: bool = True
    kernel_initializer: str | None = None
    implementation: str = "auto"


@dataclasses.dataclass
class GroupFrames(hyperparams.Config):
    """Frames that the non-local blocks of a stage see at a time; null for all."""

    res2: int | None = None
    res3: int | None = None
    res4: int | None = None
    res5: int | None = None


@dataclasses.dataclass
class VideoResNet(hyperparams.Config):
    """C2D (`inflate: null`) or I3D; see keras_nonlocal.models.video_resnet.video_resnet for every field."""

    block_counts: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64
    inflate: str | None = None
    temporal_stride: int = 2
    stem: str = "official"
    non_local: Placement = dataclasses.field(default_factory=Placement)
    non_local_block: NonLocalBlock = dataclasses.field(default_factory=NonLocalBlock)
    group_frames: GroupFrames = dataclasses.field(default_factory=GroupFrames)
    norm_frozen: bool = False


@dataclasses.dataclass
class NonLocalResNet3D(backbones_3d.ResNet3D50):
    """tfm's ResNet3D with non-local blocks; see tfm.backbones.non_local_resnet_3d.NonLocalResNet3D."""

    non_local: Placement = dataclasses.field(default_factory=Placement)
    non_local_block: NonLocalBlock = dataclasses.field(default_factory=NonLocalBlock)


@dataclasses.dataclass
class Backbone3D(backbones_3d.Backbone3D):
    """tfm's 3D backbones and ours."""

    type: str | None = "video_resnet"
    video_resnet: VideoResNet = dataclasses.field(default_factory=VideoResNet)
    non_local_resnet_3d: NonLocalResNet3D = dataclasses.field(default_factory=NonLocalResNet3D)


@dataclasses.dataclass
class NonLocalBlock2D(NonLocalBlock):
    """Arguments of NonLocal2D, with its defaults."""

    pool_size: tuple[int, ...] = (2, 2)


@dataclasses.dataclass
class NonLocalResNet(backbones.ResNet):
    """tfm's ResNet with non-local blocks and grouped convolutions; see tfm.backbones.non_local_resnet."""

    groups: int = 1
    width_per_group: int = 64
    non_local: Placement = dataclasses.field(default_factory=Placement)
    non_local_block: NonLocalBlock2D = dataclasses.field(default_factory=NonLocalBlock2D)


@dataclasses.dataclass
class Backbone(backbones.Backbone):
    """tfm's 2D backbones and ours, for its tasks on images."""

    type: str | None = "non_local_resnet"
    non_local_resnet: NonLocalResNet = dataclasses.field(default_factory=NonLocalResNet)
