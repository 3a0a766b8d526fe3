"""Non-local blocks, and the batch norm and convolution beside them, for Keras 3."""

import keras
import tensorflow as tf

from keras_nonlocal.layers.batch_norm import FusedBatchNormMixin
from keras_nonlocal.layers.convolutions import FrameConvolutionMixin, FramePoolingMixin
from keras_nonlocal.layers.non_local import NonLocal3DMixin, NonLocalMixin


@keras.saving.register_keras_serializable("keras_nonlocal")
class BatchNormalization(FusedBatchNormMixin, keras.layers.BatchNormalization):
    """keras.layers.BatchNormalization for any rank by TensorFlow's fused kernel: same numbers, weights and files.

    Args:
      **kwargs: those of keras.layers.BatchNormalization. With channels that are not last, `renorm`, `synchronized`, a
        mask or float64 it is that layer itself.

    Call arguments: `inputs`, (..., channels) of rank 2 or more; `training`; `mask`.

    Raises:
      ValueError: what keras.layers.BatchNormalization raises.

    Example:

    >>> x = np.random.normal(size=[2, 8, 14, 14, 64]).astype("float32")
    >>> keras_nonlocal.BatchNormalization(momentum=0.9, epsilon=1e-5)(x, training=True).shape
    TensorShape([2, 8, 14, 14, 64])

    Ioffe and Szegedy, "Batch Normalization", ICML 2015.
    """

    _keras = keras

    def _batch_training(self, training):
        if training is None or isinstance(training, (bool, int)):
            return bool(training) and self.trainable
        return None

    def _own_options(self):
        return self.synchronized or self.renorm

    def _move(self, variable, value):
        old = tf.cast(tf.convert_to_tensor(variable), value.dtype)
        variable.assign(old * self.momentum + value * (1.0 - self.momentum))


@keras.saving.register_keras_serializable("keras_nonlocal")
class Conv3D(FrameConvolutionMixin, keras.layers.Conv3D):
    """keras.layers.Conv3D by 2D kernels where TensorFlow's oneDNN is off: same numbers, weights and files.

    Without oneDNN the gradient of a strided Conv3D takes up to 50 times as long on a CPU as that of 2D convolutions of
    the frames, which then take its place. TensorFlow switches oneDNN on by itself only on CPUs with AVX-512 VNNI, bf16
    or AMX; elsewhere `TF_ENABLE_ONEDNN_OPTS=1` does, set before TensorFlow is imported. See docs/performance.md.

    Args:
      *args, **kwargs: those of keras.layers.Conv3D. With groups, dilation or channels first it is that layer itself.

    Call arguments: `inputs`, (B, T, H, W, channels).

    Raises:
      ValueError: what keras.layers.Conv3D raises.

    Example:

    >>> x = np.random.normal(size=[2, 8, 14, 14, 64]).astype("float32")
    >>> keras_nonlocal.layers.Conv3D(32, (1, 3, 3), strides=(1, 2, 2), padding="same")(x).shape
    TensorShape([2, 8, 7, 7, 32])
    """

    _keras = keras


@keras.saving.register_keras_serializable("keras_nonlocal")
class MaxPooling3D(FramePoolingMixin, keras.layers.MaxPooling3D):
    """keras.layers.MaxPooling3D by 2D kernels where TensorFlow's oneDNN is off: same numbers and files.

    Args:
      *args, **kwargs: those of keras.layers.MaxPooling3D. With channels first it is that layer itself.

    Call arguments: `inputs`, (B, T, H, W, channels).

    Raises:
      ValueError: what keras.layers.MaxPooling3D raises.

    Example:

    >>> keras_nonlocal.layers.MaxPooling3D((1, 3, 3), strides=(1, 2, 2))(np.zeros([2, 8, 15, 15, 64], "float32")).shape
    TensorShape([2, 8, 7, 7, 64])
    """

    _keras = keras


class _KerasNonLocal(NonLocalMixin):
    """What Keras 3 asks of a layer beyond the mixin."""

    _keras = keras
    _batch_norm = BatchNormalization

    def compute_output_spec(self, inputs, mask=None, training=None, return_attention_scores=False, whole_windows=False):
        self._check_sizes(inputs.shape[1:-1])
        z = keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)
        if not return_attention_scores:
            return z
        dtype = "float32" if self.compute_dtype in ("float16", "bfloat16") else self.compute_dtype
        return z, keras.KerasTensor(self.attention_shape(inputs.shape), dtype=dtype)


@keras.saving.register_keras_serializable("keras_nonlocal")
class NonLocal1D(_KerasNonLocal, keras.layers.Layer):
    """Non-local block over a sequence, (batch, T, channels). As NonLocal3D with one position axis.

    Args:
      pool_size: keys are max-pooled by this factor in time; default 2. The other arguments are NonLocal3D's; `extent`
        can only be "spacetime" or "time", which are the same here.

    Example:

    >>> keras_nonlocal.NonLocal1D()(np.zeros([2, 100, 64], "float32")).shape
    TensorShape([2, 100, 64])
    """

    rank = 1


@keras.saving.register_keras_serializable("keras_nonlocal")
class NonLocal2D(_KerasNonLocal, keras.layers.Layer):
    """Non-local block over an image, (batch, H, W, channels). As NonLocal3D with two position axes.

    Args:
      pool_size: keys are max-pooled by this factor in height and width; default 2. The other arguments are
        NonLocal3D's; `extent` can only be "spacetime" or "space", which are the same here, and there is no
        `group_frames`.

    Example:

    >>> keras_nonlocal.NonLocal2D()(np.zeros([2, 14, 14, 64], "float32")).shape
    TensorShape([2, 14, 14, 64])
    """

    rank = 2


@keras.saving.register_keras_serializable("keras_nonlocal")
class NonLocal3D(_KerasNonLocal, NonLocal3DMixin, keras.layers.Layer):
    """Non-local block over a clip, (batch, T, H, W, channels): z = norm(W_z y) + x with y a sum over all positions.

    The operation is Eq. 1 of Wang et al., "Non-local Neural Networks", CVPR 2018,
    `y_i = 1/C(x) sum_j f(x_i, x_j) g(x_j)`, and the block around it Eq. 6. It starts as the identity, so that it can be
    put anywhere into a pre-trained model without changing what the model computes. The output has the shape of the
    input: pooling acts on the keys j only, never on the queries i.

    Args:
      pairwise: the form of f.
        "gaussian" (Eq. 2): exp(x_i . x_j), normalised by its sum over j, that is by a softmax;
        "embedded_gaussian" (Eq. 3, default): exp(theta(x_i) . phi(x_j)), by a softmax;
        "dot_product" (Eq. 4): theta(x_i) . phi(x_j), divided by the number of keys N;
        "unembedded_dot_product": x_i . x_j, divided by N;
        "concatenation" (Eq. 5): ReLU(w_f . [theta(x_i), phi(x_j)]), divided by N.
      inner_channels: channels of theta, phi and g. Default: half of the input's.
      pool_size: keys are max-pooled by these factors in (T, H, W), in windows that do not overlap; an int means all
        axes, None or 1 no pooling. Default (1, 2, 2), a quarter of the keys. Only axes that the extent sums over are
        pooled.
      pool_before_projection: pool x, and project what is left with phi and g (default, as the official code and
        SlowFast do), or pool phi(x) and g(x) (as the paper's Fig. 2 and mmcv do). The two are different functions.
      scale: multiply theta . phi by inner_channels ** -0.5 before the softmax. Applies to "embedded_gaussian" only.
        Default True, as the official code; the paper does not mention it.
      extent: which positions j a position i sums over: "spacetime" (default) all, "space" those of the same frame,
        "time" those of the same pixel in all frames (Table 2d).
      group_frames: cut time into runs of this many frames that do not see each other, as the official code does with 4
        in res3 of its long-clip models. Must divide T. Default None, no cuts.
      norm: "batch_norm" (default) puts a batch normalisation with gamma = 0 after W_z; None leaves it out and starts
        W_z itself at zero, as the official code does when batch norm is frozen.
      norm_momentum: momentum of the moving statistics. Default 0.9.
      norm_epsilon: added to the variance. Default 1e-5.
      norm_synchronized: batch statistics over all replicas of a tf.distribute strategy. Default False. Keras 3 does not
        synchronise them in a call with a mask.
      use_bias: whether theta, phi and g have biases. Default True.
      use_out_bias: whether W_z has a bias. Default True; mmcv has none when a norm follows.
      kernel_initializer: for theta, phi, g, w_f and W_z. Default N(0, 0.01^2), as the official code. Do not give it a
        seed: theta and phi would start with the same weights.
      kernel_regularizer: for the kernels and w_f. Default none.
      bias_regularizer: for the biases of theta, phi, g and W_z. Default none.
      implementation: how the sum is evaluated. It changes memory and time, never the function:
        "auto" (default) picks by the number of positions, as far as it is known when the graph is built, and never
        builds a large N x M matrix;
        "dense" builds it, as the equations say;
        "one_piece" (softmax forms) builds it, and keeps it for the gradient;
        "chunked" (softmax forms) goes by chunks of queries, in memory linear in N, and computes their weights once more
        for the gradient;
        "associated" (dot products) multiplies phi^T g first, O(N);
        "sorted" (concatenation) sorts one number per key and sums from both ends, O(N log N).
        All can be differentiated again, and in forward mode; for gradients of gradients "chunked" keeps the whole
        attention.
      **kwargs: `name`, `dtype` and what else a Keras layer takes. Under a mixed precision dtype the normalisation,
        softmax or 1/N, is done in float32.

    What others use, to load their weights:

    | source | pool_before_projection | scale | use_out_bias | norm_epsilon | pool_size |
    |---|---|---|---|---|---|
    | the official code | True | True | True | 1e-5 | (1, 2, 2) |
    | SlowFast | True | True | True | 1e-5 | (1, 2, 2) |
    | mmcv, mmaction2 I3D | False | False | False | 1e-5 | (1, 2, 2) |
    | the paper's text | False | False | not said | not said | (1, 2, 2) |

    Call arguments: `inputs`; `mask`, boolean, True for valid positions, (batch, T, H, W), (batch, T) or (batch,);
    `return_attention_scores`, to also get the attention, (batch, T*H*W, number of keys), for which it is built densely;
    `whole_windows`, for a pooled key to be valid only if all positions in its window are, and not any of them.

    Raises:
      ValueError: for an argument out of range, an `implementation` of another form, inputs of another rank or that are
        no dense floats, or more pooling than positions.
      TypeError: when called on a symbolic tensor of tf_keras or inside one of its layers and models; those need
        keras_nonlocal.tfm.layers.NonLocal3D.
      RuntimeError: when Keras runs on another backend than TensorFlow.

    Example:

    >>> x = np.random.normal(size=[2, 4, 14, 14, 64]).astype("float32")
    >>> z = keras_nonlocal.NonLocal3D(pairwise="dot_product")(x)
    >>> bool(np.array_equal(z, x))  # the identity, until it is trained
    True
    """
