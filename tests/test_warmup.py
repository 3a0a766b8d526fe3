"""Warm-up records: what is in them, and that a server replays them."""

import numpy as np
import pytest
import tensorflow as tf

from keras_nonlocal.serving import warmup
from keras_nonlocal.serving.apis import prediction_log_pb2
from keras_nonlocal.serving.local.server import LocalServer


class Counting(tf.Module):
    """Remembers how many examples each signature was given, call after call, as digits."""

    def __init__(self):
        super().__init__()
        self.seen = tf.Variable("")
        self.total = tf.Variable(0.0)

    def _count(self, name, batch, values):
        count = tf.strings.as_string(tf.shape(batch)[0])
        self.seen.assign(tf.strings.join([self.seen, name, count, " "]))
        self.total.assign_add(tf.reduce_sum(values))
        return {"y": values}

    @tf.function(input_signature=[tf.TensorSpec([None, 2, 3], tf.uint8, name="x")])
    def pixels(self, x):
        return self._count("pixels", x, tf.cast(x, tf.float32))

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.string, name="files"), tf.TensorSpec([None, 2], name="points")]
    )
    def files(self, files, points):
        return self._count("files", files, points[:, 0] + tf.cast(tf.strings.length(files), tf.float32))

    @tf.function(input_signature=[tf.TensorSpec([None], name="unused")])
    def asked(self, unused):
        return {"seen": self.seen[tf.newaxis], "total": self.total[tf.newaxis] + 0 * unused[:1]}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    base = tmp_path_factory.mktemp("warmup") / "counting"
    module = Counting()
    signatures = {"serving_default": module.pixels, "files": module.files, "asked": module.asked}
    tf.saved_model.save(module, str(base / "1"), signatures=signatures)
    return base


REQUESTS = {
    "serving_default": {"x": np.full([1, 2, 3], 7, np.uint8)},
    "files": {"files": [b"jpeg\0\0"], "points": np.array([[0.5, 2.0]], np.float32)},
}


def records(path):
    for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        inputs = {alias: tf.make_ndarray(proto) for alias, proto in request.inputs.items()}
        yield request.model_spec.signature_name, inputs


def test_a_server_replays_every_signature_with_every_batch_size(base):
    path = warmup.write_warmup(base / "1", REQUESTS, batch_sizes=[4, 1, 2, 2])
    assert path == str(base / "1" / "assets.extra" / "tf_serving_warmup_requests")
    with LocalServer(base, "counting") as server:
        found = server.model.find("counting").signatures["asked"].run({"unused": tf.zeros([1])})
    assert found["seen"].tolist() == [b"pixels1 pixels2 pixels4 files1 files2 files4 "]
    # 7 examples of 6 sevens, and 7 of a point at 0.5 with 6 bytes: zeros at the end of a file are not lost.
    assert found["total"].tolist() == [7 * 6 * 7 + 7 * 6.5]


def test_a_black_clip_takes_no_room(tmp_path):
    clip = np.zeros([1, 8, 64, 64, 3], np.uint8)
    ramp = np.arange(12, dtype=np.float32).reshape(1, 12)
    path = warmup.write_warmup(tmp_path, {"black": {"frames": clip}, "ramp": {"x": ramp}}, [1, 32])
    assert tf.io.gfile.stat(path).length < 5_000
    found = [
        (name, {alias: (v.shape, v.dtype, v.sum()) for alias, v in inputs.items()}) for name, inputs in records(path)
    ]
    assert found == [
        ("black", {"frames": ((1, 8, 64, 64, 3), np.uint8, 0)}),
        ("black", {"frames": ((32, 8, 64, 64, 3), np.uint8, 0)}),
        ("ramp", {"x": ((1, 12), np.float32, 66)}),
        ("ramp", {"x": ((32, 12), np.float32, 66 * 32)}),
    ]


@pytest.mark.parametrize(
    ("requests", "sizes", "message"),
    [
        ({"a": {"x": np.zeros([2, 3])}}, [1], r"`requests` must hold one example .* shape \(2, 3\) for a/x"),
        ({"a": {"x": 1.0}}, [1], r"`requests` must hold one example .* shape \(\) for a/x"),
        ({"a": {"x": [1.0]}}, [0], "`batch_sizes` must be a positive integer. Received: batch_sizes=0"),
        ({"a": {"x": [1.0]}}, range(1, 1002), "at most 1000 warm-up requests.* 1001 sizes for 1 signatures"),
        ({"a": {"x": np.arange(2.0**21)[None]}}, [15, 16], r"at most 256 MiB.*batch_sizes=\[15, 16\], 496 MiB"),
    ],
    ids=["batch", "scalar", "zero", "records", "bytes"],
)
def test_refuses(tmp_path, requests, sizes, message):
    with pytest.raises(ValueError, match=message):
        warmup.write_warmup(tmp_path, requests, sizes)
    assert not list(tmp_path.iterdir())
