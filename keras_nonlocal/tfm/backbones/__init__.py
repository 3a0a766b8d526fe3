"""Backbones with non-local blocks in tfm's registry."""

from keras_nonlocal.tfm.backbones import non_local_resnet, non_local_resnet_3d, video_resnet

__all__ = ["non_local_resnet", "non_local_resnet_3d", "video_resnet"]
