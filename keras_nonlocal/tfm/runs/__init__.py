"""What a training run needs to be stopped, killed, watched and trusted: one file for each of its concerns."""

from keras_nonlocal.tfm.runs import checkpoints, divergence, folder, loop, progress, stopping

__all__ = ["checkpoints", "divergence", "folder", "loop", "progress", "stopping"]
