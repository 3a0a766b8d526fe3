"""Sends a video to a served model over REST and gRPC and prints both answers side by side.

    python saved_models/client.py --video=clip.mp4 --model_name=clips --labels=labels.txt

`--signature=serving_default` sends sampled frames, `--signature=tf_example` all frames as JPEG.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before the import of TensorFlow, which reads it
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # oneDNN's kernels, off by default on CPUs without AVX-512

from absl import app, flags

from keras_nonlocal.errors import exit_on_user_error
from keras_nonlocal.serving import compare

_VIDEO = flags.DEFINE_string("video", None, "Video file to classify.", required=True)
_NAME = flags.DEFINE_string("model_name", None, "Name of the served model.", required=True)
_SERVER = flags.DEFINE_string("server", "127.0.0.1:8500", "gRPC address, host:port.")
_REST = flags.DEFINE_string("rest", "http://127.0.0.1:8501", "REST address, http://host:port.")
_LABELS = flags.DEFINE_string("labels", None, "Text file with one class name a line; default prints class numbers.")
_TOP = flags.DEFINE_integer("top", 5, "How many classes to print.", lower_bound=1)
_STRIDE = flags.DEFINE_integer(
    "stride", None, "Distance of the frames sent, as in training; default spreads them over the video.", lower_bound=1
)
_SIGNATURE = flags.DEFINE_string("signature", "serving_default", "Served function to call.")


@exit_on_user_error
def main(_):
    comparison = compare.compare_protocols(
        _VIDEO.value, _SERVER.value, _REST.value, _NAME.value, _SIGNATURE.value, _STRIDE.value
    )
    print(compare.table(comparison, _LABELS.value, _TOP.value))


if __name__ == "__main__":
    app.run(main)
