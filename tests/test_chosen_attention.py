"""The attention of chosen queries is that of the whole matrix, and its keys are where the layer says."""

import blocks
import covering
import numpy as np
import pytest
import tensorflow as tf

from keras_nonlocal.layers.non_local import EXTENTS

POSITIONS = {1: (6,), 2: (5, 4), 3: (4, 3, 5)}


def legal(rank, extent, group_frames, pool, **_):
    grouped = not group_frames or rank != 2 and extent != "space" and pool != 2
    return extent in EXTENTS[rank] and grouped


SETTINGS = dict(
    rank=(1, 2, 3),
    extent=EXTENTS[3],
    group_frames=(None, 2),
    pool=(None, 2, "space"),
    form=blocks.FORMS,
    before=(True, False),
    mask=(None, "frames", "positions"),
    flavour=tuple(blocks.FLAVOURS),
)


def pool_size(rank, pool):
    """None, 2 along every axis, or along all but the first, which group_frames goes with."""
    return (1, 2, 2)[:rank] if pool == "space" else pool


def all_cells(positions):
    """(1, N, rank), every cell of a grid in order."""
    return np.stack(np.unravel_index(np.arange(np.prod(positions)), positions), axis=-1)[None].astype("int32")


def rows(attention, cells, positions, extent, group_frames):
    """The rows of the whole attention that are those of cells, written out."""
    result = []
    for cell in cells[0]:
        t = cell[0]
        frames = group_frames or positions[0]
        if len(positions) == 3 and extent == "space":
            at = t, np.ravel_multi_index(cell[1:], positions[1:])
        elif len(positions) == 3 and extent == "time":
            at = np.ravel_multi_index((t // frames, *cell[1:]), (len(attention[0]), *positions[1:])), t % frames
        elif group_frames:
            at = t // frames, np.ravel_multi_index((t % frames, *cell[1:]), (frames, *positions[1:]))
        else:
            at = (np.ravel_multi_index(cell, positions),)
        result.append(attention[(slice(None), *at)])
    return np.stack(result, axis=1)


def make(flavour, rank, extent, group_frames, pool, form, before, **kwargs):
    return blocks.make_random(
        flavour,
        rank,
        pairwise=form,
        extent=extent,
        group_frames=group_frames,
        pool_size=pool_size(rank, pool),
        pool_before_projection=before,
        **kwargs,
    )[0]


def mask_of(kind, rank):
    if kind is None:
        return None
    return blocks.random_mask((2, *POSITIONS[rank])[: 2 if kind == "frames" else None])


def settings(**fewer):
    """Cases in which every two values of two arguments meet; all combinations would be thousands."""
    values = {**SETTINGS, **fewer}
    rows = covering.array(legal, **values)
    ids = ["-".join(f"{name}={value}" for name, value in zip(values, row, strict=True)) for row in rows]
    return pytest.mark.parametrize(tuple(values), rows, ids=ids)


@settings()
def test_they_are_rows_of_the_whole(flavour, rank, extent, group_frames, pool, form, before, mask):
    layer = make(flavour, rank, extent, group_frames, pool, form, before)
    positions, mask = POSITIONS[rank], mask_of(mask, rank)
    x = blocks.inputs(rank, positions=positions).astype("float32")
    _, attention = layer(x, mask=mask, return_attention_scores=True)
    cells = all_cells(positions)[:, ::-1]
    queries = np.broadcast_to(cells, (2, *cells.shape[1:]))
    expected = rows(np.asarray(attention), cells, positions, extent, group_frames)
    blocks.close(layer.attention_of(x, queries, mask=mask), expected, 1e-6)


@pytest.mark.parametrize(
    ("extent", "group_frames", "pool", "before"),
    [("spacetime", None, 2, False), ("space", None, 2, True), ("time", None, 2, True), ("time", 2, None, True)],
)
@pytest.mark.parametrize("flavour", blocks.FLAVOURS)
def test_sizes_may_be_unknown(flavour, extent, group_frames, pool, before):
    layer = make(flavour, 3, extent, group_frames, pool, "concatenation", before)
    x, mask = blocks.inputs(3).astype("float32"), blocks.random_mask((2, *POSITIONS[3]))
    queries = np.repeat(all_cells(POSITIONS[3]), 2, axis=0)
    specs = (
        tf.TensorSpec([None] * 4 + [blocks.CHANNELS]),
        tf.TensorSpec([None, None, 3], "int32"),
        tf.TensorSpec([None] * 4, "bool"),
    )

    @tf.function(input_signature=specs)
    def unknown(x, queries, mask):
        weights = layer.attention_of(x, queries, mask=mask)
        keys = tf.broadcast_to(tf.range(tf.shape(weights)[-1]), tf.shape(weights))
        return weights, layer.key_cells(queries, keys, tf.unstack(tf.shape(x)[1:-1]))

    weights, cells = unknown(x, queries, mask)
    blocks.close(weights, layer.attention_of(x, queries, mask=mask), 1e-6)
    keys = np.broadcast_to(np.arange(weights.shape[-1]), weights.shape)
    np.testing.assert_array_equal(cells, layer.key_cells(queries, keys, POSITIONS[3]))


@settings(rank=(3,), mask=(None,), before=(True,), flavour=("keras",))
def test_a_key_is_where_it_is_said_to_be(flavour, rank, extent, group_frames, pool, form, before, mask):
    """With one key's window valid and the query, that key and the query's own have all the attention there is."""
    layer = make(flavour, rank, extent, group_frames, pool, form, before, dtype="float64")
    positions = (4, 5, 4)
    x = np.abs(blocks.inputs(rank, batch=1, positions=positions))  # so that no product of the forms that count is zero
    for query in ([[1, 0, 3]], [[2, 4, 1]]):
        count = layer.attention_of(x, [query]).shape[-1]
        cells = layer.key_cells([query], np.arange(count)[None, None], positions)[0, 0]
        assert len({tuple(cell) for cell in cells.numpy()}) == count
        masks = np.zeros((count, *positions), bool)
        masks[(slice(None), *query[0])] = True
        for mask, cell in zip(masks, cells.numpy(), strict=True):
            window = (slice(c * p, (c + 1) * p) for c, p in zip(cell, layer.key_pool, strict=True))
            mask[tuple(window)] = True
        own = (cells.numpy() == np.array(query[0]) // layer.key_pool).all(axis=-1)
        seen = np.eye(count, dtype=bool) | own
        repeated = np.repeat(x, count, axis=0)
        found = layer.attention_of(repeated, np.repeat([query], count, axis=0), mask=masks)[:, 0].numpy()
        np.testing.assert_array_equal(found[~seen], 0)
        if form != "concatenation":  # whose ReLU may be zero
            assert (found[seen] != 0).all()


@pytest.mark.parametrize("flavour", blocks.FLAVOURS)
@pytest.mark.parametrize(
    ("policy", "tolerance"), [("mixed_float16", 2e-3), ("mixed_bfloat16", 2e-2), ("float16", 2e-3)]
)
@pytest.mark.parametrize("form", ["embedded_gaussian", "concatenation"])
def test_of_16_bits_they_are_float32(flavour, policy, tolerance, form):
    layer = make(flavour, 2, "space", None, 2, form, True, dtype=policy)
    x = blocks.inputs(2).astype("float32")
    _, attention = layer(x, return_attention_scores=True)
    found = layer.attention_of(x, np.repeat(all_cells(POSITIONS[2]), 2, axis=0))
    assert found.dtype == attention.dtype == tf.float32
    blocks.close(found, attention, tolerance)


@pytest.mark.parametrize("flavour", blocks.FLAVOURS)
def test_dot_products_keep_their_signs(flavour):
    layer = make(flavour, 1, "time", None, None, "dot_product", True)
    x = 10 * blocks.inputs(1).astype("float32")
    weights = layer.attention_of(x, [[[0], [3]]] * 2).numpy()
    assert weights.min() < -1 and weights.max() > 1


def test_nothing_is_as_large_as_the_matrix():
    layer = make("keras", 3, "spacetime", None, None, "embedded_gaussian", True)

    @tf.function
    def chosen(x, queries):
        return layer.attention_of(x, queries)

    graph = chosen.get_concrete_function(tf.TensorSpec([1, 16, 8, 8, 6]), tf.TensorSpec([1, 3, 3], "int32")).graph
    sizes = [x.shape.num_elements() or 0 for op in graph.get_operations() for x in op.outputs]
    assert max(sizes) == 16 * 8 * 8 * 6  # x itself; the matrix has 1024 * 1024
