"""Videos as examples without records: decoded when they are asked for, all their frames each time."""

import numpy as np
import tensorflow as tf

from keras_nonlocal import errors, features
from keras_nonlocal.data import labels_file
from keras_nonlocal.data.video import examples, lists, reader, tracks
from keras_nonlocal.tfm.inputs import ffmpeg

DECODERS = ("opencv", "ffmpeg")
# How the message of a video that cannot be used begins, as TensorFlow passes it on.
VIDEO_ERROR = reader.VideoError.__name__


class VideoFiles:
    """The videos of a list, a keyed.Source of decoded records: the features of a record with pixels for JPEG.

    Args:
      params: DataConfig with `input_path`, a list that keras-nonlocal prepare_videos reads, and `videos`, `split`,
        `labels`, `list_format` and `video_decoder`. "opencv" is as prepare_videos decodes; frames with a short side
        above `max_image_size` are shrunk to it. "ffmpeg" is tensorflow-io's, in the graph, for videos that are files
        and not turned.

    Raises:
      UserError: as lists.read_list, and if tensorflow-io does not load.
    """

    def __init__(self, params):
        self._keys = params.image_field_key, params.label_field_key
        names = labels_file.read(params.labels)
        path = params.input_path
        self._videos, _ = lists.read_list(
            path if isinstance(path, str) else path[0], params.videos, params.split or None, names, params.list_format
        )
        self._maker = examples.VideoExamples(params.videos, short_side=params.max_image_size)
        self._is_ffmpeg = params.video_decoder == "ffmpeg"
        if self._is_ffmpeg:
            ffmpeg.check()
            _check_plain(self._videos)

    def __len__(self) -> int:
        return len(self._videos)

    def read(self, number: tf.Tensor) -> dict[str, tf.Tensor]:
        """The decoded record of a video: frames (T, H, W, 3) uint8, labels, actions and name."""
        if self._is_ffmpeg:
            path, rate = tf.numpy_function(self._path, [number], [tf.string, tf.float64])
            frames = ffmpeg.decode_video(tf.io.read_file(tf.ensure_shape(path, [])))
        else:
            frames, rate = tf.numpy_function(self._frames, [number], [tf.uint8, tf.float64])
        frames = tf.ensure_shape(frames, [None, None, None, 3])
        about = tf.numpy_function(
            self._about, [number, tf.shape(frames)[0], rate], [tf.int64, tf.int64, tf.int64, tf.int64, tf.string]
        )
        image_key, label_key = self._keys
        names = (label_key, features.ACTION_INDEX, features.ACTION_FIRST, features.ACTION_LAST)
        decoded = {name: tf.ensure_shape(value, [None]) for name, value in zip(names, about[:-1], strict=True)}
        return {image_key: frames, **decoded, features.DATA_PATH: tf.ensure_shape(about[-1], [])}

    def _frames(self, number):
        frames, rate = self._maker.frames(self._videos[number])
        return frames, np.float64(rate)

    def _path(self, number):
        """The file of a video that FFmpeg may decode by itself, and its frames a second."""
        path = self._videos[number].path
        with reader.VideoReader(path) as video:
            for track in tracks.read(path)[:1]:
                if any(track.flips) or track.angle:
                    raise reader.VideoError(
                        path, "players turn or mirror its frames and FFmpeg does not: set video_decoder: opencv"
                    )
            return path.encode(), np.float64(video.frame_rate)

    def _about(self, number, count, rate):
        video = self._videos[number]
        actions = [] if video.actions is None else video.action_frames(int(count), float(rate))
        columns = np.array(actions, np.int64).reshape(-1, 3).T
        return (np.array(video.indices, np.int64), *columns, self._maker.data_path(video))


def _check_plain(videos):
    """Refuses videos in tars, folders of frames and parts of files, which tensorflow-io's FFmpeg does not read."""
    for video in videos:
        if video.stored or video.frames is not None:
            raise errors.UserError(
                f"video_decoder ffmpeg reads whole video files; {video.name} is none: set video_decoder: opencv"
            )
