"""Draws what a model's non-local blocks attend to in a video or photo.

The same as `keras-nonlocal explain`; its flags: `--help`.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Its lines are not for people; its errors are exceptions.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # oneDNN's kernels, off by default on CPUs without AVX-512

from keras_nonlocal import commands  # noqa: E402

if __name__ == "__main__":
    commands.run("explain")
