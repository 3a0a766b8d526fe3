"""Lists what a published version takes and gives, with requests to it by curl and from Python.

    keras-nonlocal describe saved_models/clips/3 --model_name=clips

Reads the file only: it takes as long for a large model as for a small one.
"""

from absl import flags

from keras_nonlocal.commands import arguments
from keras_nonlocal.export import describe

flags.DEFINE_string("rest", "http://127.0.0.1:8501", "Address of REST in the requests.")
flags.DEFINE_string("server", "grpc://127.0.0.1:8500", "Address of gRPC in the requests.")
flags.DEFINE_string("model_name", None, "Name of the served model; default is that of the version's folder.")
FLAGS = flags.FLAGS
TAKES_ARGUMENTS = True


def main(argv):
    print(describe.describe(arguments.only(argv, arguments.VERSION), FLAGS.rest, FLAGS.server, FLAGS.model_name))
