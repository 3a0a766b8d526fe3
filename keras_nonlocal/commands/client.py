"""Sends a video or a photo to a served model over REST and gRPC and prints both answers side by side.

    keras-nonlocal client --video=clip.mp4 --model_name=clips --labels=labels.txt
    keras-nonlocal client --image=photo.jpg --model_name=detector --labels=labels.txt --out=drawn.png
    keras-nonlocal client --video=clip.mp4 --model_name=clips --explain=4,112,80 --out=drawn.png

Of a video, `--signature=serving_default` sends sampled frames, `--signature=encoded` all frames as JPEG,
`--signature=tf_example` these in a record. Of a photo, `--signature=encoded` sends the file,
`--signature=serving_default` its pixels; a detector's `--out` is the photo with the boxes, masks and skeletons that
were found. `--explain` asks what positions of the clip or photo look at, and its `--out` shows that by arrows.
"""

from absl import flags

from keras_nonlocal import errors
from keras_nonlocal.serving import classification, compare, constants, detections, explanations, file_inputs

flags.DEFINE_string("video", None, "Video file to classify.")
flags.DEFINE_string("image", None, "Photo, JPEG or PNG, to classify or to find objects in.")
flags.DEFINE_string("model_name", None, "Name of the served model.", required=True)
flags.DEFINE_string("server", "grpc://127.0.0.1:8500", "Address of gRPC, grpc://host:port or with TLS grpcs.")
flags.DEFINE_string("rest", "http://127.0.0.1:8501", "Address of REST, http://host:port or with TLS https.")
flags.DEFINE_string("labels", None, "Text file with one class name a line; default prints class numbers.")
flags.DEFINE_integer(
    "top", 5, "How many classes to print, or positions that each of --explain looks at.", lower_bound=1
)
flags.DEFINE_integer(
    "stride", None, "Distance of the frames sent, as in training; default spreads them over the video.", lower_bound=1
)
flags.DEFINE_float("score", 0.5, "Of the objects of a photo to print and draw, at least.", 0, 1)
flags.DEFINE_multi_string(
    "explain",
    [],
    "FRAME,Y,X of a position in the clip sent, or Y,X in the photo, in frames and pixels; may be given several times.",
)
flags.DEFINE_string("out", None, "PNG file to draw objects or arrows to.")
flags.DEFINE_string(
    "signature",
    None,
    f"Served function to call; default is {constants.DEFAULT_SIGNATURE}, of a photo {constants.ENCODED_SIGNATURE}, "
    f"with --explain {constants.EXPLAIN_SIGNATURE}.",
)
FLAGS = flags.FLAGS


def main(_):
    if (FLAGS.video is None) == (FLAGS.image is None):
        raise errors.UserError("give either --video or --image")
    queries = [_numbers(text) for text in FLAGS.explain]
    default = constants.ENCODED_SIGNATURE if FLAGS.image else constants.DEFAULT_SIGNATURE
    name = FLAGS.signature or (constants.EXPLAIN_SIGNATURE if queries else default)
    with compare.BothProtocols(FLAGS.server, FLAGS.rest, FLAGS.model_name) as both:
        signature = both.signature(name)
        if queries:
            _explain(both, name, signature, queries)
        elif FLAGS.image and constants.BOXES in signature.outputs:
            _detect(both, name, signature)
        elif FLAGS.out:
            raise errors.UserError(f"signature {name!r} finds no objects that --out could show; leave it out")
        else:
            inputs = classification.request(FLAGS.video or FLAGS.image, signature, FLAGS.stride)
            found = both.predict(inputs, name).map(classification.from_outputs)
            print(compare.class_table(found, FLAGS.labels, FLAGS.top))


def _detect(both, name, signature):
    inputs = detections.request(FLAGS.image, signature)
    found = both.predict(inputs, name).map(lambda outputs: detections.from_outputs(outputs, FLAGS.score))
    print(compare.detection_table(found, FLAGS.labels))
    if FLAGS.out:
        _write(detections.draw(file_inputs.read_pixels(FLAGS.image), found.grpc, FLAGS.labels))


def _explain(both, name, signature, queries):
    inputs = explanations.request(FLAGS.video or FLAGS.image, queries, signature, FLAGS.stride)
    found = both.predict(inputs, name).map(lambda outputs: explanations.from_outputs(outputs, inputs))
    print(compare.explanation_table(found, FLAGS.top))
    if FLAGS.out:
        _write(explanations.draw(found.grpc))


def _write(picture):
    detections.write_png(FLAGS.out, picture)
    print("drawn:", FLAGS.out)


def _numbers(text):
    try:
        numbers = [float(number) for number in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != (3 if FLAGS.video else 2):
        kind = "FRAME,Y,X" if FLAGS.video else "Y,X"
        raise errors.UserError(f"--explain must be {kind}, such as {'16,112,80' if FLAGS.video else '112,80'}. "
                               f"Received: {text}")  # fmt: skip
    return numbers
