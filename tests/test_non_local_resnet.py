"""tfm's ResNets with non-local blocks: plain weights restore to the last bit; they build, save and train."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.vision.configs import maskrcnn, retinanet
from official.vision.modeling import factory, factory_3d
from official.vision.modeling.backbones import factory as backbone_factory
from official.vision.modeling.backbones import resnet, resnet_3d
from official.vision.modeling.layers import nn_blocks, nn_blocks_3d

from keras_nonlocal import surgery
from keras_nonlocal.tfm.backbones import blocks, configs
from keras_nonlocal.tfm.backbones.non_local_resnet import NonLocalResNet
from keras_nonlocal.tfm.backbones.non_local_resnet_3d import NonLocalResNet3D
from keras_nonlocal.tfm.tasks import video_classification

KERNELS = [(3, 3, 3), (3, 1, 3, 1), (3, 1, 3, 1, 3, 1), (1, 3, 1)]
IMAGES = tf_keras.layers.InputSpec(shape=[None, None, None, 3])


def randomize(model, seed=0):
    """Weights of a trained network: moving statistics, gammas and betas that are not what they start as."""
    generator = np.random.default_rng(seed)
    for variable in model.variables:
        noise = generator.normal(size=variable.shape).astype("float32")
        if "moving_variance" in variable.name:
            variable.assign(1 + 0.5 * np.abs(noise))
        elif "kernel" not in variable.name:
            variable.assign(variable + 0.2 * noise)


def holders(model):
    return [layer for layer in model.layers if hasattr(layer, "non_local")]


def images(*shape):
    return np.random.default_rng(1).normal(size=shape).astype("float32")


def check_restores(plain, model, x, path):
    """A checkpoint of the plain network gives the non-local one every endpoint, bit for bit."""
    randomize(plain)
    prefix = tf.train.Checkpoint(backbone=plain).write(str(path / "plain"))
    status = tf.train.Checkpoint(backbone=model).read(prefix).expect_partial()
    with pytest.raises(AssertionError, match="non_local"):
        status.assert_existing_objects_matched()  # what tfm's tasks ask for; hence training/warm_start.py
    assert holders(model)
    expected, found = plain(x), model(x)
    assert expected.keys() == found.keys() == {"2", "3", "4", "5"}
    for level in expected:
        assert np.array_equal(expected[level], found[level]), level
    assert float(tf.reduce_max(tf.abs(expected["5"]))) > 0


def test_a_checkpoint_of_tfm_restores_every_plain_weight(tmp_path):
    model = NonLocalResNet(50, non_local={"res3": [1, 3], "res4": [1, 3, 5]}, depth_multiplier=0.25)
    check_restores(resnet.ResNet(50, depth_multiplier=0.25), model, images(1, 64, 64, 3), tmp_path)
    assert len(holders(model)) == 5


def test_a_checkpoint_of_tfm_restores_every_plain_weight_of_clips(tmp_path):
    arguments = dict(model_id=50, temporal_strides=[1] * 4, temporal_kernel_sizes=KERNELS, use_self_gating=[True] * 4)
    model = NonLocalResNet3D(**arguments, non_local={"res3": [1, 3], "res4": [1, 3, 5]})
    check_restores(resnet_3d.ResNet3D(**arguments), model, images(1, 8, 32, 32, 3), tmp_path)
    assert len(holders(model)) == 5


@pytest.mark.parametrize("model_id", [18, pytest.param(101, marks=pytest.mark.slow)])
def test_blocks_are_where_they_were_put(model_id, tmp_path):
    placed = {"res2": [0], "res5": [0]}
    model = NonLocalResNet(model_id, non_local=placed, non_local_block={"pairwise": "dot_product", "norm": None})
    check_restores(resnet.ResNet(model_id), model, images(1, 64, 64, 3), tmp_path)
    residual = [layer for layer in model.layers if hasattr(layer, "_conv1")]
    stages = [count for _, _, count in resnet.RESNET_SPECS[model_id]]
    assert [residual.index(layer) for layer in holders(model)] == [0, sum(stages[:3])]
    for layer in holders(model):
        assert layer.non_local.pairwise == "dot_product" and layer.non_local.norm is None
        assert not layer.non_local.out.kernel.numpy().any(), "without norm W_z starts at zero"


def test_no_blocks_is_the_network_of_tfm():
    model = NonLocalResNet(18)
    assert {type(layer) for layer in model.layers if hasattr(layer, "_conv1")} == {nn_blocks.ResidualBlock}
    assert model.count_params() == resnet.ResNet(18).count_params()


BLOCKS = {
    blocks.NonLocalResidualBlock: (dict(filters=8, strides=2, use_projection=True), nn_blocks.ResidualBlock),
    blocks.NonLocalBottleneckBlock: (dict(filters=4, strides=2, use_projection=True), nn_blocks.BottleneckBlock),
    blocks.NonLocalGroupedBottleneckBlock: (
        dict(filters=16, strides=2, use_projection=True, groups=4, width_per_group=8),
        blocks.GroupedBottleneckBlock,
    ),
    blocks.NonLocalBottleneckBlock3D: (
        dict(filters=4, temporal_kernel_size=3, temporal_strides=1, spatial_strides=2, use_self_gating=True),
        nn_blocks_3d.BottleneckBlock3D,
    ),
}


@pytest.mark.parametrize("cls", BLOCKS, ids=lambda cls: cls.__name__)
def test_a_block_starts_as_the_plain_one_and_comes_back_from_its_config(cls):
    arguments, plain_class = BLOCKS[cls]
    x = images(*((2, 3, 8, 8, 6) if cls is blocks.NonLocalBottleneckBlock3D else (2, 8, 8, 6)))
    non_local = {"pairwise": "gaussian", "inner_channels": 3, "kernel_regularizer": tf_keras.regularizers.l2(1e-3)}
    arguments = {**arguments, "kernel_regularizer": tf_keras.regularizers.l2(1e-4), "norm_momentum": 0.8}
    block, plain = cls(**arguments, non_local=non_local, name="block"), plain_class(**arguments)
    plain(x)
    block(x)
    for attribute, part in vars(plain).items():
        if isinstance(part, tf_keras.layers.Layer) and part.weights:
            getattr(block, attribute).set_weights(part.get_weights())
    assert np.array_equal(block(x), plain(x))
    assert (block.non_local.norm_momentum, block.non_local.pairwise) == (0.8, "gaussian")
    again = cls.from_config(block.get_config())
    again(x)
    again.set_weights(block.get_weights())
    assert np.array_equal(again(x), block(x))
    assert again.get_config()["non_local"] == block.get_config()["non_local"]
    np.testing.assert_allclose(tf.add_n(again.losses), tf.add_n(block.losses), rtol=1e-6)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(block(x, training=True) ** 2)
    gradient = tape.gradient(loss, block.non_local.norm.gamma)
    assert np.abs(gradient).max() > 0, "a block that starts as the identity can leave it"


def test_frozen_norms_leave_the_blocks_without_norm():
    block = blocks.NonLocalBottleneckBlock(4, strides=1, use_projection=True, bn_trainable=False)
    x = images(2, 8, 8, 4)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(block(x, training=True) ** 2)
    assert block.non_local.norm is None
    assert np.abs(tape.gradient(loss, block.non_local.out.kernel)).max() > 0


def network(kind, **arguments):
    """A network to save, and what to ask it."""
    shared = dict(non_local={"res2": [0]}, norm_epsilon=1e-5, name="network", **arguments)
    if kind == "2d":
        x = images(1, 32, 32, 3)
        spec = tf_keras.layers.InputSpec(shape=[None, *x.shape[1:]])
        model = NonLocalResNet(10, spec, non_local_block={"pool_size": (2, 2)}, depth_multiplier=0.25, **shared)
    else:
        x = images(1, 4, 32, 32, 3)
        spec = tf_keras.layers.InputSpec(shape=[None, *x.shape[1:]])
        model = NonLocalResNet3D(50, [1] * 4, KERNELS, input_specs=spec, stem_conv_temporal_stride=1, **shared)
    randomize(model)
    return model, x


def check_answers(model, again, x):
    expected, found = model(x), again(x)
    assert all(np.array_equal(expected[level], found[level]) for level in "2345")
    assert again.name == "network"


@pytest.mark.parametrize(
    ("kind", "form"), [("2d", "keras"), ("3d", "json"), pytest.param("3d", "keras", marks=pytest.mark.slow)]
)
def test_a_network_comes_back(kind, form, tmp_path):
    model, x = network(kind, kernel_regularizer=tf_keras.regularizers.l2(1e-4))
    if form == "json":
        text = json.dumps(tf_keras.saving.serialize_keras_object(model))
        again = tf_keras.saving.deserialize_keras_object(json.loads(text))
        again.set_weights(model.get_weights())
    else:
        model.save(str(tmp_path / "model.keras"))
        again = tf_keras.models.load_model(str(tmp_path / "model.keras"))
    check_answers(model, again, x)
    assert type(again) is type(model) and again.input_shape == model.input_shape
    assert len(again.losses) == len(model.losses) > 0
    assert again.output_specs == model.output_specs


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["2d", "3d"])
def test_a_network_comes_back_from_a_saved_model(kind, tmp_path):
    # With a regularizer tfm's own ResNet does not load into tf_keras again either.
    model, x = network(kind)
    model.save(str(tmp_path / "saved_model"))
    check_answers(model, tf_keras.models.load_model(str(tmp_path / "saved_model")), x)


def test_mixed_precision():
    tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = NonLocalResNet(10, non_local={"res3": [0]})
        with tf.GradientTape() as tape:
            outputs = model(images(2, 32, 32, 3), training=True)
            loss = tf.reduce_mean(tf.cast(outputs["5"], tf.float32) ** 2)
        (holder,) = holders(model)
        assert outputs["3"].dtype == tf.bfloat16 and holder.non_local.theta.kernel.dtype == tf.float32
        assert np.abs(tape.gradient(loss, holder.non_local.norm.gamma)).max() > 0
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")


def test_replicas_train_the_blocks(two_replicas):
    with two_replicas.scope():
        backbone = NonLocalResNet(10, non_local={"res4": [0]}, depth_multiplier=0.25)
        x = tf_keras.layers.GlobalAveragePooling2D()(backbone.output["5"])
        model = tf_keras.Model(backbone.input, tf_keras.layers.Dense(2)(x))
        model.compile("sgd", tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    (holder,) = holders(backbone)
    model.fit(images(4, 32, 32, 3), np.array([0, 1, 0, 1]), batch_size=4, epochs=1, verbose=0)
    assert np.abs(holder.non_local.norm.gamma.numpy()).max() > 0


def test_the_width_of_resnext():
    """32x8d: 3x3 convolutions of 256 channels in 32 groups of 8 in res2, twice as wide in each stage after it."""
    model = NonLocalResNet(50, groups=32, width_per_group=8)
    first = {block._conv2.kernel.shape.as_list()[2:][1]: block for block in model.layers if hasattr(block, "_conv2")}
    assert list(first) == [256, 512, 1024, 2048]
    for width, block in first.items():
        assert block._conv2.groups == 32 and block._conv2.kernel.shape.as_list() == [3, 3, width // 32, width]
        assert block._conv3.kernel.shape.as_list()[-1] == width


def trainable_parameters(model):
    return sum(int(tf.size(variable)) for variable in model.trainable_variables)


@pytest.mark.slow
def test_the_parameters_of_resnext_101_are_the_published_ones():
    """88,791,336 with a classifier of 1000 classes, which has 2048 * 1000 + 1000."""
    assert trainable_parameters(NonLocalResNet(101, groups=32, width_per_group=8)) == 88_791_336 - 2_049_000


@pytest.mark.slow
def test_the_paper_s_x152_builds_with_its_block():
    model = NonLocalResNet(152, groups=32, width_per_group=8, non_local={"res4": [34]})
    plain = NonLocalResNet(152, groups=32, width_per_group=8)
    assert trainable_parameters(model) - trainable_parameters(plain) == 2_101_760
    assert model(images(1, 64, 64, 3))["5"].shape == (1, 2, 2, 2048)


def test_grouped_convolutions_are_those_of_their_groups():
    block = blocks.GroupedBottleneckBlock(16, strides=2, use_projection=True, groups=4, width_per_group=8)
    x = images(2, 8, 8, 6)
    block(x)
    conv = block._conv2
    z = tf.constant(images(2, 8, 8, 8))
    parts = [
        tf.nn.conv2d(part, kernel, 2, "SAME")
        for part, kernel in zip(tf.split(z, 4, -1), tf.split(conv.kernel, 4, -1), strict=True)
    ]
    np.testing.assert_allclose(conv(z), tf.concat(parts, -1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "graph"])
def test_grouped_convolutions_train(compiled):
    block = blocks.NonLocalGroupedBottleneckBlock(16, strides=2, use_projection=True, groups=8, width_per_group=8)
    x = tf.constant(images(2, 16, 16, 6))
    block(x)

    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(block(x, training=True) ** 2)
        return tape.gradient(loss, block.trainable_variables)

    gradients = (tf.function(step) if compiled else step)(x)
    reached = [gradient is not None and np.isfinite(gradient).all() for gradient in gradients]
    assert all(reached) and len(reached) > 10
    assert np.abs(gradients[[v is block._conv2.kernel for v in block.trainable_variables].index(True)]).max() > 0


def norms(model):
    parts = model._flatten_layers()
    return [part for part in parts if isinstance(part, tf_keras.layers.BatchNormalization) and part.weights]


RESNET_D = dict(resnetd_shortcut=True, stem_type="v1", se_ratio=0.25)
GROUPED = dict(groups=4, width_per_group=16)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"model_id": 18}, id="residual"),
        pytest.param({"model_id": 50, **RESNET_D, **GROUPED}, id="grouped_resnet_d"),
        pytest.param(None, id="clips"),
        pytest.param({"model_id": 50}, id="bottleneck", marks=pytest.mark.slow),
        pytest.param({"model_id": 50, **RESNET_D}, id="resnet_d", marks=pytest.mark.slow),
        pytest.param({"model_id": 50, **GROUPED}, id="grouped", marks=pytest.mark.slow),
    ],
)
def test_norms_fold_for_serving(arguments):
    placed = {"non_local": {"res2": [0], "res4": [1]}}
    if arguments is None:
        gating = [True, False, True, False]
        model = NonLocalResNet3D(50, [1] * 4, KERNELS, use_self_gating=gating, se_ratio=0.25, **placed)
        x = images(1, 4, 32, 32, 3)
    else:
        model = NonLocalResNet(depth_multiplier=0.25, **arguments, **placed)
        x = images(1, 64, 64, 3)
    randomize(model)
    folded = surgery.fold_norms(model)
    assert norms(model) and not norms(folded)
    expected, found = model(x), folded(x)
    for level in expected:
        np.testing.assert_allclose(found[level], expected[level], rtol=0, atol=1e-4 * np.abs(expected[level]).max())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model_id": 51}, "`model_id` must be one of .*50.*Received: model_id=51"),
        ({"model_id": 18, "non_local": {"res3": [2]}}, r"from 0 to 1. Received: res3: \[2\]"),
        ({"model_id": 18, "non_local": {"res6": [0]}}, "non_local.*res6"),
        ({"model_id": 18, "groups": 32, "width_per_group": 8}, "bottleneck blocks.*groups=32.*model_id=18"),
        ({"model_id": 50, "groups": 0}, "`groups` must be a positive integer. Received: groups=0"),
        ({"model_id": 50, "width_per_group": 1.5}, "`width_per_group` must be a positive integer"),
        ({"model_id": 50, "groups": 2, "width_per_group": 3, "depth_multiplier": 0.5}, "multiple of 64"),
        ({"model_id": 18, "non_local": {"res3": [1]}, "non_local_block": {"pairwise": "x"}}, "pairwise"),
        ({"model_id": 18, "non_local": {"res3": [1]}, "non_local_block": {"pool_size": (1, 2, 2)}}, "pool_size"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        NonLocalResNet(**arguments)


def small(model_id=18, **network):
    return configs.Backbone(non_local_resnet=configs.NonLocalResNet(model_id=model_id, **network))


def test_the_factory_builds_what_the_configuration_says():
    backbone = small(non_local=configs.Placement(res4=(1,)), bn_trainable=False)
    backbone.non_local_resnet.override({"non_local_block": {"pairwise": "dot_product", "norm": None}})
    norm = retinanet.RetinaNet().norm_activation
    model = backbone_factory.build_backbone(IMAGES, backbone, norm, tf_keras.regularizers.l2(1e-4))
    (holder,) = holders(model)
    block = holder.non_local
    assert (block.pairwise, block.norm, block.norm_epsilon) == ("dot_product", None, norm.norm_epsilon)
    assert block.pool_size == (2, 2) and block.kernel_regularizer is not None and block.bias_regularizer is not None


def test_retinanet_builds_on_it():
    config = retinanet.RetinaNet(
        num_classes=3, input_size=[64, 64, 3], backbone=small(non_local=configs.Placement(res4=(0,)))
    )
    model = factory.build_retinanet(tf_keras.layers.InputSpec(shape=[None, 64, 64, 3]), config)
    assert isinstance(model.backbone, NonLocalResNet) and len(holders(model.backbone)) == 1


@pytest.mark.slow
def test_mask_rcnn_builds_on_it():
    config = maskrcnn.MaskRCNN(
        num_classes=3, input_size=[64, 64, 3], backbone=small(non_local=configs.Placement(res4=(0,)))
    )
    model = factory.build_maskrcnn(tf_keras.layers.InputSpec(shape=[None, 64, 64, 3]), config)
    assert isinstance(model.backbone, NonLocalResNet) and len(holders(model.backbone)) == 1
    assert set(model.backbone.output_specs) == {"2", "3", "4", "5"}


def test_the_stock_experiment_takes_it():
    """By the keys that a YAML file or --params_override would give."""
    params = maskrcnn.maskrcnn_resnetfpn_coco()
    params.task.model.backbone = configs.Backbone()
    params.override({"task": {"model": {"backbone": {"non_local_resnet": {
        "model_id": 152, "groups": 32, "width_per_group": 8, "non_local": {"res4": [34]},
        "non_local_block": {"norm": None},
    }}}}})  # fmt: skip
    network = params.task.model.backbone.get()
    assert network.non_local.res4 == (34,) or list(network.non_local.res4) == [34]
    assert network.non_local_block.norm is None and network.groups == 32


def test_video_classification_builds_on_clips():
    network = configs.NonLocalResNet3D(non_local=configs.Placement(res3=(1, 3)))
    config = video_classification.VideoClassificationModel(
        backbone=configs.Backbone3D(type="non_local_resnet_3d", non_local_resnet_3d=network)
    )
    spec = tf_keras.layers.InputSpec(shape=[None, 4, 32, 32, 3])
    model = factory_3d.build_model("video_classification", spec, config, num_classes=5)
    assert isinstance(model.backbone, NonLocalResNet3D)
    assert [holder.non_local.pool_size for holder in holders(model.backbone)] == [(1, 2, 2)] * 2
    assert model(images(1, 4, 32, 32, 3)).shape == (1, 5)
