"""keras_nonlocal's block, and TensorFlow's matrix product, as contestants."""

import block_inputs
import frameworks
import numpy as np

tf = frameworks.load_tensorflow()

import keras_nonlocal  # noqa: E402  (imports TensorFlow, whose threads have to be set before)
from keras_nonlocal.ops import limits as library_limits  # noqa: E402


class Block:
    """A Keras 3 NonLocal1D, 2D or 3D without norm, called in a tf.function.

    Args:
      mode: "forward", or "train" for forward and gradients to x and all weights.
      pairwise, positions, channels, inner, pool: see block_inputs.make. The keys are pooled after phi and g.
      implementation: the layer's argument: "auto" is what users get, "dense" the N x M definition.
      dtype: of the layer, its weights and its input.
      limits: arguments of keras_nonlocal.ops.limits.Limits to use on every device. Default: the library's.
    """

    def __init__(
        self,
        mode,
        pairwise,
        positions,
        channels,
        inner,
        pool=None,
        implementation="auto",
        dtype="float32",
        limits=None,
    ):
        if limits:
            by_device = library_limits.BY_DEVICE
            by_device.update(dict.fromkeys(by_device, library_limits.Limits(**limits)))
        inputs = block_inputs.make(pairwise, positions, channels, inner, pool)
        layer_class = getattr(keras_nonlocal, f"NonLocal{len(positions)}D")
        self.layer = layer_class(
            pairwise=pairwise,
            inner_channels=inner,
            pool_size=pool,
            pool_before_projection=False,
            norm=None,
            implementation=implementation,
            dtype=dtype,
        )
        self.layer.build(inputs.x.shape)
        for name, values in inputs.weights.items():
            if name == "w_f":
                self.layer.w_f.assign(values)
            else:
                getattr(self.layer, name).set_weights(values)
        self.x, self.cotangent = tf.constant(inputs.x, dtype), tf.constant(inputs.cotangent, dtype)
        self.step = tf.function(self._forward if mode == "forward" else self._train)

    def run(self):
        return self.step(self.x, self.cotangent)

    def results(self):
        """Named arrays: z, and what the block adds to x; in training the gradients too, x's without the shortcut's."""
        z, *gradients = self.run()
        arrays = {"z": _float32(z), "z - x": _float32(z) - _float32(self.x)}
        if gradients:
            names = [variable.path.split("/", 1)[1] for variable in self.layer.trainable_weights]
            gradients[0] -= self.cotangent
            arrays |= {f"d{name}": _float32(d) for name, d in zip(["x", *names], gradients, strict=True)}
        return arrays

    def _forward(self, x, cotangent):
        return [self.layer(x)]

    def _train(self, x, cotangent):
        with tf.GradientTape() as tape:
            tape.watch(x)
            z = self.layer(x)
        weights = [variable.value for variable in self.layer.trainable_weights]
        return [z, *tape.gradient(z, [x, *weights], output_gradients=cotangent)]


class Matmul:
    """One product of an (m, k) and a (k, n) matrix, the most that TensorFlow gets out of the machine."""

    def __init__(self, m, k, n):
        generator = tf.random.Generator.from_seed(0)
        self.left, self.right = generator.normal([m, k]), generator.normal([k, n])
        self.step = tf.function(tf.matmul)

    def run(self):
        return self.step(self.left, self.right)


def _float32(tensor):
    return np.array(tf.cast(tensor, tf.float32))
