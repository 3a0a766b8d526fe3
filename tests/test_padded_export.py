"""The signature `padded`: inputs of several sizes in one batch, as TensorFlow Serving pads them."""

import math

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import tiny_task
from blocks import FLAVOURS, ONE_FLAVOUR, random_model
from official.core import task_factory
from saved_graphs import serve_v1

from keras_nonlocal import errors
from keras_nonlocal.export import export_model, guards, padding
from keras_nonlocal.serving import Client
from keras_nonlocal.serving.local import server
from keras_nonlocal.tfm import export, video_classifier
from keras_nonlocal.tfm.export import video_classification
from keras_nonlocal.tfm.inputs import pixels

SHAPE = (4, 32, 32, 3)
SIZES = ((4, 32, 32), (6, 25, 40), (3, 41, 29))


@pytest.fixture(scope="module")
def params():
    return tiny_task.experiment(
        **{
            "task.model.backbone.video_resnet.non_local.res4": [0],
            "task.train_data.feature_shape": list(SHAPE),
            "task.validation_data.feature_shape": list(SHAPE),
        }
    )


@pytest.fixture(scope="module")
def model(params):
    return random_model(task_factory.get_task(params.task).build_model())


@pytest.fixture(scope="module")
def saved(params, model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("padded")
    checkpoint = tf.train.Checkpoint(model=model).write(str(folder / "checkpoint"))
    # What is answered is compared with the network here.
    return export.export(params, checkpoint, str(folder / "clips"), explain=False, padded=True, verify=False)


def clips():
    rng = np.random.default_rng(5)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]


def answers_alone(model):
    """Logits of each clip by a classifier of the same weights that takes any size."""
    backbone = type(model.backbone).from_config({**model.backbone.get_config(), "input_shape": (None, None, None, 3)})
    any_size = video_classifier.VideoClassifier(backbone, 2, (None, None, None, 3))
    any_size.set_weights(model.get_weights())
    return [any_size({"image": pixels.normalize(clip[None])}, training=False).numpy()[0] for clip in clips()]


def merged(requests, rows):
    """Requests as TensorFlow Serving makes one batch of them with pad_variable_length_inputs and allowed_batch_sizes.

    Every input is padded at the ends of its axes to the largest of all requests, with its own first value. To reach an
    allowed batch size, the first row of the last request is repeated.
    """
    batch = {}
    for name in requests[0]:
        parts = [request[name] for request in requests]
        largest = np.max([part.shape[1:] for part in parts], 0)
        parts = [
            np.pad(part, [(0, 0), *((0, most - size) for most, size in zip(largest, part.shape[1:], strict=True))],
                   constant_values=part.flat[0])
            for part in parts
        ]  # fmt: skip
        parts += [parts[-1][:1]] * (rows - sum(map(len, parts)))
        batch[name] = np.concatenate(parts)
    return batch


def requests():
    return [{"frames": clip[None], "sizes": np.array([clip.shape[:3]], np.int32)} for clip in clips()]


def test_a_batch_as_tensorflow_serving_makes_it(saved, model):
    batch = merged(requests(), rows=4)
    assert batch["frames"].shape == (4, 6, 41, 40, 3)
    whole = batch | {"sizes": np.full([4, 3], batch["frames"].shape[1:4], np.int32)}
    found, without = serve_v1(saved, [("padded", batch), ("padded", whole)])
    wanted = answers_alone(model)
    for i, logits in enumerate([*wanted, wanted[-1]]):
        np.testing.assert_allclose(found["logits"][i], logits, rtol=0, atol=1e-5 * np.abs(logits).max())
        np.testing.assert_allclose(found["probabilities"][i], tf.nn.softmax(logits), rtol=0, atol=1e-5)
    # What the same batch is answered without the sizes.
    assert max(np.abs(without["logits"][i] - wanted[i]).max() for i in range(3)) > 0.01


@pytest.mark.slow
def test_over_both_protocols(saved, model):
    batch, wanted = merged(requests(), rows=3), answers_alone(model)
    with server.LocalServer(str(saved).rsplit("/", 1)[0], "clips") as local:
        for target in (local.rest_url, local.grpc_url):
            with Client(target, "clips") as client:
                found = client.predict(batch, "padded")
            np.testing.assert_allclose(
                found["logits"], wanted, rtol=0, atol=1e-5 * np.abs(wanted).max(), err_msg=target
            )


def test_wrong_requests_are_refused_with_a_sentence(monkeypatch):
    monkeypatch.setattr(guards, "MAX_REQUEST_BYTES", 3 * math.prod(SHAPE))
    monkeypatch.setattr(padding, "MAX_GROWTH", 2)
    inputs = tf_keras.Input(SHAPE)
    pooled = tf_keras.layers.MaxPooling3D((1, 5, 5), name="pool1")(inputs)
    network = tf_keras.Model(inputs, tf_keras.layers.GlobalAveragePooling3D()(pooled))
    example = np.zeros([2, *SHAPE], np.uint8)
    signature = padding.padded_signature(network, "frames", example, pixels.normalize, lambda mean: {"mean": mean})
    serve = signature.concrete()

    def asked(frames, sizes):
        return serve(frames=tf.zeros(frames, tf.uint8), sizes=tf.constant(sizes, tf.int32))

    assert asked([2, 4, 32, 32, 3], [[4, 32, 32], [2, 21, 32]])["mean"].shape == (2, 3)
    for frames, sizes, said in [
        ([1, 4, 32, 32, 3], [[4, 32, 33]], "`sizes` must be from 1 to the padded size along every axis of `frames`"),
        ([1, 4, 32, 32, 3], [[0, 32, 32]], "`sizes` must be from 1 to the padded size"),
        ([2, 4, 32, 32, 3], [[4, 32, 32]], "`sizes` must have a row for each example"),
        ([1, 0, 32, 32, 3], [[1, 32, 32]], "`frames` holds nothing: every size must be at least 1"),
        ([0, 4, 32, 32, 3], np.zeros([0, 3]), "`frames` holds nothing: every size must be at least 1"),
        ([1, 4, 32, 65, 3], [[4, 32, 32]], "`frames` is too large: an example may have at most 8,192 positions"),
        ([4, 4, 32, 32, 3], [[4, 32, 32]] * 4, "`frames` is too large: a request may have at most 36,864 bytes"),
        ([1, 4, 32, 32, 3], [[4, 32, 4]], "`mask`: layer pool1 needs W of at least 5"),
    ]:
        with pytest.raises(tf.errors.InvalidArgumentError, match=said):
            asked(frames, sizes)


def test_networks_that_cannot_be_told_are_named(params, model):
    inputs = tf_keras.Input(SHAPE)
    flat = tf_keras.Model(inputs, tf_keras.layers.Dense(2)(tf_keras.layers.Flatten()(inputs)))
    module = video_classification.VideoClassificationModule(params, flat)
    with pytest.raises(errors.UserError, match="cannot serve padded inputs: .*of class Flatten.*; leave out --padded"):
        module.padded_signature()


@pytest.mark.parametrize("flavour", ONE_FLAVOUR)
def test_a_keras_model(flavour, tmp_path):
    """Of inputs of floats, in the names of the model."""
    package = FLAVOURS[flavour]
    layers = package.keras.layers
    maps = package.keras.Input((None, None, 4), name="maps")
    x = package.layers.NonLocal2D()(layers.Conv2D(4, 3, padding="same", activation="relu")(maps))
    model = random_model(package.keras.Model(maps, layers.GlobalAveragePooling2D(name="mean")(x)))
    path = export_model(model, tmp_path / "maps", explain=False, padded=True)
    rng = np.random.default_rng(6)
    alone = [rng.normal(size=(1, *size, 4)).astype("float32") for size in ((5, 8), (9, 3))]
    batch = merged([{"maps": x, "sizes": np.array([x.shape[1:3]], np.int32)} for x in alone], rows=2)
    (found,) = serve_v1(path, [("padded", batch)])
    for i, each in enumerate(alone):
        np.testing.assert_allclose(found["output_0"][i], np.asarray(model(each))[0], rtol=0, atol=1e-5)


def test_a_keras_model_of_several_inputs_is_named(tmp_path):
    inputs = [tf_keras.Input((8, 8, 4), name=name) for name in ("a", "b")]
    model = tf_keras.Model(inputs, tf_keras.layers.GlobalAveragePooling2D()(tf_keras.layers.Add()(inputs)))
    with pytest.raises(errors.UserError, match="it takes several, a, b; leave out --padded"):
        export_model(model, tmp_path / "maps", explain=False, padded=True)
