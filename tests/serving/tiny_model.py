"""The model `tiny` that the recorded requests of tests/data/serving were sent to: plain functions of every dtype.

    python tests/serving/tiny_model.py FOLDER

writes versions 1 and 2 below FOLDER/tiny, as tensorflow_model_server --model_base_path wants them. The names of tensors
are part of what it answers, so neither functions nor operations change their order here.
"""

import pathlib
import sys

import tensorflow as tf

DTYPES = [
    *("float64", "float16", "bfloat16", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
    *("bool", "complex64"),
]
SIGNATURES = [
    *("scalar", "strings", "onestring", "strings2d", "anyrank", "nobatch", "fails", "classify", "regress", "fixed"),
]


class Tiny(tf.Module):
    """Version `factor`: where numbers are scaled, it is by the version's own number."""

    def __init__(self, factor):
        super().__init__()
        self.factor = tf.Variable(float(factor))
        self.identities = {dtype: identity(dtype) for dtype in DTYPES}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], name="a"), tf.TensorSpec([None], tf.int32, name="b")])
    def multi(self, a, b):
        a, b = tf.ensure_shape(a, [None, 2]), tf.ensure_shape(b, [None])
        digits = tf.strings.as_string(b)
        return {
            "sum": a * self.factor + tf.cast(b, tf.float32)[:, tf.newaxis],
            "idx": tf.cast(b, tf.int64) * 3,
            "text": tf.strings.join([tf.fill(tf.shape(b), 'é"\n<'), digits]),
            "raw_bytes": tf.strings.join([tf.fill(tf.shape(b), b"\xff\x00"), digits]),
            "flag": b > 0,
        }

    @tf.function(input_signature=[tf.TensorSpec([], name="x")])
    def scalar(self, x):
        return {"y": x * self.factor}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="s")])
    def strings(self, s):
        return {"echo": s, "echo_bytes": s, "length": tf.strings.length(s)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="s")])
    def onestring(self, s):
        return {"echo": s}

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.string, name="s")])
    def strings2d(self, s):
        return {"echo_bytes": tf.strings.upper(s)}

    @tf.function(input_signature=[tf.TensorSpec(None, name="x")])
    def anyrank(self, x):
        return {"y": x + 1.0, "rank": tf.rank(x)[tf.newaxis]}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], name="x")])
    def nobatch(self, x):
        return {"mean": tf.reduce_mean(x), "x": x}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], name="x")])
    def fails(self, x):
        with tf.control_dependencies([tf.debugging.assert_less(x, 100.0, message="too large")]):
            return {"log": tf.math.log(x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def classify(self, inputs):
        rows = tf.shape(inputs)[0]
        return {"classes": tf.tile([["cat", "dog"]], [rows, 1]), "scores": tf.tile([[0.25, 0.75]], [rows, 1])}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def regress(self, inputs):
        return {"outputs": tf.cast(tf.strings.length(inputs), tf.float32)}

    @tf.function(input_signature=[tf.TensorSpec([2, 2], name="x")])
    def fixed(self, x):
        return {"y": x * 2.0}


def identity(dtype):
    """A function of one dtype that answers what it gets."""
    return tf.function(lambda x: {"y": tf.identity(x)}, input_signature=[tf.TensorSpec([None], dtype, name="x")])


def save(folder: pathlib.Path, version: int) -> None:
    """Writes one version to folder/tiny/version."""
    model = Tiny(version)
    signatures = {name: getattr(model, name).get_concrete_function() for name in SIGNATURES}
    signatures["serving_default"] = model.multi.get_concrete_function()
    signatures |= {dtype: function.get_concrete_function() for dtype, function in model.identities.items()}
    tf.saved_model.save(model, str(folder / "tiny" / str(version)), signatures=signatures)


if __name__ == "__main__":
    for number in (1, 2):
        save(pathlib.Path(sys.argv[1]), number)
