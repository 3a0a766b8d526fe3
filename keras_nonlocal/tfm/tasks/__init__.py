"""The tasks, one file each: how records are parsed, what is learned, how it is scored, and what others ask of it."""

from keras_nonlocal.tfm.tasks import answers, detection, keypoints, multi_label, video_classification

__all__ = ["answers", "detection", "keypoints", "multi_label", "video_classification"]
