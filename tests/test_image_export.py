"""Served classifiers of images: what they make of files is what tfm's parser does, and what they refuse."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from hostile_images import jpeg, peak_growth, png, resized, resized_png, with_scans
from official.core import task_factory
from official.modeling import hyperparams
from official.vision.dataloaders import classification_input
from saved_graphs import check_plain, serve_v1
from served_models import CLASSES, IMAGE, image_params, module_of

from keras_nonlocal import export as exporter
from keras_nonlocal.errors import UserError
from keras_nonlocal.export import guards
from keras_nonlocal.tfm import export


@pytest.fixture(scope="module")
def served():
    return module_of(image_params())


FILES = {
    "plain": jpeg(48, 64),
    "high": jpeg(90, 40),
    "small": jpeg(5, 7),
    "progressive": jpeg(48, 64, progressive=True),
    "thin": jpeg(2, 500),
}


def parsed(params, data):
    """What tfm's parser of an evaluation makes of a file."""
    task = params.task
    parser = classification_input.Parser(
        output_size=task.model.input_size[:2],
        num_classes=CLASSES,
        decode_jpeg_only=task.validation_data.decode_jpeg_only,
        aug_crop=task.validation_data.aug_crop,
        center_crop_fraction=task.validation_data.center_crop_fraction,
        tf_resize_method=task.validation_data.tf_resize_method,
        dtype=task.validation_data.dtype,
    )
    label = tf.constant(0, tf.int64)
    return parser.parse_fn(False)({"image/encoded": tf.constant(data), "image/class/label": label})[0]


class Recorder(tf_keras.Model):
    """Keeps what the network is given."""

    def call(self, inputs, training):
        assert not training
        self.given = inputs
        return tf.zeros([tf.shape(inputs)[0], CLASSES])


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"center_crop_fraction": 0.5},
        {"aug_crop": False},
        {"decode_jpeg_only": False, "tf_resize_method": "bicubic"},
        {"dtype": "bfloat16"},
    ],
    ids=lambda data: "_".join(data) or "default",
)
def test_the_network_gets_what_the_parser_makes_of_files(data):
    params = image_params(**data)
    module = export.image_classification.ImageClassificationModule(params, network := Recorder())
    for name, file in FILES.items():
        module.serve_encoded.python_function(tf.constant([file]))
        np.testing.assert_allclose(
            tf.cast(network.given[0], tf.float32), tf.cast(parsed(params, file), tf.float32), atol=1e-5, err_msg=name
        )


def example(data):
    record = tf.train.Example()
    record.features.feature["image/encoded"].bytes_list.value.append(data)
    return record.SerializeToString()


def test_every_signature_answers_as_the_network(served, tmp_path):
    module, network = served
    params = module.params
    path = exporter.publish(module.signatures(), network, tmp_path / "saved")
    check_plain(path)
    pixels = np.random.default_rng(0).integers(0, 256, [2, *IMAGE], dtype=np.uint8)
    files = np.array(list(FILES.values()), object)
    records = np.array([example(data) for data in files], object)
    by_pixels, by_file, by_record, seen = serve_v1(
        path,
        [
            ("serving_default", {"images": pixels}),
            ("encoded", {"encoded": files}),
            ("tf_example", {"examples": records}),
            ("features", {"images": pixels}),
        ],
    )
    normalized = (pixels - np.multiply(255, [0.485, 0.456, 0.406])) / np.multiply(255, [0.229, 0.224, 0.225])
    expected = network(normalized.astype("float32"), training=False)
    np.testing.assert_allclose(by_pixels["logits"], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(by_pixels["probabilities"], tf.nn.softmax(expected), rtol=1e-3, atol=1e-5)
    of_parser = network(tf.stack([parsed(params, data) for data in files]), training=False)
    assert np.ptp(of_parser, 0).max() > 1e-3
    np.testing.assert_allclose(by_file["logits"], of_parser, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(by_record["logits"], by_file["logits"])
    maps = network.backbone(normalized.astype("float32"), training=False)["5"]
    assert set(seen) == {"pooled", "res5"}
    np.testing.assert_allclose(seen["res5"], maps, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(seen["pooled"], np.mean(maps, (1, 2)), rtol=1e-4, atol=1e-4)


def test_several_labels_are_scored_one_by_one(served):
    _, network = served
    module = export.image_classification.ImageClassificationModule(image_params(is_multilabel=True), network)
    answer = module.serve(np.zeros([1, *IMAGE], np.uint8))
    np.testing.assert_allclose(answer["probabilities"], tf.sigmoid(answer["logits"]), rtol=1e-6)


REFUSED = {
    "text": (b"no image", "an image is neither a JPEG nor a PNG image"),
    "gif": (b"GIF89a" + bytes(40), "an image is neither a JPEG nor a PNG image"),
    "bomb": (resized(jpeg(8, 8), 60000, 60000), "an image has too many pixels"),
    "png_bomb": (resized_png(png(8, 8), 60000, 60000), "an image has too many pixels"),
    "scans": (with_scans(33), "too many scans"),
    "cut": (jpeg(64, 64)[:-20], "Invalid JPEG data"),
    "dot": (jpeg(1, 64), r"is too small: its short side must have 2 pixels or more.*\[1 64\]"),
    "heavy": (jpeg(8, 8) + bytes(64 * 2**20), "too many bytes: at most 67,108,864"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_costs_too_much_or_is_no_image_is_refused_by_name(served, name):
    module, _ = served
    data, text = REFUSED[name]
    with pytest.raises(tf.errors.InvalidArgumentError, match=text):
        module.serve_encoded(tf.constant([png(40, 40), data]))


def test_requests_of_nothing_or_too_much_are_refused(served, monkeypatch):
    module, network = served
    for serve, empty in (
        (module.serve, np.zeros([0, *IMAGE], np.uint8)),
        (module.serve_features, np.zeros([0, *IMAGE], np.uint8)),
        (module.serve_encoded, tf.constant([], tf.string)),
        (module.serve_tf_example, tf.constant([], tf.string)),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match="`.*` holds nothing: every size must be at least 1"):
            serve(empty)
    # The two that an export is verified by are taken in any case.
    monkeypatch.setattr(guards, "MAX_REQUEST_BYTES", 1)
    module = export.image_classification.ImageClassificationModule(module.params, network)
    assert module.serve_encoded(tf.constant([jpeg(9, 9)] * 2))["logits"].shape == (2, CLASSES)
    for name, serve, sent in (
        ("encoded", module.serve_encoded, tf.constant([jpeg(9, 9)] * 3)),
        ("images", module.serve, np.zeros([3, *IMAGE], np.uint8)),
        ("images", module.serve_features, np.zeros([3, *IMAGE], np.uint8)),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=rf"`{name}` may hold at most 2 images.*\[?3\]?"):
            serve(sent)


def test_a_refused_image_costs_nothing(served):
    module, _ = served
    data = resized(jpeg(8, 8), 12000, 12000)  # the decoder fills what is missing, at the cost of all pixels

    def ask():
        for _ in range(3):
            with pytest.raises(tf.errors.InvalidArgumentError, match="an image has too many pixels"):
                module.serve_encoded(tf.constant([data]))

    assert peak_growth(ask) < 50e6


def test_a_run_of_another_experiment_is_one_sentence(tmp_path):
    hyperparams.save_params_dict_to_yaml(image_params(), str(tmp_path / "params.yaml"))
    with pytest.raises(UserError, match="params.yaml is not of --experiment=resnet_imagenet .*'non_local_resnet'"):
        export.load_run("resnet_imagenet", str(tmp_path))


@pytest.mark.slow
def test_a_run_is_exported_with_its_norms_folded(served, tmp_path):
    module, network = served
    checkpoint = tf.train.Checkpoint(model=task_factory.get_task(module.params.task).build_model())
    checkpoint.model.set_weights(network.get_weights())
    path = export.export(module.params, checkpoint.save(str(tmp_path / "ckpt")), str(tmp_path / "saved"))
    assert not {op for op in check_plain(path) if op.startswith("FusedBatchNorm") or op == "Rsqrt"}
    pixels = np.random.default_rng(0).integers(0, 256, [1, *IMAGE], dtype=np.uint8)
    (answer,) = serve_v1(path, [("serving_default", {"images": pixels})])
    np.testing.assert_allclose(answer["logits"], module.serve(pixels)["logits"], rtol=1e-3, atol=1e-4)
