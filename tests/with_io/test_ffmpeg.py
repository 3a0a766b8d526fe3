"""tensorflow-io's FFmpeg against OpenCV; `make test-io` runs this in the environment that it needs."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import video_files
from official.core import task_factory

from keras_nonlocal.data.video import reader
from keras_nonlocal.tfm.inputs import ffmpeg
from keras_nonlocal.tfm.tasks import video_classification

tfio = pytest.importorskip("tensorflow_io", reason="make test-io runs this")


@pytest.mark.parametrize("name", ["carphone_pristine.mp4", "bikes.mp4"])
def test_the_same_frames_as_opencv(name):
    path = str(video_files.FOOTAGE / name)
    dataset = tf.data.Dataset.from_tensors(path).map(tf.io.read_file).map(ffmpeg.decode_video)
    np.testing.assert_array_equal(dataset.get_single_element(), reader.read_video(path))


def test_training_clips_are_those_of_opencv(tmp_path):
    (tmp_path / "list.csv").write_text("path,label\ncarphone_pristine.mp4,0\nbikes.mp4,1\n")
    (tmp_path / "labels.txt").write_text("phone\nbikes\n")
    params = video_classification.DataConfig(
        is_training=True,
        drop_remainder=True,
        file_type="video",
        input_path=f"{tmp_path}/list.csv",
        videos=str(video_files.FOOTAGE),
        labels=f"{tmp_path}/labels.txt",
        num_classes=2,
        feature_shape=(4, 112, 112, 3),
        temporal_stride=2,
        min_image_size=112,
        max_image_size=320,  # no frame is larger: OpenCV shrinks none
        global_batch_size=2,
    )
    batches = []
    for decoder in ("opencv", "ffmpeg"):
        data = params.replace(video_decoder=decoder)
        task = task_factory.get_task(video_classification.VideoClassificationConfig(train_data=data))
        batches.append(next(iter(task.build_inputs(data))))
    (ours, our_labels), (theirs, their_labels) = batches
    np.testing.assert_array_equal(our_labels, their_labels)
    np.testing.assert_array_equal(ours["image"], theirs["image"])


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
