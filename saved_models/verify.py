"""Verifies a published version by the requests and answers it was exported with, and a server that serves it.

The same as `keras-nonlocal verify`; its flags: `--help`.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Its lines are not for people; its errors are exceptions.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # oneDNN's kernels, off by default on CPUs without AVX-512

from keras_nonlocal import commands  # noqa: E402

if __name__ == "__main__":
    commands.run("verify")
