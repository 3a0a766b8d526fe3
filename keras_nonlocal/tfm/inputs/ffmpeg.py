"""Videos decoded in the graph by tensorflow-io's FFmpeg, where TensorFlow and the system let it load."""

import tensorflow as tf

from keras_nonlocal import errors

# The last TensorFlow that the last tensorflow-io (0.37.1) loads on.
LAST_TENSORFLOW = "2.17"
# FFmpeg 4, the newest that tensorflow-io knows.
LIBRARIES = ("libavformat.so.58", "libavcodec.so.58", "libavutil.so.56", "libswscale.so.5")


def decode_video(encoded: tf.Tensor) -> tf.Tensor:
    """The frames of a video file.

    Args:
      encoded: () string, the bytes of the file.

    Returns:
      (T, H, W, 3) uint8 in RGB, without the rotation that the file may ask for.

    Raises:
      MissingExtra: if tensorflow-io is not installed.
      UserError: if its FFmpeg does not load.
    """
    return _op()(encoded, 0)


def check() -> None:
    """Raises what decode_video would if it cannot decode anything here."""
    _op()


def _op():
    with errors.needs_extra("io"):
        import tensorflow_io

    decode = tensorflow_io.experimental.ffmpeg.decode_video
    try:
        # Importing it says nothing: libraries are looked for when an op is called first. These bytes are no video.
        with tf.init_scope():  # now, also where a graph is being traced
            decode(tf.constant(b"probe"), 0)
    except tf.errors.InvalidArgumentError:
        return decode
    except NotImplementedError as error:
        raise errors.UserError(
            f"tensorflow-io {tensorflow_io.__version__} cannot load its FFmpeg under TensorFlow {tf.__version__}: it "
            f"needs TensorFlow {LAST_TENSORFLOW} or older and FFmpeg 4 ({', '.join(LIBRARIES)}) where LD_LIBRARY_PATH "
            f"says; install 'keras_nonlocal[io]' in an environment of its own, or decode with OpenCV. It says: "
            f"{errors.first_line(error)}"
        ) from error
    raise AssertionError("tensorflow-io took bytes that are no video for one")
