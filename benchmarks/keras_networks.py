"""keras_nonlocal's C2D as a contestant."""

import frameworks
import network_weights
import numpy as np

tf = frameworks.load_tensorflow()

import keras_nonlocal.models  # noqa: E402  (imports TensorFlow, whose threads have to be set before)


class C2D:
    """The Keras model, called in a tf.function.

    Args:
      mode: "forward", or "train" for forward and backward to all weights with batch statistics.
      fold: fold the batch norms into the convolutions, for mode "forward".
    """

    def __init__(self, mode, fold=False):
        shape = (network_weights.FRAMES, network_weights.SIZE, network_weights.SIZE, 3)
        # Without dropout, which no two frameworks draw alike.
        model = keras_nonlocal.models.C2D(50, shape, network_weights.CLASSES, dropout=0.0)
        for weight in model.weights:
            weight.assign(network_weights.draw(weight.path, weight.shape))
        if fold:
            from keras_nonlocal import surgery

            model = surgery.fold_norms(model)
        self.model, self.clip = model, tf.constant(network_weights.clip())
        self.step = tf.function(self._forward if mode == "forward" else self._train)

    def run(self):
        return self.step(self.clip)

    def results(self):
        """Named arrays: the logits, in training the gradients, and how many parameters there are."""
        logits, *gradients = self.run()
        arrays = {"logits": np.array(logits)}
        if gradients:
            weights = self.model.trainable_weights
            arrays |= {f"d{weight.path}": np.array(d) for weight, d in zip(weights, gradients, strict=True)}
            arrays["parameters"] = np.array(float(sum(np.prod(weight.shape) for weight in weights)))
        return arrays

    def _forward(self, clip):
        return [self.model(clip, training=False)]

    def _train(self, clip):
        with tf.GradientTape() as tape:
            logits = self.model(clip, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits([0], logits))
        return [logits, *tape.gradient(loss, [variable.value for variable in self.model.trainable_weights])]
