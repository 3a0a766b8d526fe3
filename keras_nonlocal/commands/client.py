"""Sends a video or a photo to a served model over REST and gRPC and prints both predictions side by side.

    keras-nonlocal client --video=clip.mp4 --model_name=clips --labels=labels.txt
    keras-nonlocal client --image=photo.jpg --model_name=detector --labels=labels.txt --out=drawn.png

Of a video, `--signature=serving_default` sends sampled frames, `--signature=tf_example` all frames as JPEG. Of a photo,
`--signature=encoded` sends the file, `--signature=serving_default` its pixels, and `--out` is the photo with the boxes,
masks and skeletons that were found.
"""

from absl import flags

from keras_nonlocal import errors
from keras_nonlocal.serving import compare, constants, detections

flags.DEFINE_string("video", None, "Video file to classify.")
flags.DEFINE_string("image", None, "Photo, JPEG or PNG, to find objects in.")
flags.DEFINE_string("model_name", None, "Name of the served model.", required=True)
flags.DEFINE_string("server", "127.0.0.1:8500", "gRPC address, host:port.")
flags.DEFINE_string("rest", "http://127.0.0.1:8501", "REST address, http://host:port.")
flags.DEFINE_string("labels", None, "Text file with one class name a line; default prints class numbers.")
flags.DEFINE_integer("top", 5, "How many classes of a video to print.", lower_bound=1)
flags.DEFINE_integer(
    "stride", None, "Distance of the frames sent, as in training; default spreads them over the video.", lower_bound=1
)
flags.DEFINE_float("score", 0.5, "Of the objects of a photo to print and draw, at least.", 0, 1)
flags.DEFINE_string("out", None, "PNG file to draw them to.")
flags.DEFINE_string(
    "signature",
    None,
    f"Served function to call; default is {constants.DEFAULT_SIGNATURE}, of a photo {constants.ENCODED_SIGNATURE}.",
)
FLAGS = flags.FLAGS


def main(_):
    if (FLAGS.video is None) == (FLAGS.image is None):
        raise errors.UserError("give either --video or --image")
    if FLAGS.image:
        _find_objects()
        return
    comparison = compare.compare_protocols(
        FLAGS.video,
        FLAGS.server,
        FLAGS.rest,
        FLAGS.model_name,
        FLAGS.signature or constants.DEFAULT_SIGNATURE,
        FLAGS.stride,
    )
    print(compare.table(comparison, FLAGS.labels, FLAGS.top))


def _find_objects():
    comparison = detections.detect(
        FLAGS.image,
        FLAGS.server,
        FLAGS.rest,
        FLAGS.model_name,
        FLAGS.signature or constants.ENCODED_SIGNATURE,
        FLAGS.score,
    )
    print(detections.table(comparison, FLAGS.labels))
    if FLAGS.out:
        pixels = detections.read_pixels(FLAGS.image)
        detections.write_png(FLAGS.out, detections.draw(pixels, comparison.grpc, FLAGS.labels))
        print("drawn:", FLAGS.out)
