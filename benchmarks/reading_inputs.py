"""Files of clips like those of Kinetics, and the two readers of them."""

import os

import cv2
import numpy as np
import tensorflow as tf
from official.core import input_reader

from keras_nonlocal import features
from keras_nonlocal.tfm.inputs import keyed, parser
from keras_nonlocal.tfm.tasks import video_classification

# Kinetics as it is mostly kept: 10 s at 30 frames a second, short side 256.
FRAMES, HEIGHT, WIDTH = 300, 256, 340
# Many to a turn: what a reader has ready when its turn comes was made in the turn of another.
BATCHES = 64


def write(folder, files, clips):
    """Writes TFRecord files of moving textures; returns their pattern, and the mean bytes of a frame."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (60, 80, 3), dtype="uint8")
    scene = cv2.resize(coarse, (WIDTH + FRAMES + 100, HEIGHT + FRAMES + 100), interpolation=cv2.INTER_CUBIC)
    scene = np.clip(scene.astype(int) + rng.integers(-3, 4, scene.shape), 0, 255).astype("uint8")
    size = 0
    for file in range(files):
        with tf.io.TFRecordWriter(os.path.join(folder, f"clips-{file}.tfrecord")) as writer:
            for _ in range(clips):
                example = tf.train.SequenceExample()
                example.context.feature[features.LABEL_INDEX].int64_list.value.append(int(rng.integers(400)))
                frames = example.feature_lists.feature_list[features.ENCODED].feature
                x, y = rng.integers(0, 100, 2)
                for t in range(FRAMES):
                    frame = scene[y + t // 3 :][:HEIGHT, x + t :][:, :WIDTH]
                    data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
                    frames.add().bytes_list.value.append(data)
                    size += len(data)
                writer.write(example.SerializeToString())
    return os.path.join(folder, "clips-*.tfrecord"), size / (files * clips * FRAMES)


class Batches:
    """A contestant that takes BATCHES at a time from a reader that never ends.

    Args:
      reader: "keyed" or "tfm".
      input_path: pattern of the files.
      decode: whether clips are made of the records; else the records are read, and that is all.
      batch: examples of a batch.
      frames: of a clip.
      stride: between them.
    """

    def __init__(self, reader, input_path, decode, batch, frames, stride):
        params = video_classification.DataConfig(
            is_training=True,
            input_path=input_path,
            global_batch_size=batch,
            num_classes=400,
            feature_shape=(frames, 224, 224, 3),
            temporal_stride=stride,
            seed=0,
            prefetch_buffer_size=1,
        )
        decoded = parser.decoder(params)
        clip = parser.Parser(params, params.image_field_key, params.label_field_key).parse_fn(True)

        def parse(record, seed):
            if not decode:
                return tf.strings.length(record)
            return clip({**decoded(record), parser.SEED: seed})

        if reader == "keyed":
            batches = keyed.dataset(params, keyed.RecordFiles(params.input_path), parse)
        else:

            def parse_anything(record):
                return parse(record, tf.random.uniform([2], 0, tf.int64.max, tf.int64))

            batches = input_reader.InputReader(params, parser_fn=parse_anything).read()
        self._batches = iter(batches)

    def run(self):
        for _ in range(BATCHES):
            next(self._batches)
