"""Every video of a test once, in all its views and with its name."""

import os

import tensorflow as tf
from official.core import input_reader

from keras_nonlocal import errors, features
from keras_nonlocal.tfm.inputs import parser

# A name goes through every device and between workers as numbers, which strings do not.
NAME_BYTES = 1024
NAME_ERROR = "the name of a video"


class Parser(parser.Parser):
    """As that of validations, with the name of the video, and with pixels as they are: a quarter of the memory."""

    def _parse_eval_data(self, decoded_tensors):
        name = decoded_tensors.get(features.DATA_PATH, tf.constant(""))
        length = tf.strings.length(name)
        rule = f"{NAME_ERROR} has too many bytes, of at most {NAME_BYTES}:"
        with tf.control_dependencies([tf.debugging.Assert(length <= NAME_BYTES, [rule, length])]):
            name = tf.ensure_shape(tf.io.decode_raw(name, tf.uint8, fixed_length=NAME_BYTES), [NAME_BYTES])
        return {"image": self._views(decoded_tensors), "video": name}, self._label(decoded_tensors)


def name(numbers) -> str:
    """The name that a row of such numbers holds."""
    return bytes(numbers).rstrip(b"\0").decode("utf-8", "backslashreplace")


def labels(input_path: str | list[str]) -> list[tuple[str, list[int]]]:
    """The name and the classes of every video, without its frames.

    Raises:
      UserError: if there are no such records, or a file is damaged.
    """
    found = []
    try:
        for record in tf.data.TFRecordDataset(input_reader.match_files(input_path)):
            context = tf.train.SequenceExample.FromString(record.numpy()).context.feature
            path = b"".join(context[features.DATA_PATH].bytes_list.value)
            found.append((name(path), list(context[features.LABEL_INDEX].int64_list.value)))
    except (ValueError, tf.errors.OpError) as error:
        raise errors.UserError(f"--input_path {input_path} cannot be read ({errors.first_line(error)})") from error
    return found


def stem(path: str) -> str:
    """The id of a video: its file's name without folder and ending."""
    return os.path.splitext(os.path.basename(path))[0]
