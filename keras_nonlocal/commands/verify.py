"""Verifies a published version by the requests and answers it was exported with, and a server that serves it.

    keras-nonlocal verify saved_models/clips/3
    keras-nonlocal verify saved_models/clips/3 --rest=http://127.0.0.1:8501 --server=grpc://127.0.0.1:8500

Without the Keras model: its files are what was exported, loaded as TensorFlow Serving does it answers as Keras did,
rows alone as in a batch, and so does the server over REST and gRPC. Exit code 1 and a sentence if not.
"""

from absl import flags

from keras_nonlocal.commands import arguments
from keras_nonlocal.export import verify

flags.DEFINE_string("rest", None, "Of a server to ask over REST, http://host:port or with TLS https.")
flags.DEFINE_string("server", None, "Of a server to ask over gRPC, grpc://host:port or with TLS grpcs.")
flags.DEFINE_string("model_name", None, "Name of the served model; default is that of the version's folder.")
FLAGS = flags.FLAGS
TAKES_ARGUMENTS = True


def main(argv):
    print(verify.verify_again(arguments.only(argv, arguments.VERSION), FLAGS.rest, FLAGS.server, FLAGS.model_name))
