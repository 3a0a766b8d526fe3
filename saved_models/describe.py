"""Lists what a published version takes and gives, with requests to it by curl and from Python.

The same as `keras-nonlocal describe`; its flags: `--help`.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Its lines are not for people; its errors are exceptions.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # oneDNN's kernels, off by default on CPUs without AVX-512

from keras_nonlocal import commands  # noqa: E402

if __name__ == "__main__":
    commands.run("describe")
