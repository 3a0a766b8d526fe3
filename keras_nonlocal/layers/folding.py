"""A batch norm at inference as part of the linear layer before it: both are linear in the channels."""

import numpy as np

from keras_nonlocal.layers.flavour import imported

# What takes a batch norm in, by the name of its class in Keras, and where its kernel has the channels of its output.
KERNEL_AXES = {
    **dict.fromkeys(("Dense", "Conv1D", "Conv2D", "Conv3D", "SeparableConv1D", "SeparableConv2D"), (-1,)),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), (-2,)),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), (-2, -1)),
}


def takes_norm(linear):
    """Whether the kernel and the bias of this layer say all of what it computes."""
    return (
        type(linear).__name__ in KERNEL_AXES
        and any(linear.activation is keras.activations.linear for keras in imported())
        and not getattr(linear, "lora_enabled", False)
        and not getattr(linear, "quantization_mode", None)
    )


def fold(linear, norm, folded):
    """Sets the weights of `folded`, a layer like `linear` with a bias, to those of `linear` followed by `norm`."""
    kernels = [np.asarray(weight, "float64") for weight in linear.get_weights()]
    bias = kernels.pop() if linear.use_bias else 0.0
    mean, variance = (np.asarray(v, "float64") for v in (norm.moving_mean, norm.moving_variance))
    gamma = np.asarray(norm.gamma, "float64") if norm.scale else 1.0
    beta = np.asarray(norm.beta, "float64") if norm.center else 0.0
    scale = gamma / np.sqrt(variance + norm.epsilon)
    *others, kernel = kernels  # the pointwise kernel of a separable convolution is its last
    shape = [1] * kernel.ndim
    for axis in KERNEL_AXES[type(linear).__name__]:
        shape[axis] = kernel.shape[axis]
    folded.set_weights([*others, kernel * scale.reshape(shape), (bias - mean) * scale + beta])
