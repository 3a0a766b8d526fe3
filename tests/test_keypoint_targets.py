"""What the keypoint head is trained on, against the equations in exact numbers and figures computed by hand."""

import fractions
import math

import numpy as np
import pytest
import tensorflow as tf

from keras_nonlocal.tfm.keypoints import targets

SIZE = 56


def exact_label(point, visible, box, size=SIZE):
    """Detectron's keypoints_to_heatmap_labels for one keypoint, in rational numbers: (label, weight)."""
    cells = []
    for p, low, high in zip(point, box[:2], box[2:], strict=True):
        p, low, high = (fractions.Fraction(float(x)) for x in (p, low, high))
        if high <= low:
            return 0, 0
        cells.append(size - 1 if p == high else math.floor((p - low) * size / (high - low)))
    y, x = cells
    return (y * size + x, 1) if visible > 0 and 0 <= y < size and 0 <= x < size else (0, 0)


def exact_sample(rois, classes, keypoints, visibility, count):
    """The indices of the regions to train on and whether they are: those with a visible keypoint inside first."""
    chosen = []
    for i in range(len(rois)):
        y1, x1, y2, x2 = rois[i]
        inside = [
            v > 0 and y1 <= y <= y2 and x1 <= x <= x2 for (y, x), v in zip(keypoints[i], visibility[i], strict=True)
        ]
        chosen.append(classes[i] > 0 and any(inside))
    order = [i for i, c in enumerate(chosen) if c] + [i for i, c in enumerate(chosen) if not c]
    return [(i, chosen[i]) for i in order[:count]]


@pytest.mark.parametrize(
    "point, visible, label, weight",
    [
        ((10, 10), 2, 0, 1),
        ((66, 66), 2, 55 * 56 + 55, 1),  # 3135
        ((30, 65.999), 2, 20 * 56 + 55, 1),
        ((65.999, 30), 2, 55 * 56 + 20, 1),  # 3100
        ((66, 30), 2, 55 * 56 + 20, 1),
        ((30, 66), 1, 20 * 56 + 55, 1),
        ((11, 10), 1, 56, 1),
        ((10.999, 11), 1, 1, 1),
        ((9.9, 30), 2, 0, 0),
        ((30, 9.9), 2, 0, 0),
        ((66.001, 30), 2, 0, 0),
        ((30, 66.001), 2, 0, 0),
        ((30, 30), 0, 0, 0),
        ((10, 10), 0, 0, 0),
        ((float("nan"), 30), 2, 0, 0),
        ((30, float("inf")), 2, 0, 0),
    ],
)
def test_labels_by_hand(point, visible, label, weight):
    labels, weights = targets.heat_map_labels([[point]], [[visible]], [[10.0, 10.0, 66.0, 66.0]], SIZE)
    assert (labels.dtype, weights.dtype) == (tf.int32, tf.float32)
    assert (labels.numpy().tolist(), weights.numpy().tolist()) == ([[label]], [[weight]])


def test_labels_are_those_of_exact_numbers():
    generator = np.random.default_rng(0)
    low = generator.integers(-64, 64 * 100, (2, 50, 2)) / 64
    boxes = np.concatenate([low, low + generator.integers(1, 64 * 400, (2, 50, 2)) / 64], axis=-1)
    inside = generator.uniform(-0.2, 1.2, (2, 50, 17, 2)).round(2).clip(-0.1, 1)
    points = low[:, :, None] + np.floor(inside * (boxes - np.tile(low, 2))[:, :, None, 2:] * 64) / 64
    points[:, :, 0] = low + (boxes[..., 2:] - low) / 2  # on the border between two cells
    visibility = generator.integers(0, 3, (2, 50, 17))
    labels, weights = targets.heat_map_labels(points.astype("float32"), visibility, boxes.astype("float32"), SIZE)
    expected = [
        [[exact_label(p, v, box) for p, v in zip(*of_roi, strict=True)] for *of_roi, box in zip(*of_image, strict=True)]
        for of_image in zip(points, visibility, boxes, strict=True)
    ]
    np.testing.assert_array_equal(np.stack([labels, weights], axis=-1), expected)
    assert 0.3 < np.mean(weights) < 0.6 and np.max(labels) > 50 * 56


def test_the_sides_of_a_region_are_divided_each_by_itself():
    labels, _ = targets.heat_map_labels([[[15.0, 100.0]]], [[2]], [[10.0, 0.0, 20.0, 400.0]], 8)
    assert labels.numpy().tolist() == [[4 * 8 + 2]]


@pytest.mark.parametrize("far", [20.0 - 1e-6, np.nextafter(np.float32(20), np.float32(0))])
def test_a_keypoint_before_the_border_by_less_than_the_rounding_is_in_the_last_cell(far):
    box = np.float32([[10 / 3, 10 / 3, 20, 20]])
    labels, weights = targets.heat_map_labels(np.float32([[[far, far]]]), [[2]], box, SIZE)
    assert (labels.numpy().tolist(), weights.numpy().tolist()) == ([[3135]], [[1.0]])


@pytest.mark.parametrize("box", [[5, 5, 5, 5], [5, 5, 5, 9], [5, 5, 9, 5], [9, 9, 5, 5], [-1, -1, -1, -1]])
def test_a_region_without_width_or_height_has_no_labels(box):
    points = [[[5.0, 5.0], [5.0, 7.0], [7.0, 5.0], [-1.0, -1.0]]]
    labels, weights = targets.heat_map_labels(points, [[2, 2, 2, 2]], [[float(x) for x in box]], SIZE)
    assert not np.any(labels) and not np.any(weights)


def test_regions_of_half_precision_are_taken_as_they_are():
    boxes = tf.constant([[10.0, 10.0, 303.0, 303.0]], tf.bfloat16)  # 303 is 304 there
    labels, weights = targets.heat_map_labels([[[303.5, 10.0]]], [[2]], boxes, SIZE)
    assert (labels.numpy().tolist(), weights.numpy().tolist()) == ([[55 * 56]], [[1.0]])


def example(generator, batch=2, rois=9, keypoints=3):
    """Regions of 20 pixels with keypoints around them, half of which are visible."""
    low = generator.integers(0, 30, (batch, rois, 2)).astype("float32")
    return (
        np.concatenate([low, low + 20], axis=-1),
        generator.integers(0, 3, (batch, rois)),
        low[:, :, None] + generator.integers(-5, 25, (batch, rois, keypoints, 2)).astype("float32"),
        generator.integers(0, 3, (batch, rois, keypoints)),
    )


@pytest.mark.parametrize("count", [1, 4, 9, 12])
def test_regions_are_sampled_in_their_order(count):
    arrays = example(np.random.default_rng(1))
    rois, keypoints, visibility = targets.sample(*map(tf.constant, arrays), count)
    assert (rois.shape, keypoints.shape, visibility.shape) == ((2, count, 4), (2, count, 3, 2), (2, count, 3))
    for image, of_image in enumerate(zip(*arrays, strict=True)):
        expected = exact_sample(*of_image, count)
        assert 1 < sum(chosen for _, chosen in exact_sample(*of_image, 9)) < 8
        for row, (index, chosen) in enumerate(expected):
            np.testing.assert_array_equal(rois[image, row], of_image[0][index])
            np.testing.assert_array_equal(keypoints[image, row], of_image[2][index])
            np.testing.assert_array_equal(visibility[image, row], of_image[3][index] * chosen)
        assert not np.any(visibility[image, len(expected) :])


@pytest.mark.parametrize(
    "point, visible, of_class, chosen",
    [
        ((10, 20), 2, 1, True),
        ((30, 60), 1, 1, True),
        ((10, 60), 1, 5, True),
        ((20, 40), 2, 0, False),
        ((20, 40), 0, 1, False),
        ((9.99, 40), 2, 1, False),
        ((30.01, 40), 2, 1, False),
        ((20, 19.99), 2, 1, False),
        ((20, 60.01), 2, 1, False),
    ],
)
def test_a_region_is_trained_on_for_one_visible_keypoint_inside(point, visible, of_class, chosen):
    points = tf.constant([[[point, (0, 0)]]], tf.float32)  # the other one is visible, and outside
    roi = tf.constant([[[10.0, 20.0, 30.0, 60.0]]])
    _, _, visibility = targets.sample(roi, tf.constant([[of_class]]), points, tf.constant([[[visible, 2]]]), 1)
    assert visibility.numpy().tolist() == [[[visible, 2] if chosen else [0, 0]]]


def test_sampling_in_a_graph_of_unknown_sizes():
    arrays = example(np.random.default_rng(2))
    signature = [tf.TensorSpec([None, None, *x.shape[2:]], x.dtype) for x in arrays]
    sample = tf.function(lambda *tensors: targets.sample(*tensors, 12), input_signature=signature)
    for found, expected in zip(sample(*arrays), targets.sample(*map(tf.constant, arrays), 12), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert sample(*(x[:0] for x in arrays))[2].shape == (0, 12, 3)
    assert not np.any(sample(*(x[:, :0] for x in arrays))[2]), "an image without regions"


def test_regions_labels_and_loss_compile():
    arrays = example(np.random.default_rng(7))
    logits = tf.random.normal([2, 4, 8, 8, 3])

    def chain(*tensors):
        rois, keypoints, visibility = targets.sample(*tensors, 4)
        labels, weights = targets.heat_map_labels(keypoints, visibility, rois, 8)
        return labels, weights, targets.loss(logits, labels, weights)

    expected = chain(*map(tf.constant, arrays))
    for found, value in zip(tf.function(chain, jit_compile=True)(*arrays), expected, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-6)
    assert np.sum(expected[1]) > 5


def restated_loss(logits, labels, weights):
    """In float64: the mean over valid keypoints of log(sum(exp(logits))) - logit of the label."""
    logits = np.moveaxis(np.float64(logits), -1, 2)
    logits = logits.reshape(*logits.shape[:3], -1)
    highest = logits.max(axis=-1)
    entropies = highest + np.log(np.exp(logits - highest[..., None]).sum(axis=-1))
    entropies -= np.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    return (entropies * weights).sum() / weights.sum()


def loss_example(seed, batch=2, size=8, scale=3.0):
    generator = np.random.default_rng(seed)
    return (
        generator.normal(0, scale, (batch, 3, size, size, 5)).astype("float32"),
        generator.integers(0, size * size, (batch, 3, 5)).astype("int32"),
        generator.integers(0, 2, (batch, 3, 5)).astype("float32"),
    )


@pytest.mark.parametrize("scale", [1.0, 3.0, 1e4])
def test_the_loss_in_float64(scale):
    logits, labels, weights = loss_example(3, scale=scale)
    assert float(targets.loss(logits, labels, weights)) == pytest.approx(
        restated_loss(logits, labels, weights), rel=1e-6
    )


def test_the_loss_starts_at_the_logarithm_of_the_positions():
    labels = tf.constant([[[0, 3135], [77, 1234]]])
    assert float(targets.loss(tf.zeros([1, 2, 56, 56, 2]), labels, tf.ones([1, 2, 2]))) == pytest.approx(np.log(3136))


def test_the_loss_of_a_label_is_that_of_its_row_and_column():
    logits = np.zeros([1, 1, 56, 56, 2], "float32")
    logits[0, 0, 20, 30, 1] = 100
    loss = targets.loss(logits, [[[0, 20 * 56 + 30]]], [[[0.0, 1.0]]])
    assert float(loss) == 0
    assert float(targets.loss(logits, [[[0, 30 * 56 + 20]]], [[[0.0, 1.0]]])) == pytest.approx(100)


def test_logits_of_half_precision_have_a_loss_in_float32():
    logits, labels, weights = loss_example(4)
    logits = tf.cast(logits, tf.bfloat16)
    loss = targets.loss(logits, labels, tf.cast(weights, tf.bfloat16))
    assert loss.dtype == tf.float32
    assert float(loss) == pytest.approx(restated_loss(tf.cast(logits, tf.float64), labels, weights), rel=1e-6)


def loss_and_gradient(logits, labels, weights):
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = targets.loss(logits, labels, weights)
    return loss, tape.gradient(loss, logits)


@pytest.mark.parametrize("batch, count", [(2, 3), (2, 0), (0, 3)])
@pytest.mark.parametrize("compiled", [False, True])
def test_without_a_valid_keypoint_loss_and_gradients_are_zero(batch, count, compiled):
    logits = tf.random.normal([batch, count, 8, 8, 5], stddev=100)
    labels, weights = tf.zeros([batch, count, 5], tf.int32), tf.zeros([batch, count, 5])
    loss, gradient = tf.function(loss_and_gradient, jit_compile=compiled)(logits, labels, weights)
    assert float(loss) == 0 and gradient.shape == logits.shape and not np.any(gradient)


def test_all_invisible_objects_give_nothing_to_learn_and_no_nan():
    rois, classes, points, visibility = example(np.random.default_rng(5))
    rois, points, visibility = targets.sample(*map(tf.constant, (rois, classes, points, visibility * 0)), 4)
    labels, weights = targets.heat_map_labels(points, visibility, rois, 8)
    loss, gradient = loss_and_gradient(tf.random.normal([2, 4, 8, 8, 3]), labels, weights)
    assert float(loss) == 0 and not np.any(gradient) and not np.any(weights) and not np.any(labels)


@pytest.mark.parametrize("visible", [(7, 2), (0, 1), (0, 0)])
def test_two_replicas_at_the_same_global_batch_are_one_device(visible, two_replicas):
    """Whatever the share of visible keypoints that each has: the losses' mean, and the gradients of loss / replicas."""
    logits, labels, _ = loss_example(6)
    weights = np.zeros([2, 15], "float32")
    for replica, count in enumerate(visible):
        weights[replica, :count] = 1
    weights = weights.reshape(2, 3, 5)
    expected_loss, gradient = loss_and_gradient(tf.constant(logits), labels, weights)
    expected = np.sum(gradient * logits, axis=(0, 1))  # of the factors below, by the chain rule at 1
    with two_replicas.scope():
        factors = tf.Variable(tf.ones([8, 8, 5]))

    @tf.function
    def step(*values):
        def on_replica(logits, labels, weights):
            with tf.GradientTape() as tape:
                loss = targets.loss(factors * logits, labels, weights)
                scaled = loss / 2
            gradient = tape.gradient(scaled, factors)
            return loss, tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradient)

        losses, gradients = two_replicas.run(on_replica, values)
        return two_replicas.reduce("MEAN", losses, axis=None), gradients

    halves = [
        two_replicas.experimental_distribute_values_from_function(
            lambda context, x=x: tf.constant(x[context.replica_id_in_sync_group][None])
        )
        for x in (logits, labels, weights)
    ]
    loss, gradients = step(*halves)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
    for found in two_replicas.experimental_local_results(gradients):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert any(visible) == bool(np.any(expected))
