"""What a training clip shows, against restatements of the official code's and SlowFast's rules."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from keras_nonlocal.tfm.inputs import clips


def drawn(draw, count):
    """What `draw` makes of so many seeds."""
    seeds = tf.data.Dataset.range(count).map(lambda number: draw(tf.stack([tf.constant(5, tf.int64), number])))
    return np.array(list(seeds.as_numpy_iterator()))


def is_uniform(values, low, high):
    """Whether integers are all of low to high, each with the same probability."""
    assert (values.min(), values.max()) == (low, high)
    return low == high or stats.chisquare(np.bincount(values - low)).pvalue > 1e-3


def starts(length, num_frames, stride, outside, count=600):
    return drawn(lambda seed: clips.sample_start(tf.constant(length), num_frames, stride, outside, seed), count)


@pytest.mark.parametrize(
    ("length", "outside", "low", "high"),
    [
        (20, "wrap", 0, 4),  # 20 - 8 * 2
        (16, "wrap", 0, 0),
        (5, "wrap", 0, 0),
        (20, "clamp", 0, 5),  # 20 - (7 * 2 + 1)
        (15, "clamp", 0, 0),
        (12, "clamp", -3, 0),
    ],
)
def test_clips_start_anywhere(length, outside, low, high):
    assert is_uniform(starts(length, 8, 2, outside), low, high)


@pytest.mark.parametrize(
    ("start", "length", "outside", "expected"),
    [
        (3, 20, "wrap", [3, 5, 7, 9]),
        (0, 5, "wrap", [0, 2, 4, 1]),
        (0, 1, "wrap", [0, 0, 0, 0]),
        (3, 20, "clamp", [3, 5, 7, 9]),
        (-1, 5, "clamp", [0, 1, 3, 4]),
        (-6, 1, "clamp", [0, 0, 0, 0]),
    ],
)
def test_frames_outside_the_video(start, length, outside, expected):
    assert clips.frame_numbers(tf.constant(start), tf.constant(length), 4, 2, outside).numpy().tolist() == expected


@pytest.mark.parametrize("outside", clips.OUTSIDE_FRAMES)
@pytest.mark.parametrize("length", [1, 5, 6, 7, 8, 9, 20])
def test_a_clip_spans_the_frames_it_skips_too(length, outside):
    for start in set(starts(length, 4, 2, outside, 30).tolist()):
        # From its first frame to its last, one by one.
        passed = np.arange(start, start + 3 * 2 + 1)
        passed = passed % length if outside == "wrap" else np.clip(passed, 0, length - 1)
        first, last = clips.spanned(tf.constant(start), tf.constant(length), 4, 2)
        assert set(range(int(first), int(last) + 1)) == set(passed.tolist())


def test_short_sides():
    uniform = drawn(lambda seed: clips.sample_short_side(256, 264, "uniform", seed), 900)
    assert is_uniform(uniform, 256, 264)
    inverse = drawn(lambda seed: clips.sample_short_side(100, 300, "inverse", seed), 2000)
    assert inverse.min() >= 100 and inverse.max() <= 300
    # 1 / side is uniform from 1 / 300 to 1 / 100: sides of less than 150 are one half, not one quarter.
    assert stats.kstest(1 / inverse, stats.uniform(1 / 300, 1 / 100 - 1 / 300).cdf).pvalue > 1e-3
    assert np.mean(inverse < 150) == pytest.approx(0.5, abs=0.05)


def gradient(height, width):
    """A JPEG where every crop has a mean of its own."""
    values = np.arange(width)[None] + 9 * np.arange(height)[:, None]
    return tf.io.encode_jpeg(np.repeat(values[..., None], 3, -1).astype("uint8"), quality=100)


def augmented(seed, encoded, sides=(22, 22), flip=False):
    return clips.augment(encoded, (20, 20), sides, "uniform", flip, clips.Seeds.of(seed))


def test_crops_are_anywhere():
    encoded = tf.stack([gradient(22, 28)] * 2)

    def means(seed):
        return tf.reduce_mean(tf.cast(augmented(seed, encoded)[0], tf.float64))

    found = drawn(means, 600)
    assert is_uniform(np.rint(found - found.min()).astype(int), 0, 26)  # 3 rows of 9 columns


def test_the_choices_of_a_clip_are_the_same_for_its_frames_and_independent():
    encoded = tf.stack([gradient(22, 28)] * 2)

    def choices(seed):
        frames = tf.cast(augmented(seed, encoded, (22, 25), True), tf.int32)
        tf.debugging.assert_equal(frames[0], frames[1])
        seeds = clips.Seeds.of(seed)
        start = clips.sample_start(tf.constant(17), 4, 2, "wrap", seeds.start)
        side = clips.sample_short_side(22, 31, "uniform", seeds.short_side)
        mirrored = tf.cast(frames[0, 0, 0, 0] > frames[0, 0, -1, 0], tf.int32)
        return tf.stack([start, side - 22, mirrored])

    found = drawn(choices, 1000)
    assert stats.binomtest(int(found[:, 2].sum()), len(found)).pvalue > 1e-3
    for one, other in ((0, 1), (0, 2), (1, 2)):
        table = np.zeros(found.max(0)[[one, other]] + 1)
        np.add.at(table, tuple(found[:, [one, other]].T), 1)
        assert stats.chi2_contingency(table).pvalue > 1e-3


def test_a_clip_is_mirrored_whole():
    encoded = tf.stack([gradient(22, 28)])
    for number in range(12):
        seed = tf.constant([1, number], tf.int64)
        plain, flipped = augmented(seed, encoded).numpy(), augmented(seed, encoded, flip=True).numpy()
        assert plain.shape == (1, 20, 20, 3) and (plain[0, 0, 0] < plain[0, -1, -1]).all()
        assert np.array_equal(flipped, plain) or np.array_equal(flipped, plain[:, :, ::-1])


def test_a_clip_is_a_function_of_its_seed():
    encoded = tf.stack([gradient(22, 28)])
    tf.random.set_seed(1)
    first = [augmented(tf.constant([0, number], tf.int64), encoded, (22, 30), True).numpy() for number in range(4)]
    tf.random.set_seed(2)
    again = [augmented(tf.constant([0, number], tf.int64), encoded, (22, 30), True).numpy() for number in range(4)]
    assert np.array_equal(first, again)
    assert len({each.tobytes() for each in first}) > 1
