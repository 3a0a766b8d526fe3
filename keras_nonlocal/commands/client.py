"""Sends a video to a served model over REST and gRPC and prints both predictions side by side.

    keras-nonlocal client --video=clip.mp4 --model_name=clips --labels=labels.txt

`--signature=serving_default` sends sampled frames, `--signature=tf_example` all frames as JPEG.
"""

from absl import flags

from keras_nonlocal.serving import compare, constants

flags.DEFINE_string("video", None, "Video file to classify.", required=True)
flags.DEFINE_string("model_name", None, "Name of the served model.", required=True)
flags.DEFINE_string("server", "127.0.0.1:8500", "gRPC address, host:port.")
flags.DEFINE_string("rest", "http://127.0.0.1:8501", "REST address, http://host:port.")
flags.DEFINE_string("labels", None, "Text file with one class name a line; default prints class numbers.")
flags.DEFINE_integer("top", 5, "How many classes to print.", lower_bound=1)
flags.DEFINE_integer(
    "stride", None, "Distance of the frames sent, as in training; default spreads them over the video.", lower_bound=1
)
flags.DEFINE_string("signature", constants.DEFAULT_SIGNATURE, "Served function to call.")
FLAGS = flags.FLAGS


def main(_):
    comparison = compare.compare_protocols(
        FLAGS.video, FLAGS.server, FLAGS.rest, FLAGS.model_name, FLAGS.signature, FLAGS.stride
    )
    print(compare.table(comparison, FLAGS.labels, FLAGS.top))
