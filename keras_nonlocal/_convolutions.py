"""Convolution and max-pooling of clips by 2D kernels, where TensorFlow's 3D ones are slow: any Keras, none of the flavour.

On CPUs TensorFlow has two sets of kernels. oneDNN's are good in 3D. Eigen's, which run where oneDNN is off, take up to
50 times as long for the gradient of a strided Conv3D as for that of the same Conv2D, and three to eight times as long
for MaxPooling3D's. See docs/benchmarks/convolutions.md.
"""

import tensorflow as tf

from keras_nonlocal.positions import dims, product


class FrameConvolutionMixin:
    """Makes a Keras Conv3D run as 2D convolutions on Eigen's kernels; put before that layer in a class.

    The layer keeps its arguments, its config and its variables. Groups, dilation, channels first, other ranks and
    sizes that the kernel does not fit into are left to the layer's own convolution, as is everything on other kernels.
    """

    def convolution_op(self, inputs, kernel):
        plain = _takes_2d_kernels(self, inputs, self.kernel_size) and self.groups == 1 and set(self.dilation_rate) == {1}
        if not plain or inputs.shape[-1] is None:
            return super().convolution_op(inputs, kernel)
        return convolve(inputs, tf.convert_to_tensor(kernel), self.strides, self.padding.upper())


class FramePoolingMixin:
    """Makes a Keras MaxPooling3D run as 2D poolings on Eigen's kernels; put before that layer in a class.

    Of several equal numbers in a window the gradient then goes to one, as it does with oneDNN; Eigen's 3D kernel gives
    it to each of them.
    """

    def call(self, inputs):
        if not _takes_2d_kernels(self, inputs, self.pool_size):
            return super().call(inputs)
        return max_pool(inputs, self.pool_size, self.strides, self.padding.upper())


def runs_on_eigen():
    """Whether this process computes with Eigen's kernels: on nothing but CPUs, and with oneDNN off."""
    return not _onednn() and all(device.device_type == "CPU" for device in tf.config.get_visible_devices())


def convolve(x, kernel, strides, padding):
    """A 3D convolution as a sum of 2D ones.

    Args:
      x: (B, T, H, W, C), all but C may be unknown.
      kernel: (k_T, k_H, k_W, C, C'), its sizes known.
      strides: three ints.
      padding: "SAME" or "VALID", as TensorFlow understands them.

    Returns:
      (B, T', H', W', C').
    """
    size, *space = kernel.shape[:3]
    if space == [1, 1] and (size == 1 or tuple(strides[1:]) == (1, 1)):
        return _over_pixels(x, kernel[:, :, 0], strides, padding)
    stride = strides[0]
    if size == stride == 1:
        return _each_frame(x, lambda frames: tf.nn.conv2d(frames, kernel[0], strides[1:], padding))
    time = dims(x)[1]
    if padding == "SAME":
        total = (-(-time // stride) - 1) * stride + size - time
        total = max(total, 0) if isinstance(total, int) else tf.maximum(total, 0)
        x = tf.pad(x, [[0, 0], [total // 2, total - total // 2], [0, 0], [0, 0], [0, 0]])
        time += total
    elif not isinstance(time, int):
        tf.debugging.assert_greater_equal(time, size, "A convolution needs as many frames as its kernel has.")
    last = (time - size) // stride * stride  # where the kernel begins for the last time
    y = 0
    for i in range(size):
        met = x[:, i : i + last + 1 : stride]  # the frames that the kernel's frame i meets
        y += _each_frame(met, lambda frames, i=i: tf.nn.conv2d(frames, kernel[i], strides[1:], padding))
    return y


def max_pool(x, pool_size, strides, padding):
    """3D max-pooling as one over time and one over space.

    Args:
      x: (B, T, H, W, C), all may be unknown.
      pool_size: three ints.
      strides: three ints.
      padding: "SAME" or "VALID", as TensorFlow understands them.

    Returns:
      (B, T', H', W', C).
    """
    if pool_size[0] > 1 or strides[0] > 1:
        x = _over_time(x, lambda rows: tf.nn.max_pool2d(rows, (pool_size[0], 1), (strides[0], 1), padding))
    return _each_frame(x, lambda frames: tf.nn.max_pool2d(frames, pool_size[1:], strides[1:], padding))


def _over_pixels(x, kernel, strides, padding):
    """A convolution by (k_T, 1, C, C')."""
    if tuple(strides[1:]) != (1, 1):
        # Every second pixel, by the kernel whose gradient is fast.
        x = _each_frame(x, lambda frames: tf.nn.avg_pool2d(frames, 1, strides[1:], padding))
    if kernel.shape[0] > 1 or strides[0] > 1:
        return _over_time(x, lambda rows: tf.nn.conv2d(rows, kernel, (strides[0], 1), padding))
    *positions, channels = dims(x)
    y = tf.matmul(tf.reshape(x, [product(positions), channels]), kernel[0, 0])  # (B*T*H*W, C) (C, C')
    return tf.reshape(y, [*positions, kernel.shape[-1]])


def _each_frame(x, function):
    """Applies a function of images, (N, H, W, C), to a clip's frames."""
    batch, time, *size = dims(x)
    y = function(tf.reshape(x, [product([batch, time]), *size]))  # (B, T, H, W, C) -> (B*T, H, W, C)
    return tf.reshape(y, [batch, time, *dims(y)[1:]])


def _over_time(x, function):
    """Applies a function of images, which leaves their width, to a clip as images of T rows and H*W columns."""
    batch, time, height, width, channels = dims(x)
    y = function(tf.reshape(x, [batch, time, product([height, width]), channels]))
    return tf.reshape(y, [batch, dims(y)[1], height, width, dims(y)[3]])


def _takes_2d_kernels(layer, inputs, window):
    if not runs_on_eigen() or not isinstance(inputs, tf.Tensor) or inputs.shape.rank != 5:
        return False
    sizes = zip(inputs.shape[1:-1], window, strict=True)
    fits = layer.padding == "same" or all(size is None or size >= k for size, k in sizes)
    return fits and layer.data_format == "channels_last"


def _onednn():
    # TensorFlow decides once for the process, by TF_ENABLE_ONEDNN_OPTS and the CPU, and says so nowhere else.
    from tensorflow.python.util import _pywrap_util_port

    return _pywrap_util_port.IsMklEnabled()
