"""The non-local block of the paper's Eq. 6, z = W_z y + x, for any Keras: all of the logic, none of the flavour."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import tensorflow as tf

from keras_nonlocal import errors
from keras_nonlocal.layers import folding
from keras_nonlocal.layers.flavour import FlavourMixin, check_float_tensor
from keras_nonlocal.ops import attend, projections
from keras_nonlocal.ops import pairwise as pairwise_forms  # `pairwise` is an argument
from keras_nonlocal.ops.attend import Implementation
from keras_nonlocal.ops.pairwise import Pairwise
from keras_nonlocal.ops.positions import AXES, Sets, dims, expand_mask, max_pool, max_pool_valid, product

EXTENTS = {1: ("spacetime", "time"), 2: ("spacetime", "space"), 3: ("spacetime", "space", "time")}
# The axes an extent sums over; an axis outside it is never pooled.
ATTENDED = {"spacetime": "THW", "space": "HW", "time": "T"}
GROUP_RULE = "`group_frames` must divide the number of frames."


class NonLocalMixin(FlavourMixin):
    """What NonLocal1D, NonLocal2D and NonLocal3D share; put before a Keras Layer, with `rank` and `_keras` set."""

    rank = None  # number of position axes
    _batch_norm = None  # the BatchNormalization of the same Keras

    def __init__(
        self,
        pairwise: Pairwise = "embedded_gaussian",
        inner_channels: int | None = None,
        pool_size: int | Sequence[int] | None = 2,
        pool_before_projection: bool = True,
        scale: bool = True,
        extent: Literal["spacetime", "space", "time"] = "spacetime",
        group_frames: int | None = None,
        norm: Literal["batch_norm"] | None = "batch_norm",
        norm_momentum: float = 0.9,
        norm_epsilon: float = 1e-5,
        norm_synchronized: bool = False,
        use_bias: bool = True,
        use_out_bias: bool = True,
        kernel_initializer: str | dict | Callable | None = None,
        kernel_regularizer: str | dict | Callable | None = None,
        bias_regularizer: str | dict | Callable | None = None,
        implementation: Implementation = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        keras = self._keras
        self._check_data_format()
        self.supports_masking = True
        self.form = pairwise_forms.get(pairwise)
        self.inner_channels = (
            None if inner_channels is None else errors.check_positive_int("inner_channels", inner_channels)
        )
        self.pool_size = _normalised_pool_size(pool_size, self.rank)
        self.pool_before_projection = errors.check_bool("pool_before_projection", pool_before_projection)
        self.scale = errors.check_bool("scale", scale)
        self.extent = errors.check_choice("extent", extent, EXTENTS[self.rank])
        axes = AXES[self.rank]
        self._pool = tuple(
            size if axis in ATTENDED[extent] else 1 for axis, size in zip(axes, self.pool_size, strict=True)
        )
        self.group_frames = self._checked_group_frames(group_frames)
        self._sets = Sets(self.rank, self.extent, self.group_frames)
        if norm not in ("batch_norm", None):
            raise ValueError(f"`norm` must be 'batch_norm' or None. Received: norm={norm!r}")
        self._norm_kind = norm
        self.norm_momentum = errors.check_number("norm_momentum", norm_momentum, 0, 1)
        self.norm_epsilon = errors.check_number("norm_epsilon", norm_epsilon, 0)
        self.norm_synchronized = errors.check_bool("norm_synchronized", norm_synchronized)
        self.use_bias = errors.check_bool("use_bias", use_bias)
        self.use_out_bias = errors.check_bool("use_out_bias", use_out_bias)
        if kernel_initializer is None:
            kernel_initializer = keras.initializers.RandomNormal(stddev=0.01)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.implementation = errors.check_choice(
            "implementation", implementation, attend.implementations(self.form), f" for pairwise={pairwise!r}"
        )
        self.theta = self.phi = self.g = self.w_f = self.out = self.norm = None

    @property
    def pairwise(self) -> Pairwise:
        """The name of the pairwise form; all that is known of it is `form`."""
        return self.form.name

    def __call__(self, inputs, *args, **kwargs):
        check_float_tensor(inputs)
        return super().__call__(inputs, *args, **kwargs)

    def build(self, input_shape):
        """Makes all weights. Raises ValueError for a shape of the wrong rank or without a channel count."""
        shape = self._checked_input_shape(input_shape)
        channels = shape[-1]
        inner = self.inner_channels or max(1, channels // 2)
        x, y = (shape[0], None, channels), (shape[0], None, inner)
        if self.form.embeds:
            self.theta = self._projection("theta", inner, x)
            self.phi = self._projection("phi", inner, x)
        self.g = self._projection("g", inner, x)
        if self.form.owns_w_f:
            self.w_f = self.add_weight(
                name="w_f",
                shape=(2 * inner,),
                initializer=self._w_f_initializer(),
                regularizer=self.kernel_regularizer,
                trainable=True,
            )
        # The block starts as the identity by a zero gamma, or by a zero W_z when nothing normalises. By both, neither
        # would ever get a gradient.
        initializer = None if self._norm_kind else "zeros"
        self.out = self._projection("out", channels, y, initializer, self.use_out_bias)
        if self._norm_kind:
            self.norm = self._batch_norm(
                momentum=self.norm_momentum,
                epsilon=self.norm_epsilon,
                gamma_initializer="zeros",
                synchronized=self.norm_synchronized,
                dtype=self.dtype_policy,
                name="norm",
            )
            self._build_sublayer(self.norm, x)
        self.input_spec = self._keras.layers.InputSpec(ndim=self.rank + 2, axes={-1: channels})
        super().build(input_shape)
        self._freeze_sublayers()

    def call(
        self,
        inputs: tf.Tensor,
        mask: tf.Tensor | None = None,
        training: bool | None = None,
        return_attention_scores: bool = False,
        whole_windows: bool = False,
    ) -> tf.Tensor | tuple[tf.Tensor, tf.Tensor]:
        """z = x + norm(W_z y).

        Args:
          inputs: x, (B, *positions, C).
          mask: boolean, True for valid positions: (B, *positions), or with trailing position axes left out, as (B, T)
            for frames. Positions that are not valid are no keys, do not count in the 1/N, and come out as they went in;
            their own rows of the attention mean nothing. A pooled key is valid if any position in its window is.
          training: whether the norm uses and updates batch statistics.
          return_attention_scores: also return the attention. This builds the N x M matrix, whatever the
            `implementation`.
          whole_windows: with a mask, a pooled key is valid only if all positions in its window are. Inputs padded at
            their ends then come out as they do without the padding, where pooling leaves out what fills no window.

        Returns:
          z, shaped as x. With return_attention_scores, (z, attention), where attention is (B, N, M): for each of the N
          queries the weights of the M (pooled) keys in order T, H, W. Where the positions fall into sets (`extent`
          "space" or "time", or `group_frames`), it is (B, S, N, M), with N and M counted inside a set.
        """
        x = inputs
        batch, *positions, _ = dims(x)
        self._check_sizes(positions)
        self._assert_unknown_sizes(positions)
        if mask is not None:
            mask = expand_mask(mask, batch, positions)
            x = tf.where(mask[..., None], x, tf.zeros_like(x))  # whatever stands in the padding, NaN included
        theta, phi, g, key_mask = self._projected(x, mask, whole_windows)
        theta, phi, g = (self._sets.to_sets(part) for part in (theta, phi, g))  # (B, *positions, C') -> (B*S, N, C')
        key_mask = None if key_mask is None else self._sets.mask_to_sets(key_mask)
        w_out = self._kernel(self.out) if self.form.associates else None
        attention = pairwise_forms.attention(self.form, theta, phi, key_mask) if return_attention_scores else None
        y = attend.attend(self.form, theta, phi, g, key_mask, w_out, self.implementation, attention)
        y = self._sets.from_sets(y, batch, positions)
        if w_out is None:
            y = _over_rows(self.out, y)
        elif self.out.bias is not None:
            y = y + self._weight(self.out.bias)
        z = inputs + self._normalised(y, mask, training)
        if mask is not None:
            z = tf.where(mask[..., None], z, inputs)
        z = tf.ensure_shape(z, inputs.shape)
        if attention is None:
            return z
        return z, self._sets.attention_from_sets(attention, batch, positions)

    def compute_output_shape(self, input_shape):
        return input_shape

    def attention_of(self, inputs: tf.Tensor, queries: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        """The attention of chosen queries: their rows of what return_attention_scores gives, but no other is computed.

        Nothing of size N x M is built, nor theta anywhere else, and the graph of it is of plain operations.

        Args:
          inputs: x, (B, *positions, C), of a layer that is built.
          queries: (B, Q, rank) int32, the indices of Q positions on the position axes. One that is outside of them is
            an InvalidArgumentError on a CPU; nobody knows what else.
          mask: as in a call.

        Returns:
          (B, Q, M), the weights of the M keys that a query meets: those of its own set, where `extent` or
          `group_frames` keep positions apart. `key_cells` says where they are. At least float32. Weights of the forms
          that are not normalised by a softmax may have any sign and size.

        Example:

        >>> layer = keras_nonlocal.NonLocal2D(pool_size=2)
        >>> x = np.random.default_rng(0).normal(size=[1, 6, 8, 16]).astype("float32")
        >>> _, attention = layer(x, return_attention_scores=True)
        >>> weights = layer.attention_of(x, [[[5, 7], [0, 1]]])  # of the last position and of the second
        >>> bool(np.allclose(weights[0], attention.numpy()[0, [47, 1]]))
        True
        """
        x = tf.cast(inputs, self.compute_dtype)
        queries = tf.cast(queries, tf.int32)
        batch, *positions, _ = dims(x)
        self._check_sizes(positions)
        self._assert_unknown_sizes(positions)
        if mask is not None:
            mask = expand_mask(mask, batch, positions)
            x = tf.where(mask[..., None], x, tf.zeros_like(x))
        theta = self._embedded(tf.gather_nd(x, queries, batch_dims=1), self.theta, self._theta_w_f())  # (B, Q, C')
        if self.pool_before_projection:
            keys, key_mask = self._pooled(x, mask)
            phi = self._embedded(keys, self.phi, self._phi_w_f())
        else:
            # w_f comes after the pooling, which is not linear.
            phi, key_mask = self._pooled(self._embedded(x, self.phi), mask)
            phi = phi if self.w_f is None else phi @ tf.cast(self._phi_w_f(), phi.dtype)
        phi = self._scaled(phi)
        sets, _, keys = self.sets(positions)
        # Each query with the keys of all sets, of which it then takes its own. That is a row of the N x M at most;
        # phi gathered for each query could be many times as much.
        phi = tf.reshape(self._sets.to_sets(phi), [batch, sets * keys, phi.shape[-1]])  # (B, *keys, C') -> (B, S*M, C')
        scores = pairwise_forms.scores(self.form, theta, phi)  # (B, Q, S*M)
        valid = None
        if key_mask is not None:
            valid = tf.reshape(self._sets.mask_to_sets(key_mask), [batch, 1, sets * keys])  # (B*S, M) -> (B, 1, S*M)
        if not self._sets.single:
            own, count = self._sets.set_of(queries, positions), dims(queries)[1]
            scores = tf.gather(tf.reshape(scores, [batch, count, sets, keys]), own, batch_dims=2)  # (B, Q, M)
            if valid is not None:
                valid = tf.gather(tf.reshape(valid, [batch, sets, keys]), own, batch_dims=1)  # (B, Q, M)
        return pairwise_forms.normalised(self.form, scores, valid)

    def key_cells(self, queries: tf.Tensor, keys: tf.Tensor, positions: Sequence[int | tf.Tensor]) -> tf.Tensor:
        """Where the keys are that `attention_of` gives the weights of.

        Args:
          queries: (B, Q, rank) int32, as given to `attention_of`.
          keys: (B, Q, K) int32, the numbers of keys of each query, from 0 to M - 1.
          positions: the sizes of the position axes, ints or scalar tensors.

        Returns:
          (B, Q, K, rank) int32, their indices on the axes of the key grid: pooling with `key_pool`, each is of as many
          positions.

        Example:

        >>> layer = keras_nonlocal.NonLocal3D(extent="space", pool_size=None)
        >>> layer.key_cells([[[3, 0, 0]]], [[[0, 11]]], (4, 6, 8)).numpy().tolist()  # keys of the query's own frame
        [[[[3, 0, 0], [3, 1, 3]]]]
        """
        queries, keys = tf.cast(queries, tf.int32), tf.cast(keys, tf.int32)
        sets = tf.broadcast_to(self._sets.set_of(queries, positions)[..., None], tf.shape(keys))
        return self._sets.cells(sets, keys, self.key_grid(positions))

    @property
    def key_pool(self) -> tuple[int, ...]:
        """How many positions a key is the maximum of, along each position axis: 1 for those that are not pooled."""
        return self._pool

    def attention_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """The shape of what return_attention_scores returns for an input shape; None for sizes that are not known."""
        batch, *positions, _ = self._checked_input_shape(input_shape)
        # NaN stands for an unknown size, so that whatever is computed from it is unknown too.
        positions = [math.nan if size is None else size for size in positions]
        sizes = [None if math.isnan(size) else size for size in self.sets(positions)]
        return (batch, *sizes[1:]) if self._sets.single else (batch, *sizes)

    def key_grid(self, positions: Sequence[int]) -> tuple[int, ...]:
        """The sizes of the key axes for those of the position axes: what pooling leaves."""
        return tuple(size // pool for size, pool in zip(positions, self._pool, strict=True))

    def sets(self, positions: Sequence[int]) -> tuple[int, int, int]:
        """How positions meet: (number of sets, queries in each, keys in each), for the sizes of the position axes.

        All meet in one set unless `extent` or `group_frames` keep them apart.
        """
        sets, queries = self._sets.split(positions)
        keys = self._sets.split(self.key_grid(positions))[1]
        return tuple(product(sizes) for sizes in (sets, queries, keys))

    def folds_norm(self) -> bool:
        """Whether the block has a norm that can become part of W_z, and projections that Keras has not quantized."""
        parts = [part for part in (self.theta, self.phi, self.g, self.out) if part is not None]
        return self.norm is not None and all(map(folding.takes_norm, parts))

    def without_norm(self) -> "NonLocalMixin":
        """A block of the same arguments, not built, but without norm and with a bias in W_z: see `take_folded`."""
        return type(self).from_config({**self.get_config(), "norm": None, "use_out_bias": True})

    def take_folded(self, block: "NonLocalMixin") -> None:
        """Takes the weights of a block with a norm, which becomes part of W_z.

        Args:
          block: a built block with `folds_norm()`, of which this one is the built `without_norm()`.
        """
        for name in ("theta", "phi", "g"):
            if getattr(block, name) is not None:
                getattr(self, name).set_weights(getattr(block, name).get_weights())
        if block.w_f is not None:
            self.w_f.assign(block.w_f)
        folding.fold(block.out, block.norm, self.out)

    def get_config(self):
        keras = self._keras
        return {
            **super().get_config(),
            "pairwise": self.pairwise,
            "inner_channels": self.inner_channels,
            "pool_size": self.pool_size,
            "pool_before_projection": self.pool_before_projection,
            "scale": self.scale,
            "extent": self.extent,
            "group_frames": self.group_frames,
            "norm": self._norm_kind,
            "norm_momentum": self.norm_momentum,
            "norm_epsilon": self.norm_epsilon,
            "norm_synchronized": self.norm_synchronized,
            "use_bias": self.use_bias,
            "use_out_bias": self.use_out_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "implementation": self.implementation,
        }

    def _projected(self, x, mask, whole_windows):
        """What attend takes: theta at all positions; phi, g and the mask of valid keys at the (pooled) keys'."""
        w_theta, w_phi = self._theta_w_f(), self._phi_w_f()
        if math.prod(self._pool) == 1:
            theta, phi, g = self._project(x, (self.theta, w_theta), (self.phi, w_phi), (self.g, None))
            key_mask = mask
        elif self.pool_before_projection:
            keys, key_mask = self._pooled(x, mask, whole_windows)
            (theta,) = self._project(x, (self.theta, w_theta))
            phi, g = self._project(keys, (self.phi, w_phi), (self.g, None))
        else:
            # w_f comes after the pooling, which is not linear.
            theta, phi, g = self._project(x, (self.theta, w_theta), (self.phi, None), (self.g, None))
            phi, key_mask = self._pooled(phi, mask, whole_windows)
            phi = phi if w_phi is None else phi @ w_phi
            g, _ = self._pooled(g, mask, whole_windows)
        return theta, self._scaled(phi), g, key_mask

    def _scaled(self, phi):
        """phi, for theta . phi to come out scaled."""
        if not (self.scale and self.form.scales):
            return phi
        # Not tf.cast, which takes a Python number through float32. The keys are fewer than the queries. 16-bit ones
        # would be rounded once more.
        return pairwise_forms.for_scores(phi) * (1 / math.sqrt(phi.shape[-1]))

    def _embedded(self, x, layer, w_f=None):
        """theta or phi of (..., C) outside of a call, by plain operations: x itself without a layer."""
        linear = None if layer is None else self._linear(layer, w_f)
        if linear is not None:
            kernel, bias = (None if part is None else tf.cast(part, x.dtype) for part in linear)
            return _over_rows(lambda rows: rows @ kernel if bias is None else rows @ kernel + bias, x)
        y = x if layer is None else _over_rows(layer, x)
        return y if w_f is None else y @ tf.cast(w_f, y.dtype)

    def _pooled(self, x, mask, whole_windows=False):
        """x and the mask, or None, at the keys."""
        if mask is None:
            return max_pool(x, self._pool), None
        return max_pool_valid(x, mask, self._pool, whole_windows)

    def _project(self, x, *parts):
        """What layers make of x: x itself for None. Each comes with the (C', 1) half of w_f to multiply by, or None."""
        linear = [None if layer is None else self._linear(layer, w_f) for layer, w_f in parts]
        projected = iter(projections.project(x, [part for part in linear if part is not None]))
        ys = []
        for (layer, w_f), part in zip(parts, linear, strict=True):
            if part is not None:
                ys.append(next(projected))
            elif layer is None:
                ys.append(x)
            else:
                y = _over_rows(layer, x)
                ys.append(y if w_f is None else y @ w_f)
        return ys

    def _linear(self, layer, w_f):
        """The Projection that a layer is, or None where it is quantized."""
        kernel = self._kernel(layer)
        if kernel is None:
            return None
        bias = None if layer.bias is None else self._weight(layer.bias)
        if w_f is not None:
            # w_f . theta(x) is one number for each position, and takes no theta(x).
            kernel, bias = kernel @ w_f, None if bias is None else tf.linalg.matvec(w_f, bias, transpose_a=True)
        return projections.Projection(kernel, bias)

    def _theta_w_f(self):
        """The half of w_f for theta, (C', 1); None for forms without w_f."""
        return tf.split(self._weight(self.w_f), 2)[0][:, None] if self.form.owns_w_f else None

    def _phi_w_f(self):
        """The half of w_f for phi, (C', 1); None for forms without w_f."""
        return tf.split(self._weight(self.w_f), 2)[1][:, None] if self.form.owns_w_f else None

    def _kernel(self, layer):
        """The kernel of a projection, or None where only the layer itself can multiply by it: Keras quantized it."""
        return None if getattr(layer, "quantization_mode", None) else self._weight(layer.kernel)

    def _weight(self, variable):
        return tf.convert_to_tensor(variable)  # in the policy's dtype, within a call

    def _normalised(self, y, mask, training):
        if self.norm is None:
            return y
        batch, *positions, channels = shape = dims(y)
        count = product(positions)
        rows = tf.reshape(y, [batch, count, channels])  # (B, *positions, C) -> (B, N, C)
        row_mask = None if mask is None else tf.reshape(mask, [batch, count])  # (B, *positions) -> (B, N)
        return tf.reshape(self.norm(rows, training=training, mask=row_mask), shape)

    def _projection(self, name, units, input_shape, initializer=None, use_bias=None):
        """A 1x1x1 convolution, which is a Dense over the channels."""
        layer = self._keras.layers.Dense(
            units,
            use_bias=self.use_bias if use_bias is None else use_bias,
            kernel_initializer=initializer or self._fresh_initializer(),
            kernel_regularizer=self.kernel_regularizer,
            bias_regularizer=self.bias_regularizer,
            dtype=self.dtype_policy,
            name=name,
        )
        self._build_sublayer(layer, input_shape)
        return layer

    def _build_sublayer(self, layer, input_shape):
        layer.build(input_shape)

    def _fresh_initializer(self):
        # One unseeded initializer object would draw the same values for theta, phi and g. Functions have no such state.
        if not isinstance(self.kernel_initializer, self._keras.initializers.Initializer):
            return self.kernel_initializer
        return type(self.kernel_initializer).from_config(self.kernel_initializer.get_config())

    def _w_f_initializer(self):
        """Of w_f, which is a kernel of 2 C' channels to one: initializers draw that, and know what comes in and out."""
        initializer = self._fresh_initializer()

        def initialize(shape, dtype=None, **kwargs):
            return tf.reshape(initializer([*shape, 1], dtype=dtype, **kwargs), shape)  # (2 C', 1) -> (2 C',)

        return initialize

    def _checked_group_frames(self, group_frames):
        if group_frames is None:
            return None
        group_frames = errors.check_positive_int("group_frames", group_frames)
        if self.rank == 2 or self.extent == "space":
            raise ValueError(
                "`group_frames` cuts time, so it needs a time axis inside the extent. "
                f"Received: group_frames={group_frames} for {type(self).__name__} with extent={self.extent!r}"
            )
        if self._pool[0] > 1:
            raise ValueError(
                "`group_frames` cannot be combined with pooling over time: set the first entry of `pool_size` to 1. "
                f"Received: group_frames={group_frames}, pool_size={self.pool_size}"
            )
        return group_frames

    def _checked_input_shape(self, input_shape):
        shape = tuple(input_shape)
        axes = ", ".join(AXES[self.rank])
        if len(shape) != self.rank + 2:
            raise ValueError(
                f"{type(self).__name__} takes inputs of rank {self.rank + 2}, (batch, {axes}, channels). "
                f"Received: input_shape={shape}"
            )
        if shape[-1] is None:
            raise ValueError(f"The last axis of the inputs, channels, must be known. Received: input_shape={shape}")
        return shape

    def _check_sizes(self, positions):
        """Raises ValueError for sizes that pool_size or group_frames cannot cut. Sizes that are not known pass."""
        for axis, size, pool in zip(AXES[self.rank], positions, self._pool, strict=True):
            if isinstance(size, int) and 0 < size < pool:
                raise ValueError(f"{self._pool_rule(axis)} Received: inputs with {axis}={size}")
        time = positions[0]
        if self.group_frames and isinstance(time, int) and time % self.group_frames:
            raise ValueError(f"{GROUP_RULE} Received: group_frames={self.group_frames} for inputs of {time} frames")

    def _assert_unknown_sizes(self, positions):
        """What _check_sizes checks, for the sizes that are known at run time only."""
        for axis, size, pool in zip(AXES[self.rank], positions, self._pool, strict=True):
            if pool > 1 and not isinstance(size, int):
                enough = (size == 0) | (size >= pool)
                tf.debugging.assert_equal(enough, True, message=self._pool_rule(axis))
        if self.group_frames and not isinstance(positions[0], int):
            tf.debugging.assert_equal(positions[0] % self.group_frames, 0, message=GROUP_RULE)

    def _pool_rule(self, axis):
        return f"`pool_size` {self.pool_size} must leave a key along {axis}: use a smaller one or larger inputs."

    def _check_data_format(self):
        data_format = self._keras.backend.image_data_format()
        if data_format != "channels_last":
            raise ValueError(
                f"{type(self).__name__} takes channels_last inputs only, but image_data_format() is {data_format!r}: "
                "call keras.backend.set_image_data_format('channels_last') and put channels on the last axis."
            )


class NonLocal3DMixin(NonLocalMixin):
    """NonLocalMixin with the pooling of a clip: in space only."""

    rank = 3

    def __init__(
        self,
        pairwise: Pairwise = "embedded_gaussian",
        inner_channels: int | None = None,
        pool_size: int | Sequence[int] | None = (1, 2, 2),
        pool_before_projection: bool = True,
        scale: bool = True,
        extent: Literal["spacetime", "space", "time"] = "spacetime",
        group_frames: int | None = None,
        norm: Literal["batch_norm"] | None = "batch_norm",
        norm_momentum: float = 0.9,
        norm_epsilon: float = 1e-5,
        norm_synchronized: bool = False,
        use_bias: bool = True,
        use_out_bias: bool = True,
        kernel_initializer: str | dict | Callable | None = None,
        kernel_regularizer: str | dict | Callable | None = None,
        bias_regularizer: str | dict | Callable | None = None,
        implementation: Implementation = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            pairwise=pairwise,
            inner_channels=inner_channels,
            pool_size=pool_size,
            pool_before_projection=pool_before_projection,
            scale=scale,
            extent=extent,
            group_frames=group_frames,
            norm=norm,
            norm_momentum=norm_momentum,
            norm_epsilon=norm_epsilon,
            norm_synchronized=norm_synchronized,
            use_bias=use_bias,
            use_out_bias=use_out_bias,
            kernel_initializer=kernel_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            implementation=implementation,
            **kwargs,
        )


def _over_rows(function, x):
    """Applies a function of (R, C) to (B, *positions, C): one product of matrices is faster than a batch of them."""
    *sizes, channels = dims(x)
    y = function(tf.reshape(x, [product(sizes), channels]))
    return tf.reshape(y, [*sizes, y.shape[-1]])


def _normalised_pool_size(pool_size, rank):
    sizes = 1 if pool_size is None else pool_size
    sizes = tuple(sizes) if isinstance(sizes, Iterable) else (sizes,) * rank
    if len(sizes) != rank or not all(errors.is_positive_int(size) for size in sizes):
        axes = ", ".join(AXES[rank])
        raise ValueError(
            f"`pool_size` must be a positive integer, {rank} of them ({axes}), or None for no pooling. "
            f"Received: pool_size={pool_size!r}"
        )
    return tuple(int(size) for size in sizes)
