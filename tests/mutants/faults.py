"""Faults to put into the package, one at a time, and the tests that should notice: data only.

Each old text is one short expression that occurs exactly once in its file, which test_faults.py holds. None is a change
that nobody could notice, such as a check that another one repeats.
"""

import typing


class Fault(typing.NamedTuple):
    """A mistake that could be made in writing the package.

    Args:
      file: in keras_nonlocal/.
      old: text that occurs exactly once in it.
      new: what stands there instead.
      what: what is wrong then, in one line.
    """

    file: str
    old: str
    new: str
    what: str


# The tests that a fault is run through, by the start of its file; the first that fits.
PRECISION = "tests/conformance/test_layer_precision.py"
SAVED = "tests/conformance/test_saved_layers.py"
TESTS = {
    "ops/gradients.py": ("tests/test_attend.py", SAVED),
    "ops/positions.py": ("tests/test_layers.py",),
    "ops/projections.py": ("tests/test_layers.py",),
    "ops/relu_sums.py": ("tests/test_attend.py",),
    "ops/pairwise.py": ("tests/test_layers.py", "tests/test_attend.py", PRECISION),
    "ops/": ("tests/test_attend.py", "tests/test_layers.py", PRECISION),
    "layers/convolutions.py": ("tests/test_convolutions.py",),
    "layers/batch_norm.py": ("tests/test_batch_norm.py", "tests/test_layers.py"),
    "layers/flavour.py": ("tests/test_layers.py", "tests/conformance/test_frozen.py"),
    "layers/folding.py": ("tests/test_surgery.py",),
    "layers/": ("tests/test_layers.py", "tests/conformance"),
    "tfm/layers.py": ("tests/test_layers.py", "tests/test_batch_norm.py", SAVED),
    "surgery/": ("tests/test_surgery.py",),
}


def tests(fault):
    """The test files that are to notice a fault."""
    return next(paths for start, paths in TESTS.items() if fault.file.startswith(start))


PAIRWISE = "ops/pairwise.py"
ATTEND = "ops/attend.py"
SOFTMAX = "ops/softmax_attention.py"
LOOPS = "ops/gradients.py"
RELU_SUMS = "ops/relu_sums.py"
PROJECTIONS = "ops/projections.py"
POSITIONS = "ops/positions.py"
NON_LOCAL = "layers/non_local.py"
KERAS = "layers/__init__.py"
TF_KERAS = "tfm/layers.py"
BATCH_NORM = "layers/batch_norm.py"
FLAVOUR = "layers/flavour.py"
CONVOLUTIONS = "layers/convolutions.py"
FOLDING = "surgery/folding.py"
NORM_FOLDING = "layers/folding.py"

FAULTS = (
    # The forms and their dense definition.
    Fault(PAIRWISE, "tf.nn.softmax(scores)", "tf.nn.softmax(scores, axis=1)", "softmax over the queries"),
    Fault(
        PAIRWISE,
        "tf.math.divide_no_nan(scores, tf.cast(tf.shape(scores)[-1], scores.dtype))",
        "scores",
        "no 1/N in the dense count forms",
    ),
    Fault(
        PAIRWISE,
        "tf.math.divide_no_nan(tf.where(",
        "tf.math.divide(tf.where(",
        "0/0 where no key is valid, dense count forms",
    ),
    Fault(
        PAIRWISE,
        "tf.where(valid, scores, scores.dtype.min)",
        "scores",
        "the softmax sums over masked keys",
    ),
    Fault(PAIRWISE, "scores.dtype.min", "-float('inf')", "NaN in the softmax where no key is valid"),
    Fault(PAIRWISE, "scores.dtype.min", "-1e4", "masked scores are low only, and real ones can be lower"),
    Fault(
        PAIRWISE,
        "weights if valid is None else tf.where(valid, weights, tf.zeros_like(weights))",
        "weights",
        "a query without a valid key attends to all",
    ),
    Fault(
        PAIRWISE,
        "tf.where(valid, scores, tf.zeros_like(scores))",
        "scores",
        "the count forms attend to masked keys",
    ),
    Fault(
        PAIRWISE,
        "tf.reduce_sum(tf.cast(key_mask, dtype), axis=-1)[:, None, None]",
        "tf.cast(tf.shape(phi)[1], dtype)",
        "N counts masked keys",
    ),
    Fault(PAIRWISE, "tf.shape(phi)[1]", "tf.shape(phi)[0]", "N is the number of examples"),
    Fault(PAIRWISE, "tf.float32 if dtype in", "dtype if dtype in", "16-bit inputs are normalised in 16 bits"),
    Fault(PAIRWISE, "(tf.float16, tf.bfloat16) else dtype", "(tf.float16,) else dtype", "bfloat16 is normalised so"),
    Fault(PAIRWISE, "tf.bfloat16) else dtype", "tf.bfloat16) else tf.float32", "float64 is normalised in float32"),
    Fault(PAIRWISE, "return tf.cast(x, normalising_dtype(x.dtype))", "return x", "scores are rounded to 16 bits"),
    Fault(PAIRWISE, "tf.nn.relu(", "tf.identity(", "no ReLU in the dense concatenation form"),
    Fault(
        PAIRWISE, 'self.normalization == "softmax" and self.embeds', "self.embeds", "the dot product is scaled as well"
    ),
    Fault(
        PAIRWISE,
        'self.normalization == "softmax" and self.embeds',
        'self.normalization == "softmax"',
        "the Gaussian is scaled as well",
    ),
    Fault(
        PAIRWISE,
        '"unembedded_dot_product", "product", "count", embeds=False',
        '"unembedded_dot_product", "product", "count", embeds=True',
        "the unembedded form embeds",
    ),
    Fault(
        PAIRWISE,
        '"dot_product", "product", "count", embeds=True',
        '"dot_product", "product", "softmax", embeds=True',
        "the dot product goes through a softmax",
    ),
    # Which evaluation, and what comes around it.
    Fault(ATTEND, "dtype == tf.float16", "False", "sums of the count forms overflow in float16"),
    Fault(
        ATTEND, "tf.where(key_mask[..., None], g, tf.zeros_like(g))", "g", "masked keys are summed by some evaluations"
    ),
    Fault(ATTEND, "return tf.cast(y, dtype)", "return y", "float32 comes out for float16"),
    Fault(ATTEND, "_weighted(attention, g, w_out)\n", "_weighted(attention, g, None)\n", "no W_z with the scores"),
    Fault(ATTEND, "batch or UNKNOWN_BATCH", "batch or 1", "a batch of unknown size is taken for one example"),
    Fault(ATTEND, "queries is not None and keys", "queries is not None or keys", "one known size is taken for both"),
    Fault(ATTEND, "queries * keys <= limits", "queries * keys < limits", "one piece stops one byte too early"),
    Fault(ATTEND, "keys < SORTED_KEYS", "keys <= SORTED_KEYS", "sorting begins one key too late"),
    Fault(
        ATTEND,
        "divide_no_nan(sums, pairwise.count_keys(phi, key_mask,",
        "divide_no_nan(sums, pairwise.count_keys(phi, None,",
        "N of the associated evaluation counts masked keys",
    ),
    Fault(ATTEND, "divide_no_nan(sums,", "divide(sums,", "0/0 where no key is valid, associated"),
    Fault(ATTEND, "tf.matmul(phi, g, transpose_a=True)", "tf.matmul(g, phi, transpose_a=True)", "g^T phi for phi^T g"),
    Fault(ATTEND, "return tf.matmul(theta, means)\n", "return means\n", "theta is left out without w_out"),
    Fault(
        ATTEND,
        "divide_no_nan(v, pairwise.count_keys(phi, key_mask,",
        "divide_no_nan(v, pairwise.count_keys(phi, None,",
        "N of the sorted evaluation counts masked keys",
    ),
    Fault(ATTEND, "divide_no_nan(v,", "divide(v,", "0/0 where no key is valid, sorted"),
    Fault(ATTEND, "(tf.cast(x, dtype) for x in", "(tf.cast(x, g.dtype) for x in", "sorted sums in 16 bits"),
    # The softmax forms in one piece and in chunks.
    Fault(
        SOFTMAX,
        "pairwise.softmax(theta, phi, key_mask)",
        "pairwise.softmax(theta, phi)",
        "one piece sums over masked keys",
    ),
    Fault(
        SOFTMAX,
        "key_mask)\n                return (tf.matmul",
        "None)\n                return (tf.matmul",
        "chunks sum over masked keys going forward",
    ),
    Fault(
        SOFTMAX,
        "key_mask)\n                dtheta",
        "None)\n                dtheta",
        "chunks sum over masked keys going backward",
    ),
    Fault(SOFTMAX, "dphi + tf.cast(dphi_k,", "tf.cast(dphi_k,", "the last chunk alone gives phi its gradient"),
    Fault(SOFTMAX, "dg + tf.cast(dg_k,", "tf.cast(dg_k,", "the last chunk alone gives g its gradient"),
    Fault(
        SOFTMAX,
        "accumulator = pairwise.normalising_dtype(g.dtype)",
        "accumulator = g.dtype",
        "gradients of chunks are added up in 16 bits",
    ),
    Fault(
        SOFTMAX,
        "weighted - weights * tf.reduce_sum(weighted, axis=-1, keepdims=True)",
        "weighted",
        "the gradient of a softmax without its sum",
    ),
    Fault(SOFTMAX, "weighted, axis=-1", "weighted, axis=-2", "the gradient of a softmax sums over queries"),
    Fault(SOFTMAX, "tf.matmul(dscores, theta, transpose_a=True)", "tf.zeros_like(phi)", "no gradient to phi"),
    Fault(SOFTMAX, "softmax(*inputs), dweights)", "softmax(*inputs), 2 * dweights)", "wrong second order, one piece"),
    Fault(SOFTMAX, "matrix_bytes // 4 //", "matrix_bytes //", "chunks of four times the memory"),
    Fault(SOFTMAX, "_smallest(most_queries, ", "_largest(1, ", "no bound on the queries of a chunk"),
    Fault(SOFTMAX, "_largest(limits.LEAST_QUERIES, rows)", "rows", "chunks of no query for very many keys"),
    Fault(SOFTMAX, "// _at_least_one(self._keys)", "// self._keys", "division by zero without keys"),
    Fault(
        SOFTMAX,
        "_cut(self._batch, _where(self.chunks, whole))",
        "_cut(self._batch, whole)",
        "sets and chunks mixed where a step has several of both",
    ),
    Fault(SOFTMAX, "if count % length == 0:", "if True:", "the last chunk is lost where it is not full"),
    Fault(SOFTMAX, "-(-a // b)", "a // b", "the last chunk is lost where sizes are not known"),
    Fault(
        SOFTMAX,
        "[0, padded - size if i == axis else 0]",
        "[padded - size if i == axis else 0, 0]",
        "filled up in front",
    ),
    Fault(LOOPS, "index < count", "index < count - 1", "the last step of a loop is lost"),
    Fault(LOOPS, "None if save_context.in_save_context() else saved", "saved", "gradients lost in a SavedModel"),
    Fault(LOOPS, "tf.cast(first, x.dtype) for", "first for", "gradients of another dtype than the inputs"),
    Fault(LOOPS, "gradients(inputs, dvalue)\n", "tuple(map(tf.zeros_like, inputs))\n", "second order dropped"),
    # Sorted sums.
    Fault(RELU_SUMS, "BLOCK * (keys // BLOCK + 1)", "BLOCK * -(-keys // BLOCK)", "no row of zeros behind full blocks"),
    Fault(RELU_SUMS, 'side="right"', 'side="left"', "a sum of exactly 0 is active"),
    Fault(RELU_SUMS, "exclusive=True, reverse=True", "exclusive=True", "blocks before instead of behind"),
    Fault(RELU_SUMS, "exclusive=True, reverse=True", "reverse=True", "a block is counted twice"),
    Fault(RELU_SUMS, "x.dtype), 0, -1)", "x.dtype), -1, 0)", "prefix sums inside a block"),
    Fault(RELU_SUMS, "tf.concat([active[:, 1:], active[:, -1:]], axis=1)", "active", "slopes of the corner before"),
    Fault(
        RELU_SUMS,
        "tf.reduce_sum(v * dy_active, axis=-1)",
        "tf.zeros_like(b)",
        "the gradient of the keys' scores is dropped",
    ),
    Fault(RELU_SUMS, "_sums(b, a, dactive)[1]", "_sums(b, a, dactive)[0]", "wrong second order, sorted"),
    Fault(
        RELU_SUMS,
        "tf.reduce_sum(0 * b,",
        "0 * tf.cast(tf.argsort(b), b.dtype)[:, :1] + tf.reduce_sum(0 * a,",
        "a NaN key is sorted away",
    ),
    # Projections.
    Fault(PROJECTIONS, "tf.reduce_sum(dy, axis=0)", "tf.reduce_mean(dy, axis=0)", "mean gradient of the biases"),
    Fault(PROJECTIONS, "tf.concat(kernels, axis=-1)", "tf.concat(kernels[::-1], axis=-1)", "dx by others' kernels"),
    Fault(PROJECTIONS, "if has_bias else y", "if has_bias and not dims(x)[0] else y", "biases left out"),
    Fault(PROJECTIONS, "if has_bias]", "if True]", "gradients of biases that are not there"),
    # Positions.
    Fault(POSITIONS, "dynamic[axis] if size is None else size", "dynamic[axis]", "static sizes are lost"),
    Fault(POSITIONS, '"VALID"', '"SAME"', "windows that are not full are pooled"),
    Fault(POSITIONS, "tf.nn.max_pool2d(", "tf.nn.avg_pool2d(", "average for maximum"),
    Fault(POSITIONS, "pool_size[0] > 1", "pool_size[0] > 2", "pooling by two over time is forgotten"),
    Fault(POSITIONS, "_max_pool_2d(x, pool_size[1:])", "_max_pool_2d(x, pool_size[:0:-1])", "H pooled as W, W as H"),
    Fault(POSITIONS, "(*pool_size, 1)", "(1, *pool_size)", "sequences are pooled along no axis"),
    Fault(POSITIONS, "tf.where(mask[..., None], x, x.dtype.min)", "x", "padding takes part in the maximum"),
    Fault(POSITIONS, "x, x.dtype.min)", "x, tf.zeros_like(x))", "padding is a zero in the maximum"),
    Fault(
        POSITIONS,
        "tf.where(pooled_mask, pooled, tf.zeros_like(pooled)), pooled_mask",
        "pooled, pooled_mask",
        "the lowest number is left where a window has no valid position",
    ),
    Fault(
        POSITIONS,
        "max_pool(tf.cast(mask, tf.float32)[..., None], pool_size) > 0",
        "max_pool(tf.cast(~mask, tf.float32)[..., None], pool_size) < 1",
        "one masked position masks its window",
    ),
    Fault(POSITIONS, "len(mask.shape) < 1 or", "False or", "a mask without a batch passes"),
    Fault(POSITIONS, "tf.transpose(x, [0, 2, 1, 3])", "x", 'extent "time" mixes pixels going in'),
    Fault(POSITIONS, "tf.transpose(y, [0, 2, 1, 3])", "y", 'extent "time" mixes pixels coming out'),
    Fault(
        POSITIONS,
        "([time // self._group_frames], self._group_frames)",
        "([self._group_frames], time // self._group_frames)",
        "so many groups, not groups of so many frames",
    ),
    Fault(POSITIONS, "product([batch, *sets[:-2]])", "batch", 'groups of extent "time" see each other'),
    Fault(POSITIONS, "return attention\n", "return attention[:, None]\n", "a set axis where there is one set"),
    # The block.
    Fault(NON_LOCAL, '"space": "HW"', '"space": "THW"', 'extent "space" pools over time'),
    Fault(NON_LOCAL, '"time": "T"', '"time": "THW"', 'extent "time" pools over space'),
    Fault(NON_LOCAL, "self.scale and self.form.scales", "self.form.scales", "scale=False scales"),
    Fault(NON_LOCAL, "1 / math.sqrt(phi.shape[-1])", "1 / phi.shape[-1]", "scaled by 1/d"),
    Fault(NON_LOCAL, "1 / math.sqrt(phi.shape[-1])", "1 / math.sqrt(x.shape[-1])", "scaled by the input's channels"),
    Fault(
        NON_LOCAL,
        "pairwise_forms.for_scores(phi) * (1 / math.sqrt(phi.shape[-1]))",
        "tf.nn.softmax(phi) * (1 / math.sqrt(phi.shape[-1]))",
        "the scale comes after a softmax",
    ),
    Fault(NON_LOCAL, "pairwise_forms.for_scores(phi) *", "phi *", "scaled keys are rounded once more"),
    Fault(NON_LOCAL, "elif self.pool_before_projection", "elif not self.pool_before_projection", "pool order"),
    Fault(
        NON_LOCAL,
        "g, _ = self._pooled(g, mask, whole_windows)",
        "g, _ = self._pooled(g, None, whole_windows)",
        "g is pooled over padding",
    ),
    Fault(
        NON_LOCAL,
        "phi = phi if w_phi is None else phi @ w_phi",
        "phi = phi if w_phi is None else phi @ w_theta",
        "phi is multiplied by theta's half of w_f where the pooling comes after",
    ),
    Fault(
        NON_LOCAL,
        "tf.split(self._weight(self.w_f), 2)[0]",
        "tf.split(self._weight(self.w_f), 2)[1]",
        "theta is multiplied by phi's half of w_f",
    ),
    Fault(
        NON_LOCAL,
        "tf.split(self._weight(self.w_f), 2)[1]",
        "tf.split(self._weight(self.w_f), 2)[0]",
        "phi is multiplied by theta's half of w_f",
    ),
    Fault(NON_LOCAL, "tf.linalg.matvec(w_f, bias, transpose_a=True)", "None", "the concatenation form loses biases"),
    Fault(NON_LOCAL, 'None if self._norm_kind else "zeros"', '"zeros"', "the block is dead: both W_z and gamma are 0"),
    Fault(NON_LOCAL, 'None if self._norm_kind else "zeros"', "None", "no identity at the start without norm"),
    Fault(NON_LOCAL, 'gamma_initializer="zeros"', 'gamma_initializer="ones"', "no identity at the start"),
    Fault(NON_LOCAL, "epsilon=self.norm_epsilon", "epsilon=1e-3", "norm_epsilon is ignored"),
    Fault(NON_LOCAL, "momentum=self.norm_momentum", "momentum=0.99", "norm_momentum is ignored"),
    Fault(NON_LOCAL, "synchronized=self.norm_synchronized", "synchronized=False", "norm_synchronized is ignored"),
    Fault(
        NON_LOCAL,
        "self._normalised(y, mask, training)",
        "self._normalised(y, None, training)",
        "batch statistics count padding",
    ),
    Fault(NON_LOCAL, "training=training, mask=row_mask", "training=False, mask=row_mask", "training is ignored"),
    Fault(NON_LOCAL, "inputs + self._normalised", "self._normalised", "no residual"),
    Fault(NON_LOCAL, "tf.where(mask[..., None], z, inputs)", "z", "padding does not come out as it went in"),
    Fault(
        NON_LOCAL,
        "tf.where(mask[..., None], x, tf.zeros_like(x))  # whatever",
        "x  # whatever",
        "NaN in the padding goes everywhere",
    ),
    Fault(NON_LOCAL, "elif self.out.bias is not None", "elif False", "the dot products lose W_z's bias"),
    Fault(NON_LOCAL, "(batch, *sizes[1:]) if self._sets.single else", "", "attention_shape with a set axis too many"),
    Fault(NON_LOCAL, "tuple(size // pool for", "tuple(-(-size // pool) for", "attention_shape rounds keys up"),
    Fault(NON_LOCAL, "max(1, channels // 2)", "channels // 2", "one channel has no inner channel"),
    Fault(NON_LOCAL, "self.inner_channels or", "0 or", "inner_channels is ignored"),
    Fault(
        NON_LOCAL,
        'dtype=self.dtype_policy,\n                name="norm"',
        'name="norm"',
        "the norm does not follow the dtype",
    ),
    Fault(NON_LOCAL, "stddev=0.01", "stddev=0.1", "another initializer than documented"),
    Fault(NON_LOCAL, "self.use_bias if use_bias is None else use_bias", "self.use_bias", "use_out_bias is ignored"),
    Fault(NON_LOCAL, "bias_regularizer=self.bias_regularizer,\n", "\n", "biases are not regularised"),
    Fault(NON_LOCAL, " regularizer=self.kernel_regularizer,", "", "w_f is not regularised"),
    Fault(
        NON_LOCAL,
        "type(self.kernel_initializer).from_config(self.kernel_initializer.get_config())",
        "self.kernel_initializer",
        "theta, phi and g start with the same numbers",
    ),
    Fault(
        NON_LOCAL,
        "initializer([*shape, 1], dtype=dtype, **kwargs)",
        "initializer([1, *shape], dtype=dtype, **kwargs)",
        "fans of w_f swapped",
    ),
    Fault(NON_LOCAL, "self._freeze_sublayers()", "pass", "a frozen block trains when it is built afterwards"),
    Fault(NON_LOCAL, "self.supports_masking = True", "self.supports_masking = False", "masks do not go on"),
    Fault(
        NON_LOCAL,
        "assert_equal(positions[0] % self.group_frames, 0,",
        "assert_equal(0, 0,",
        "unknown sizes that groups do not divide pass",
    ),
    Fault(NON_LOCAL, "(size == 0) | (size >= pool)", "size >= 0", "unknown sizes smaller than the pool pass"),
    Fault(NON_LOCAL, "(size == 0) | (size >= pool)", "size >= pool", "unknown sizes of 0 do not pass"),
    Fault(NON_LOCAL, "0 < size < pool", "0 <= size < pool", "known sizes of 0 do not pass"),
    Fault(NON_LOCAL, '"group_frames": self.group_frames,\n', "\n", "get_config lacks group_frames"),
    Fault(NON_LOCAL, '"norm": self._norm_kind,\n', "\n", "get_config lacks norm"),
    Fault(NON_LOCAL, '"implementation": self.implementation,\n', "\n", "get_config lacks implementation"),
    Fault(NON_LOCAL, '"use_out_bias": self.use_out_bias,', '"use_out_bias": self.use_bias,', "one key for another"),
    Fault(
        NON_LOCAL, '"pool_size": self.pool_size', '"pool_size": self._pool', "get_config with the pool in the extent"
    ),
    Fault(
        KERAS,
        "keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)",
        "keras.KerasTensor(inputs.shape)",
        "the symbolic output has another dtype",
    ),
    Fault(KERAS, 'dtype = "float32" if', 'dtype = "float16" if', "the symbolic attention has another dtype"),
    Fault(KERAS, "self._check_sizes(inputs.shape[1:-1])", "pass", "Keras 3 says nothing of too much pooling"),
    Fault(
        KERAS,
        "old * self.momentum + value * (1.0 - self.momentum)",
        "value * self.momentum + old * (1.0 - self.momentum)",
        "momentum of the wrong one, Keras 3",
    ),
    Fault(KERAS, "bool(training) and self.trainable", "bool(training)", "a frozen norm uses batch statistics, Keras 3"),
    Fault(TF_KERAS, "* (1.0 - self.momentum)", "* self.momentum", "momentum of the wrong one, tf_keras"),
    Fault(TF_KERAS, "bool(self.fused)", "False", "moving variance without n / (n - 1), tf_keras"),
    Fault(TF_KERAS, "with tf.name_scope(layer.name):", "if True:", "kernels share a name"),
    Fault(TF_KERAS, "tf.convert_to_tensor(mask)", "mask", "a NumPy mask stays one"),
    # Batch norm.
    Fault(BATCH_NORM, "masked = mask is not None and batch_statistics", "masked = False", "masks are ignored"),
    Fault(BATCH_NORM, "tf.maximum(count - 1, 1) / tf.maximum(count, 1)", "1.0", "the kernel's n / (n - 1) is kept"),
    Fault(BATCH_NORM, "tf.where(count > 0, value,", "tf.where(count >= 0, value,", "an empty batch spoils statistics"),
    Fault(BATCH_NORM, "none, none, self.epsilon", "none, none, 1e-3", "epsilon is ignored in training"),
    Fault(BATCH_NORM, "mean, variance, self.epsilon", "mean, variance, 1e-3", "epsilon is ignored in inference"),
    Fault(BATCH_NORM, "or self._own_options()", "", "synchronised statistics are not"),
    # Who may call whom.
    Fault(FLAVOUR, "elif _is_calling(other)", "elif False", "a layer trains nothing inside the other Keras"),
    Fault(FLAVOUR, "if not self.trainable:", "if False:", "frozen sublayers train"),
    Fault(FLAVOUR, "not tf.as_dtype(dtype).is_floating", "False", "integers pass"),
    # Convolutions.
    Fault(
        CONVOLUTIONS, "[total // 2, total - total // 2]", "[total - total // 2, total // 2]", "padded on the other side"
    ),
    Fault(CONVOLUTIONS, "// stride * stride", "// stride", "the kernel begins at other frames"),
    Fault(CONVOLUTIONS, "i : i + last + 1 : stride", "i : i + last : stride", "the last frame is lost"),
    Fault(
        CONVOLUTIONS, "kernel[i], strides[1:]", "kernel[size - 1 - i], strides[1:]", "the kernel is mirrored in time"
    ),
    Fault(CONVOLUTIONS, "tf.maximum(total, 0)", "total", "a negative padding where sizes are not known"),
    Fault(CONVOLUTIONS, "(size - k) // stride + 1", "size // stride", "lengths without the kernel's"),
    # Folding.
    Fault(NORM_FOLDING, "np.sqrt(variance + norm.epsilon)", "np.sqrt(variance)", "epsilon is left out"),
    Fault(NORM_FOLDING, "(bias - mean) * scale + beta", "bias - mean * scale + beta", "the bias is not scaled"),
    Fault(FOLDING, "users[id(x)] > 1 or", "", "a convolution that others use is changed"),
)
