"""What a step of training does, beside NumPy: decay, norms, precision, compilation, clipping, the scaled rate."""

import re

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import tiny_task
from official.core import exp_factory

from keras_nonlocal import errors, paper
from keras_nonlocal.tfm import trainer as trainers
from keras_nonlocal.tfm import warm_start
from keras_nonlocal.tfm.experiments import kinetics


def settings(prefix, **values):
    return {f"{prefix}.{name}": value for name, value in values.items()}


NETWORK = "task.model.backbone.video_resnet"


def test_every_weight_decays_but_those_of_batch_norm():
    trainer = tiny_task.trainer(tiny_task.experiment())
    model, task = trainer.model, trainer.task
    # d/dw of the regularisation is 1e-4 w for what decays and nothing for the rest.
    with tf.GradientTape() as tape:
        penalty = tf.add_n(model.losses)
    gradients = tape.gradient(penalty, model.trainable_variables)
    decayed = {v.name for v, g in zip(model.trainable_variables, gradients, strict=True) if g is not None}
    of_norms = {v.name for v in model.trainable_variables if re.search("gamma|beta", v.name)}
    assert decayed == {v.name for v in model.trainable_variables} - of_norms
    assert {f"res3_0_nonlocal/{name}/bias:0" for name in ("theta", "phi", "g", "out")} < decayed
    assert sum(name.endswith("/bias:0") for name in decayed) == 5, "the classifier's too"
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        if gradient is not None:
            np.testing.assert_allclose(gradient, 1e-4 * variable.numpy(), rtol=1e-5, err_msg=variable.name)
    images, labels = tiny_task.clips(0)
    logits = model({"image": images}, training=False).numpy().astype("float64")
    log_softmax = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    squares = sum((v.numpy().astype("float64") ** 2).sum() for v in model.trainable_variables if v.name in decayed)
    expected = -(labels * log_softmax).sum(-1).mean() + 0.5e-4 * squares
    outputs = tf.nn.softmax(model({"image": images}, training=False))
    losses = task.build_losses(labels, outputs, model.losses)
    assert float(losses[task.loss]) == pytest.approx(expected, rel=1e-5)


def test_the_classifier_starts_small_and_the_backbone_as_caffe2_fills_it():
    params = tiny_task.experiment(**settings(NETWORK, width=16))
    model = tiny_task.Task(params.task).build_model()
    kernel = model.layers[-1].kernel.numpy()
    assert kernel.std() == pytest.approx(0.01, rel=0.1) and np.abs(kernel).max() < 0.06
    for name in ("res5_0_branch2a", "res5_0_branch2b"):
        *window, _, filters = (kernel := model.backbone.get_layer(name).kernel.numpy()).shape
        assert kernel.std() == pytest.approx((2 / (np.prod(window) * filters)) ** 0.5, rel=0.05)
        assert np.abs(kernel).max() > 3 * kernel.std(), "not truncated"


@pytest.mark.parametrize("synchronised", [False, True])
def test_norms_see_a_replica_s_clips_or_those_of_all(two_replicas, synchronised):
    params = tiny_task.experiment(**{"task.model.norm_activation.use_sync_bn": synchronised})
    with two_replicas.scope():
        model = tiny_task.Task(params.task).build_model()
    images, _ = tiny_task.clips(3)
    before = model.backbone.get_layer("conv1")(tf.pad(images, [[0, 0], [0, 0], [3, 3], [3, 3], [0, 0]])).numpy()
    halves = two_replicas.experimental_distribute_values_from_function(
        lambda context: tf.constant(np.split(images, 2)[context.replica_id_in_sync_group])
    )
    step = tf.function(lambda x: two_replicas.run(lambda part: model.backbone(part, training=True)["2"], args=(x,)))
    step(halves)
    norm = model.backbone.get_layer("conv1_bn")
    parts = [before] if synchronised else np.split(before, 2)
    parts = [part.astype("float64").reshape(-1, part.shape[-1]) for part in parts]
    mean = np.mean([part.mean(0) for part in parts], axis=0)
    # Keras' synchronised norm leaves out n / (n - 1).
    variance = np.mean([part.var(0, ddof=0 if synchronised else 1) for part in parts], axis=0)
    np.testing.assert_allclose(norm.moving_mean, 0.1 * mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(norm.moving_variance, 0.9 + 0.1 * variance, rtol=1e-5)
    copies = two_replicas.experimental_local_results(norm.moving_mean)
    assert np.allclose(*[copy.numpy() for copy in copies], rtol=1e-5, atol=1e-7) == synchronised


@pytest.fixture
def policy():
    """Sets a mixed precision for one test."""
    yield tf_keras.mixed_precision.set_global_policy
    tf_keras.mixed_precision.set_global_policy("float32")


def losses(trainer, steps=3):
    """The loss of each step."""
    found = []
    for _ in range(steps):
        found.append(float(trainer.train(tf.constant(1))["training_loss"]))
    return found


PLAIN = []


def plain_losses():
    if not PLAIN:
        PLAIN.extend(losses(tiny_task.trainer(tiny_task.experiment())))
    return PLAIN


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mixed_precision_learns_as_float32_does(policy, dtype):
    expected = plain_losses()
    policy(f"mixed_{dtype}")
    trainer = tiny_task.trainer(
        # TensorFlow has no max pooling of float16 on CPUs but that of XLA.
        tiny_task.experiment(
            **settings("runtime", mixed_precision_dtype=dtype, loss_scale=1024.0, enable_xla=dtype == "float16")
        )
    )
    scaled = isinstance(trainer.optimizer, tf_keras.mixed_precision.LossScaleOptimizer)
    assert scaled == (dtype == "float16")
    np.testing.assert_allclose(losses(trainer), expected, rtol=0.1)
    assert {v.dtype for v in trainer.model.trainable_variables} == {tf.float32}
    assert trainer.model.backbone.get_layer("conv1").compute_dtype == dtype


@pytest.mark.slow
def test_a_compiled_step_is_the_step():
    expected = plain_losses()
    trainer = tiny_task.trainer(tiny_task.experiment(**settings("runtime", enable_xla=True)))
    found = losses(trainer)
    graph = trainer.task.train_step.pretty_printed_concrete_signatures()
    assert "inputs" in graph, "it was traced"
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_compilation_on_several_replicas_is_refused_without_gpus(two_replicas):
    params = tiny_task.experiment(**settings("runtime", enable_xla=True))
    with pytest.raises(errors.UserError, match="runtime.enable_xla compiles .* on GPUs and TPUs only. Received: 2"):
        tiny_task.trainer(params, two_replicas)


def rate(params):
    return params.trainer.optimizer_config.learning_rate.get()


def test_the_rate_is_scaled_to_the_batch_on_request(capsys):
    params = exp_factory.get_exp_config("non_local_c2d_kinetics400")
    params.task.train_data.global_batch_size = 16
    assert trainers.with_scaled_rate(params) is params and not capsys.readouterr().out
    params.trainer.auto_scale_lr = True
    scaled = trainers.with_scaled_rate(params)
    assert rate(scaled).values == pytest.approx([0.0025, 0.00025, 0.000025])
    assert rate(params).values == [0.01, 0.001, 0.0001], "what is written to params.yaml stays"
    assert "scaled by 16 / 64 to the batch: values [0.01," in capsys.readouterr().out
    params.trainer.base_batch_size = None
    with pytest.raises(errors.UserError, match="needs trainer.base_batch_size.*Received: None"):
        trainers.with_scaled_rate(params)


def test_a_schedule_that_cannot_be_scaled_is_named():
    params = tiny_task.experiment(
        **settings("trainer", auto_scale_lr=True, base_batch_size=64),
        **{"trainer.optimizer_config.learning_rate": {"type": "power"}},
    )
    with pytest.raises(errors.UserError, match="scales the learning rates constant.*Received: power"):
        trainers.with_scaled_rate(params)


@pytest.mark.parametrize("name", sorted(run.name for run in paper.RUNS.values()))
def test_experiments_train_as_the_official_code(name):
    recipe = paper.RECIPES[paper.RUNS[name].recipe]
    params = exp_factory.get_exp_config(name)
    optimizer = params.trainer.optimizer_config.optimizer
    assert optimizer.type == "corrected_sgd"
    assert (optimizer.get().momentum, optimizer.get().nesterov) == (0.9, not recipe.dataset.startswith("coco"))
    assert params.task.losses.l2_weight_decay == 1e-4
    assert params.trainer.precise_norm_steps == (0 if recipe.norm_frozen else 200)
    assert params.trainer.base_batch_size == recipe.batch_size
    assert not params.trainer.auto_scale_lr
    if recipe.dataset.startswith("coco"):
        return
    assert params.task.model.dropout_rate == 0.5
    assert not params.task.model.norm_activation.use_sync_bn
    network = params.task.model.backbone.video_resnet
    assert (network.temporal_stride, network.norm_frozen) == (8, recipe.norm_frozen)


def long_clips(**more):
    """The configuration of a network as that for long clips: norms frozen, none in the non-local blocks."""
    frozen = settings(NETWORK, norm_frozen=True)
    return tiny_task.experiment(**frozen, **{f"{NETWORK}.group_frames.res3": 1, **more})


@pytest.fixture(scope="module")
def short_clips(tmp_path_factory):
    """{network: (model, folder of its checkpoint)} with and without the non-local block, as trained on short clips."""
    found = {}
    for name, places in (("non_local", [0]), ("plain", [])):
        trainer = tiny_task.trainer(tiny_task.experiment(**{f"{NETWORK}.non_local.res3": places}))
        folder = str(tmp_path_factory.mktemp(name))
        items = {"model": trainer.model, **trainer.model.checkpoint_items}
        tf.train.Checkpoint(**items).save(f"{folder}/ckpt")
        found[name] = trainer.model, folder
    return found


@pytest.mark.parametrize(("start", "modules"), [("plain", "trunk"), ("non_local", "backbone")])
def test_long_clips_start_as_in_the_official_code_or_as_the_paper_says(short_clips, start, modules):
    """From the network without the blocks, which then are the identity; or from the same one, norms in W_z."""
    model, folder = short_clips[start]
    params = long_clips(
        **{
            "task.init_checkpoint": folder,
            "task.init_checkpoint_modules": modules,
            f"{NETWORK}.group_frames.res3": None,
        }
    )
    task = tiny_task.Task(params.task)
    started = task.build_model()
    task.initialize(started)
    images, _ = tiny_task.clips(0)
    expected = model.backbone(images)
    for level, found in started.backbone(images, training=True).items():
        np.testing.assert_allclose(found, expected[level], rtol=1e-3, atol=1e-4 * np.abs(expected[level]).max())
    block = started.backbone.get_layer("res3_0_nonlocal")
    assert block.norm is None and (np.abs(block.out.kernel).max() == 0) == (modules == "trunk")
    trained = {v.name for v in started.trainable_variables}
    assert block.out.kernel.name in trained and not [name for name in trained if re.search("gamma|beta", name)]


def test_a_block_without_a_bias_cannot_take_the_norm(short_clips):
    params = long_clips(**{f"{NETWORK}.non_local_block.use_out_bias": False})
    model = tiny_task.Task(params.task).build_model()
    with pytest.raises(errors.UserError, match="use_out_bias: true"):
        warm_start.restore(model.backbone, params.task.model, short_clips["non_local"][1])


def test_the_recipe_of_the_demo_has_no_precise_norm():
    assert tiny_task.experiment().trainer.precise_norm_steps == 0
    assert exp_factory.get_exp_config(kinetics.NAMES[0]).trainer.precise_norm_steps == 200


@pytest.mark.parametrize("clip", [None, 0.01])
def test_the_norm_of_the_gradients_is_noted_before_clipping(clip):
    optimizer = "trainer.optimizer_config.optimizer.corrected_sgd.global_clipnorm"
    params = tiny_task.experiment(**{"task.model.dropout_rate": 0.0, **({optimizer: clip} if clip else {})})
    trainer = tiny_task.trainer(params)
    model, task = trainer.model, trainer.task
    images, labels = (tf.convert_to_tensor(each) for each in tiny_task.clips(0))
    with tf.GradientTape() as tape:
        outputs = tf.nn.softmax(model({"image": images}, training=True))
        loss = task.build_losses(labels, outputs, model.losses)[task.loss]
    gradients = tape.gradient(loss, model.trainable_variables)
    expected = np.sqrt(sum(float(tf.reduce_sum(tf.square(each))) for each in gradients))
    logs = trainer.train(tf.constant(1))
    assert float(logs["gradient_norm"]) == pytest.approx(expected, rel=1e-4)
    assert expected > 0.01, "clipping would be seen"
