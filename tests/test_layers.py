"""NonLocal1D, NonLocal2D and NonLocal3D of both flavours against the equations, and what their docstrings promise."""

import copy
import functools
import itertools

import blocks
import covering
import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_nonlocal
import keras_nonlocal.tfm.layers
from keras_nonlocal.layers.non_local import EXTENTS

FORMS = blocks.FORMS
SOFTMAX_FORMS = ("gaussian", "embedded_gaussian")
# Float64 against float64 loops in another order of summation.
EXACT = 1e-12
FLOAT32 = 2e-6


@pytest.fixture(params=blocks.FLAVOURS)
def flavour(request):
    return request.param


# --- against the equations ---------------------------------------------------------------------------------------


def _case(rank, form, mask=None, training=False, positions=None, channels=blocks.CHANNELS, **kwargs):
    return {"rank": rank, "mask": mask, "training": training, "positions": positions, "channels": channels} | {
        "kwargs": {"pairwise": form, **kwargs}
    }


def _masks(rank):
    return (None, "positions", "frames") if rank == 3 else (None, "positions")


def _grid():
    """Every form, rank, pool order, extent and mask."""
    for rank, form, before in itertools.product((1, 2, 3), FORMS, (True, False)):
        for extent, mask in itertools.product(EXTENTS[rank], _masks(rank)):
            yield _case(rank, form, mask, extent=extent, pool_before_projection=before)


def _variations():
    """The other arguments, each with every form it could meet."""
    for form in FORMS:
        for mask in (None, "frames"):
            yield _case(1, form, mask, group_frames=3, pool_size=None, positions=(6,))
            yield _case(3, form, mask, group_frames=2)
            yield _case(3, form, mask, group_frames=2, extent="time", pool_size=None)
            yield _case(3, form, mask, training=True)
            yield _case(3, form, mask, training=True, extent="space", pool_before_projection=False)
        yield _case(3, form, "positions", pool_size=(2, 1, 3), pool_before_projection=False)
        yield _case(3, form, None, pool_size=(2, 3, 2))
        yield _case(3, form, "positions", pool_size=(3, 2, 2), extent="time")
        yield _case(3, form, "positions", pool_size=(3, 2, 1), extent="space")
        yield _case(2, form, "positions", pool_size=(1, 3))
        yield _case(2, form, None, pool_size=1)
        yield _case(1, form, "positions", pool_size=None)
        yield _case(2, form, None, norm=None)
        yield _case(3, form, "frames", norm=None, inner_channels=5)
        yield _case(2, form, None, inner_channels=1, use_bias=False)
        yield _case(2, form, "positions", use_out_bias=False, norm_epsilon=0.1)
        yield _case(1, form, None, use_bias=False, use_out_bias=False, norm=None)
        yield _case(2, form, None, channels=1)
        yield _case(2, form, None, positions=(1, 1), pool_size=None)
    yield _case(1, "embedded_gaussian", None, scale=False)
    yield _case(3, "embedded_gaussian", "positions", scale=False, inner_channels=9)
    yield _case(2, "gaussian", None, scale=False)  # changes nothing


def _case_id(case):
    defaults = blocks.make("keras", case["rank"]).get_config() | {"pairwise": None}
    extra = [str(value) if value in FORMS else f"{key}={value}" for key, value in case["kwargs"].items()
             if value != defaults[key]]  # fmt: skip
    extra += [f"{key}={case[key]}" for key in ("mask", "training", "positions") if case[key]]
    extra += ["1_channel"] if case["channels"] == 1 else []
    return "-".join([f"{case['rank']}d", *extra]).replace(" ", "")


POOLS = {
    "default": {1: 2, 2: 2, 3: (1, 2, 2)},
    "none": dict.fromkeys((1, 2, 3)),
    "uneven": {1: 3, 2: (1, 3), 3: (2, 1, 3)},
}
VALUES = {
    "rank": (1, 2, 3),
    "form": FORMS,
    "pool": tuple(POOLS),
    "pool_before_projection": (True, False),
    "extent": EXTENTS[3],
    "grouped": (False, True),
    "mask": (None, "positions", "frames"),
    "training": (False, True),
    "norm": ("batch_norm", None),
    "scale": (True, False),
    "inner_channels": (None, 1, 9),
    "use_bias": (True, False),
    "use_out_bias": (True, False),
    "norm_epsilon": (1e-5, 0.1),
    "channels": (blocks.CHANNELS, blocks.CHANNELS, blocks.CHANNELS, 1),  # rarely one, which hides much
}


def _exists(rank, pool, extent, grouped, mask, **_):
    """One word is left for what is the same in one rank, and groups need whole frames of a time axis."""
    if rank < 3 and (extent != "spacetime" or mask == "frames"):
        return False
    return not grouped or rank != 2 and extent != "space" and POOLS[pool][rank] in (None, (1, 2, 2))


def _pairwise():
    """Cases in which every two values of two arguments meet."""
    for row in covering.array(_exists, **VALUES):
        arguments = dict(zip(VALUES, row, strict=True))
        rank, form, pool, grouped = (arguments.pop(name) for name in ("rank", "form", "pool", "grouped"))
        arguments |= {"pool_size": POOLS[pool][rank], "group_frames": 3 if grouped else None}
        positions = {1: (6,), 3: (6, 2, 3)}[rank] if grouped else None
        yield _case(rank, form, positions=positions, **arguments)


QUICK = list(_pairwise())
CASES = [*QUICK, *_grid(), *_variations()]
each_case = pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=f"{i}-{_case_id(case)}", marks=() if i < len(QUICK) else pytest.mark.slow)
     for i, case in enumerate(CASES)],
)  # fmt: skip


def _case_data(case):
    x = blocks.inputs(case["rank"], positions=case["positions"], channels=case["channels"])
    mask = {None: None, "positions": x.shape[:-1], "frames": x.shape[:2]}[case["mask"]]
    return x, None if mask is None else blocks.random_mask(mask)


def _oracle(case, x, weights, mask):
    return blocks.oracle_block(x, weights, case["rank"], mask, case["training"], **case["kwargs"])


def test_every_two_values_meet_in_the_quick_cases():
    met = set().union(*map(covering.meetings, covering.array(_exists, **VALUES)))
    bound = ("rank", "pool", "extent", "grouped", "mask")  # what _exists looks at
    some = [dict(zip(bound, row, strict=True)) for row in itertools.product(*(VALUES[name] for name in bound))]
    for (i, one), (j, other) in itertools.combinations(enumerate(VALUES), 2):
        for a, b in itertools.product(VALUES[one], VALUES[other]):
            if any(_exists(**{**row, one: a, other: b}) for row in some):
                assert ((i, a), (j, b)) in met, (one, a, other, b)


@each_case
def test_equals_the_equations(case):
    x, mask = _case_data(case)
    # Keras adds 1e-7 to the number of positions it averages a masked batch over.
    float64 = 1e-7 if case["training"] and mask is not None else EXACT
    expected_z = expected_attention = None
    # In float32 the flavours take turns.
    turn = list(blocks.FLAVOURS)[CASES.index(case) % 2]
    runs = [("keras", "float64", float64), ("tf_keras", "float64", float64), (turn, "float32", FLOAT32)]
    for flavour, dtype, tolerance in runs:
        layer, weights = blocks.make_random(flavour, case["rank"], case["channels"], dtype=dtype, **case["kwargs"])
        if expected_z is None:
            expected_z, expected_attention = _oracle(case, x, weights, mask)
            if mask is not None:  # what a query that is padding would see is nobody's business
                queries = _folded(blocks.expand_mask(mask, x), case["rank"], **case["kwargs"])
        z, attention = layer(x.astype(dtype), mask=mask, training=case["training"], return_attention_scores=True)
        blocks.close(z, expected_z, tolerance)
        attention = attention.numpy().reshape(expected_attention.shape)
        if mask is not None:
            blocks.close(attention[queries], expected_attention[queries], tolerance)
        else:
            blocks.close(attention, expected_attention, tolerance)


def _folded(mask, rank, extent="spacetime", group_frames=None, **_):
    """(B, *positions) -> (B, sets, N), in the documented order."""
    if rank == 3 and extent == "time":
        batch, time, height, width = mask.shape
        frames = group_frames or time
        mask = mask.reshape(batch, -1, frames, height * width).transpose(0, 1, 3, 2)
        return mask.reshape(batch, -1, frames)
    if rank == 3 and extent == "space":
        return mask.reshape(*mask.shape[:2], -1)
    sets = mask.shape[1] // group_frames if group_frames else 1
    return mask.reshape(mask.shape[0], sets, -1)


@each_case
def test_gradients_are_slopes_of_the_equations(case):
    """The slope of sum(z * r) along random directions, of all arguments together and of each apart."""
    x, mask = _case_data(case)
    generator = np.random.default_rng(3)
    r = generator.normal(size=x.shape)
    found, weights = {}, {}
    for flavour in blocks.FLAVOURS:
        layer, weights = blocks.make_random(flavour, case["rank"], case["channels"], dtype="float64", **case["kwargs"])
        sources = blocks.trainable(blocks.variables(layer))
        found[flavour] = blocks.gradients(layer, x, sources, r, mask=mask, training=case["training"])
    names = [name for name in ("x", *weights) if not name.startswith("norm/moving")]
    directions = {name: generator.normal(size=x.shape if name == "x" else weights[name].shape) for name in names}

    def loss(step, moved):
        point = {name: weights[name] + step * directions[name] * (name in moved) for name in weights if name in names}
        z, _ = _oracle(case, x + step * directions["x"] * ("x" in moved), {**weights, **point}, mask)
        return np.sum(z * r)

    step = 1e-6
    for moved in [names, *([name] for name in names)]:
        slope = (loss(step, moved) - loss(-step, moved)) / (2 * step)
        for flavour in blocks.FLAVOURS:
            # A weight with no influence, such as a bias before a batch norm, may have a gradient of None or 0.
            analytic = sum(np.sum(found[flavour][name] * directions[name]) for name in moved)
            assert analytic == pytest.approx(slope, rel=2e-6, abs=2e-6), (flavour, moved)


# --- the identity at the start -----------------------------------------------------------------------------------


@covering.parametrize(
    flavour=blocks.FLAVOURS, rank=(1, 2, 3), form=FORMS, norm=("batch_norm", None), training=(False, True)
)
def test_starts_as_the_identity_to_the_last_bit(flavour, rank, form, norm, training):
    layer = blocks.make(flavour, rank, pairwise=form, norm=norm)
    x = blocks.inputs(rank).astype("float32") * 100
    np.testing.assert_array_equal(layer(x, training=training), x)


@covering.parametrize(flavour=blocks.FLAVOURS, form=FORMS, norm=("batch_norm", None))
def test_is_not_dead(flavour, form, norm):
    """What starts at zero gets a gradient, and after one step of it the block is not the identity and all else does."""
    layer = blocks.make(flavour, 2, pairwise=form, norm=norm, kernel_initializer="glorot_uniform")
    x = blocks.inputs(2).astype("float32")
    r = np.random.default_rng(3).normal(size=x.shape)
    layer(x)
    # Random weights where nothing starts at zero: a random w_f of the initializer could leave every ReLU closed.
    starts = {name: variable.numpy() for name, variable in blocks.variables(layer).items()}
    weights = blocks.randomise(layer)
    blocks.assign(layer, weights | {name: starts[name] for name in starts if name.startswith(("out/", "norm/"))})
    sources = blocks.trainable(blocks.variables(layer))
    first = blocks.gradients(layer, x, sources, r, training=True)
    closed = "norm/gamma" if norm else "out/kernel"
    assert np.abs(first[closed]).min() > 0
    sources[closed].assign_sub(0.1 * first[closed])
    assert np.abs(layer(x, training=True) - x).max() > 1e-4
    second = blocks.gradients(layer, x, sources, r, training=True)
    # Batch norm takes any shift out, so neither a bias before it nor, as the weights of a softmax sum to 1, that of g
    # matters; and a softmax over j does not see what theta_i . phi_j owes to i alone, which is phi's bias.
    shifts = {"out/bias": norm, "g/bias": norm and form in SOFTMAX_FORMS, "phi/bias": form == "embedded_gaussian"}
    for name, gradient in second.items():
        if not shifts.get(name):
            assert np.abs(gradient).max() > 1e-6, name


# --- symmetries --------------------------------------------------------------------------------------------------


@covering.parametrize(flavour=blocks.FLAVOURS, rank=(1, 2, 3), form=FORMS)
def test_positions_can_be_permuted(flavour, rank, form):
    layer, _ = blocks.make_random(flavour, rank, pairwise=form, pool_size=None, dtype="float64")
    x = blocks.inputs(rank)
    order = np.random.default_rng(4).permutation(np.prod(x.shape[1:-1]))

    def permute(values):
        rows = np.asarray(values).reshape(x.shape[0], -1, x.shape[-1])
        return rows[:, order].reshape(x.shape)

    blocks.close(layer(permute(x)), permute(layer(x)), EXACT)


@functools.cache
def _shared_layer(flavour, form):
    return blocks.make_random(flavour, 1, channels=3, pairwise=form, pool_size=None, dtype="float64")[0]


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from(list(blocks.FLAVOURS)), st.sampled_from(FORMS))
def test_any_positions_can_be_permuted(data, flavour, form):
    numbers = st.floats(-20, 20, allow_nan=False)
    rows = data.draw(st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=6))
    order = data.draw(st.permutations(range(len(rows))))
    layer, x = _shared_layer(flavour, form), np.array([rows])
    blocks.close(layer(x[:, order]), layer(x).numpy()[:, order], 1e-10)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from(list(blocks.FLAVOURS)), st.sampled_from(FORMS))
def test_any_padding_takes_no_part(data, flavour, form):
    numbers = st.floats(-20, 20, allow_nan=False)
    rows = data.draw(st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=6))
    valid = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))))
    layer, x = _shared_layer(flavour, form), np.array([rows])
    z = layer(x, mask=valid[None]).numpy()
    np.testing.assert_array_equal(z[:, ~valid], x[:, ~valid])
    if valid.any():
        blocks.close(z[:, valid], layer(x[:, valid]), 1e-10)


@covering.parametrize(flavour=blocks.FLAVOURS, rank=(1, 2, 3), form=FORMS)
def test_examples_do_not_see_each_other(flavour, rank, form):
    layer, _ = blocks.make_random(flavour, rank, pairwise=form, dtype="float64")
    x = blocks.inputs(rank, batch=3)
    alone = [layer(x[i : i + 1]).numpy() for i in range(3)]
    blocks.close(layer(x), np.concatenate(alone), EXACT)


# --- masks -------------------------------------------------------------------------------------------------------


def test_a_pooled_window_of_padding_overflows_nothing(flavour):
    """The least number would, times a weight of 3: minus infinity, and times an attention of 0 no number at all."""
    three = blocks.FLAVOURS[flavour].keras.initializers.Constant(3.0)
    layer = blocks.make(flavour, 1, pool_size=2, kernel_initializer=three, norm=None)
    x = np.ones((1, 6, 2), "float32")
    mask = np.array([[True, True, True, True, False, False]])
    np.testing.assert_allclose(layer(x, mask=mask)[:, :4], layer(x[:, :4]), rtol=1e-6)


def test_a_numpy_mask_is_passed_on_in_a_graph(flavour):
    layer, _ = blocks.make_random(flavour, 1)
    x = blocks.inputs(1).astype("float32")
    mask = np.arange(x.shape[1])[None] < 4
    mask = np.repeat(mask, len(x), axis=0)
    in_graph = tf.function(lambda inputs: layer(inputs, mask=mask))(x)
    blocks.close(in_graph, layer(x, mask=mask), FLOAT32)


@covering.parametrize(flavour=blocks.FLAVOURS, form=FORMS, before=(True, False), training=(False, True))
def test_padding_can_hold_anything(flavour, form, before, training):
    """NaN and Inf where the mask is False change no value and no gradient where it is True."""
    x = blocks.inputs(3)
    mask = blocks.random_mask(x.shape[:-1])
    r = np.random.default_rng(3).normal(size=x.shape) * mask[..., None]
    spoilt = np.where(mask[..., None], x, np.nan)
    spoilt[0][~mask[0]] = np.inf
    results = []
    for content in (x, spoilt):
        layer, _ = blocks.make_random(flavour, 3, pairwise=form, pool_before_projection=before, dtype="float64")
        sources = blocks.trainable(blocks.variables(layer))
        z = layer(content, mask=mask, training=training).numpy()
        np.testing.assert_array_equal(z[~mask], content[~mask])
        statistics = np.stack([layer.norm.moving_mean, layer.norm.moving_variance])
        with_mask = blocks.gradients(
            lambda c, layer=layer, **kw: tf.boolean_mask(layer(c, **kw), mask), content, sources, r[mask],
            mask=mask, training=training,
        )  # fmt: skip
        results.append((z[mask], statistics, with_mask))
    for clean, dirty in zip(results[0][:2], results[1][:2], strict=True):
        np.testing.assert_array_equal(dirty, clean)
    for name, gradient in results[0][2].items():
        np.testing.assert_array_equal(results[1][2][name], gradient, err_msg=name)
        assert np.isfinite(gradient).all()


@covering.parametrize(flavour=blocks.FLAVOURS, form=FORMS, extent=EXTENTS[3], training=(False, True))
def test_padded_frames_equal_cropped_frames(flavour, form, extent, training):
    x = blocks.inputs(3, positions=(5, 4, 4))
    frames = 3
    mask = np.arange(5)[None] < np.array([[frames], [frames]])
    results = []
    for content, kwargs in ((x[:, :frames], {}), (x, {"mask": mask})):
        layer, _ = blocks.make_random(flavour, 3, pairwise=form, extent=extent, dtype="float64")
        z = layer(content, training=training, **kwargs)
        results.append((z[:, :frames], layer.norm.moving_mean, layer.norm.moving_variance))
    for cropped, masked in zip(*results, strict=True):
        blocks.close(masked, cropped, 1e-7 if training else EXACT)


@pytest.mark.parametrize("form", FORMS)
def test_an_example_of_nothing_but_padding_comes_out_as_it_went_in(flavour, form):
    layer, _ = blocks.make_random(flavour, 3, pairwise=form, dtype="float64")
    x = blocks.inputs(3)
    mask = np.array([[False] * 4, [True] * 4])
    with tf.GradientTape() as tape:
        x = tf.constant(x)
        tape.watch(x)
        z = layer(x, mask=mask, training=True)
    np.testing.assert_array_equal(z[0], x[0])
    blocks.close(z[1:], layer(x[1:], training=True), 1e-7)
    assert np.isfinite(tape.gradient(z, x)).all()


@pytest.mark.parametrize("form", FORMS)
def test_a_query_without_any_valid_key_sees_nothing(flavour, form):
    """The only valid position of the first frame is in the row that pooling drops."""
    layer, weights = blocks.make_random(flavour, 3, pairwise=form, extent="space", dtype="float64")
    x = blocks.inputs(3)
    mask = np.ones(x.shape[:-1], bool)
    mask[:, 0] = False
    mask[:, 0, 2, 1] = True
    z, attention = layer(x, mask=mask, return_attention_scores=True)
    blocks.close(z, blocks.oracle_block(x, weights, 3, mask, pairwise=form, extent="space")[0], EXACT)
    np.testing.assert_array_equal(attention[:, 0, 2 * 5 + 1], 0)


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_a_batch_of_nothing_but_padding_spoils_nothing(flavour, training):
    layer, weights = blocks.make_random(flavour, 1, dtype="float64")
    x = blocks.inputs(1)
    np.testing.assert_array_equal(layer(x, mask=np.zeros(x.shape[:2], bool), training=training), x)
    for name, variable in blocks.variables(layer).items():
        assert np.isfinite(variable.numpy()).all(), name


def test_a_mask_of_all_true_is_no_mask(flavour):
    layer, _ = blocks.make_random(flavour, 3, dtype="float64")
    x = blocks.inputs(3)
    blocks.close(layer(x, mask=np.ones(x.shape[:2], bool)), layer(x), EXACT)


def test_mask_of_frames_covers_their_pixels(flavour):
    layer, _ = blocks.make_random(flavour, 3)
    x = blocks.inputs(3).astype("float32")
    mask = np.array([[True, True, False, False], [True, True, True, False]])
    full = np.broadcast_to(mask[:, :, None, None], x.shape[:-1])
    np.testing.assert_array_equal(layer(x, mask=mask), layer(x, mask=full))
    assert np.abs(layer(x, mask=mask) - layer(x)).max() > 1e-3


def test_keras_masks_arrive_and_go_on(flavour):
    module = blocks.FLAVOURS[flavour].keras
    layer, weights = blocks.make_random(flavour, 1)
    x = blocks.inputs(1).astype("float32")
    x[0, 4:] = 0
    x[1, 2:] = 0
    mask = x.any(axis=-1)
    inputs = module.Input((None, blocks.CHANNELS))
    z = layer(module.layers.Masking()(inputs))
    model = module.Model(inputs, [z, module.layers.GlobalAveragePooling1D()(z)])
    z, mean = model(x)
    expected, _ = blocks.oracle_block(x, weights, 1, mask)
    blocks.close(z, expected, FLOAT32)
    blocks.close(mean, np.stack([expected[0, :4].mean(0), expected[1, :2].mean(0)]), FLOAT32)


def test_mask_can_be_a_model_input(flavour):
    module = blocks.FLAVOURS[flavour].keras
    layer, weights = blocks.make_random(flavour, 3)
    inputs = module.Input((None, None, None, blocks.CHANNELS))
    mask_input = module.Input((None,), dtype="bool")
    model = module.Model([inputs, mask_input], layer(inputs, mask=mask_input))
    x = blocks.inputs(3).astype("float32")
    mask = blocks.random_mask(x.shape[:2])
    expected, _ = blocks.oracle_block(x, weights, 3, mask)
    blocks.close(model([x, mask]), expected, FLOAT32)


# --- ranks, extents and groups are each other's special cases -----------------------------------------------------


def _twin(layer, weights, flavour, rank, **kwargs):
    twin = blocks.make(flavour, rank, pairwise=layer.pairwise, dtype="float64", **kwargs)
    twin.build((None,) * (rank + 1) + (blocks.CHANNELS,))
    blocks.assign(twin, weights)
    return twin


@pytest.mark.parametrize("form", FORMS)
def test_one_frame_is_an_image(flavour, form):
    layer, weights = blocks.make_random(flavour, 3, pairwise=form, dtype="float64")
    x = blocks.inputs(2)
    blocks.close(layer(x[:, None])[:, 0], _twin(layer, weights, flavour, 2)(x), EXACT)


@pytest.mark.parametrize("form", FORMS)
def test_an_image_of_one_row_is_a_sequence(flavour, form):
    layer, weights = blocks.make_random(flavour, 2, pairwise=form, pool_size=(1, 2), dtype="float64")
    x = blocks.inputs(1)
    blocks.close(layer(x[:, None])[:, 0], _twin(layer, weights, flavour, 1)(x), EXACT)


@pytest.mark.parametrize("form", FORMS)
def test_space_is_every_frame_by_itself(flavour, form):
    layer, weights = blocks.make_random(flavour, 3, pairwise=form, extent="space", dtype="float64")
    twin, x = _twin(layer, weights, flavour, 2), blocks.inputs(3)
    z, attention = layer(x, return_attention_scores=True)
    for t in range(x.shape[1]):
        frame, frame_attention = twin(x[:, t], return_attention_scores=True)
        blocks.close(z[:, t], frame, EXACT)
        blocks.close(attention[:, t], frame_attention, EXACT)


@covering.parametrize(flavour=blocks.FLAVOURS, form=FORMS, pool=(1, 2))
def test_time_is_every_pixel_by_itself(flavour, form, pool):
    layer, weights = blocks.make_random(
        flavour, 3, pairwise=form, extent="time", pool_size=(pool, 2, 2), dtype="float64"
    )
    twin, x = _twin(layer, weights, flavour, 1, pool_size=pool), blocks.inputs(3)
    z, attention = layer(x, return_attention_scores=True)
    for h, w in np.ndindex(*x.shape[2:4]):
        pixel, pixel_attention = twin(x[:, :, h, w], return_attention_scores=True)
        blocks.close(z[:, :, h, w], pixel, EXACT)
        blocks.close(attention[:, h * x.shape[3] + w], pixel_attention, EXACT)


@covering.parametrize(flavour=blocks.FLAVOURS, form=FORMS, extent=("spacetime", "time"))
def test_groups_of_frames_are_clips_by_themselves(flavour, form, extent):
    layer, weights = blocks.make_random(flavour, 3, pairwise=form, extent=extent, group_frames=2, dtype="float64")
    twin, x = _twin(layer, weights, flavour, 3, extent=extent), blocks.inputs(3)
    blocks.close(layer(x), np.concatenate([twin(x[:, :2]), twin(x[:, 2:])], axis=1), EXACT)


# --- attention ---------------------------------------------------------------------------------------------------


def _settings(**more):
    """Every rank, extent and group of frames there is, and more arguments."""

    def legal(rank, extent, group_frames, **_):
        return extent in EXTENTS[rank] and (not group_frames or rank == 3 and extent != "space")

    values = dict(rank=(1, 2, 3), extent=EXTENTS[3], group_frames=(None, 2), flavour=blocks.FLAVOURS)
    return covering.parametrize(legal, **values, **more)


@_settings(form=FORMS)
def test_attention_shape_is_known_beforehand(flavour, rank, extent, group_frames, form):
    layer, _ = blocks.make_random(flavour, rank, pairwise=form, extent=extent, group_frames=group_frames)
    x = blocks.inputs(rank).astype("float32")
    z, attention = layer(x, return_attention_scores=True)
    np.testing.assert_allclose(z, layer(x), atol=1e-5)  # which may multiply in another order
    assert tuple(attention.shape) == layer.attention_shape(x.shape)
    if form in SOFTMAX_FORMS:
        np.testing.assert_allclose(np.sum(attention, axis=-1), 1, atol=1e-6)

    module = blocks.FLAVOURS[flavour].keras
    for unknown in ((), (0,), (rank - 1,), range(rank)):
        shape = [None if axis in unknown else size for axis, size in enumerate(x.shape[1:-1])]
        inputs = module.Input((*shape, blocks.CHANNELS))
        symbolic = layer(inputs, return_attention_scores=True)
        declared = layer.attention_shape(inputs.shape)
        assert len(declared) == len(attention.shape)
        assert all(size in (None, real) for size, real in zip(declared, attention.shape, strict=True))
        if not unknown:
            assert declared[1:] == tuple(attention.shape)[1:]
        if flavour == "keras":
            assert tuple(symbolic[1].shape) == declared
        assert tuple(symbolic[0].shape) == tuple(inputs.shape)
        model = module.Model(inputs, symbolic)
        for eager, functional in zip((z, attention), model(x), strict=True):
            np.testing.assert_allclose(functional, eager, atol=1e-6)


def test_attention_shape_of_unknown_sizes():
    layer = keras_nonlocal.NonLocal3D(pool_size=(2, 2, 2))
    assert layer.attention_shape((None, 4, 6, 7, 8)) == (None, 168, 2 * 3 * 3)
    assert layer.attention_shape((3, None, 6, 7, 8)) == (3, None, None)
    assert keras_nonlocal.NonLocal3D(extent="space").attention_shape((3, None, 6, 7, 8)) == (3, None, 42, 9)
    assert keras_nonlocal.NonLocal3D(extent="time").attention_shape((3, 5, None, 7, 8)) == (3, None, 5, 5)
    assert keras_nonlocal.NonLocal3D(group_frames=2).attention_shape((3, None, 6, 7, 8)) == (3, None, 84, 18)
    assert keras_nonlocal.NonLocal3D(group_frames=2).attention_shape((3, 8, None, 7, 8)) == (3, 4, None, None)


@pytest.mark.parametrize("form", FORMS)
def test_output_can_be_rebuilt_from_the_attention(flavour, form):
    """y = attention @ g(pooled x), for which nothing but the attention and the weights is needed."""
    layer, w = blocks.make_random(flavour, 3, pairwise=form, dtype="float64")
    x = blocks.inputs(3, positions=(2, 4, 6))
    z, attention = layer(x, return_attention_scores=True)
    pooled = x.reshape(2, 2, 2, 2, 3, 2, -1).max(axis=(3, 5)).reshape(2, 12, -1)
    y = np.asarray(attention) @ (pooled @ w["g/kernel"] + w["g/bias"]) @ w["out/kernel"] + w["out/bias"]
    y = (y - w["norm/moving_mean"]) / np.sqrt(w["norm/moving_variance"] + 1e-5) * w["norm/gamma"] + w["norm/beta"]
    blocks.close(z, x + y.reshape(x.shape), EXACT)


# --- shapes that are not known, and odd ones -----------------------------------------------------------------------


@_settings(form=FORMS, masked=(False, True))
def test_sizes_unknown_until_run_time(flavour, rank, extent, group_frames, form, masked):
    kwargs = {"pairwise": form, "extent": extent, "group_frames": group_frames}
    layer, weights = blocks.make_random(flavour, rank, **kwargs)
    unknown = [None] * (rank + 1)
    signature = [tf.TensorSpec([*unknown, blocks.CHANNELS], "float32"), tf.TensorSpec(unknown, "bool")]
    run = tf.function(lambda x, mask: layer(x, mask=mask if masked else None), input_signature=signature)
    for positions in (blocks.POSITIONS[rank], (6, 4, 2)[-rank:]):
        x = blocks.inputs(rank, positions=positions).astype("float32")
        mask = blocks.random_mask(x.shape[:-1])
        expected, _ = blocks.oracle_block(x, weights, rank, mask if masked else None, **kwargs)
        blocks.close(run(x, mask), expected, FLOAT32)


@_settings()
def test_no_examples(flavour, rank, extent, group_frames):
    layer, _ = blocks.make_random(flavour, rank, extent=extent, group_frames=group_frames)
    x = blocks.inputs(rank, batch=0).astype("float32")
    spec = tf.TensorSpec([None] * (rank + 1) + [blocks.CHANNELS], "float32")
    for call in (layer, tf.function(layer, input_signature=[spec])):
        assert tuple(call(x).shape) == x.shape
    z, attention = layer(x, return_attention_scores=True)
    assert tuple(attention.shape) == layer.attention_shape(x.shape)
    assert tuple(layer(x, mask=np.ones(x.shape[:-1], bool)).shape) == x.shape


def test_no_positions(flavour):
    layer, _ = blocks.make_random(flavour, 1)
    x = blocks.inputs(1, positions=(0,)).astype("float32")
    for call in (layer, tf.function(layer, input_signature=[tf.TensorSpec([None, None, blocks.CHANNELS], "float32")])):
        assert tuple(call(x).shape) == x.shape


def test_groups_that_do_not_divide(flavour):
    layer, _ = blocks.make_random(flavour, 1, pool_size=None, group_frames=2)
    with pytest.raises(ValueError, match="(?s)group_frames.*divide.*2.*7 frames"):
        layer(blocks.inputs(1).astype("float32"))
    unknown = tf.function(layer, input_signature=[tf.TensorSpec([None, None, blocks.CHANNELS], "float32")])
    with pytest.raises(tf.errors.InvalidArgumentError, match="group_frames.*divide"):
        unknown(blocks.inputs(1).astype("float32"))


def test_pool_larger_than_the_axis(flavour):
    layer, _ = blocks.make_random(flavour, 3, pool_size=(1, 4, 4))
    with pytest.raises(ValueError, match=r"pool_size.*\(1, 4, 4\).*along H.*Received.*H=3"):
        layer(blocks.inputs(3).astype("float32"))
    module = blocks.FLAVOURS[flavour].keras
    with pytest.raises(ValueError, match=r"pool_size.*\(1, 4, 4\).*along H.*Received.*H=3"):
        blocks.make(flavour, 3, pool_size=(1, 4, 4))(module.Input((4, 3, 5, blocks.CHANNELS)))
    spec = tf.TensorSpec([None, None, None, None, blocks.CHANNELS], "float32")
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"pool_size.*\(1, 4, 4\).*along H"):
        tf.function(layer, input_signature=[spec])(blocks.inputs(3).astype("float32"))
    # Axes outside the extent are not pooled.
    blocks.make(flavour, 3, pool_size=(1, 4, 4), extent="time")(blocks.inputs(3))


# --- numbers at the edge -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", SOFTMAX_FORMS)
def test_huge_logits(flavour, form):
    """Logits of +-1e4, where exp overflows: each query takes the g of its best key."""
    layer, weights = blocks.make_random(flavour, 1, channels=2, pairwise=form, inner_channels=2, pool_size=None)
    if form == "embedded_gaussian":
        for name in ("theta", "phi"):
            weights[f"{name}/kernel"], weights[f"{name}/bias"] = np.eye(2), np.zeros(2)
        blocks.assign(layer, weights)
    x = np.array([[[100.0, 0.0], [-100.0, 0.0], [0.0, 120.0], [0.0, -120.0]]])
    z, attention = layer(x.astype("float32"), return_attention_scores=True)
    np.testing.assert_array_equal(attention[0], np.eye(4))
    blocks.close(z, blocks.oracle_block(x, weights, 1, pairwise=form, pool_size=None)[0], FLOAT32)
    sources = blocks.trainable(blocks.variables(layer))
    for name, gradient in blocks.gradients(layer, x.astype("float32"), sources, np.ones(x.shape)).items():
        assert np.isfinite(gradient).all(), name


@pytest.mark.parametrize("implementation", ["dense", "one_piece", "chunked"])
def test_no_logit_is_lower_than_that_of_padding(flavour, implementation):
    """Logits near -3e4 for every valid key."""
    kwargs = {"pool_size": None, "implementation": implementation}
    layer, weights = blocks.make_random(flavour, 1, channels=2, inner_channels=2, **kwargs)
    for name, sign in (("theta", -1), ("phi", 1)):
        weights[f"{name}/kernel"], weights[f"{name}/bias"] = sign * np.eye(2), np.zeros(2)
    blocks.assign(layer, weights)
    x, mask = np.array([[[200.0, 100.0], [150.0, 180.0], [0.0, 0.0]]]), np.array([[True, True, False]])
    expected, _ = blocks.oracle_block(x, weights, 1, mask, pool_size=None)
    blocks.close(layer(x.astype("float32"), mask=mask), expected, FLOAT32)


@pytest.mark.parametrize("form", SOFTMAX_FORMS)
def test_equal_positions_share_the_attention(flavour, form):
    layer, _ = blocks.make_random(flavour, 2, pairwise=form, pool_size=None)
    x = np.broadcast_to(blocks.inputs(2, positions=(1, 1)), (2, 4, 4, blocks.CHANNELS)).astype("float32")
    np.testing.assert_allclose(layer(x, return_attention_scores=True)[1], 1 / 16, rtol=1e-5)


# --- configuration -------------------------------------------------------------------------------------------------


def _every_argument(module, rank):
    """Every argument of the layer at another value than its default."""
    kwargs = {
        "pairwise": "concatenation",
        "inner_channels": 5,
        "pool_size": {1: (1,), 2: (3, 1), 3: (1, 3, 1)}[rank],
        "pool_before_projection": False,
        "scale": False,
        "extent": {1: "time", 2: "space", 3: "time"}[rank],
        "group_frames": None if rank == 2 else 2,
        "norm": "batch_norm",
        "norm_momentum": 0.5,
        "norm_epsilon": 1e-3,
        "norm_synchronized": True,
        "use_bias": False,
        "use_out_bias": False,
        "kernel_initializer": module.initializers.HeNormal(seed=3),
        "kernel_regularizer": module.regularizers.L2(0.1),
        "bias_regularizer": module.regularizers.L1(0.2),
        "implementation": "sorted",
        "name": "here",
        "dtype": "mixed_bfloat16",
        "trainable": False,
    }
    return kwargs


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_config_holds_every_argument(flavour, rank):
    module = blocks.FLAVOURS[flavour].keras
    kwargs = _every_argument(module, rank)
    layer = blocks.make(flavour, rank, **kwargs)
    again = type(layer).from_config(layer.get_config())
    default = blocks.make(flavour, rank).get_config()
    assert again.get_config() == layer.get_config()
    for name, value in kwargs.items():
        if name not in ("norm", "group_frames"):
            assert layer.get_config()[name] != default[name], f"{name} is at its default"
        if isinstance(value, (int, float, str, tuple)) and name != "dtype":
            assert layer.get_config()[name] == value
    assert blocks.make(flavour, rank, norm=None).get_config()["norm"] is None
    for name, other in itertools.permutations(("use_bias", "use_out_bias")):
        config = blocks.make(flavour, rank, **{name: False}).get_config()
        assert (config[name], config[other]) == (False, True)
    saving = module.saving if flavour == "keras" else module.utils
    again = saving.deserialize_keras_object(saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config()


def _default_layer(flavour):
    layer = blocks.make(flavour, 2)
    layer.build((None, 4, 4, 64))
    return layer


def test_arguments_reach_what_they_name(flavour):
    module = blocks.FLAVOURS[flavour].keras
    layer = blocks.make(flavour, 3, **{**_every_argument(module, 3), "trainable": True, "use_bias": True})
    layer.build((None, 4, 6, 6, 8))
    assert layer.norm.momentum == 0.5
    assert layer.norm.epsilon == 1e-3
    assert layer.norm.synchronized
    assert not layer.out.use_bias
    assert layer.theta.use_bias
    assert layer.g.kernel.shape[-1] == 5
    assert len(layer.losses) == 5 + 3  # the kernels and w_f, the biases
    spread = np.std(layer.theta.kernel.numpy()), np.std(_default_layer(flavour).theta.kernel.numpy())
    assert spread[0] == pytest.approx(np.sqrt(2 / 8), rel=0.5)
    assert spread[1] == pytest.approx(0.01, rel=0.2)


def test_projections_start_apart(flavour):
    layer = _default_layer(flavour)
    assert np.abs(layer.theta.kernel.numpy() - layer.phi.kernel.numpy()).max() > 0.01


@pytest.mark.parametrize("initializer", ["orthogonal", "glorot_uniform", "identity", "he_normal"])
def test_w_f_starts_as_a_kernel_of_two_inputs_and_one_output(flavour, initializer):
    """Initializers that need a matrix, or count what comes in and goes out, take w_f for what it is."""
    layer = blocks.make(flavour, 2, pairwise="concatenation", kernel_initializer=initializer)
    layer.build((None, 4, 4, 64))
    w_f = layer.w_f.numpy()
    assert w_f.shape == (64,)
    spread = {"orthogonal": 1 / 8, "glorot_uniform": np.sqrt(2 / 65), "identity": 1 / 8, "he_normal": np.sqrt(2 / 64)}
    assert np.sqrt(np.mean(w_f**2)) == pytest.approx(spread[initializer], rel=0.3)


def test_initializers_can_be_functions(flavour):
    layer = blocks.make(flavour, 1, kernel_initializer=lambda shape, dtype=None, **_: tf.ones(shape, dtype))
    layer.build((None, 4, 8))
    np.testing.assert_array_equal(layer.theta.kernel, np.ones((8, 4)))


def test_defaults_are_those_of_the_official_code(flavour):
    layer = blocks.make(flavour, 3)
    layer.build((None, 4, 6, 6, 8))
    config = layer.get_config()
    expected = {
        "pairwise": "embedded_gaussian",
        "pool_size": (1, 2, 2),
        "pool_before_projection": True,
        "scale": True,
        "extent": "spacetime",
        "group_frames": None,
        "norm": "batch_norm",
        "norm_momentum": 0.9,
        "norm_epsilon": 1e-5,
        "use_bias": True,
        "use_out_bias": True,
    }
    assert {name: config[name] for name in expected} == expected
    shapes = {name: tuple(variable.shape) for name, variable in blocks.variables(layer).items()}
    projections = {f"{name}/kernel": (8, 4) for name in ("theta", "phi", "g")} | {"out/kernel": (4, 8)}
    projections |= {f"{name}/bias": (4,) for name in ("theta", "phi", "g")} | {"out/bias": (8,)}
    norm = {f"norm/{name}": (8,) for name in ("gamma", "beta", "moving_mean", "moving_variance")}
    assert shapes == projections | norm
    assert layer.count_params() == sum(np.prod(shape) for shape in shapes.values())


def test_weights_have_names_of_their_own(flavour):
    layer = blocks.make(flavour, 2, pairwise="concatenation", name="block")
    module = blocks.FLAVOURS[flavour].keras
    module.Model(inputs := module.Input((4, 4, 8)), layer(inputs))
    names = [weight.path if flavour == "keras" else weight.name.split(":")[0] for weight in layer.weights]
    expected = {f"block/{name}" for name in blocks.variables(layer)}
    assert set(names) == expected
    assert len(names) == len(expected)


def test_frozen_layer_keeps_its_statistics(flavour):
    layer, weights = blocks.make_random(flavour, 1)
    layer.trainable = False
    x = blocks.inputs(1).astype("float32")
    np.testing.assert_array_equal(layer(x, training=True), layer(x, training=False))
    np.testing.assert_array_equal(layer.norm.moving_mean, weights["norm/moving_mean"].astype("float32"))
    assert not layer.trainable_weights


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_moving_statistics_move(flavour, rank):
    layer, weights = blocks.make_random(flavour, rank, norm_momentum=0.75)
    x = blocks.inputs(rank).astype("float32")
    layer(x, training=False)
    np.testing.assert_array_equal(layer.norm.moving_mean, weights["norm/moving_mean"].astype("float32"))
    layer(x, training=True)
    plain = {**weights, "norm/gamma": np.ones(6), "norm/beta": np.zeros(6)}
    plain |= {"norm/moving_mean": np.zeros(6), "norm/moving_variance": np.full(6, 1 - 1e-5)}
    w_z_y = (blocks.oracle_block(x, plain, rank)[0] - x).reshape(-1, 6)
    blocks.close(layer.norm.moving_mean, 0.75 * weights["norm/moving_mean"] + 0.25 * w_z_y.mean(0), 1e-5)
    blocks.close(layer.norm.moving_variance, 0.75 * weights["norm/moving_variance"] + 0.25 * w_z_y.var(0), 1e-5)


# --- errors --------------------------------------------------------------------------------------------------------


WRONG_ARGUMENTS = [
    (3, {"pairwise": "softmax"}, r"`pairwise` must be one of 'gaussian', .*Received: pairwise='softmax'"),
    (3, {"pairwise": None}, r"`pairwise` must be one of .*Received: pairwise=None"),
    (3, {"inner_channels": 0}, r"`inner_channels` must be a positive integer.*Received: inner_channels=0"),
    (3, {"inner_channels": 2.5}, r"`inner_channels` must be a positive integer.*Received: inner_channels=2.5"),
    (3, {"inner_channels": True}, r"`inner_channels` must be a positive integer.*Received: inner_channels=True"),
    (3, {"pool_size": 0}, r"`pool_size` must be .*\(T, H, W\).*Received: pool_size=0"),
    (3, {"pool_size": (2, 2)}, r"`pool_size` must be .*3 of them.*Received: pool_size=\(2, 2\)"),
    (2, {"pool_size": (1, -2)}, r"`pool_size` must be .*\(H, W\).*Received: pool_size=\(1, -2\)"),
    (1, {"pool_size": 2.0}, r"`pool_size` must be .*\(T\).*Received: pool_size=2.0"),
    (2, {"pool_size": "22"}, r"`pool_size` must be .*Received: pool_size='22'"),
    (2, {"pool_size": True}, r"`pool_size` must be .*Received: pool_size=True"),
    (3, {"extent": "everything"}, r"`extent` must be one of 'spacetime', 'space', 'time'.*Received: extent='every"),
    (2, {"extent": "time"}, r"`extent` must be one of 'spacetime', 'space'\. Received: extent='time'"),
    (1, {"extent": "space"}, r"`extent` must be one of 'spacetime', 'time'\. Received: extent='space'"),
    (3, {"group_frames": 0}, r"`group_frames` must be a positive integer.*Received: group_frames=0"),
    (2, {"group_frames": 2}, r"`group_frames` cuts time.*Received: group_frames=2 for NonLocal2D"),
    (3, {"group_frames": 2, "extent": "space"}, r"`group_frames` cuts time.*Received: group_frames=2.*'space'"),
    (3, {"group_frames": 2, "pool_size": 2}, r"`group_frames` cannot be combined.*pool_size=\(2, 2, 2\)"),
    (3, {"norm": "layer_norm"}, r"`norm` must be 'batch_norm' or None. Received: norm='layer_norm'"),
    (3, {"norm": True}, r"`norm` must be 'batch_norm' or None. Received: norm=True"),
    (3, {"norm_momentum": 1.5}, r"`norm_momentum` must be .*Received: norm_momentum=1.5"),
    (3, {"norm_momentum": "high"}, r"`norm_momentum` must be .*Received: norm_momentum='high'"),
    (3, {"norm_epsilon": -1e-5}, r"`norm_epsilon` must be .*Received: norm_epsilon=-1e-05"),
    (3, {"norm_epsilon": None}, r"`norm_epsilon` must be .*Received: norm_epsilon=None"),
    (2, {"scale": "yes"}, r"`scale` must be True or False. Received: scale='yes'"),
    (2, {"pool_before_projection": 1}, r"`pool_before_projection` must be True or False. Received: .*=1"),
    (2, {"norm_synchronized": None}, r"`norm_synchronized` must be True or False. Received: .*=None"),
    (2, {"use_bias": "False"}, r"`use_bias` must be True or False. Received: use_bias='False'"),
    (2, {"use_out_bias": 0.0}, r"`use_out_bias` must be True or False. Received: use_out_bias=0.0"),
]


@pytest.mark.parametrize(
    "rank, kwargs, message", WRONG_ARGUMENTS, ids=[f"{case[0]}d-{case[1]}" for case in WRONG_ARGUMENTS]
)
def test_wrong_arguments(flavour, rank, kwargs, message):
    with pytest.raises(ValueError, match=message):
        blocks.make(flavour, rank, **kwargs)


def test_unknown_initializer(flavour):
    with pytest.raises(ValueError, match="nonsense"):
        blocks.make(flavour, 1, kernel_initializer="nonsense")


def test_unknown_argument(flavour):
    with pytest.raises((TypeError, ValueError), match="sub_sample"):
        blocks.make(flavour, 1, sub_sample=True)


def test_numpy_booleans_are_booleans(flavour):
    assert blocks.make(flavour, 2, scale=np.bool_(False)).get_config()["scale"] is False


def test_inputs_that_are_no_floats(flavour):
    module = blocks.FLAVOURS[flavour].keras
    layer = blocks.make(flavour, 1)
    message = "`inputs` must be features of a floating dtype: cast .* Received: inputs of dtype "
    for dtype in ("uint8", "int32", "bool"):
        with pytest.raises(ValueError, match=message + dtype):
            layer(np.zeros((1, 4, 6), dtype))
        with pytest.raises(ValueError, match=message + dtype):
            layer(module.Input((4, 6), dtype=dtype))


def test_inputs_that_are_not_dense(flavour):
    ragged = tf.RaggedTensor.from_row_lengths(tf.zeros([5, 6]), [2, 3])
    module = blocks.FLAVOURS[flavour].keras
    symbolic = [module.Input((None, 6), ragged=True), module.Input((4, 6), sparse=True)]
    for inputs in (ragged, tf.sparse.from_dense(tf.ones([1, 4, 6])), *symbolic):
        with pytest.raises(
            ValueError, match=r"`inputs` must be a dense tensor: .*to_tensor\(\).*`mask`. Received: inputs="
        ):
            blocks.make(flavour, 1)(inputs)


def test_numpy_integers_are_integers(flavour):
    layer = blocks.make(flavour, 2, inner_channels=np.int64(3), pool_size=np.array([2, 1]))
    assert layer.get_config()["inner_channels"] == 3
    assert layer.get_config()["pool_size"] == (2, 1)
    assert all(type(size) is int for size in (*layer.pool_size, layer.inner_channels))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_inputs_of_the_wrong_rank(flavour, rank):
    for other in {1, 2, 3} - {rank}:
        with pytest.raises(ValueError, match=f"NonLocal{rank}D takes inputs of rank {rank + 2}.*Received"):
            blocks.make(flavour, rank)(blocks.inputs(other).astype("float32"))


@pytest.mark.parametrize("rank", [2, 3])
def test_inputs_of_the_wrong_rank_after_build(flavour, rank):
    layer, _ = blocks.make_random(flavour, rank)
    with pytest.raises(ValueError, match=f"expected ndim={rank + 2}, found ndim={rank + 1}"):
        layer(blocks.inputs(rank - 1).astype("float32"))


def test_inputs_of_other_channels_after_build(flavour):
    layer, _ = blocks.make_random(flavour, 2)
    with pytest.raises(ValueError, match="expected axis -1 of input shape to have value 6"):
        layer(blocks.inputs(2, channels=4).astype("float32"))


def test_channels_must_be_known(flavour):
    module = blocks.FLAVOURS[flavour].keras
    with pytest.raises(ValueError, match="channels, must be known.*Received"):
        blocks.make(flavour, 2)(module.Input((4, 4, None)))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_mask_of_the_wrong_rank(flavour, rank):
    layer, _ = blocks.make_random(flavour, rank)
    x = blocks.inputs(rank).astype("float32")
    for shape in ((), (*x.shape,)):
        with pytest.raises(ValueError, match="`mask` must be.*Received"):
            layer(x, mask=np.ones(shape, bool))


def test_a_mask_of_examples_switches_whole_clips_off(flavour):
    layer, _ = blocks.make_random(flavour, 3)
    x = blocks.inputs(3).astype("float32")
    masked = np.asarray(layer(x, mask=np.array([True, False])))
    assert np.array_equal(masked[0], np.asarray(layer(x))[0])
    assert np.array_equal(masked[1], x[1])


def test_mask_of_the_wrong_size(flavour):
    layer, _ = blocks.make_random(flavour, 3)
    with pytest.raises(ValueError, match="`mask` must be.*Received"):
        layer(blocks.inputs(3).astype("float32"), mask=np.ones((2, 3), bool))


def test_channels_first(flavour):
    module = blocks.FLAVOURS[flavour].keras
    module.backend.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match="channels_last.*'channels_first'.*set_image_data_format"):
            blocks.make(flavour, 2)
    finally:
        module.backend.set_image_data_format("channels_last")


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_symbolic_tensors_of_the_other_flavour(rank):
    shape = (*blocks.POSITIONS[rank], blocks.CHANNELS)
    name = f"NonLocal{rank}D"
    with pytest.raises(TypeError, match=f"{name} is a keras layer.*tf_keras.*keras_nonlocal.tfm.layers.{name}"):
        getattr(keras_nonlocal, name)()(tf_keras.Input(shape))
    with pytest.raises(TypeError, match=f"{name} is a tf_keras layer.*of keras: use keras_nonlocal.{name}"):
        getattr(keras_nonlocal.tfm.layers, name)()(keras.Input(shape))


@pytest.mark.parametrize("name", ["NonLocal2D", "BatchNormalization"])
def test_inside_a_model_of_the_other_flavour(flavour, name):
    """A subclassed model hands on plain tensors; it would train and save without the layer."""
    (other,) = (each for each in blocks.FLAVOURS if each != flavour)
    module = blocks.FLAVOURS[other].keras

    class Net(module.Model):
        def __init__(self):
            super().__init__()
            self.inner = getattr(blocks.FLAVOURS[flavour].layers, name)()

        def call(self, inputs):
            return self.inner(inputs)

    model = Net()
    model.compile("sgd", "mse")
    x = np.zeros((2, 4, 4, 6), "float32")
    home = {"keras": "keras_nonlocal", "tf_keras": "keras_nonlocal.tfm.layers"}[other]
    message = f"This {name} is a {flavour} layer and was called inside a layer or model of {other}.* use {home}.{name}"
    with pytest.raises(TypeError, match=message):
        model.fit(x, x, verbose=0)
    with pytest.raises(TypeError, match=message):
        model(x)
    blocks.FLAVOURS[flavour].keras.Sequential([model.inner])(x)  # and nothing is left behind


def test_other_backends_are_refused(monkeypatch):
    """Keras 3 on anything but TensorFlow; tf_keras does not ask Keras 3."""
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    for layer in (keras_nonlocal.NonLocal2D, keras_nonlocal.BatchNormalization):
        with pytest.raises(RuntimeError, match="runs on the backend 'jax': set .* KERAS_BACKEND=tensorflow before"):
            layer()
    keras_nonlocal.tfm.layers.NonLocal2D()


# --- Keras -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("built", [True, False], ids=["built", "not_built"])
def test_deep_copy(flavour, built):
    if built:
        layer, _ = blocks.make_random(flavour, 2, pairwise="concatenation")
    else:
        layer = blocks.make(flavour, 2, pairwise="concatenation")
    if flavour == "tf_keras":  # as Keras users copy there
        again = type(layer).from_config(layer.get_config())
        if built:
            again.build((None, None, None, blocks.CHANNELS))
            again.set_weights(layer.get_weights())
    else:
        again = copy.deepcopy(layer)
    x = blocks.inputs(2).astype("float32")
    np.testing.assert_array_equal(again(x), layer(x))


def test_fit_lowers_the_loss(flavour):
    """A mean over keys that only the non-local block can bring from one end of a sequence to the other."""
    module = blocks.FLAVOURS[flavour].keras
    module.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(64, 6, 8)).astype("float32")
    target = np.repeat(x.mean(axis=1, keepdims=True), 6, axis=1) + x
    inputs = module.Input((6, 8))
    layer = blocks.make(flavour, 1, inner_channels=8, pool_size=None, kernel_initializer="he_normal")
    model = module.Model(inputs, layer(inputs))
    model.compile(module.optimizers.Adam(0.01), "mse")
    losses = model.fit(x, target, epochs=30, batch_size=32, verbose=0).history["loss"]
    assert losses[-1] < 0.2 * losses[0]


def test_summary_counts_the_weights(flavour):
    module = blocks.FLAVOURS[flavour].keras
    inputs = module.Input((4, 8, 8, 16))
    model = module.Model(inputs, blocks.make(flavour, 3, name="block")(inputs))
    lines = []
    model.summary(print_fn=lambda line, **_: lines.append(line))
    text = "\n".join(lines)
    assert "block" in text
    assert f"{3 * (16 * 8 + 8) + 8 * 16 + 16 + 4 * 16}" in text
