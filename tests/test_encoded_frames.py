"""Frames as JPEG images, in served requests and in records: what they become, what is refused, and what it costs."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from hostile_images import jpeg, peak_growth, resized, with_scans
from official.core import exp_factory
from official.vision.ops import preprocess_ops_3d

from keras_nonlocal import export as exporter
from keras_nonlocal.data.video import frame_limits
from keras_nonlocal.demo import experiments  # noqa: F401  (registers them)
from keras_nonlocal.export import guards
from keras_nonlocal.tfm.export import video_classification
from keras_nonlocal.tfm.inputs import images, pixels
from keras_nonlocal.tfm.inputs import parser as clip_parser


def sequence(*frames):
    example = tf.train.SequenceExample()
    encoded = example.feature_lists.feature_list["image/encoded"]
    for frame in frames:
        encoded.feature.add().bytes_list.value.append(frame)
    return example.SerializeToString()


@pytest.fixture(scope="module")
def params():
    return exp_factory.get_exp_config("non_local_c2d_demo")


@pytest.fixture(scope="module")
def module(params):
    shape = tuple(params.task.validation_data.feature_shape)
    layers = [tf_keras.layers.Conv3D(2, 3, input_shape=shape), tf_keras.layers.GlobalAveragePooling3D()]
    return video_classification.VideoClassificationModule(params, tf_keras.Sequential(layers))


@pytest.fixture(scope="module")
def decode():
    return tf.function(pixels.decode_frame, input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int32)])


# Data, and what is said of it.
REFUSED = {
    "nothing": (b"", "a frame of a video is not a JPEG image"),
    "text": (b"no image", "a frame of a video is not a JPEG image"),
    "png": (tf.io.encode_png(np.zeros([8, 8, 3], np.uint8)).numpy(), "a frame of a video is not a JPEG image"),
    "magic": (images.JPEG_MAGIC, "Invalid JPEG data"),
    "many_pixels": (resized(jpeg(64, 64), 4097, 4096), r"too many pixels: at most 16,777,216 .*\[4097 4096\]"),
    "no_height": (resized(jpeg(64, 64), 0, 64), "Invalid JPEG data"),
    "scans": (with_scans(33), r"too many scans: at most 32 are taken, it has\] \[33\]"),
    "cut": (jpeg(64, 64)[:-20], "Invalid JPEG data"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_costs_too_much_or_is_no_image_is_refused_by_name(decode, name):
    data, text = REFUSED[name]
    with pytest.raises(tf.errors.InvalidArgumentError, match=text):
        decode(data, 256)


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (jpeg(48, 64), (32, 42)),
        (jpeg(64, 48), (42, 32)),
        (jpeg(32, 40), (32, 40)),
        (jpeg(1, 16), (32, 512)),
        (jpeg(64, 4), (512, 32)),
        (jpeg(1, 1), (32, 32)),
        (jpeg(48, 64, progressive=True), (32, 42)),
        (jpeg(48, 64, exif=b"Exif\0\0" + jpeg(1, 99)), (32, 42)),
        (jpeg(48, 64) + jpeg(1, 99), (32, 42)),
        (with_scans(32), (32, 32)),
    ],
    ids=["wide", "high", "same", "thin", "upright", "dot", "progressive", "thumbnail", "appended", "scans"],
)
def test_frames_become_what_the_official_code_makes_of_them(decode, data, size):
    frame = decode(data, 32)
    assert frame.shape == (*size, 3)
    expected = preprocess_ops_3d.resize_smallest(preprocess_ops_3d.decode_jpeg(tf.constant([data]), 3), 32)[0]
    np.testing.assert_array_equal(frame, expected)


@pytest.mark.parametrize("size", [(4, 90), (91, 4), (3, 49), (1, 300), (301, 1)])
def test_a_crop_of_a_very_thin_frame_is_that_of_all_of_it(decode, size):
    data = jpeg(*size, quality=100)
    frame = decode(data, 32)
    assert frame.shape[0] * frame.shape[1] <= 32 * 32 * (frame_limits.MAX_ASPECT + 1)
    everything = preprocess_ops_3d.resize_smallest(tf.io.decode_jpeg(data)[tf.newaxis], 32)
    crops = [preprocess_ops_3d.crop_image(frames, 24, 24) for frames in (frame[tf.newaxis], everything)]
    np.testing.assert_allclose(*(tf.cast(crop, tf.int32) for crop in crops), atol=1)


def test_a_refused_frame_costs_nothing(decode):
    data = resized(jpeg(8, 8), 12000, 12000)  # the decoder fills what is missing, at the cost of all pixels

    def ask():
        for _ in range(3):
            with pytest.raises(tf.errors.InvalidArgumentError, match="a frame of a video"):
                decode(data, 256)

    assert peak_growth(ask) < 50e6


@pytest.mark.parametrize("size", [(1, 500), (500, 1)])
def test_a_thin_frame_costs_no_more_than_others(decode, size):
    assert peak_growth(lambda: decode(jpeg(*size), 256)) < 50e6


@pytest.mark.parametrize("is_training", [True, False])
def test_records_are_held_to_the_same(params, is_training):
    data = params.task.validation_data
    parser = clip_parser.Parser(data, "image/encoded", "clip/label/index")
    parse = tf.function(parser.parse_fn(is_training))

    def record(*frames):
        return {
            "image/encoded": tf.constant(frames, tf.string),
            "clip/label/index": tf.constant([1], tf.int64),
            clip_parser.SEED: tf.constant([0, 0], tf.int64),
        }

    clip = parse(record(jpeg(48, 64), jpeg(48, 64)))[0]["image"]
    assert clip.shape == tuple(data.feature_shape)
    assert peak_growth(lambda: parse(record(jpeg(1, 500)))) < 50e6
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"a frame of a video has too many pixels: .*\[9000 9000\]"
    ):
        parse(record(resized(jpeg(8, 8), 9000, 9000)))
    with pytest.raises(tf.errors.InvalidArgumentError, match="a frame of a video is missing"):
        parse(record())


def test_only_the_frames_of_the_clip_are_decoded(params, module):
    data = params.task.validation_data
    length, stride = data.feature_shape[0], data.temporal_stride
    good, bad = jpeg(48, 64), b"not decoded"
    clip = [good, *[bad] * (stride - 1)] * length
    answer = module.serve_tf_example(tf.constant([sequence(bad, *clip, bad)]))
    assert answer["logits"].shape == (1, 2)
    with pytest.raises(tf.errors.InvalidArgumentError, match="a frame of a video is not a JPEG"):
        module.serve_tf_example(tf.constant([sequence(*clip), sequence(bad)]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="a frame of a video is missing: `image/encoded` is empty"):
        module.serve_tf_example(tf.constant([sequence()]))


@pytest.mark.parametrize(("clips", "most"), [(3, 3), (1, 2)], ids=["three", "as many as it is verified by"])
def test_no_request_can_ask_for_any_amount_of_memory(params, module, monkeypatch, clips, most):
    shape = params.task.validation_data.feature_shape
    monkeypatch.setattr(guards, "MAX_REQUEST_BYTES", clips * math.prod(shape))
    module = video_classification.VideoClassificationModule(params, module.model)
    assert module.serve_tf_example(tf.constant([sequence(jpeg(4, 4))] * most))["logits"].shape == (most, 2)
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"`examples` may hold at most {most} videos"):
        module.serve_tf_example(tf.constant([sequence(jpeg(4, 4))] * (most + 1)))
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"`frames` may hold at most {most} clips"):
        module.serve(np.zeros([most + 1, *shape], np.uint8))


def test_a_list_of_frames_is_the_same_video_as_a_record(module):
    frames = [jpeg(48, 64, quality=quality) for quality in range(20, 95, 5)]
    rows = tf.constant([frames, frames[:6] + [b""] * 9])  # the shorter one ends in empty strings
    records = tf.constant([sequence(*frames), sequence(*frames[:6])])
    by_list, by_record = module.serve_encoded(rows), module.serve_tf_example(records)
    np.testing.assert_array_equal(by_list["logits"], by_record["logits"])
    assert not np.array_equal(by_list["logits"][0], by_list["logits"][1])


GOOD = jpeg(48, 64)


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ([b"", b""], "a frame of a video is missing: a row of `encoded` is empty"),
        ([b"", GOOD], "a frame of a video is not a JPEG image"),
        (
            [GOOD, jpeg(64, 48), GOOD],
            r"a video must have frames of one size, their heights and widths are from.*48 48.*64 64",
        ),
        ([GOOD, resized(jpeg(8, 8), 9000, 9000), GOOD], "a video must have frames of one size"),
        ([resized(jpeg(8, 8), 9000, 9000)] * 2, r"too many pixels: .*\[9000 9000\]"),
        ([GOOD + bytes(64 * 2**20)] * 2, "a frame of a video has too many bytes: at most 67,108,864 are taken"),
    ],
    ids=["nothing", "gap", "mixed", "mixed_bomb", "bomb", "heavy"],
)
def test_a_list_that_is_no_video_is_refused_by_name(module, row, text):
    with pytest.raises(tf.errors.InvalidArgumentError, match=text):
        module.serve_encoded(tf.constant([row]))
    if row[0]:
        with pytest.raises(tf.errors.InvalidArgumentError, match=text):
            module.serve_tf_example(tf.constant([sequence(*row)]))


def test_requests_of_nothing_and_videos_without_end_are_refused(params, module, monkeypatch):
    shape = tuple(params.task.validation_data.feature_shape)
    text = "holds nothing: every size must be at least 1"
    for serve, empty in (
        (module.serve, np.zeros([0, *shape], np.uint8)),
        (module.serve_encoded, tf.zeros([0, 3], tf.string)),
        (module.serve_encoded, tf.zeros([3, 0], tf.string)),
        (module.serve_tf_example, tf.zeros([0], tf.string)),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=text):
            serve(empty)
    monkeypatch.setattr(video_classification, "MAX_FRAMES", 3)
    module = video_classification.VideoClassificationModule(params, module.model)
    assert module.serve_encoded(tf.constant([[GOOD] * 3]))["logits"].shape == (1, 2)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"a video has too many frames: at most 3 are taken.*4"):
        module.serve_encoded(tf.constant([[GOOD] * 4]))


PREDICT = """
import sys
import numpy as np, tensorflow as tf
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    frames = tf.compat.v1.placeholder(tf.uint8, None)  # as a server feeds it: of any shape
    loaded = tf.compat.v1.saved_model.loader.load(
        session, ["serve"], sys.argv[1], import_scope="model", input_map={"serving_default_frames:0": frames})
    logits = "model/" + loaded.signature_def["serving_default"].outputs["logits"].name
    for shape in [2], [], [1, 1, 1, 1], [1, 8, 0, 0, 3], [0], [1, 8, 39, 40, 3], [1, 8, 40, 40, 1], [1, 8, 40, 40, 3]:
        try:
            print(session.run(logits, {frames: np.zeros(shape)}).shape)
        except tf.errors.InvalidArgumentError as error:
            print("refused" if "is not compatible with expected shape [?,8,40,40,3]" in str(error) else error)
"""


def test_a_wrong_shape_is_refused_before_a_kernel_that_would_abort(module, tmp_path):
    """Of TensorFlow's kernels it is oneDNN's that end the process; some CPUs have them off."""
    exporter.write({"serving_default": module.signatures()["serving_default"]}, module.model, tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", PREDICT, str(tmp_path)],
        env=os.environ | {"TF_ENABLE_ONEDNN_OPTS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["refused"] * 7 + ["(1, 2)"]
