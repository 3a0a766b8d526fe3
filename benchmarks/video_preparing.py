"""Contestants of prepare.py: frames of a video file to JPEGs, one thread each."""

import pathlib
import tempfile

import cv2
import numpy as np

SHORT_SIDE, QUALITY = 320, 95
# Videos of a shard: a file has as much in it as a shard of many would have for each of them.
VIDEOS = 3


class OpenCV:
    """What a short script does: decode, shrink, encode; nothing is checked, counted or written."""

    def __init__(self, path):
        cv2.setNumThreads(1)
        self._path = path
        self._sizes = []

    def run(self):
        for _ in range(VIDEOS):
            self._read()

    def _read(self):
        capture = cv2.VideoCapture(self._path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        self._sizes = []
        while True:
            got, frame = capture.read()
            if not got:
                break
            height, width = frame.shape[:2]
            scale = SHORT_SIDE / min(height, width)
            if scale < 1:
                size = (round(width * scale), round(height * scale))
                frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
            self._sizes.append(len(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]))

    def results(self):
        """The bytes of each JPEG: equal frames, encoded alike, have as many."""
        return {"bytes": np.array(self._sizes, "float64")}


class PrepareVideos:
    """What prepare_videos does with one worker: also checks the file, writes the records and their reports."""

    def __init__(self, path):
        from keras_nonlocal.data.records import plan, split
        from keras_nonlocal.data.video import examples, lists

        path = pathlib.Path(path)
        maker = examples.VideoExamples(str(path.parent), QUALITY, SHORT_SIDE)
        maker.start_worker()
        videos = [lists.LabelledVideo(str(number), str(path), ("label",), (0,)) for number in range(VIDEOS)]
        self._plan = plan.Plan("train", videos, ["label"], maker, shards=1)
        self._write = split.write
        self._folder = tempfile.TemporaryDirectory()

    def run(self):
        for path in pathlib.Path(self._folder.name).iterdir():
            path.unlink()
        self._write(self._plan, self._folder.name, workers=1)

    def results(self):
        import tensorflow as tf

        record, *_ = tf.data.TFRecordDataset(f"{self._folder.name}/train-00000-of-00001.tfrecord")
        example = tf.train.SequenceExample.FromString(record.numpy())
        frames = example.feature_lists.feature_list["image/encoded"].feature
        return {"bytes": np.array([len(frame.bytes_list.value[0]) for frame in frames], "float64")}
