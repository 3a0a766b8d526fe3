"""Convolution and max-pooling of clips by 2D kernels where TensorFlow's 3D ones are slow: any Keras, no flavour.

On CPUs TensorFlow has two sets of kernels. oneDNN's are good in 3D. Eigen's, which run where oneDNN is off, take up to
50 times as long for the gradient of a strided Conv3D as for that of the same Conv2D, and three to eight times as long
for MaxPooling3D's. See docs/benchmarks/convolutions.md.
"""

import contextlib
import contextvars
from collections.abc import Iterator

import tensorflow as tf

from keras_nonlocal.layers.flavour import FlavourMixin
from keras_nonlocal.ops.positions import dims, product

_in_2d = contextvars.ContextVar("in_2d", default=False)


class FrameConvolutionMixin(FlavourMixin):
    """Makes a Keras Conv3D run as 2D convolutions on Eigen's kernels; put before that layer in a class.

    The layer keeps its arguments, its config and its variables. Groups, dilation, channels first, other ranks and
    sizes that the kernel does not fit into are left to the layer's own convolution, as is everything on other kernels.
    """

    def convolution_op(self, inputs, kernel):
        plain = self.groups == 1 and set(self.dilation_rate) == {1}
        if not plain or not _takes_2d_kernels(self, inputs, self.kernel_size):
            return super().convolution_op(inputs, kernel)
        return convolve(inputs, tf.convert_to_tensor(kernel), self.strides, self.padding.upper())


class FramePoolingMixin(FlavourMixin):
    """Makes a Keras MaxPooling3D run as 2D poolings on Eigen's kernels; put before that layer in a class.

    Of several equal numbers in a window the gradient then goes to one, as it does with oneDNN; Eigen's 3D kernel gives
    it to each of them.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        if not _takes_2d_kernels(self, inputs, self.pool_size):
            return super().call(inputs)
        return max_pool(inputs, self.pool_size, self.strides, self.padding.upper())


def runs_on_eigen():
    """Whether this process computes with Eigen's kernels: on nothing but CPUs, and with oneDNN off."""
    return not _onednn() and all(device.device_type == "CPU" for device in tf.config.get_visible_devices())


@contextlib.contextmanager
def in_2d() -> Iterator[None]:
    """Has these layers run as 2D kernels while its body traces a graph, for an engine that lacks those of 3D."""
    token = _in_2d.set(True)
    try:
        yield
    finally:
        _in_2d.reset(token)


def convolve(x, kernel, strides, padding):
    """A 3D convolution as a sum of 2D ones.

    Args:
      x: (B, T, H, W, C), all may be unknown.
      kernel: (k_T, k_H, k_W, C, C'), its sizes known.
      strides: three ints.
      padding: "SAME" or "VALID", as TensorFlow understands them.

    Returns:
      (B, T', H', W', C').
    """
    size, *space = kernel.shape[:3]
    stride = strides[0]
    if space == [1, 1] and (size == 1 or tuple(strides[1:]) == (1, 1)):
        return _over_pixels(x, kernel[:, :, 0], strides, padding)
    if size == stride == 1:
        return _of_frames(x, kernel[0], strides[1:], padding)
    time = dims(x)[1]
    if padding == "SAME":
        (length,) = _lengths([time], [size], [stride], padding)
        total = (length - 1) * stride + size - time
        total = max(total, 0) if isinstance(total, int) else tf.maximum(total, 0)
        x = tf.pad(x, [[0, 0], [total // 2, total - total // 2], [0, 0], [0, 0], [0, 0]])
        time += total
    elif not isinstance(time, int):
        tf.debugging.assert_greater_equal(time, size, "A convolution needs as many frames as its kernel has.")
    last = (time - size) // stride * stride  # where the kernel begins for the last time
    # Frame i of the kernel meets these frames of x.
    return sum(_of_frames(x[:, i : i + last + 1 : stride], kernel[i], strides[1:], padding) for i in range(size))


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
        x = _over_time(x, tf.nn.max_pool2d, pool_size[0], strides[0], padding)
    return _each_frame(x, tf.nn.max_pool2d, pool_size[1:], strides[1:], padding)


def _over_pixels(x, kernel, strides, padding):
    """A convolution by (k_T, 1, C, C')."""
    if tuple(strides[1:]) != (1, 1):
        # Every second pixel, by the kernel whose gradient is fast.
        x = _each_frame(x, tf.nn.avg_pool2d, (1, 1), strides[1:], padding)
    if kernel.shape[0] > 1 or strides[0] > 1:

        def convolution(rows, window, strides, padding):
            return tf.nn.conv2d(rows, kernel, strides, padding)

        return _over_time(x, convolution, kernel.shape[0], strides[0], padding)
    *positions, channels = dims(x)
    y = tf.matmul(tf.reshape(x, [product(positions), channels]), kernel[0, 0])  # (B*T*H*W, C) (C, C')
    return tf.reshape(y, [*positions, kernel.shape[-1]])


def _of_frames(x, kernel, strides, padding):
    """Every frame convolved by (k_H, k_W, C, C')."""

    def convolution(frames, window, strides, padding):
        return tf.nn.conv2d(frames, kernel, strides, padding)

    return _each_frame(x, convolution, kernel.shape[:2], strides, padding)


def _each_frame(x, operation, window, strides, padding):
    """Slides an operation of images over every frame of a clip."""
    batch, time, *size, channels = dims(x)
    x = tf.reshape(x, [product([batch, time]), *size, channels])  # (B, T, H, W, C) -> (B*T, H, W, C)
    y = operation(x, window, strides, padding)
    return tf.reshape(y, [batch, time, *_lengths(size, window, strides, padding), dims(y)[-1]])


def _over_time(x, operation, window, stride, padding):
    """Slides an operation of images over the time of a clip, whose frames are the rows."""
    batch, time, height, width, channels = dims(x)
    x = tf.reshape(x, [batch, time, product([height, width]), channels])  # (B, T, H, W, C) -> (B, T, H*W, C)
    y = operation(x, (window, 1), (stride, 1), padding)
    return tf.reshape(y, [batch, *_lengths([time], [window], [stride], padding), height, width, dims(y)[-1]])


def _lengths(sizes, window, strides, padding):
    """How often a window fits. Computed, because oneDNN's kernels return the input's own sizes for an empty batch."""
    how = zip(sizes, window, strides, strict=True)
    return [-(-size // stride) if padding == "SAME" else (size - k) // stride + 1 for size, k, stride in how]


def _takes_2d_kernels(layer, inputs, window):
    wanted = runs_on_eigen() or _in_2d.get()
    if not wanted or not isinstance(inputs, tf.Tensor) or inputs.shape.rank != 5:
        return False
    sizes = zip(inputs.shape[1:-1], window, strict=True)
    fits = layer.padding == "same" or all(size is None or size >= k for size, k in sizes)
    return fits and layer.data_format == "channels_last"


def _onednn():
    # TensorFlow decides once for the process, by TF_ENABLE_ONEDNN_OPTS and the CPU, and says so nowhere else.
    from tensorflow.python.util import _pywrap_util_port

    return _pywrap_util_port.IsMklEnabled()
