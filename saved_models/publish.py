"""Lists the published versions of a model, makes one of them the one that is served, and goes back.

The same as `keras-nonlocal publish`; its flags: `--help`.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Its lines are not for people; its errors are exceptions.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # oneDNN's kernels, off by default on CPUs without AVX-512

from keras_nonlocal import commands  # noqa: E402

if __name__ == "__main__":
    commands.run("publish")
