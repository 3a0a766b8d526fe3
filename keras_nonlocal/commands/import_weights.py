"""Imports a checkpoint of the official code, SlowFast or mmaction2 as weights of our networks.

    keras-nonlocal import_weights i3d_nonlocal_8x8_IN_pretrain_400k.pkl --temporal_stride=2 --out=i3d.weights.h5

Nothing in the file is executed, and neither PyTorch nor Caffe2 is needed. Prints where every variable came from, the
file's SHA-256 and its source's licence, and writes the same next to the weights.
"""

import pathlib

from absl import flags

from keras_nonlocal import errors
from keras_nonlocal.models import video_resnet
from keras_nonlocal.weights import saving, sources

flags.DEFINE_string(
    "model", "auto", "auto for the network the file was trained as, or one of keras_nonlocal.models.list()."
)
flags.DEFINE_string("out", None, "Where the weights go, .weights.h5 or .safetensors.", required=True)
flags.DEFINE_enum("source", "auto", ["auto", *sources.SOURCES], "Whose names, or for .pkl whose stem, the file has.")
flags.DEFINE_enum("stem", None, list(video_resnet.STEMS), "Whose pool1, if not the source's.")
flags.DEFINE_enum("temporal_stride", None, ["2", "8"], "8 for 32x2 and 128x1 networks, 2 for 8x8 and 32x4.")
flags.DEFINE_enum("pairwise", None, ["embedded_gaussian", "dot_product"], "Of the non-local blocks.")
flags.DEFINE_boolean("scale", None, "Whether theta . phi is scaled, if not as the source's own models.")
FLAGS = flags.FLAGS
TAKES_ARGUMENTS = True


def main(arguments):
    if len(arguments) != 2:
        raise errors.UserError(f"Give one file. Received: {arguments[1:]}")
    options = {name: FLAGS[name].value for name in ("stem", "pairwise", "scale") if FLAGS[name].value is not None}
    if FLAGS.temporal_stride:
        options["temporal_stride"] = int(FLAGS.temporal_stride)
    model, report = saving.imported(arguments[1], FLAGS.model, FLAGS.source, options)
    print(report)
    for path in saving.save(model, report, pathlib.Path(FLAGS.out)):
        print(f"Wrote {path}")
