"""Convolutions, poolings and the demo's training step, by our layers or by Keras' own, as contestants."""

import pathlib

import frameworks
import numpy as np

tf = frameworks.load_tensorflow()

import keras  # noqa: E402  (imports TensorFlow, whose threads have to be set before)

from keras_nonlocal import layers  # noqa: E402

DEMO = str(pathlib.Path(__file__).parent.parent / "training" / "configs" / "demo_clips.yaml")


class Layer:
    """A layer forward and backward, to its input and kernel, in a tf.function.

    Args:
      own: Keras' layer, not ours.
      kind: "Conv3D" or "MaxPooling3D".
      shape: (B, T, H, W, C) of the input.
      arguments: of the layer.
    """

    def __init__(self, own, kind, shape, arguments):
        options = {"use_bias": False} if kind == "Conv3D" else {}
        self.layer = getattr(keras.layers if own else layers, kind)(*arguments, **options)
        self.layer.build(shape)
        rng = np.random.default_rng(0)
        self.layer.set_weights([rng.normal(0, 0.05, w.shape) for w in self.layer.get_weights()])
        # No two numbers of a window may be the same: kernels differ in which one has the gradient.
        self.x = tf.constant(rng.permutation(np.prod(shape)).reshape(shape) / np.prod(shape), tf.float32)
        self.step = tf.function(self._train, autograph=False)

    def run(self):
        return self.step(self.x)

    def results(self):
        names = ("y", "dx", "dkernel")
        return {name: array.numpy() for name, array in zip(names, self.run(), strict=False)}

    def _train(self, x):
        weights = [variable.value for variable in self.layer.trainable_weights]
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = self.layer(x)
            loss = tf.reduce_sum(y * y)
        return [y, *tape.gradient(loss, [x, *weights])]


class DemoStep:
    """A step of training as the demo takes it, with its configuration.

    Args:
      own: convolutions and poolings of Keras, not ours.
      experiment: "c2d_demo" or "non_local_c2d_demo".
    """

    def __init__(self, own, experiment):
        import tf_keras
        from official.core import exp_factory, task_factory
        from official.modeling import hyperparams

        from keras_nonlocal.demo import experiments  # noqa: F401  (registers them)
        from keras_nonlocal.tfm import layers

        if own:
            layers.Conv3D, layers.MaxPooling3D = tf_keras.layers.Conv3D, tf_keras.layers.MaxPooling3D
        tf_keras.utils.set_random_seed(0)
        config = hyperparams.override_params_dict(exp_factory.get_exp_config(experiment), DEMO, is_strict=True)
        self.task = task_factory.get_task(config.task)
        self.model = self.task.build_model()
        self.weights = self.model.get_weights()
        self.optimizer = self.task.create_optimizer(config.trainer.optimizer_config)
        rng = np.random.default_rng(0)
        data = config.task.train_data
        clips = rng.normal(size=(data.global_batch_size, *data.feature_shape)).astype("float32")
        labels = rng.integers(0, data.num_classes, data.global_batch_size)
        self.batch = {"image": tf.constant(clips)}, tf.one_hot(labels, data.num_classes)
        self.step = tf.function(self._train, autograph=False)

    def run(self):
        return self.step(*self.batch)

    def results(self):
        """The gradients of the initial weights."""
        clips, labels = self.batch
        self.model.set_weights(self.weights)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels, self.model(clips, training=True)))
        gradients = tape.gradient(loss, self.model.trainable_variables)
        named = zip(self.model.trainable_variables, gradients, strict=True)
        return {"loss": loss.numpy()} | {f"d{variable.name}": gradient.numpy() for variable, gradient in named}

    def _train(self, clips, labels):
        return self.task.train_step((clips, labels), self.model, self.optimizer)["loss"]
