"""Draws what a model's non-local blocks attend to in a video or photo.

    keras-nonlocal explain clip.mp4 --model=model.keras --pixels=normalized --out=seen
    keras-nonlocal explain clip.mp4 --experiment=non_local_c2d_kinetics400 --model_dir=runs/non_local_c2d \
        --block=res4_3_nonlocal --query=4,112,80 --out=seen
    keras-nonlocal explain clip.mp4 --server=grpc://127.0.0.1:8500 --model_name=clips --query=4,112,80 --out=seen

The folder gets arrows.png (the paper's Fig. 3), heatmap.png and film.gif of one query, and overview.png of all blocks.
Without --query it is the one whose attention goes furthest: the largest share in other frames, of a photo the largest
distance, above what attention spread evenly has. A served model answers arrows.png alone.
"""

import importlib
import os

from absl import flags

from keras_nonlocal import errors, export, paper
from keras_nonlocal.commands import arguments, experiment_flags
from keras_nonlocal.export import pictures

experiment_flags.define_run(required=False)
flags.adopt_module_key_flags(experiment_flags)
# From pixels 0 to 255 to what a Keras file takes, which the file does not say.
PIXELS = {
    "normalized": lambda x: (x.astype("float32") - paper.PIXEL_MEAN) / paper.PIXEL_STD,  # as trained here
    "bytes": lambda x: x.astype("float32"),
    "unit": lambda x: x.astype("float32") / 255,
    "signed": lambda x: x.astype("float32") / 127.5 - 1,
}
flags.DEFINE_string(
    "model", None, "A .keras or .h5 file of Keras 3 or tf_keras, or a folder that model.save of tf_keras wrote."
)
flags.DEFINE_enum(
    "pixels",
    "normalized",
    list(PIXELS),
    "What the --model takes: pixels as networks trained here do, "
    f"(x - {paper.PIXEL_MEAN}) / {paper.PIXEL_STD}; 0 to 255; 0 to 1; or -1 to 1.",
)
flags.DEFINE_string("server", None, "grpc://host:port or http://host:port of a served model, grpcs or https with TLS.")
flags.DEFINE_string("model_name", None, "Name of the model that the --server serves.")
flags.DEFINE_string(
    "block", None, "The block to draw, by its path or name. Default: the one whose attention goes furthest."
)
flags.DEFINE_string("query", None, "FRAME,Y,X of a position in the clip, or Y,X in a photo, in frames and pixels.")
flags.DEFINE_integer("top", 20, "How many arrows, at most.", lower_bound=1)
flags.DEFINE_integer(
    "stride", None, "Distance of the frames, as in training; default spreads them over the video.", lower_bound=1
)
flags.DEFINE_string("out", None, "Folder for the pictures.", required=True)
FLAGS = flags.FLAGS
TAKES_ARGUMENTS = True


def main(argv):
    path = arguments.only(argv, "video, JPEG or PNG file")
    given = [name for name in ("model", "experiment", "server") if FLAGS[name].value is not None]
    if len(given) != 1:
        raise errors.UserError("give one of --model, --experiment with --model_dir, or --server with --model_name")
    beside = {"experiment": "model_dir", "server": "model_name"}.get(given[0])
    if beside and FLAGS[beside].value is None:
        raise errors.UserError(f"--{given[0]} goes with --{beside}: give both")
    query = None if FLAGS.query is None else _numbers(FLAGS.query)
    if FLAGS.server is not None:
        _ask_server(path, query)
        return
    experiment_flags.register()
    if FLAGS.model is not None:
        model = export.load_model(FLAGS.model)
        sizes, prepare = pictures.input_sizes(model), PIXELS[FLAGS.pixels]
    else:
        tfm_export = importlib.import_module("keras_nonlocal.tfm.export")  # which not every model needs
        run = tfm_export.load_run(FLAGS.experiment, FLAGS.model_dir)
        model, prepare = run.model, run.prepare
        sizes = pictures.input_sizes(model)
    seen = pictures.read(path, sizes, FLAGS.stride)
    print(pictures.draw(model, seen, prepare, FLAGS.out, FLAGS.block, query, FLAGS.top))


def _ask_server(path, query):
    if query is None or FLAGS.block is not None:
        raise errors.UserError("with --server give --query, and no --block: the model was exported with one of them")
    from keras_nonlocal.serving import Client, detections, explanations  # which files of Keras do without

    with Client(FLAGS.server, FLAGS.model_name) as client:
        found = client.explain(path, [query], stride=FLAGS.stride)
    os.makedirs(FLAGS.out, exist_ok=True)
    picture = os.path.join(FLAGS.out, "arrows.png")
    detections.write_png(picture, explanations.draw(found))
    print("drawn:", picture)


def _numbers(text):
    try:
        numbers = [float(number) for number in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (2, 3):
        raise errors.UserError(f"--query must be FRAME,Y,X or Y,X, such as 16,112,80. Received: {text}")
    return numbers
