"""Exported detectors: what they answer, in which pixels, and what they refuse; and the client that draws it."""

import io
import os
import pathlib
import re
import struct
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
import tf_keras
from hostile_images import jpeg, peak_growth, png, resized, resized_png, with_scans
from official.core import config_definitions as cfg
from official.core import exp_factory, task_factory
from official.modeling import hyperparams
from official.vision.configs import maskrcnn, retinanet
from official.vision.data.tf_example_builder import TfExampleBuilder
from saved_graphs import check_plain

from keras_nonlocal import drawing, skeleton
from keras_nonlocal import export as exporter
from keras_nonlocal.errors import UserError
from keras_nonlocal.serving import Client, compare, detections, file_inputs
from keras_nonlocal.serving.local import server
from keras_nonlocal.tfm import export
from keras_nonlocal.tfm.backbones import configs
from keras_nonlocal.tfm.export import detection
from keras_nonlocal.tfm.inputs import images as photos
from keras_nonlocal.tfm.keypoints import config as keypoint_configs

ROOT = pathlib.Path(__file__).parent.parent
SIZE = 64

# A network whose detections are known, in the 64 x 64 pixels of its input: two, and one row of rubbish behind them.
BOXES = [[8, 16, 40, 64], [-4, 0, 32, 48], [np.nan, 1, 1e9, 5]]
SCORES = [0.75, 0.5, np.nan]
CLASSES = [2, 1, 7]
MASK = np.array([[0.0, 0.25, 0.5, 0.75], [0.0, 1.0, 1.0, 0.0]] * 2)
KEYPOINTS = 17


class Known(tf_keras.Model):
    """Answers the same of every image, with a convolution that no wrong shape may reach."""

    def __init__(self, dtype=tf.float32):
        super().__init__()
        self.convolution = tf_keras.layers.Conv2D(1, 3, padding="same", kernel_initializer="zeros")
        self.convolution.build([None, None, None, 3])
        self.given = dtype
        self.sizes = []

    def call(self, images, image_shape, training):
        assert not training
        self.sizes.append(tuple(images.shape))
        nothing = tf.reduce_sum(self.convolution(images), [1, 2, 3])  # (B,)
        count = tf.cast(nothing, tf.int32) + 2

        def each(values):
            values = tf.cast(values, self.given)
            return tf.tile(values[tf.newaxis], [tf.shape(images)[0], *[1] * values.shape.rank])

        points = np.stack([np.linspace(-8, 72, KEYPOINTS), np.linspace(0, 64, KEYPOINTS), [0.9, 0.01] * 8 + [0.9]], -1)
        return {
            "detection_boxes": each(BOXES),
            "detection_scores": each(SCORES),
            "detection_classes": each(CLASSES),
            "num_detections": count,
            "detection_masks": each(np.stack([MASK, MASK, np.full([4, 4], np.nan)])),
            "detection_keypoints": each(np.stack([points, points / 2, np.full_like(points, np.nan)])),
        }


def known_params(**data):
    task = maskrcnn.MaskRCNNTask()
    task.model.input_size = [SIZE, SIZE, 3]
    task.validation_data = maskrcnn.DataConfig(is_training=False, dtype="float32", **data)
    return cfg.ExperimentConfig(task=task)


@pytest.fixture(scope="module")
def known():
    return detection.DetectionModule(known_params(), Known())


class TestInPixelsOfTheImage:
    """128 x 96 pixels become the upper left 64 x 48 of the input, by half."""

    @pytest.fixture(scope="class")
    def outputs(self, known):
        answer = known.serve(np.zeros([2, 128, 96, 3], np.uint8))
        assert all(value.shape[0] == 2 and value.dtype == tf.float32 for name, value in answer.items()
                   if name != "num_detections")  # fmt: skip
        return {name: value[1].numpy() for name, value in answer.items()}

    def test_boxes_are_scaled_and_end_where_the_image_ends(self, outputs):
        np.testing.assert_array_equal(outputs["boxes"], [[16, 32, 80, 96], [0, 0, 64, 96], [0] * 4])

    def test_what_is_not_found_is_zero(self, outputs):
        assert outputs["num_detections"] == 2
        np.testing.assert_array_equal(outputs["scores"], [0.75, 0.5, 0])
        np.testing.assert_array_equal(outputs["classes"], [2, 1, 0])
        for name in ("masks", "keypoints"):
            assert np.all(outputs[name][2] == 0)

    def test_masks_are_of_the_boxes_that_are_answered(self, outputs):
        """Two thirds of the first box's width are in the image, the last 8 ninths of the second one's height."""
        at = np.clip(2 / 3 * (np.arange(4) + 0.5) - 0.5, 0, 3)
        expected = np.stack([np.interp(at, np.arange(4), row) for row in MASK])
        np.testing.assert_allclose(outputs["masks"][0], expected, atol=1e-6)
        at = 4 / 9 + 8 / 9 * (np.arange(4) + 0.5) - 0.5
        expected = np.stack([np.interp(at, np.arange(4), column) for column in MASK.T], 1)
        np.testing.assert_allclose(outputs["masks"][1], expected, atol=1e-6)

    def test_masks_of_whole_boxes_stay_as_they_are(self, known):
        answer = known.serve(np.zeros([1, 64, 64, 3], np.uint8))
        np.testing.assert_array_equal(answer["masks"][0, 0], MASK.astype(np.float32))

    def test_a_box_of_no_size_has_a_mask_too(self):
        masks, line = tf.constant(MASK[None, None], tf.float32), tf.constant([[[4.0, 2, 4, 2]]])
        np.testing.assert_array_equal(detection.on_other_boxes(masks, line, line), masks)
        # The middle of the box, between the second and the third row and column.
        middle = detection.on_other_boxes(masks, tf.constant([[[0.0, 0, 8, 8]]]), tf.constant([[[4.0, 4, 4, 4]]]))
        np.testing.assert_allclose(middle[0, 0], np.full([4, 4], MASK[1:3, 1:3].mean()))

    def test_keypoints_are_scaled_and_stay_in_the_image(self, outputs):
        y, x, score = outputs["keypoints"][0].T
        np.testing.assert_allclose(y, np.clip(2 * np.linspace(-8, 72, KEYPOINTS), 0, 128), rtol=1e-6)
        np.testing.assert_allclose(x, np.clip(2 * np.linspace(0, 64, KEYPOINTS), 0, 96), rtol=1e-6)
        np.testing.assert_allclose(score[:2], [0.9, 0.01])

    def test_outputs_of_16_bits_and_of_outer_boxes(self):
        class Outer(Known):
            def call(self, *args, **kwargs):
                found = super().call(*args, **kwargs)
                # Twice as high: the box is the middle half of it.
                outer = found["detection_boxes"] + tf.constant([-16, 0, 16, 0], self.given)
                return found | {"detection_outer_boxes": outer}

        module = detection.DetectionModule(known_params(), Outer(tf.bfloat16))
        answer = module.serve(np.zeros([1, 64, 64, 3], np.uint8))
        assert {value.dtype for value in answer.values()} == {tf.float32, tf.int32}
        at = 1 + 0.5 * (np.arange(4) + 0.5) - 0.5
        expected = np.stack([np.interp(at, np.arange(4), column) for column in MASK.T], 1)
        np.testing.assert_allclose(answer["masks"][0, 0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "max_level", "parser", "expected"),
    [([64, 96], 6, {}, [64, 128]), ([40, 72], 4, {}, [48, 80]), ([40, 72], 4, {"pad": False}, [40, 72])],
)
def test_the_network_gets_what_the_parser_pads_to(size, max_level, parser, expected):
    task = retinanet.RetinaNetTask()
    task.model.input_size, task.model.max_level = [*size, 3], max_level
    task.validation_data = retinanet.DataConfig(dtype="bfloat16", parser=retinanet.Parser(**parser))
    network = Known()
    module = detection.DetectionModule(cfg.ExperimentConfig(task=task), network)
    module.serve(np.zeros([1, 8, 8, 3], np.uint8))
    assert network.sizes == [(1, *expected, 3)]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [({"apply_nms": False}, "apply_nms and decode_boxes must be on"), ({"nms_version": "v1"}, "must be one of v2, v3")],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_detector_that_cannot_be_served_says_so(wrong, text):
    params = known_params()
    params.override({"task": {"model": {"detection_generator": wrong}}})
    with pytest.raises(UserError, match=text):
        detection.DetectionModule(params, Known())


@pytest.fixture(scope="module")
def decode():
    """What an image becomes, and how thin it may be: 64 times as long as short."""
    return tf.function(lambda data: photos.decode_photo(data, SIZE), input_signature=[tf.TensorSpec([], tf.string)])


def of_pillow(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


COLOURS = np.array([[[250, 10, 20], [0, 128, 255]], [[1, 2, 3], [90, 80, 70]]], np.uint8)
GREY = np.array([[0, 77], [128, 255]], np.uint8)
ALPHA = np.concatenate([COLOURS, np.array([0, 1, 128, 255], np.uint8).reshape(2, 2, 1)], -1)


def turned(quarter):
    exif = PIL.Image.Exif()
    exif[0x0112] = quarter  # what its camera was turned by
    return exif


TAKEN = {
    "colours": (of_pillow(PIL.Image.fromarray(COLOURS), "PNG"), COLOURS),
    "grey": (of_pillow(PIL.Image.fromarray(GREY), "PNG"), np.repeat(GREY[..., None], 3, -1)),
    "16_bits": (
        of_pillow(PIL.Image.fromarray(GREY.astype(np.uint16) * 256 + 255), "PNG"),
        np.repeat(GREY[..., None], 3, -1),
    ),
    "alpha": (of_pillow(PIL.Image.fromarray(ALPHA), "PNG"), COLOURS),
    "grey_alpha": (
        of_pillow(PIL.Image.fromarray(np.stack([GREY, 255 - GREY], -1)), "PNG"),
        np.repeat(GREY[..., None], 3, -1),
    ),
    "palette": (of_pillow(PIL.Image.fromarray(COLOURS).quantize(4), "PNG"), COLOURS),
    "one_bit": (
        of_pillow(PIL.Image.fromarray(GREY).convert("1", dither=0), "PNG"),
        np.repeat(np.where(GREY > 127, 255, 0)[..., None], 3, -1),
    ),
    "interlaced": (tf.io.encode_png(COLOURS).numpy(), COLOURS),
    "turned_png": (of_pillow(PIL.Image.fromarray(COLOURS), "PNG", exif=turned(6)), COLOURS),
}


@pytest.mark.parametrize("name", TAKEN)
def test_photos_become_three_channels_of_8_bits_as_they_are_stored(decode, name):
    data, expected = TAKEN[name]
    np.testing.assert_array_equal(decode(data), expected)


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (jpeg(48, 64), (48, 64)),
        (jpeg(48, 64, progressive=True), (48, 64)),
        (of_pillow(PIL.Image.open(io.BytesIO(jpeg(48, 64))).convert("L"), "JPEG"), (48, 64)),
        (of_pillow(PIL.Image.open(io.BytesIO(jpeg(48, 64))).convert("CMYK"), "JPEG"), (48, 64)),
        (jpeg(48, 64, exif=turned(6)), (48, 64)),
        (jpeg(1, 64), (1, 64)),
        (with_scans(32), (64, 64)),
        (png(64, 1), (64, 1)),
    ],
    ids=["plain", "progressive", "grey", "cmyk", "turned", "thin", "scans", "high"],
)
def test_photos_are_what_tfm_decodes(decode, data, size):
    image = decode(data)
    assert image.shape == (*size, 3)
    np.testing.assert_array_equal(image, tf.io.decode_image(data, 3))
    if min(size) > 1:  # a smooth picture: dark at the top, grey or red growing downwards
        assert int(image[-4, 4, 0]) > int(image[4, 4, 0]) + 50


WHOLE_JPEG, WHOLE_PNG = jpeg(64, 64), png(64, 64)
NEITHER, BROKEN_JPEG, BROKEN_PNG = "an image is neither a JPEG nor a PNG image", "Invalid JPEG data", "Invalid PNG"
REFUSED = {
    "nothing": (b"", NEITHER),
    "text": (b"no image", NEITHER),
    "zeros": (b"\0" * 64, NEITHER),
    "gif": (of_pillow(PIL.Image.fromarray(COLOURS), "GIF"), NEITHER),
    "bmp": (of_pillow(PIL.Image.fromarray(COLOURS), "BMP"), NEITHER),
    "magic": (photos.JPEG_MAGIC, BROKEN_JPEG),
    "cut_jpeg": (WHOLE_JPEG[:-20], BROKEN_JPEG),
    "no_height": (resized(WHOLE_JPEG, 0, 64), BROKEN_JPEG),
    "jpeg_bomb": (resized(jpeg(8, 8), 60000, 60000), r"too many pixels: at most 16,777,216 .*\[60000 60000\]"),
    "scans": (with_scans(33), r"too many scans: at most 32 are taken, it has\] \[33\]"),
    "thin_jpeg": (jpeg(1, 65), r"too thin: the long side may be at most 64 times .*\[1 65\]"),
    "png_magic": (WHOLE_PNG[:8], NEITHER),
    "png_start": (WHOLE_PNG[:16], r"has no pixels: .*\[0 0\]"),
    "png_half_head": (WHOLE_PNG[:21], r"too thin|has no pixels"),
    "png_head": (WHOLE_PNG[:33], BROKEN_PNG),
    "cut_png": (WHOLE_PNG[:-30], BROKEN_PNG),
    "png_bomb": (resized_png(png(8, 8), 60000, 60000), r"too many pixels: .*\[60000 60000\]"),
    "png_largest": (resized_png(png(8, 8), 2**32 - 1, 2**32 - 1), "too many pixels"),
    "png_negative": (resized_png(png(8, 8), 2**31, 2**31), "too many pixels"),
    "png_empty": (resized_png(png(8, 8), 0, 64), r"has no pixels: .*\[0 64\]"),
    "png_long": (resized_png(png(8, 8), 64, 2**24), "too many pixels|too thin"),
    "png_without_head": (WHOLE_PNG[:8] + struct.pack(">I", 0) + b"IDAT" + WHOLE_PNG[16:], NEITHER),
    "heavy": (WHOLE_PNG + b"\0" * (64 * 2**20), r"too many bytes: at most 67,108,864 are taken"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_costs_too_much_or_is_no_image_is_refused_by_name(known, name):
    data, text = REFUSED[name]
    with pytest.raises(tf.errors.InvalidArgumentError, match=text):
        known.serve_encoded(tf.constant([WHOLE_PNG, data]))


def test_random_damage_is_refused_or_answered(known):
    generator = np.random.default_rng(0)
    answered = 0
    for number in range(60):
        data = bytearray((WHOLE_JPEG, WHOLE_PNG)[number % 2])
        for at in generator.integers(0, len(data) if number % 3 else 40, 4):
            data[at] = generator.integers(256)
        try:
            answered += known.serve_encoded(tf.constant([bytes(data)]))["boxes"].shape == (1, 3, 4)
        except tf.errors.InvalidArgumentError:
            pass
    assert 0 < answered < 60


@pytest.mark.parametrize("data", [resized(jpeg(8, 8), 12000, 12000), resized_png(png(8, 8), 12000, 12000)])
def test_a_refused_photo_costs_nothing(known, data):
    def ask():
        for _ in range(3):
            with pytest.raises(tf.errors.InvalidArgumentError, match="an image has too many pixels"):
                known.serve_encoded(tf.constant([data]))

    assert peak_growth(ask) < 50e6


@pytest.mark.parametrize(("images", "most"), [(3, 3), (1, 2)], ids=["three", "as many as it is verified by"])
def test_a_request_holds_so_many_images(monkeypatch, images, most):
    monkeypatch.setattr(detection, "MAX_REQUEST_PIXELS", images * SIZE * SIZE + 1)
    module = detection.DetectionModule(known_params(), Known())
    for signature in module.signatures().values():
        serve, ((alias, one),) = signature.concrete(), signature.example.items()
        one = tf.constant(one)[:1]
        assert serve(**{alias: tf.repeat(one, most, 0)})["boxes"].shape == (most, 3, 4)
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=rf"`{alias}` may hold at most {most} images.*\[{most + 1}\]"
        ):
            serve(**{alias: tf.repeat(one, most + 1, 0)})
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"`{alias}` holds no image: send one or more"):
            serve(**{alias: one[:0]})


@pytest.mark.parametrize("example", [b"no record", tf.train.Example().SerializeToString()], ids=["bytes", "empty"])
def test_what_is_no_record_of_an_image_is_refused(known, example):
    with pytest.raises(tf.errors.InvalidArgumentError, match="Could not parse example|image/encoded.*is required"):
        known.serve_tf_example(tf.constant([example]))


PREDICT = """
import sys
import numpy as np, tensorflow as tf
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    images = tf.compat.v1.placeholder(tf.uint8, None)  # as a server feeds it: of any shape
    loaded = tf.compat.v1.saved_model.loader.load(
        session, ["serve"], sys.argv[1], import_scope="model", input_map={"serving_default_images:0": images})
    boxes = "model/" + loaded.signature_def["serving_default"].outputs["boxes"].name
    for shape in [2], [], [0], [4, 4, 3], [1, 4, 4, 1], [1, 4, 4, 4], [1, 1, 4, 4, 3], [1, 0, 4, 3], [1, 4, 0, 3], \\
            [0, 4, 4, 3], [1, 1, 100, 3], [1, 1, 2**24 + 1, 3], [2, 4, 6, 3]:
        try:
            print(session.run(boxes, {images: np.zeros(shape, np.uint8)}).shape)
        except tf.errors.InvalidArgumentError as error:
            words = "expected shape [?,?,?,3]", "has no pixels", "too thin", "too many pixels", "holds no image"
            print(next((word for word in words if word in str(error)), error))
"""


def test_a_wrong_shape_is_refused_before_a_kernel_that_would_abort(known, tmp_path):
    """Of TensorFlow's kernels it is oneDNN's that end the process; some CPUs have them off."""
    exporter.write({"serving_default": known.signatures()["serving_default"]}, known.model, tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", PREDICT, str(tmp_path)],
        env=os.environ | {"TF_ENABLE_ONEDNN_OPTS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:7] == ["expected shape [?,?,?,3]"] * 7
    assert lines[7:9] == ["has no pixels"] * 2 and lines[9:11] == ["holds no image", "too thin"]
    assert lines[11] in ("too thin", "too many pixels") and lines[12:] == ["(2, 3, 4)"]


# A real detector, exported from its run.


def small(task, **model):
    """Makes a detector of 64 x 64 pixels and 2 classes of objects, whose weights nobody trained."""
    network = configs.NonLocalResNet(model_id=10, depth_multiplier=0.25, non_local=configs.Placement(res4=(0,)))
    task.model.backbone = configs.Backbone(non_local_resnet=network)
    task.override({
        "model": {
            "num_classes": 3, "input_size": [SIZE, SIZE, 3], "max_level": 5,
            "decoder": {"fpn": {"num_filters": 16}},
            "detection_generator": {"max_num_detections": 20},
            **model,
        },
        "validation_data": {"global_batch_size": 3, "dtype": "float32", "drop_remainder": False},
    })  # fmt: skip
    return cfg.ExperimentConfig(task=task)


@exp_factory.register_config_factory("small_retinanet")
def small_retinanet():
    return small(retinanet.RetinaNetTask(), min_level=4, head={"num_convs": 1, "num_filters": 16})


RCNN = {
    "rpn_head": {"num_filters": 16},
    "detection_head": {"num_convs": 1, "num_filters": 16, "fc_dims": 16},
    "roi_generator": {"test_num_proposals": 32},
    "norm_activation": {"use_sync_bn": False},
}


@exp_factory.register_config_factory("small_mask_rcnn")
def small_mask_rcnn():
    return small(maskrcnn.MaskRCNNTask(), mask_head={"num_convs": 1, "num_filters": 16}, **RCNN)


@exp_factory.register_config_factory("small_keypoint_rcnn")
def small_keypoint_rcnn():
    task = keypoint_configs.KeypointTask(mirrored=[0, 2, 1], sigmas=[0.1, 0.1, 0.1])
    head = {"num_convs": 2, "num_filters": 16, "non_local": [1]}
    return small(task, num_keypoints=3, keypoint_head=head, **RCNN)


def save_run(name, folder):
    """What a training run leaves: params.yaml and a checkpoint; weights such that something is found."""
    params = exp_factory.get_exp_config(name)
    hyperparams.save_params_dict_to_yaml(params, os.path.join(folder, "params.yaml"))
    model = task_factory.get_task(params.task).build_model()
    generator = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign_add(generator.normal(0, 0.1, variable.shape))
    tf.train.Checkpoint(model=model).save(os.path.join(folder, "ckpt"))
    return params, model


PHOTOS = jpeg(48, 64), png(100, 40, "L"), png(64, 64)


def records(path):
    """The photos as tfm reads COCO; where the objects are does not matter here."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number, data in enumerate(PHOTOS):
            height, width = tf.io.decode_image(data).shape[:2]
            builder = TfExampleBuilder()
            builder.add_encoded_image_feature(data, "png", height, width, 3, str(number).encode())
            builder.add_boxes_feature([0.1], [0.5], [0.1], [0.5], [1])
            builder.add_instance_mask_matrices_feature(np.ones([1, height, width], np.uint8))
            builder.add_ints_feature("image/object/is_crowd", [0])
            builder.add_ints_feature("image/object/keypoint/visibility", [0] * 3)
            for axis in "yx":
                builder.add_floats_feature(f"image/object/keypoint/{axis}", [0.0] * 3)
            writer.write(builder.example.SerializeToString())


def of_parser(params, model, path):
    """What the Keras model answers to what tfm's parser makes of the records, in pixels of each photo."""
    data = params.task.validation_data.replace(input_path=str(path))
    images, labels = next(iter(task_factory.get_task(params.task).build_inputs(data)))
    assert images.shape == (3, SIZE, SIZE, 3)
    info = labels["image_info"].numpy().astype(np.float64)
    found = model(
        images, anchor_boxes=labels["anchor_boxes"], image_shape=info[:, 1].astype(np.float32), training=False
    )
    scale, size = info[:, None, 2], info[:, None, 0]
    boxes = np.clip(found["detection_boxes"] / np.tile(scale, 2), 0, np.tile(size, 2))
    return found, boxes, scale, size


def check_answers(saved, params, model, tmp_path):
    """A SavedModel answers by every signature what the model does, to a batch and to each photo alone."""
    records(tmp_path / "photos.tfrecord")
    found, boxes, scale, size = of_parser(params, model, tmp_path / "photos.tfrecord")
    count = found["num_detections"].numpy()
    assert np.all(count > 4)
    examples = list(tf.data.TFRecordDataset(str(tmp_path / "photos.tfrecord")).as_numpy_iterator())
    answers = {
        "encoded": saved.signatures["encoded"](encoded=tf.constant(PHOTOS)),
        "tf_example": saved.signatures["tf_example"](examples=tf.constant(examples)),
    }
    alone = [saved.signatures["encoded"](encoded=tf.constant([data])) for data in PHOTOS]
    pixels = [tf.io.decode_image(data, 3)[tf.newaxis] for data in PHOTOS]
    in_pixels = [saved.signatures["serving_default"](images=image) for image in pixels]
    for name, parts in (("alone", alone), ("pixels", in_pixels)):
        answers[name] = {alias: tf.concat([part[alias] for part in parts], 0) for alias in parts[0]}
    for name, answer in answers.items():
        np.testing.assert_array_equal(answer["num_detections"], count, name)
        for number, rows in enumerate(count):
            for alias, key in (("scores", "detection_scores"), ("classes", "detection_classes")):
                np.testing.assert_allclose(answer[alias][number, :rows], found[key][number, :rows], rtol=1e-4)
            np.testing.assert_allclose(
                answer["boxes"][number, :rows], boxes[number, :rows], rtol=2e-3, atol=2e-3, err_msg=name
            )
            assert not np.any(answer["scores"][number, rows:])
    return answers["encoded"], found, scale, size, count


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """(params, network, path of the SavedModel) of the RetinaNet."""
    folder = tmp_path_factory.mktemp("run")
    params, model = save_run("small_retinanet", str(folder))
    (folder / "labels.txt").write_text("background\nmug\nspoon\n")
    base = folder / "saved_models" / "detector"
    path = export.export_run("small_retinanet", str(folder), str(base), labels=str(folder / "labels.txt"))
    return params, model, path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["small_mask_rcnn", "small_keypoint_rcnn"])
def test_exported_masks_and_keypoints_are_those_of_the_trained_one(name, tmp_path):
    params, model = save_run(name, str(tmp_path))
    path = export.export_run(name, str(tmp_path), str(tmp_path / "saved"))
    check_plain(path)
    saved = tf.saved_model.load(path)
    answer, found, scale, size, count = check_answers(saved, params, model, tmp_path)
    if name == "small_keypoint_rcnn":
        assert answer["keypoints"].shape == (3, 20, 3, 3) and "masks" not in answer
        points = np.clip(found["detection_keypoints"][..., :2] / scale[:, None], 0, size[:, None])
        for number, rows in enumerate(count):
            np.testing.assert_allclose(answer["keypoints"][number, :rows, :, :2], points[number, :rows], atol=2e-3)
            scores = found["detection_keypoints"][number, :rows, :, 2]
            np.testing.assert_allclose(answer["keypoints"][number, :rows, :, 2], scores, rtol=1e-3)
        return
    assert answer["masks"].shape == found["detection_masks"].shape == (3, 20, 28, 28) and "keypoints" not in answer
    ends = found["detection_boxes"][..., 2:] / scale
    whole = np.all(ends <= size, -1) & (np.arange(20) < count[:, None])  # what the image does not cut keeps its mask
    assert np.any(whole) and np.all(whole[2, : count[2]])  # the third photo is a square
    np.testing.assert_allclose(answer["masks"].numpy()[whole], found["detection_masks"].numpy()[whole], atol=1e-4)
    assert np.ptp(answer["masks"].numpy()[whole]) > 0.1


def test_an_exported_retinanet_answers_as_the_trained_one(published, tmp_path):
    params, model, path = published
    saved = tf.saved_model.load(path)
    assert sorted(saved.signatures) == ["encoded", "serving_default", "tf_example"]
    check_plain(path)
    assert (pathlib.Path(path) / "assets.extra" / "labels.txt").read_text().startswith("background\nmug\n")
    answer = check_answers(saved, params, model, tmp_path)[0]
    assert set(answer) == {"boxes", "classes", "scores", "num_detections"}
    for record in tf.data.TFRecordDataset(f"{path}/assets.extra/tf_serving_warmup_requests"):
        request = warmup_request(record.numpy())
        inputs = {alias: tf.constant(tf.make_ndarray(value)) for alias, value in request.inputs.items()}
        assert saved.signatures[request.model_spec.signature_name](**inputs)["boxes"].shape == (1, 20, 4)


def warmup_request(record):
    from keras_nonlocal.serving.apis import prediction_log_pb2

    return prediction_log_pb2.PredictionLog.FromString(record).predict_log.request


def test_a_detector_is_not_made_portable(tmp_path):
    with pytest.raises(UserError, match="of the task MaskRCNNTask cannot be made portable.*leave out --portable"):
        export.export(known_params(), "checkpoint", tmp_path / "saved", portable=True)


# The client.


@pytest.fixture(scope="module")
def local(known, tmp_path_factory):
    base = tmp_path_factory.mktemp("saved_models") / "known"
    exporter.publish(known.signatures(), known.model, base)
    with server.LocalServer(base, "known") as running:
        yield running


@pytest.fixture
def photo(tmp_path):
    """128 x 96 pixels; its EXIF data says that it lies on its side."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(jpeg(128, 96, quality=95, exif=turned(6)))
    return path


@pytest.fixture(params=["grpc", "rest"])
def client(local, request):
    target = local.grpc_url if request.param == "grpc" else local.rest_url
    with Client(target, "known") as made:
        yield made


class TestClient:
    @pytest.mark.parametrize("signature", ["encoded", "serving_default"])
    def test_both_protocols_find_the_same(self, local, photo, signature):
        with compare.BothProtocols(local.grpc_url, local.rest_url, "known") as both:
            inputs = detections.request(photo, both.signature(signature))
            found = both.predict(inputs, signature).map(detections.from_outputs)
            fewer = both.grpc.detect(photo, 0.6, signature)
        for name in ("boxes", "classes", "scores", "masks", "keypoints"):
            np.testing.assert_array_equal(getattr(found.rest, name), getattr(found.grpc, name))
            np.testing.assert_array_equal(getattr(found.grpc, name)[:1], getattr(fewer, name))
        np.testing.assert_array_equal(found.grpc.boxes, [[16, 32, 80, 96], [0, 0, 64, 96]])

    def test_a_photo_is_read_as_it_is_stored(self, photo, tmp_path):
        assert file_inputs.read_pixels(photo).shape == (128, 96, 3)
        with pytest.raises(UserError, match="none.jpg cannot be read"):
            file_inputs.read_pixels(tmp_path / "none.jpg")
        (tmp_path / "text.jpg").write_text("text")
        with pytest.raises(UserError, match="text.jpg is not a whole JPEG or PNG"):
            file_inputs.read_pixels(tmp_path / "text.jpg")

    def test_what_the_server_refuses_is_an_error(self, client, tmp_path):
        (tmp_path / "text.jpg").write_text("text")
        with pytest.raises(UserError, match="refused the request .*neither a JPEG nor a PNG"):
            client.detect(tmp_path / "text.jpg")

    def test_labels(self, tmp_path):
        labels = tmp_path / "labels.txt"
        labels.write_text("background\nmug\nspoon\n")
        boxes = np.array([[1.0, 2, 30, 41.25], [0, 0, 5, 5]])
        found = detections.Detections(boxes, np.array([2, 1]), np.array([0.75, 0.5]))
        fewer = detections.Detections(boxes[:1], np.array([2]), np.array([0.75]))
        assert compare.detection_table(compare.Comparison(fewer, 1.5, found, 0.5), labels).splitlines() == [
            "class        REST      gRPC     top    left  bottom   right",
            "spoon    0.750000  0.750000     1.0     2.0    30.0    41.2",
            "mug             -  0.500000     0.0     0.0     5.0     5.0",
            "seconds     1.500     0.500",
        ]
        assert detections.class_names(np.array([2])) == ["class 2"]
        with pytest.raises(UserError, match="has 3 lines, but the model found class 3"):
            detections.class_names(np.array([3]), labels)

    def test_a_signature_of_something_else(self, client, photo):
        signature = client.signature("encoded")
        signature.inputs["more"].CopyFrom(signature.inputs["encoded"])
        with pytest.raises(UserError, match=r"takes \['encoded', 'more'\]; a file can fill one input"):
            detections.request(photo, signature)
        signature.inputs["encoded"].dtype = tf.float32.as_datatype_enum
        del signature.inputs["more"]
        with pytest.raises(UserError, match="input 'encoded' is float32 of rank 1; a photo can fill uint8 pixels"):
            detections.request(photo, signature)


def test_masks_are_pasted_where_at_least_half():
    """The parts of the first mask, 0 and 1, are centred at columns 3 and 5: it passes one half at 4."""
    masks = np.array([[[0.0, 1.0]], [[1.0, 1.0]], [[1.0, 1.0]]])
    boxes = [[1, 2, 3, 6], [-5, -5, 9, 1.6], [2, 3, 2, 3]]
    pasted = detections.paste_masks(masks, np.array(boxes), 4, 8)
    expected = np.zeros([3, 4, 8], bool)
    expected[0, 1:3, 4:6] = True  # at centres 4.5 and 5.5 it is 0.75 and 1
    expected[1, :, :2] = True  # the centre of column 1 is at 1.5
    np.testing.assert_array_equal(pasted, expected)


def test_a_picture_has_boxes_masks_and_skeletons():
    generator = np.random.default_rng(0)
    image = generator.integers(0, 255, [128, 96, 3], dtype=np.uint8)
    points = np.stack([np.linspace(20, 70, 17), np.linspace(35, 90, 17), [0.9, 0.04] * 8 + [0.9]], -1)[None]
    boxes, mask = np.array([[16.0, 32, 80, 90]]), np.array([[[0.0, 1.0], [0.0, 1.0]]])
    found = detections.Detections(boxes, np.array([1]), np.array([0.875]), mask, points)
    whole = np.zeros([1, 128, 96], bool)
    whole[0, 16:80, 61:90] = True
    shown = np.concatenate([points[..., :2], points[..., 2:] >= 0.05], -1)
    expected = drawing.draw(image, boxes, ["class 1 0.88"], whole, shown, skeleton.COCO_PERSON.edges)
    np.testing.assert_array_equal(detections.draw(image, found), expected)
    assert np.any(expected != drawing.draw(image, boxes, ["class 1 0.88"], whole, shown))
    plain = detections.Detections(boxes, np.array([1]), np.array([0.875]))
    np.testing.assert_array_equal(detections.draw(image, plain), drawing.draw(image, boxes, ["class 1 0.88"]))


def test_the_script_prints_and_draws(local, photo, tmp_path):
    addresses = [f"--server={local.grpc_url}", f"--rest={local.rest_url}"]
    flags = [f"--image={photo}", "--model_name=known", f"--out={tmp_path / 'drawn.png'}", *addresses]
    command = [sys.executable, "saved_models/client.py", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["class", "REST", "gRPC", "top", "left", "bottom", "right"]
    assert lines[1].split() == ["class", "2", *["0.750000"] * 2, "16.0", "32.0", "80.0", "96.0"]
    assert re.fullmatch(r"seconds( +\d+\.\d{3}){2}", lines[3]) and lines[4] == f"drawn: {tmp_path / 'drawn.png'}"
    drawn, image = file_inputs.read_pixels(tmp_path / "drawn.png"), file_inputs.read_pixels(photo)
    with Client(local.rest_url, "known") as client:
        found = client.detect(photo)
    np.testing.assert_array_equal(drawn, detections.draw(image, found))
    assert np.mean(np.any(drawn != image, -1)) > 0.1
