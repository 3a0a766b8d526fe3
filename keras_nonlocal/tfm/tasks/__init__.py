"""The tasks: how records are parsed, what is learned, and how it is scored."""

from keras_nonlocal.tfm.tasks import multi_label, video_classification

__all__ = ["multi_label", "video_classification"]
