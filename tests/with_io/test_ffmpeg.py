"""tensorflow-io's FFmpeg against OpenCV; `make test-io` runs this in the environment that it needs."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import video_files

from keras_nonlocal.data.video import reader
from keras_nonlocal.tfm.inputs import ffmpeg

tfio = pytest.importorskip("tensorflow_io", reason="make test-io runs this")


@pytest.mark.parametrize("name", ["carphone_pristine.mp4", "bikes.mp4"])
def test_the_same_frames_as_opencv(name):
    path = str(video_files.FOOTAGE / name)
    dataset = tf.data.Dataset.from_tensors(path).map(tf.io.read_file).map(ffmpeg.decode_video)
    np.testing.assert_array_equal(dataset.get_single_element(), reader.read_video(path))


def test_what_is_no_video():
    with pytest.raises(tf.errors.InvalidArgumentError, match="Invalid data"):
        ffmpeg.decode_video(tf.constant(b"no video"))


def test_without_the_libraries():
    code = (
        "import tensorflow as tf; from keras_nonlocal.tfm.inputs import ffmpeg; ffmpeg.decode_video(tf.constant(b''))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    failed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    message = failed.stderr.strip().splitlines()[-1]
    assert "UserError" in message and tf.__version__ in message and "libavformat.so.58" in message
