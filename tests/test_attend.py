"""Every evaluation of the operation against its definition in float64, and what it builds while it runs."""

import blocks
import covering
import numpy as np
import oracle
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_nonlocal.ops import attend, limits, pairwise, relu_sums

FAST = [(form, name) for form in pairwise.FORMS for name in attend.implementations(pairwise.get(form))[2:]]
FAST_NAMES = tuple(dict.fromkeys(name for _, name in FAST))
# Each evaluation with one form.
EACH = list({name: (form, name) for form, name in FAST}.values())


@pytest.fixture
def small_chunks(monkeypatch):
    """A few queries a chunk, so that small inputs have many chunks, also ones that do not divide."""
    small = limits.Limits(matrix_bytes=4 * 200, forward_bytes=4 * 60, backward_bytes=4 * 40, queries=8)
    monkeypatch.setitem(limits.BY_DEVICE, "CPU", small)
    monkeypatch.setattr(limits, "LEAST_QUERIES", 1)
    monkeypatch.setattr(relu_sums, "BLOCK", 8)


def operands(form, sizes, dtype="float64", masked=False, magnitude=1.0, seed=0):
    """theta, phi, g, key_mask and w_out for sizes (B, N, M)."""
    batch, queries, keys = sizes
    generator = np.random.default_rng(seed)
    channels = 1 if form == "concatenation" else 5
    theta, phi = (magnitude * generator.normal(size=(batch, n, channels)) for n in (queries, keys))
    g, w_out = generator.normal(size=(batch, keys, 6)), generator.normal(size=(6, 7))
    valid = generator.random((batch, keys)) > 0.4
    valid[1:2] = False  # an example without any valid key, where there are several
    key_mask = tf.constant(valid) if masked else None
    return *(tf.constant(x, dtype) for x in (theta, phi, g)), key_mask, tf.constant(w_out, dtype)


def outputs(form, name, theta, phi, g, key_mask=None, w_out=None):
    """y and the gradients of a sum of it in theta, phi, g and w_out."""
    sources = [theta, phi, g] if w_out is None else [theta, phi, g, w_out]
    with tf.GradientTape() as tape:
        tape.watch(sources)
        y = attend.attend(pairwise.get(form), theta, phi, g, key_mask, w_out, name)
        # Unequal weights, exact in every dtype; a nonlinear loss would multiply the rounding of a large y.
        weights = tf.cast(tf.range(tf.size(y)) % 7 - 3, y.dtype)
        loss = tf.reduce_sum(y * tf.reshape(weights, tf.shape(y)))
    return [y, *tape.gradient(loss, sources)]


def same(found, expected, tolerance):
    for one, other in zip(found, expected, strict=True):
        blocks.close(one, other, tolerance)


def each_form(names=FAST_NAMES, **values):
    """Every form with its evaluations, and more arguments."""

    def legal(form, name, **_):
        return name in attend.implementations(pairwise.get(form))

    return covering.parametrize(legal, form=tuple(pairwise.FORMS), name=names, **values)


SIZES = ((1, 1, 1), (3, 7, 5), (2, 29, 12), (9, 4, 3), (4, 19, 3), (1, 17, 70))


@pytest.mark.usefixtures("small_chunks")
@each_form(sizes=SIZES, masked=(False, True), compiled=(False, True), multiplied_out=(False, True))
def test_equals_the_definition(form, name, sizes, masked, compiled, multiplied_out):
    *most, w_out = operands(form, sizes, masked=masked)
    most += [w_out] if multiplied_out else []
    run = tf.function(outputs) if compiled else outputs
    same(run(form, name, *most), outputs(form, "dense", *most), 1e-12)


@pytest.mark.usefixtures("small_chunks")
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_equals_the_definition_anywhere(data):
    form, name = data.draw(st.sampled_from(FAST))
    sizes = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 40), st.integers(1, 40)))
    more = dict(masked=data.draw(st.booleans()), magnitude=10.0 ** data.draw(st.integers(-6, 2)))
    *most, _ = operands(form, sizes, seed=data.draw(st.integers(0, 99)), **more)
    same(outputs(form, name, *most), outputs(form, "dense", *most), 1e-9)


@pytest.mark.usefixtures("small_chunks")
@each_form((*FAST_NAMES, "auto"), masked=(False, True), jit_compile=(False, True))
def test_sizes_unknown_until_run_time(form, name, masked, jit_compile):
    theta, phi, g, key_mask, w_out = operands(form, (3, 19, 11), masked=masked)

    def run(theta, phi, g, key_mask, w_out):
        return outputs(form, name, theta, phi, g, key_mask if masked else None, w_out)

    unknown = [tf.TensorSpec([None, None, x.shape[-1]], x.dtype) for x in (theta, phi, g)]
    signature = [*unknown, tf.TensorSpec([None, None], tf.bool), tf.TensorSpec(w_out.shape, w_out.dtype)]
    function = tf.function(run, input_signature=signature, jit_compile=jit_compile)
    mask = tf.ones(g.shape[:2], tf.bool) if key_mask is None else key_mask
    expected = outputs(form, "dense", theta, phi, g, key_mask, w_out)
    same(function(theta, phi, g, mask, w_out), expected, 1e-12)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("form", pairwise.FORMS)
def test_large_and_small_sizes_in_one_function(form):
    *most, _ = operands(form, (2, 10, 10))
    specs = [tf.TensorSpec([None, None, x.shape[-1]], x.dtype) for x in most[:3]]
    function = tf.function(lambda *x: outputs(form, "auto", *x), input_signature=specs)
    for sizes in ((2, 10, 10), (2, 30, 11), (1, 2, 3)):
        theta, phi, g, *_ = operands(form, sizes)
        same(function(theta, phi, g), outputs(form, "dense", theta, phi, g), 1e-12)


def test_auto_picks_by_size():
    def picked(form, sizes, channels=256):
        batch, queries, keys = sizes
        width = 1 if form == "concatenation" else channels
        shapes = [(batch, queries, width), (batch, keys, width), (batch, keys, channels)]
        graph = tf.Graph()
        with graph.as_default():
            inputs = [tf.compat.v1.placeholder(tf.float32, shape) for shape in shapes]
            return attend._pick(pairwise.get(form), *inputs)

    assert picked("embedded_gaussian", (1, 4096, 4096)) == "one_piece"  # 64 MiB
    assert picked("embedded_gaussian", (1, 4097, 4096)) == "chunked"
    assert picked("gaussian", (8, 3136, 784)) == "chunked"
    assert picked("dot_product", (1, 3136, 3136)) == "associated"
    assert picked("dot_product", (1, 784, 196), 512) == "dense"
    assert picked("concatenation", (1, 784, 784)) == "dense"
    assert picked("concatenation", (1, 1024, 1024)) == "sorted"
    assert picked("concatenation", (64, 784, 784)) == "sorted"
    assert picked("embedded_gaussian", (None, 784, 196)) == "one_piece"
    assert picked("embedded_gaussian", (None, 3136, 784)) == "chunked"  # a batch of 8 would pass the 64 MiB
    assert picked("embedded_gaussian", (1, None, None)) == "chunked"
    assert picked("embedded_gaussian", (1, 784, None)) == picked("embedded_gaussian", (1, None, 196)) == "chunked"
    assert picked("dot_product", (1, None, None), 512) == "associated"
    assert picked("concatenation", (None, 784, 784)) == "dense"
    assert picked("concatenation", (1, None, None)) == "sorted"


def _sizes_in(graph):
    """Elements of every tensor of a graph and of the functions it calls, where they are known."""
    functions = graph._functions.values() if hasattr(graph, "_functions") else ()
    yield from (
        tensor.shape.num_elements() or 0 for op in graph.get_operations() for tensor in op.outputs if tensor.shape.rank
    )
    for function in functions:
        if getattr(function, "graph", None) is not None:
            yield from _sizes_in(function.graph)


@pytest.mark.parametrize("form", pairwise.FORMS)
def test_no_matrix_of_all_pairs_is_built(form):
    """Neither forward nor backward, for sizes where that matters."""
    channels, positions = 8, 8192
    specs = [tf.TensorSpec([1, positions, 1 if form == "concatenation" else channels])] * 2
    specs.append(tf.TensorSpec([1, positions, channels]))

    def largest(name):
        function = tf.function(lambda *x: outputs(form, name, *x)).get_concrete_function(*specs)
        return max(_sizes_in(function.graph))

    assert largest("dense") >= positions**2
    assert largest("auto") <= positions**2 / 16


@pytest.mark.parametrize(("elements", "queries"), [(2**20, 2**15), (2**26, 2**7)])
def test_chunks_keep_to_their_limits(elements, queries, monkeypatch):
    """Of a chunk's matrix against 8192 keys, 2**20 numbers both times."""
    sizes = limits.Limits(matrix_bytes=0, forward_bytes=4 * elements, backward_bytes=4 * elements, queries=queries)
    monkeypatch.setitem(limits.BY_DEVICE, "CPU", sizes)
    specs = [tf.TensorSpec([1, 8192, 8])] * 3
    function = tf.function(lambda *x: outputs("gaussian", "chunked", *x)).get_concrete_function(*specs)
    assert max(_sizes_in(function.graph)) == 2**20


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize(("form", "name"), EACH)
def test_second_order_gradients(form, name, compiled):
    theta, phi, g, key_mask, _ = operands(form, (3, 19, 11), masked=True)

    def second(name, persistent):
        sources = [theta, phi, g]
        with tf.GradientTape(persistent=persistent) as outer:
            outer.watch(sources)
            first = outputs(form, name, theta, phi, g, key_mask)[1:]
            total = tf.add_n([tf.reduce_sum(tf.square(gradient)) for gradient in first])
        return outer.gradient(total, sources, unconnected_gradients="zero")

    run = tf.function(second) if compiled else second
    expected = second("dense", False)
    same(run(name, False), expected, 1e-12)
    same(run(name, True), expected, 1e-12)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(("form", "name"), EACH)
def test_forward_mode(form, name):
    """Products with the Jacobian, and those once more; and products with the Hessian, forward over reverse."""
    theta, phi, g, *_ = operands(form, (3, 19, 11))
    tangents = [tf.cos(3 * x) for x in (theta, phi, g)]

    def derivatives(name):
        with tf.autodiff.ForwardAccumulator([theta, phi, g], tangents) as outer:
            with tf.autodiff.ForwardAccumulator([theta, phi, g], tangents) as inner:
                y = attend.attend(pairwise.get(form), theta, phi, g, implementation=name)
            first = inner.jvp(y)
        with tf.autodiff.ForwardAccumulator([theta, phi, g], tangents) as over_reverse:
            gradients = outputs(form, name, theta, phi, g)[1:]
        return first, outer.jvp(first), *map(over_reverse.jvp, gradients)

    expected = derivatives("dense")
    same(derivatives(name), expected, 1e-12)
    compiled = tf.function(lambda *x: attend.attend(pairwise.get(form), *x, implementation=name))
    with tf.autodiff.ForwardAccumulator([theta, phi, g], tangents) as accumulator:
        y = compiled(theta, phi, g)
    same([accumulator.jvp(y)], expected[:1], 1e-12)


@pytest.mark.usefixtures("small_chunks")
@each_form(sizes=((0, 7, 5), (2, 0, 5), (2, 7, 0)), unknown=(False, True))
def test_nothing_to_sum(form, name, sizes, unknown):
    """No examples, no queries, or no keys, over which a sum is zero."""
    *most, w_out = operands(form, sizes)
    specs = [tf.TensorSpec([None, None, x.shape[-1]] if unknown else x.shape, x.dtype) for x in most[:3]]
    run = tf.function(lambda *x: outputs(form, name, *x, None, w_out), input_signature=specs)
    for found, like in zip(run(*most[:3]), [None, *most[:3], w_out], strict=True):
        assert tuple(found.shape) == (tuple(like.shape) if like is not None else (*sizes[:2], 7))
        assert not np.any(found)


HARD = {
    "offsets": lambda a, b: (a + 100, b - 100),
    "heavy_tails": lambda a, b: (a / np.abs(a[..., ::-1]), b / np.abs(b[..., ::-1])),
    "ties": lambda a, b: (np.round(2 * a) / 2, np.round(2 * b) / 2),
    "all_inactive": lambda a, b: (-np.abs(a), -np.abs(b)),
    "all_active": lambda a, b: (np.abs(a), np.abs(b)),
    "huge": lambda a, b: (1e18 * a, 1e18 * b),
    "tiny": lambda a, b: (1e-18 * a, 1e-18 * b),
    "one_value": lambda a, b: (np.ones_like(a), np.zeros_like(b)),
}


@pytest.mark.parametrize("sizes", [(300, 1), (50, 50), (1000, 3136)], ids=str)
@pytest.mark.parametrize("case", HARD)
def test_sorted_sums_lose_nothing(case, sizes):
    """float32 within 1e-6 of the largest number of the float64 definition, values and gradients."""
    generator = np.random.default_rng(3)
    queries, keys = sizes
    a, b = HARD[case](generator.normal(size=(1, queries)), generator.normal(size=(1, keys)))
    a, b, v, dy = (
        x.astype("float32") for x in (a, b, generator.normal(size=(1, keys, 8)), generator.normal(size=(1, queries, 8)))
    )
    a64, b64, v64, dy64 = (x.astype("float64") for x in (a, b, v, dy))
    sums = a64[0, :, None] + b64[0]  # (N, M)
    active = (sums > 0).astype("float64")
    pairs = dy64[0] @ v64[0].T * active
    expected = [np.maximum(sums, 0) @ v64[0], pairs.sum(1), pairs.sum(0), np.maximum(sums, 0).T @ dy64[0]]

    a, b, v = map(tf.constant, (a, b, v))
    with tf.GradientTape() as tape:
        tape.watch((a, b, v))
        y = relu_sums.relu_sums(a, b, v)
    found = [y, *tape.gradient(y, (a, b, v), output_gradients=dy)]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one[0], other, rtol=0, atol=1e-6 * np.abs(other).max())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_sorted_sums_do_not_hide_what_is_not_finite(value):
    b = np.zeros((1, 200))
    b[0, 77] = value
    assert not np.isfinite(
        relu_sums.relu_sums(tf.ones([1, 5], "float64"), tf.constant(b), tf.ones([1, 200, 2], "float64"))
    ).any()


@pytest.mark.usefixtures("small_chunks")
@each_form(dtype=("float16", "bfloat16"))
def test_sixteen_bits(form, name, dtype):
    theta, phi, g, key_mask, w_out = operands(form, (2, 29, 12), masked=True)
    sixteen = [tf.cast(x, dtype) for x in (theta, phi, g)]
    found = outputs(form, name, *sixteen, key_mask, tf.cast(w_out, dtype))
    assert all(x.dtype == dtype for x in found)
    exact = [tf.cast(x, "float64") for x in sixteen]
    expected = outputs(form, "dense", *exact, key_mask, tf.cast(tf.cast(w_out, dtype), "float64"))
    same([tf.cast(x, "float64") for x in found], expected, {"float16": 1e-2, "bfloat16": 8e-2}[dtype])


@each_form(("dense", *FAST_NAMES))
def test_sums_beyond_float16(form, name):
    """2048 products of 64, which divided by their number are small again."""
    channels = 1 if form == "concatenation" else 5
    operands = tf.ones([1, 3, channels]), 8 * tf.ones([1, 2048, channels]), 8 * tf.ones([1, 2048, 2])
    found, exact = (
        attend.attend(pairwise.get(form), *(tf.cast(x, dtype) for x in operands), implementation=name)
        for dtype in ("float16", "float64")
    )
    blocks.close(tf.cast(found, "float64"), exact, 2**-9)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", ["dense", "one_piece", "chunked"])
def test_large_scores_are_not_rounded(name, dtype):
    """Results and gradients to the precision of the dtype, where one key has nearly all of the weight."""
    generator = np.random.default_rng(5)
    x = tf.cast(generator.uniform(0, 1.5, size=(1, 29, 256)), dtype)  # features after a ReLU, scores near 150
    g, dy = (tf.cast(generator.normal(size=(1, 29, 6)), dtype) for _ in range(2))

    def run(name, x, g, dy):
        with tf.GradientTape() as tape:
            tape.watch((x, g))
            y = attend.attend(pairwise.get("gaussian"), x, x, g, implementation=name)
        return [tf.cast(each, "float64") for each in (y, *tape.gradient(y, (x, g), dy))]

    found = run(name, x, g, dy)
    exact = run("dense", *(tf.cast(each, "float64") for each in (x, g, dy)))
    epsilon = {"float32": 2**-20, "float16": 2**-11, "bfloat16": 2**-8}[dtype]  # 2**-24, of scores of 150
    for one, other in zip(found, exact, strict=True):
        blocks.close(one, other, 4 * epsilon)


@pytest.mark.usefixtures("small_chunks")
@each_form(flavour=blocks.FLAVOURS, extent=("spacetime", "space", "time"), pool_before=(True, False))
def test_layer_equals_the_equations(flavour, form, name, extent, pool_before):
    kwargs = dict(pairwise=form, extent=extent, pool_size=(2, 2, 1), pool_before_projection=pool_before)
    layer, weights = blocks.make_random(flavour, 3, implementation=name, dtype="float64", **kwargs)
    x, mask = blocks.inputs(3), blocks.random_mask((2, 4))
    expected, _ = blocks.oracle_block(x, weights, 3, mask=mask, **kwargs)
    blocks.close(layer(x, mask=mask), expected, 1e-10)


@pytest.mark.usefixtures("small_chunks")
@each_form(flavour=blocks.FLAVOURS)
def test_layer_gradients_are_those_of_the_definition(flavour, form, name):
    """Of x and of every weight."""
    layer, weights = blocks.make_random(flavour, 2, pairwise=form, implementation=name, dtype="float64")
    dense = blocks.make(flavour, 2, pairwise=form, implementation="dense", dtype="float64")
    dense.build((None, None, None, blocks.CHANNELS))
    blocks.assign(dense, weights)
    x, r = blocks.inputs(2, positions=(7, 9)), blocks.inputs(2, positions=(7, 9), seed=4)
    found, expected = (
        blocks.gradients(each, x, blocks.trainable(blocks.variables(each)), r) for each in (layer, dense)
    )
    assert found.keys() == expected.keys()
    for source, gradient in expected.items():
        blocks.close(found[source], gradient, 1e-11)


@pytest.mark.parametrize("flavour", blocks.FLAVOURS)
def test_wrong_implementations(flavour):
    with pytest.raises(
        ValueError, match="`implementation` must be one of .*'chunked'.* for pairwise='gaussian'.*sorted"
    ):
        blocks.make(flavour, 1, pairwise="gaussian", implementation="sorted")
    with pytest.raises(ValueError, match="'associated' for pairwise='dot_product'. Received: implementation='chunked'"):
        blocks.make(flavour, 1, pairwise="dot_product", implementation="chunked")


def test_attention_scores_come_with_any_implementation():
    layer, weights = blocks.make_random("keras", 1, implementation="chunked", dtype="float64")
    x = blocks.inputs(1)
    z, attention = layer(x, return_attention_scores=True)
    expected, expected_attention = oracle.block(x, weights, pool_size=(2,))
    blocks.close(z, expected, 1e-12)
    blocks.close(attention, expected_attention[:, 0], 1e-12)
