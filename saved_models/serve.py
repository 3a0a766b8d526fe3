"""Serves a published model over REST and gRPC, by TensorFlow Serving if installed, else by a local stand-in.

    python saved_models/serve.py --model_base_path=saved_models/clips --model_name=clips

Prints `ready model=... version=... grpc=HOST:PORT rest=http://HOST:PORT` when it answers. Ctrl-C or SIGTERM stops it.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before the import of TensorFlow, which reads it
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # oneDNN's kernels, off by default on CPUs without AVX-512

from absl import app, flags

from keras_nonlocal.errors import exit_on_user_error
from keras_nonlocal.serving import server

_BASE_PATH = flags.DEFINE_string("model_base_path", None, "Directory with numbered versions.", required=True)
_NAME = flags.DEFINE_string("model_name", None, "Name that requests use.", required=True)
_HOST = flags.DEFINE_string("host", "127.0.0.1", "Address the local server listens on.")
_PORT = flags.DEFINE_integer("port", 8500, "gRPC port; 0 for a free one.", lower_bound=0, upper_bound=65535)
_REST_PORT = flags.DEFINE_integer(
    "rest_api_port", 8501, "REST port; 0 for a free one.", lower_bound=0, upper_bound=65535
)


@exit_on_user_error
def main(_):
    server.run(_BASE_PATH.value, _NAME.value, _HOST.value, _PORT.value, _REST_PORT.value)


if __name__ == "__main__":
    app.run(main)
