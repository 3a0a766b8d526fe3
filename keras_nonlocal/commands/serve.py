"""Serves a published model over REST and gRPC, by TensorFlow Serving if installed, else by a local server.

    keras-nonlocal serve --model_base_path=saved_models/clips --model_name=clips

Prints `ready model=... version=... grpc=grpc://HOST:PORT rest=http://HOST:PORT` when it answers. Ctrl-C or SIGTERM
stops it.
"""

from absl import flags

from keras_nonlocal.serving import server

flags.DEFINE_string("model_base_path", None, "Directory with numbered versions.", required=True)
flags.DEFINE_string("model_name", None, "Name that requests use.", required=True)
flags.DEFINE_string("host", "127.0.0.1", "Address the local server listens on.")
flags.DEFINE_integer("port", 8500, "gRPC port; 0 for a free one.", lower_bound=0, upper_bound=65535)
flags.DEFINE_integer("rest_api_port", 8501, "REST port; 0 for a free one.", lower_bound=0, upper_bound=65535)
FLAGS = flags.FLAGS


def main(_):
    server.run(FLAGS.model_base_path, FLAGS.model_name, FLAGS.host, FLAGS.port, FLAGS.rest_api_port)
