"""Attention of the blocks in any model, as programs ask for it; what kind of attention it is; and pictures of it."""

import dataclasses
import io
import pathlib
import subprocess
import sys

import cv2
import keras
import matplotlib.patches
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
import tf_keras

import keras_nonlocal
from keras_nonlocal.analysis import attention_maps, attention_numbers, plot, summaries
from keras_nonlocal.analysis.attention_maps import BlockAttention
from keras_nonlocal.errors import UserError
from keras_nonlocal.export import pictures as export_pictures
from keras_nonlocal.tfm import layers as tfm_layers

KERASES = {"keras": (keras, keras_nonlocal), "tf_keras": (tf_keras, tfm_layers)}
RANDOM = np.random.default_rng(0)
CLIPS = RANDOM.normal(size=(2, 4, 16, 24, 3)).astype("float32")


class Subclassed(keras.Model):
    """A model without a graph, with one layer inside another."""

    def __init__(self, trunk):
        super().__init__()
        self.trunk = trunk

    def call(self, x):
        return keras.ops.sum(self.trunk(x), axis=(1, 2, 3))


def clip_layers(flavour, **arguments):
    """Positions at frames i and at pixels 2 + 4 i, two ways: (4, 4, 6) of them."""
    package, ours = KERASES[flavour]
    block = ours.NonLocal3D(name="block", kernel_initializer="he_normal", **arguments)
    return [package.Input((4, 16, 24, 3)), package.layers.Conv3D(6, (1, 4, 4), (1, 4, 4)), block]


def dense_row(model_layers, x, cell):
    """The whole attention of a cell, as a call of the block gives it: (B, M) of its set."""
    _, before, block = model_layers
    _, attention = block(before(x), return_attention_scores=True)
    return np.asarray(attention)[:, cell]


@pytest.mark.parametrize("kind", ["keras", "tf_keras", "nested", "subclassed"])
@pytest.mark.parametrize("form", ["embedded_gaussian", "concatenation"])
def test_the_rows_of_a_block_in_any_model(kind, form):
    flavour = "tf_keras" if kind == "tf_keras" else "keras"
    package, _ = KERASES[flavour]
    parts = clip_layers(flavour, pairwise=form)
    model = package.Sequential(parts)
    if kind == "nested":
        inputs = keras.Input((4, 16, 24, 3), name="clip")
        model = keras.Model({"clip": inputs}, keras.layers.Flatten()(model(inputs)))
    if kind == "subclassed":
        model = Subclassed(model)
        model(CLIPS)
    # The cell (3, 1, 5) is at frame 3 and pixels 6, 22; its keys are pooled by 2 in space.
    (found,) = keras_nonlocal.attention_maps(model, CLIPS, queries=[[3.2, 7.0, 99.0]], top_k=None).values()
    np.testing.assert_array_equal(found.queries, [[[3.0, 6.0, 22.0]]] * 2)
    expected = dense_row(parts, CLIPS, (3 * 4 + 1) * 6 + 5)
    np.testing.assert_allclose(found.weights[:, 0], expected, rtol=2e-5, atol=1e-7)
    centres = np.stack(np.meshgrid([0, 1, 2, 3], [4, 12], [4, 12, 20], indexing="ij"), -1).reshape(-1, 3)
    np.testing.assert_array_equal(found.positions[1, 0], centres)
    assert (found.keys, found.key_size, found.whole) == (24, (1, 8, 8), True)
    assert found.shares == (form == "embedded_gaussian") and found.pairwise == form
    assert (found.weights.sum(-1) == pytest.approx(1)) == found.shares


def test_the_strongest_are_the_first_of_all():
    model = keras.Sequential(clip_layers("keras", pairwise="dot_product"))
    (few,) = keras_nonlocal.attention_maps(model, CLIPS, "block", top_k=5).values()
    (whole,) = keras_nonlocal.attention_maps(model, CLIPS, top_k=None).values()
    assert few.queries.shape == (2, 64, 3) and few.weights.shape == (2, 64, 5) and not few.whole
    np.testing.assert_array_equal(few.queries, whole.queries)
    order = np.argsort(-np.abs(whole.weights), axis=-1)[..., :5]
    np.testing.assert_allclose(few.weights, np.take_along_axis(whole.weights, order, -1), rtol=1e-6)
    np.testing.assert_array_equal(few.positions, np.take_along_axis(whole.positions, order[..., None], 2))
    assert (few.weights < 0).any()  # dot products are shown for what they are


@pytest.mark.parametrize(("extent", "keys"), [("space", 6), ("time", 4)])
def test_queries_meet_the_keys_of_their_set(extent, keys):
    parts = clip_layers("keras", extent=extent)
    (found,) = keras_nonlocal.attention_maps(keras.Sequential(parts), CLIPS, top_k=None).values()
    assert found.keys == keys == found.weights.shape[-1]
    numbers = attention_numbers.numbers(found)
    if extent == "space":
        assert (found.positions[..., 0] == found.queries[:, :, None, 0]).all()
        assert numbers.elsewhere == numbers.frames == 0 < numbers.pixels
    else:
        assert (found.positions[..., 1:] == found.queries[:, :, None, 1:]).all()
        assert numbers.pixels == 0 < numbers.elsewhere


def test_sequences_with_a_mask_and_images_in_tf_keras():
    inputs = keras.Input((None, 4))
    x = keras.layers.Masking()(inputs)
    model = keras.Model(inputs, keras_nonlocal.NonLocal1D(pool_size=1, kernel_initializer="he_normal", name="block")(x))
    x = RANDOM.normal(size=(1, 10, 4)).astype("float64")
    x[:, 6:] = 0
    (found,) = keras_nonlocal.attention_maps(model, x, queries=[[2], [5]], top_k=None).values()
    assert (found.weights[..., 6:] == 0).all() and found.weights[..., :6].sum(-1) == pytest.approx(1)
    assert found.positions[0, 0, :, 0].tolist() == list(range(10)) and found.queries.tolist() == [[[2.0], [5.0]]]

    for dtype in ("float32", "uint8"):
        inputs = tf_keras.Input((None, None, 3), dtype=dtype)
        y = tf_keras.layers.Rescaling(1 / 255)(inputs)
        image_model = tf_keras.Model(inputs, tfm_layers.NonLocal2D(name="block")(y))
        (found,) = keras_nonlocal.attention_maps(image_model, np.full((1, 6, 8, 3), 9, "uint8"), top_k=None).values()
        np.testing.assert_allclose(found.weights, 1 / 12, rtol=1e-5)  # all pixels are the same
    assert len(found.queries[0]) == 48


def test_what_is_wrong_is_said():
    model = keras.Sequential(clip_layers("keras"))
    for wrong in ([[1.0, 2.0]], np.zeros((3, 1, 3)), np.zeros((1025, 3))):
        with pytest.raises(ValueError, match="`queries`"):
            keras_nonlocal.attention_maps(model, CLIPS, queries=wrong)
    with pytest.raises(ValueError, match="`block`"):
        keras_nonlocal.attention_maps(model, CLIPS, "res3")
    with pytest.raises(ValueError, match="`top_k`"):
        keras_nonlocal.attention_maps(model, CLIPS, top_k=0)
    with pytest.raises(ValueError, match="one non-local block"):
        keras_nonlocal.attention_maps(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]), np.zeros((1, 2)))


def test_even_cells_cover_every_axis():
    cells = attention_maps.even_cells((4, 14, 14))
    assert 32 < len(cells) <= 64 and len(np.unique(cells, axis=0)) == len(cells)
    for axis, size in enumerate((4, 14, 14)):
        assert np.abs(cells[:, axis].mean() - (size - 1) / 2) <= 1
    assert attention_maps.even_cells((2, 3)).tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]


def of_weights(weights, shares=True, frames=2, name="block"):
    """A block on `frames` frames of 2 x 2 pixels, each a position, whose queries and keys are all of them."""
    grid = np.stack(np.meshgrid(np.arange(frames), [0.5, 1.5], [0.5, 1.5], indexing="ij"), -1).reshape(1, -1, 3)
    count = grid.shape[1]
    positions = np.broadcast_to(grid[:, None], (1, count, count, 3))
    weights = np.asarray(weights, "float32").reshape(1, count, count)
    form = "embedded_gaussian" if shares else "dot_product"
    return BlockAttention(name, form, shares, count, (1, 1, 1), grid, positions, weights)


def test_numbers_by_hand():
    itself = attention_numbers.numbers(of_weights(np.eye(8)))
    assert dataclasses.astuple(itself) == pytest.approx((0, 0, 0, 0, 0.5))  # vectors at right angles
    even = attention_numbers.numbers(of_weights(np.full((8, 8), 1 / 8)))
    distance = (0 + 1 + 1 + 2**0.5) / 4
    assert dataclasses.astuple(even) == pytest.approx((0.5, 1, 0.5, distance, 0), abs=1e-6)
    # Whatever the query, all of the weight on the first key; of a size and sign that is no share.
    one = attention_numbers.numbers(of_weights(-5.0 * np.eye(8)[np.zeros(8, int)], shares=False))
    assert dataclasses.astuple(one) == pytest.approx((0.5, 0, 0.5, distance, 0), abs=1e-6)
    opposite = np.tile(np.eye(8)[0], (8, 1)) * np.array([1, -1] * 4)[:, None]
    # Of 56 pairs 24 have cosine 1 and 32 have -1.
    assert attention_numbers.numbers(of_weights(opposite, shares=False)).difference == pytest.approx(32 / 56)
    assert attention_numbers.even_numbers(of_weights(np.eye(8))) == even
    with pytest.raises(ValueError, match="top_k=None"):
        attention_numbers.numbers(dataclasses.replace(of_weights(np.eye(8)), keys=9))


def test_the_rule_takes_the_query_that_looks_furthest():
    weights = np.eye(8)
    weights[6] = np.eye(8)[1]  # the third position of the second frame looks at the first
    maps = {"near": of_weights(np.eye(8)), "far": of_weights(weights)}
    assert attention_numbers.most_telling(maps) == ("far", 0, 6)


def pictures(frames=2, side=2):
    return np.full((frames, side, side, 3), 120, np.uint8)


def test_arrows_lead_to_the_strongest_keys():
    weights = np.zeros((8, 8))
    weights[0, [3, 6]] = 0.25, 0.75
    figure = plot.arrows(pictures(), of_weights(weights), count=2)
    found = [each for each in figure.artists if isinstance(each, matplotlib.patches.ConnectionPatch)]
    assert [(each.xy1, each.xy2) for each in found] == [((0.5, 0.5), (1.5, 1.5)), ((0.5, 0.5), (0.5, 1.5))]
    assert [axis.get_title() for axis in figure.axes] == ["frame 0", "frame 1"]
    assert "100 % of the attention" in figure.get_suptitle()
    signed = plot.arrows(pictures(), of_weights(-weights, shares=False), count=1)
    assert matplotlib.colors.to_hex(signed.artists[0].get_edgecolor()) == plot.BELOW
    assert "no shares" in signed.get_suptitle()
    with pytest.raises(ValueError, match="`pictures`"):
        plot.arrows(pictures()[0], of_weights(weights))


def test_heat_is_where_the_keys_are():
    weights = np.zeros((8, 8))
    weights[0, [3, 6]] = 0.25, 0.75
    figure = plot.heatmap(pictures(), of_weights(weights))
    heats = [np.asarray(axis.images[1].get_array()) for axis in figure.axes[:2]]
    np.testing.assert_array_equal(heats, [[[0, 0], [0, 0.25]], [[0, 0], [0.75, 0]]])
    assert [axis.get_title() for axis in figure.axes[:2]] == ["frame 0: 25 %", "frame 1: 75 %"]
    signed = plot.heatmap(pictures(), of_weights(-2 * weights, shares=False)).axes[1]
    assert signed.get_title() == "frame 1" and signed.images[1].get_clim() == (-1.5, 1.5)


def test_a_pooled_key_covers_what_it_is_pooled_of():
    queries = np.array([[[0.5, 2.0, 2.0]]])
    keys = np.array([[[[0.5, 4.0, 4.0], [2.5, 4.0, 12.0]]]])
    found = BlockAttention("block", "gaussian", True, 2, (2, 8, 8), queries, keys, np.array([[[0.25, 0.75]]]))
    figure = plot.heatmap(pictures(4, 16), found)
    heat = np.stack([np.asarray(axis.images[1].get_array()) for axis in figure.axes[:4]])
    expected = np.zeros((4, 16, 16))
    expected[:2, :8, :8], expected[2:, :8, 8:] = 0.25, 0.75
    np.testing.assert_array_equal(heat, expected)


def test_sequences_are_bars():
    queries, keys = np.array([[[1.0]]]), np.arange(3.0).reshape(1, 1, 3, 1)
    found = BlockAttention("block", "dot_product", False, 3, (1,), queries, keys, np.array([[[1.0, -2.0, 0.5]]]))
    (axis,) = plot.heatmap(None, found).axes
    assert [bar.get_height() for bar in axis.patches] == [1.0, -2.0, 0.5]
    with pytest.raises(ValueError, match="1D"):
        plot.arrows(pictures(), found)


def test_the_overview_compares_blocks_to_even_attention():
    maps = {"itself": of_weights(np.eye(8)), "even": of_weights(np.full((8, 8), 1 / 8))}
    figure = plot.overview(maps)
    first = figure.axes[0]
    assert [bar.get_width() for bar in first.patches] == pytest.approx([0, 0.5])
    assert [segment[0][0] for segment in first.collections[0].get_segments()] == pytest.approx([0.5, 0.5])
    assert [label.get_text() for label in first.get_yticklabels()] == ["itself", "even"]
    with pytest.raises(ValueError, match="`maps`"):
        plot.overview({})


def test_figures_are_saved_as_pictures_and_films(tmp_path):
    weights = np.zeros((16, 16))
    weights[0] = 1 / 16
    figures = plot.film(pictures(4, 2), of_weights(weights, frames=4))
    plot.save(figures[0], tmp_path / "one.png")
    plot.save(figures, tmp_path / "film.gif", seconds=0.25)
    plot.save(figures, tmp_path / "film.mp4", seconds=0.25)
    with PIL.Image.open(tmp_path / "one.png") as one, PIL.Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == 4 and film.info["duration"] == 250 and film.size == one.size
        expected = np.asarray(one.convert("RGB")).astype(float)
    with PIL.Image.open(io.BytesIO(figures[0]._repr_png_())) as shown:  # by a notebook
        np.testing.assert_array_equal(np.asarray(shown.convert("RGB"))[: one.height, : one.width], expected)
    video = cv2.VideoCapture(str(tmp_path / "film.mp4"))
    read = [video.read()[1] for _ in range(4)]
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(4) and not video.read()[0]
    assert np.abs(read[0][..., ::-1] - expected).mean() < 4  # compressed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.gif", "film.mp4", "one.png"]
    with pytest.raises(ValueError, match=".png"):
        plot.save(figures, tmp_path / "film.png")


def test_it_needs_no_more_memory_than_rows_of_the_attention():
    """The whole attention of this block would be 1.1 TB."""
    inputs = keras.Input((None, None, 4))
    model = keras.Model(inputs, keras_nonlocal.NonLocal2D(pool_size=1, inner_channels=2, name="block")(inputs))
    x = tf.random.stateless_normal((1, 720, 720, 4), [0, 0])
    (found,) = keras_nonlocal.attention_maps(model, x, queries=[[719.5, 0.5]], top_k=2).values()
    assert found.keys == 518400 and found.queries.tolist() == [[[719.5, 0.5]]]


def write_video(path, frames=12):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (48, 32))
    for number in range(frames):
        writer.write(np.full((32, 48, 3), 20 * number, np.uint8))
    writer.release()
    return path


def test_a_folder_of_pictures_for_a_video(tmp_path):
    model = keras.Sequential(clip_layers("keras"))
    sizes = export_pictures.input_sizes(model)
    assert sizes == (4, 16, 24)
    video = write_video(tmp_path / "clip.mp4")
    seen = export_pictures.read(video, sizes)
    assert seen.shape == (4, 16, 24, 3) and np.diff(seen.mean(axis=(1, 2, 3))) == pytest.approx(60, abs=6)
    said = export_pictures.draw(model, seen, lambda x: x / 127.5 - 1, tmp_path / "out", "block", (3, 7, 99))
    assert "block block, query 3, 6, 22 (given)" in said
    names = ["arrows.png", "film.gif", "heatmap.png", "overview.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    with PIL.Image.open(tmp_path / "out" / "film.gif") as film:
        assert film.n_frames == 4
    with pytest.raises(UserError, match="`block`"):
        export_pictures.draw(model, seen, lambda x: x, tmp_path / "none", "res3")
    with pytest.raises(UserError, match="`queries`"):
        export_pictures.draw(model, seen, lambda x: x, tmp_path / "none", query=(3, 7))
    assert not (tmp_path / "none").exists()
    with pytest.raises(UserError, match="is a video, and the model takes photos"):
        export_pictures.read(video, (16, 16))
    with pytest.raises(UserError, match="can fill one input"):
        export_pictures.input_sizes(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]))


@pytest.mark.parametrize("flavour", KERASES)
def test_tensorboard_shows_it_while_training(flavour, tmp_path):
    package, _ = KERASES[flavour]
    model = package.Sequential([*clip_layers(flavour), package.layers.GlobalAveragePooling3D()])
    model.compile("sgd", "mse")
    shown = np.zeros((4, 16, 24, 3), np.uint8)
    summary = summaries.AttentionSummary(model, CLIPS[:1], shown, tmp_path, query=(3, 7, 99))
    # A step so large that the attention has to change.
    model.optimizer.learning_rate = 0.5
    epochs = package.callbacks.LambdaCallback(on_epoch_end=summary)
    model.fit(CLIPS, np.full((2, 6), 9.0, "float32"), epochs=2, verbose=0, callbacks=[epochs])
    (path,) = tmp_path.glob("events*")
    found = {}
    for event in tf.compat.v1.train.summary_iterator(str(path)):
        found.update({(event.step, value.tag): value.tensor for value in event.summary.value})
    names = {"elsewhere", "entropy", "frames", "pixels", "difference", "heatmap", "arrows"}
    tags = {"attention/overview", *(f"attention/block/{name}" for name in names)}
    assert set(found) == {(step, tag) for step in (0, 1) for tag in tags}
    (now,) = keras_nonlocal.attention_maps(model, CLIPS[:1], top_k=None).values()
    last = float(tf.make_ndarray(found[1, "attention/block/entropy"]))
    assert last == pytest.approx(attention_numbers.numbers(now).entropy, rel=1e-5)
    picture = tf.io.decode_png(found[1, "attention/block/arrows"].string_val[2]).numpy()
    (query,) = keras_nonlocal.attention_maps(model, CLIPS[:1], queries=[(3, 7, 99)], top_k=None).values()
    np.testing.assert_array_equal(picture, plot.pixels(plot.arrows(shown, query)))


@pytest.mark.slow
def test_the_command_draws_a_saved_model(tmp_path):
    keras.Sequential(clip_layers("keras")).save(tmp_path / "model.keras")
    program = [sys.executable, str(pathlib.Path(__file__).parent.parent / "training" / "explain.py")]

    def run(*flags):
        return subprocess.run(
            [*program, *flags, "--out=out"], capture_output=True, text=True, cwd=tmp_path, timeout=300
        )

    write_video(tmp_path / "clip.mp4")
    done = run("clip.mp4", "--model=model.keras", "--query=1,2,2", "--top=3")
    assert done.returncode == 0, done.stderr
    assert "query 1, 2, 2 (given)" in done.stdout and (tmp_path / "out" / "arrows.png").is_file()
    for flags, message in (
        ([], "give one video"),
        (["clip.mp4"], "give one of --model"),
        (["clip.mp4", "--server=grpc://127.0.0.1:1"], "--model_name"),
        (["clip.mp4", "--model=model.keras", "--query=a"], "--query must be"),
    ):
        done = run(*flags)
        assert done.returncode == 1 and message in done.stderr, done.stderr
