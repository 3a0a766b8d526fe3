"""1x1x1 convolutions of one input, as theta, phi and g are: what they compute, and their gradients together."""

import typing

import tensorflow as tf

from keras_nonlocal.ops.positions import dims, product


class Projection(typing.NamedTuple):
    """A 1x1x1 convolution: kernel (C, C'), and bias (C',) or None."""

    kernel: tf.Tensor
    bias: tf.Tensor | None


def project(x, projections):
    """x kernel + bias for every projection.

    Going backward, dx = [dtheta dphi dg] [W_theta W_phi W_g]^T is one product. TensorFlow by itself would compute a dx
    for each of them and hold these, which are as large as x, until it has added them up.

    Args:
      x: (B, *positions, C).
      projections: a list of Projections.

    Returns:
      A list of (B, *positions, C'), one for each.
    """
    if not projections:
        return []
    *sizes, channels = dims(x)
    biased = [projection.bias is not None for projection in projections]
    widths = [projection.kernel.shape[-1] for projection in projections]

    @tf.custom_gradient
    def function(x, kernels, biases):
        rows = tf.reshape(x, [product(sizes), channels])  # (B, *positions, C) -> (R, C)
        given = iter(biases)
        ys = []
        for kernel, has_bias in zip(kernels, biased, strict=True):
            y = rows @ kernel
            y = tf.nn.bias_add(y, next(given)) if has_bias else y
            ys.append(tf.reshape(y, [*sizes, kernel.shape[-1]]))  # (R, C') -> (B, *positions, C')

        def gradients(*dys):
            # -> (R, C'_theta + C'_phi + C'_g)
            dy = tf.concat([tf.reshape(d, [product(sizes), d.shape[-1]]) for d in dys], axis=-1)
            dx = tf.matmul(dy, tf.concat(kernels, axis=-1), transpose_b=True)
            dkernels = tf.split(tf.matmul(rows, dy, transpose_a=True), widths, axis=-1)
            dbiases = tf.split(tf.reduce_sum(dy, axis=0), widths)
            dbiases = [d for d, has_bias in zip(dbiases, biased, strict=True) if has_bias]
            return tf.reshape(dx, [*sizes, channels]), dkernels, dbiases

        return ys, gradients

    biases = [projection.bias for projection in projections if projection.bias is not None]
    return function(x, [projection.kernel for projection in projections], biases)
