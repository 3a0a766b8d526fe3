"""A network with non-local blocks starts from one without, and a video network from one of images."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.core import exp_factory, task_factory
from official.vision.configs import backbones as tfm_backbones
from official.vision.configs import common, image_classification
from official.vision.modeling.backbones import factory, resnet

from keras_nonlocal import errors
from keras_nonlocal.demo import experiments  # noqa: F401  (registers c2d_demo)
from keras_nonlocal.tfm import warm_start
from keras_nonlocal.tfm.backbones import configs
from keras_nonlocal.tfm.inputs import pixels
from keras_nonlocal.tfm.tasks import video_classification
from keras_nonlocal.tfm.warm_start import checkpoints, image_resnets, keras_applications, tfm_resnet

ROOT = pathlib.Path(__file__).parent.parent
FIVE = configs.Placement(res3=(1, 3), res4=(1, 3, 5))
NORM = common.NormActivation(norm_momentum=0.9, norm_epsilon=1e-5, use_sync_bn=False)
LEVELS = ("2", "3", "4", "5")


def randomise(model, seed=0):
    """Weights of a trained network: statistics, gammas and betas that are not what they start as."""
    generator = np.random.default_rng(seed)
    weights = []
    for variable in model.weights:
        noise = generator.normal(size=variable.shape).astype("float32")
        name = getattr(variable, "path", variable.name)
        if "moving_variance" in name:
            weights.append(0.5 + np.abs(noise))
        elif "kernel" in name:
            weights.append(noise * np.sqrt(2 / np.prod(variable.shape[:-1])))
        elif "gamma" in name:
            weights.append(0.5 + 0.2 * noise)
        else:
            weights.append(0.2 * noise)
    model.set_weights(weights)
    return model


def save(backbone, folder):
    return tf.train.Checkpoint(backbone=backbone).write(str(folder / "plain"))


def image_model(model_id=18, **network):
    network = configs.NonLocalResNet(model_id=model_id, **network)
    backbone = configs.Backbone(non_local_resnet=network)
    return image_classification.ImageClassificationModel(backbone=backbone, norm_activation=NORM)


def clip_model(kind, **network):
    network = {"video_resnet": configs.VideoResNet, "non_local_resnet_3d": configs.NonLocalResNet3D}[kind](**network)
    backbone = configs.Backbone3D(type=kind, **{kind: network})
    return video_classification.VideoClassificationModel(backbone=backbone, norm_activation=NORM)


# Arguments of a video_resnet that is quickly built.
TINY = dict(block_counts=(1, 1, 1, 1), width=8)


def as_tfm_reads(model_config, folder):
    """A backbone with the weights of a folder, read as tfm's tasks read `init_checkpoint`."""
    backbone = warm_start.build_backbone(model_config)
    status = tf.train.Checkpoint(backbone=backbone).read(tf.train.latest_checkpoint(str(folder)))
    status.expect_partial().assert_existing_objects_matched()
    return backbone


def images(*shape):
    return np.random.default_rng(1).normal(size=shape).astype("float32")


CASES = {
    "resnet_18": (lambda placed: image_model(18, non_local=placed), configs.Placement(res3=(0, 1)), (1, 64, 64, 3)),
    "resnet_50": (lambda placed: image_model(50, non_local=placed), FIVE, (1, 64, 64, 3)),
    "resnet_3d": (lambda placed: clip_model("non_local_resnet_3d", non_local=placed), FIVE, (1, 8, 32, 32, 3)),
    "i3d": (
        lambda placed: clip_model(
            "video_resnet", non_local=placed, width=8, inflate="3x1x1", block_counts=(1, 2, 1, 1)
        ),
        configs.Placement(res3=(0, 1), res4=(0,)),
        (1, 4, 32, 32, 3),
    ),
}


# Of images, as in test_a_task_of_tfm_starts_from_it.
SLOW_CASES = ("resnet_18", "resnet_50", "resnet_3d")


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.slow] if case in SLOW_CASES else []) for case in CASES]
)
def test_a_network_starts_as_the_plain_one(case, tmp_path):
    make, placed, shape = CASES[case]
    plain = randomise(warm_start.build_backbone(make(configs.Placement())))
    report = warm_start.write(make(placed), save(plain, tmp_path), str(tmp_path / "start"))
    assert sorted(os.listdir(tmp_path / "start")) == [
        "checkpoint", "ckpt-1.data-00000-of-00001", "ckpt-1.index", "warm_start.txt"
    ]  # fmt: skip
    started = as_tfm_reads(make(placed), tmp_path / "start")
    expected, found = plain(images(*shape)), started(images(*shape))
    assert all(np.array_equal(expected[level], found[level]) for level in LEVELS)
    assert float(tf.reduce_max(tf.abs(expected["5"]))) > 0
    check_report(report, started, tmp_path / "start", len(plain.weights))


def check_report(report, backbone, folder, count_old):
    """Every variable is in the report by the name that it has in the checkpoint, with where it came from or as new."""
    rows = {row.variable: row for row in report.rows}
    suffix = "/.ATTRIBUTES/VARIABLE_VALUE"
    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(folder)))
    saved = {
        key.removesuffix(suffix): int(np.prod(shape))
        for key, shape in reader.get_variable_to_shape_map().items()
        if key.startswith("backbone/")
    }
    assert {name: row.parameters for name, row in rows.items()} == saved
    assert len(rows) == len(report.rows) == len(backbone.weights)
    old = [row for row in report.rows if row.tensor]
    assert len(old) == count_old and len({row.tensor for row in old}) == count_old
    assert all("non" in row.variable + row.layer for row in report.rows if not row.tensor)
    text = (folder / "warm_start.txt").read_text()
    assert text.splitlines() == report.lines() and f"{len(saved) - count_old} new (" in text


def test_a_task_of_tfm_starts_from_it(tmp_path):
    """The stock classification task, which insists on every variable of the backbone."""
    plain = randomise(warm_start.build_backbone(image_model()))
    model = image_model(non_local=configs.Placement(res4=(0,)))
    model.num_classes, model.input_size = 3, [64, 64, 3]
    path = save(plain, tmp_path)
    warm_start.write(model, path, str(tmp_path / "start"))
    config = image_classification.ImageClassificationTask(
        model=model, init_checkpoint=path, init_checkpoint_modules="backbone"
    )
    with pytest.raises(AssertionError):
        task_factory.get_task(config).initialize(task_factory.get_task(config).build_model())
    config.init_checkpoint = str(tmp_path / "start")
    task = task_factory.get_task(config)
    classifier = task.build_model()
    task.initialize(classifier)
    x = images(1, 64, 64, 3)
    assert np.array_equal(classifier.backbone(x)["5"], plain(x)["5"])


def test_the_checkpoint_may_hold_more(tmp_path):
    """tfm's own hold the whole model and the optimizer too."""
    plain = randomise(warm_start.build_backbone(clip_model("video_resnet", **TINY)))
    x = tf_keras.layers.GlobalAveragePooling3D()(plain.output["5"])
    model = tf_keras.Model(plain.input, tf_keras.layers.Dense(2)(x))
    optimizer = tf_keras.optimizers.SGD(momentum=0.9)
    optimizer.build(model.trainable_variables)
    tf.train.Checkpoint(model=model, optimizer=optimizer, backbone=plain).save(str(tmp_path / "ckpt"))
    config = clip_model("video_resnet", non_local=configs.Placement(res3=(0,)), **TINY)
    backbone = warm_start.build_backbone(config)
    warm_start.warm_start(backbone, config, str(tmp_path))
    x = images(1, 4, 32, 32, 3)
    assert np.array_equal(backbone(x)["5"], plain(x)["5"])


@pytest.fixture(scope="module")
def resnet_50(tmp_path_factory):
    """tfm's ResNet of images, and its checkpoint."""
    network = randomise(resnet.ResNet(50, norm_epsilon=1e-5))
    return network, save(network, tmp_path_factory.mktemp("resnet_50"))


@pytest.fixture
def same_pixels(monkeypatch):
    """Leaves conv1 as it is, so that both networks can be given the same numbers."""
    monkeypatch.setattr(image_resnets, "for_pixels", lambda stem, before, after: stem)


def still(x, frames):
    """(B, H, W, C) -> (B, T, H, W, C), the image over and over."""
    return np.repeat(x[:, None], frames, axis=1)


# At these sizes SAME pads on both sides, as the video networks do: 65, 33, 17, 9, 5, 3.
ODD = images(1, 65, 65, 3)


def test_c2d_on_a_still_clip_is_the_resnet_of_tfm_on_the_image(resnet_50, same_pixels):
    plain, path = resnet_50
    config = clip_model("video_resnet", stem="slowfast", non_local=FIVE)
    started = warm_start.build_backbone(config)
    report = warm_start.warm_start(started, config, path)
    assert len({row.tensor for row in report.rows if row.tensor}) == len(plain.weights)
    assert sum(row.tensor is None for row in report.rows) == 5 * 12
    expected, found = plain(ODD), started(still(ODD, 2))
    for level in LEVELS:
        scale = np.abs(expected[level]).max()
        np.testing.assert_allclose(found[level][:, 0] / scale, expected[level] / scale, atol=1e-5)
    assert report.notes[:2] == [tfm_resnet.EPSILON_UNKNOWN, warm_start.PADDING_DIFFERS]
    assert warm_start.POOLING_DIFFERS not in report.notes


@pytest.fixture(scope="module")
def keras_resnet():
    return randomise(keras.applications.ResNet50(weights=None, classes=10))


@pytest.fixture(scope="module")
def keras_weights(keras_resnet, tmp_path_factory):
    """Its file, and its endpoints on ODD with the strides of the video networks."""
    path = str(tmp_path_factory.mktemp("keras") / "resnet50.weights.h5")
    keras_resnet.save_weights(path)
    return path, strides_on_3x3(keras_resnet)(ODD[..., ::-1])  # these networks take blue, green, red


def strides_on_3x3(model):
    """keras.applications' ResNet without its top, with the stride where the video networks have it."""
    top = model.get_layer("conv5_block3_out").output
    model = keras.Model(model.input, top)

    def clone(layer):
        config = layer.get_config()
        if layer.name in [f"conv{stage}_block1_{number}_conv" for stage in (3, 4, 5) for number in (1, 2)]:
            config["strides"] = (1, 1) if "_1_" in layer.name else (2, 2)
        return type(layer).from_config(config)

    inputs = keras.Input((65, 65, 3))
    copy = keras.models.clone_model(model, input_tensors=inputs, clone_function=clone)
    copy.set_weights(model.get_weights())
    names = [f"conv{stage}_block{count}_out" for stage, count in zip((2, 3, 4, 5), (3, 4, 6, 3), strict=True)]
    return keras.Model(copy.input, [copy.get_layer(name).output for name in names])


def test_c2d_on_a_still_clip_is_the_resnet_of_keras_but_for_its_strides(keras_weights, same_pixels):
    path, expected = keras_weights
    config = clip_model("video_resnet", stem="slowfast", non_local=FIVE)
    backbone = warm_start.build_backbone(config)
    report = warm_start.warm_start(backbone, config, path)
    found = backbone(still(ODD, 2))
    for level, endpoint in zip(LEVELS, expected, strict=True):
        scale = np.abs(endpoint).max()
        np.testing.assert_allclose(found[level][:, 0] / scale, endpoint / scale, atol=1e-4)
    assert keras_applications.STRIDES_DIFFER in report.notes
    assert sum(row.tensor is None for row in report.rows) == 5 * 12


# Kernels of one frame: nothing then happens over time.
SPATIAL = {
    "stem_conv_temporal_kernel_size": 1, "stem_conv_temporal_stride": 1, "stem_pool_temporal_stride": 1,
    "block_specs": [{"temporal_strides": 1, "temporal_kernel_sizes": (1,) * count, "use_self_gating": False}
                    for count in (3, 4, 6, 3)],
}  # fmt: skip


@pytest.mark.slow
def test_clips_of_tfm_on_a_still_clip_are_its_resnet_on_the_image(resnet_50, same_pixels):
    plain, path = resnet_50
    config = clip_model("non_local_resnet_3d", non_local=FIVE)
    config.backbone.non_local_resnet_3d.override(SPATIAL)
    started = warm_start.build_backbone(config)
    report = warm_start.warm_start(started, config, path)
    x = images(1, 64, 64, 3)
    expected, found = plain(x), started(still(x, 2))
    for level in LEVELS:
        scale = np.abs(expected[level]).max()
        np.testing.assert_allclose(found[level][:, 0] / scale, expected[level] / scale, atol=1e-5)
    assert report.notes == [tfm_resnet.EPSILON_UNKNOWN, warm_start.PIXELS.format("the video experiments")]


def test_clips_of_tfm_take_inflated_kernels_and_say_that_gates_are_new(resnet_50):
    plain, path = resnet_50
    config = clip_model("non_local_resnet_3d", non_local=FIVE)  # as tfm's ResNet3D50, with self gating
    backbone = warm_start.build_backbone(config)
    report = warm_start.warm_start(backbone, config, path)
    blocks = [layer for layer in plain.layers if hasattr(layer, "_conv1")]
    inflated = [layer for layer in backbone.layers if hasattr(layer, "_temporal_conv")]
    assert [len(blocks), len(inflated)] == [16, 16]
    pairs = {
        "_shortcut": "_shortcut_conv",
        "_conv1": "_temporal_conv",
        "_conv2": "_spatial_conv",
        "_conv3": "_expand_conv",
    }
    for old, new in zip(blocks, inflated, strict=True):
        for number, (of_images, of_clips) in enumerate(pairs.items()):
            if number or hasattr(old, "_shortcut"):
                kernel = getattr(old, of_images).kernel
                over_time = tf.reduce_sum(getattr(new, of_clips).kernel, 0)
                np.testing.assert_allclose(over_time, kernel, rtol=1e-5, atol=1e-6)
                norms = (getattr(block, f"_norm{number}").get_weights() for block in (old, new))
                np.testing.assert_array_equal(*norms)
    frames = inflated[0]._temporal_conv.kernel.shape[0]
    assert frames > 1 and any(
        f"/_conv1/kernel, / {frames} over {frames} frames" in (row.tensor or "") for row in report.rows
    )
    assert warm_start.GATES in report.notes
    new = [row for row in report.rows if not row.tensor]
    assert len(new) == 5 * 12 + 4 * 2  # tfm gates the last block of a stage


def test_images_of_tfm_take_the_weights_of_keras(keras_weights, same_pixels):
    path, expected = keras_weights
    config = image_model(50, non_local=FIVE)
    started = warm_start.build_backbone(config)
    report = warm_start.warm_start(started, config, path)
    assert len({row.tensor for row in report.rows if row.tensor}) == 53 * 5
    found = started(ODD)
    for level, endpoint in zip(LEVELS, expected, strict=True):
        scale = np.abs(endpoint).max()
        np.testing.assert_allclose(found[level] / scale, endpoint / scale, atol=1e-4)
    pixels = warm_start.PIXELS.format("tfm's image experiments")
    assert report.notes == [keras_applications.STRIDES_DIFFER, warm_start.PADDING_DIFFERS, pixels]


def assert_same_units(*paths):
    first, *others = (
        {key: (unit.kernel, unit.gamma, unit.beta, unit.mean, unit.variance) for key, unit in read_50(path).items()}
        for path in paths
    )
    assert len(first) == 53
    for units in others:
        tf.nest.map_structure(np.testing.assert_array_equal, units, first)


def test_files_of_models_give_the_same_weights(keras_resnet, tmp_path):
    for name in ("model.h5", "model.keras"):
        keras_resnet.save(tmp_path / name)
    assert_same_units(tmp_path / "model.h5", tmp_path / "model.keras")


@pytest.mark.slow
def test_files_of_weights_give_the_same_weights(keras_resnet, keras_weights, tmp_path):
    theirs = tf_keras.applications.ResNet50(weights=None, include_top=False)
    for layer in theirs.layers:
        if layer.weights:
            layer.set_weights(keras_resnet.get_layer(layer.name).get_weights())
    theirs.save_weights(str(tmp_path / "notop.h5"))  # the form of the files that Keras offers
    assert_same_units(tmp_path / "notop.h5", keras_weights[0])


@pytest.mark.slow
def test_i3d_takes_inflated_kernels(resnet_50):
    plain, path = resnet_50
    config = clip_model("video_resnet", inflate="3x1x1")
    backbone = warm_start.build_backbone(config)
    report = warm_start.warm_start(backbone, config, path)
    kernel = backbone.get_layer("res3_2_branch2a").kernel.numpy()
    blocks = [layer for layer in plain.layers if hasattr(layer, "_conv1")]
    assert kernel.shape == (3, 1, 1, 512, 128)
    np.testing.assert_allclose(kernel.sum(0), blocks[3 + 2]._conv1.kernel, rtol=1e-5, atol=1e-7)
    (row,) = [row for row in report.rows if row.layer == "res3_2_branch2a"]
    assert row.tensor == "backbone/layer_with_weights-7/_conv1/kernel, / 3 over 3 frames"
    assert warm_start.POOLING_DIFFERS in report.notes


@pytest.mark.parametrize("mean", [(123.68, 116.779, 103.939), (110.0, 120.0, 130.0)])
@pytest.mark.parametrize("std", [1.0, (58.4, 57.1, 57.4)])
def test_conv1_takes_our_pixels(mean, std):
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(4, 8)).astype("float32")
    stem = image_resnets.Unit(generator.normal(size=(7, 7, 3, 8)).astype("float32"), *vectors, ("a", "b"))
    ours = image_resnets.for_pixels(stem, (mean, std), image_resnets.CLIP_PIXELS)
    image = generator.integers(0, 256, (1, 32, 32, 3)).astype("float32")

    def run(unit, x):
        return tf.nn.conv2d(x.astype("float32"), unit.kernel, 2, "VALID") - unit.mean

    expected = run(stem, (image - mean) / std)
    found = run(ours, np.asarray(pixels.normalize(image)))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("failing", ["save", "rename"])
def test_nothing_half_written_stays(failing, tmp_path, monkeypatch):
    config = clip_model("video_resnet", non_local=configs.Placement(res4=(0,)), **TINY)
    path = save(warm_start.build_backbone(clip_model("video_resnet", **TINY)), tmp_path)

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    if failing == "save":
        monkeypatch.setattr(tf.train.Checkpoint, "save", fail)
    else:
        monkeypatch.setattr(os, "rename", fail)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(errors.UserError, match="start cannot be written .No space left on device.; nothing was"):
        warm_start.write(config, path, str(tmp_path / "start"))
    assert sorted(os.listdir(tmp_path)) == before


def test_what_is_there_is_not_overwritten(tmp_path):
    (tmp_path / "start").mkdir()
    with pytest.raises(errors.UserError, match="exists already and is never overwritten"):
        warm_start.write(image_model(), "anything", str(tmp_path / "start"))


@pytest.fixture(scope="module")
def plain(resnet_50, tmp_path_factory):
    """Checkpoints of tfm's ResNets."""
    return {"plain": save(resnet.ResNet(18), tmp_path_factory.mktemp("plain")), "plain_50": resnet_50[1]}


WIDTH_8 = clip_model("video_resnet", width=8)


@pytest.fixture(scope="module")
def backbones():
    """{id of a configuration: its backbone}, of such that are only given what they must refuse."""
    return {}


@pytest.mark.parametrize(
    ("config", "path", "message"),
    [
        (clip_model("video_resnet", **TINY), "no/where", "the checkpoint no/where is no checkpoint"),
        (clip_model("video_resnet", **TINY), "no/where.h5", "the checkpoint no/where.h5 does not exist"),
        (image_model(), "{plain_50}", "is of another network"),
        (WIDTH_8, "{plain}", "is of another network"),
        (clip_model("video_resnet", **TINY), "{plain}", "tfm has no ResNet .*1, 1, 1, 1"),
        (WIDTH_8, "{plain_50}", r"of width 64, .*conv1 .*3, 64.* there .*3, 8.* here"),
        (clip_model("non_local_resnet_3d", stem_type="v1"), "{plain_50}", "NonLocalResNet3D as configured is another"),
        (image_classification.ImageClassificationModel(backbone=tfm_backbones.Backbone(type="resnet")), "{plain}",
         "backbone.type resnet has no non-local blocks"),
    ],
)  # fmt: skip
def test_wrong_sources_are_named(config, path, message, plain, backbones):
    backbone = backbones.get(id(config)) or warm_start.build_backbone(config)
    backbones[id(config)] = backbone
    before = [np.array(weight) for weight in backbone.get_weights()]
    with pytest.raises(errors.UserError, match=message):
        warm_start.warm_start(backbone, config, path.format(**plain))
    assert all(np.array_equal(a, b) for a, b in zip(before, backbone.get_weights(), strict=True))


def read_50(path):
    return keras_applications.read(str(path), (3, 4, 6, 3), 1e-5, image_resnets.CLIP_PIXELS)


def test_a_file_with_some_of_the_layers_is_named(keras_resnet, tmp_path):
    part = keras.Model(keras_resnet.input, keras_resnet.get_layer("conv4_block6_out").output, name="most_of_it")
    part.save_weights(tmp_path / "a.weights.h5")
    part.save(tmp_path / "a.h5")
    for name, phrase in (("a.weights.h5", "an HDF5 file"), ("a.h5", "a Keras file of the model 'most_of_it'")):
        rule = f"{name} does not hold all weights of keras.applications' ResNet50, .*: it is {phrase}.*; give a .h5"
        with pytest.raises(errors.UserError, match=rule):
            read_50(tmp_path / name)


def test_a_depth_that_keras_has_not_is_named():
    with pytest.raises(errors.UserError, match=r"no ResNet of block_counts \[1, 2, 3, 4\]: it has ResNet50"):
        keras_applications.read("any.h5", (1, 2, 3, 4), 1e-5, image_resnets.CLIP_PIXELS)


@keras.saving.register_keras_serializable("elsewhere")
class Strange(keras.layers.Dense):
    """A layer that says when it is made from a file."""

    @classmethod
    def from_config(cls, config):
        raise AssertionError("a layer of the file was made")


@pytest.fixture(scope="module")
def strange():
    return keras.Sequential([keras.Input([2]), Strange(1)], name="strange")


@pytest.mark.parametrize("name", ["a.keras", "a.h5", "a.weights.h5", "a_weights.h5", "text.h5", "text.keras"])
def test_other_files_are_named_without_a_warning(name, strange, tmp_path, recwarn):
    path = tmp_path / name
    if name.startswith("text"):
        path.write_text("no file of Keras")
    elif name == "a_weights.h5":
        tf_keras.Sequential([tf_keras.Input([2]), tf_keras.layers.Dense(1)]).save_weights(str(path))
    else:
        (strange.save_weights if name == "a.weights.h5" else strange.save)(path)
    recwarn.clear()
    with pytest.raises(errors.UserError) as caught:
        read_50(path)
    assert not [str(warning.message) for warning in recwarn]
    message = str(caught.value)
    assert message.startswith(str(path)) and message.isprintable() and not message.endswith((":", ",", ">"))
    assert name.startswith("text") or message.endswith("file of ResNet50, with or without top")
    assert ("the model 'strange'" in message) == (name in ("a.keras", "a.h5"))


def test_names_are_those_of_the_checkpoint():
    config = image_model(non_local=configs.Placement(res2=(0,)))
    (holder,) = [layer for layer in warm_start.build_backbone(config).layers if hasattr(layer, "non_local")]
    names = set(checkpoints.variables(holder))
    assert {"_conv1/kernel", "_norm1/moving_mean", "non_local/theta/kernel", "non_local/norm/gamma"} <= names
    assert len(names) == len(holder.weights)


def test_the_script(tmp_path):
    """With what a user types: an experiment, a checkpoint, a folder."""
    params = exp_factory.get_exp_config("c2d_demo")
    plain = randomise(warm_start.build_backbone(params.task.model))
    path = save(plain, tmp_path)
    command = [
        sys.executable,
        "training/warm_start.py",
        "--register=keras_nonlocal.demo.experiments",
        "--experiment=non_local_c2d_demo",
        f"--checkpoint={path}",
    ]
    command.append(f"--out={tmp_path / 'start'}")
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sum("<- new" in line for line in lines) == 3 * 12
    assert f"{len(plain.weights)} variables" in lines[-2] and "task.init_checkpoint_modules: backbone" in lines[-1]
    model = exp_factory.get_exp_config("non_local_c2d_demo").task.model
    found = as_tfm_reads(model, tmp_path / "start")
    clip = images(1, 8, 40, 40, 3)
    assert np.array_equal(found(clip)["5"], plain(clip)["5"])


@pytest.mark.slow
def test_the_script_says_in_one_line_that_a_file_is_another(strange, tmp_path):
    strange.save(tmp_path / "other.keras")
    command = [sys.executable, "training/warm_start.py", "--experiment=c2d_kinetics400"]
    command += [f"--checkpoint={tmp_path / 'other.keras'}", f"--out={tmp_path / 'start'}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and line.startswith(f"error: {tmp_path / 'other.keras'} does not hold all weights of")
    assert "it is a Keras file of the model 'strange'; give" in line and os.listdir(tmp_path) == ["other.keras"]


def test_the_factory_builds_for_any_size():
    config = image_model()
    spec = tf_keras.layers.InputSpec(shape=[None, 64, 64, 3])
    fixed = factory.build_backbone(spec, config.backbone, config.norm_activation)
    assert [w.shape for w in fixed.weights] == [w.shape for w in warm_start.build_backbone(config).weights]
