"""What a test sees of a video, frame by frame and pixel by pixel, against NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from official.core import exp_factory
from official.vision.ops import preprocess_ops_3d

from keras_nonlocal.tfm.inputs import parser, views
from keras_nonlocal.tfm.tasks import answers


def expected(length, clips, frames, stride, starts):
    """The rules in plain Python."""
    rows = []
    for j in range(clips):
        if starts == "wrapped":
            start = int(j * length / clips) % length
            rows.append([(start + k * stride) % length for k in range(frames)])
        else:
            start = round(j * max(length - ((frames - 1) * stride + 1), 0) / (clips - 1))
            rows.append([min(start + k * stride, length - 1) for k in range(frames)])
    return rows


@pytest.mark.parametrize("starts", ["wrapped", "spread"])
@pytest.mark.parametrize("length", [1, 7, 63, 64, 65, 300, 719])
@pytest.mark.parametrize(("clips", "frames", "stride"), [(10, 32, 2), (10, 8, 8), (3, 4, 1)])
def test_clips_are_made_of_the_frames_of_the_rule(length, clips, frames, stride, starts):
    numbers = views.frame_numbers(tf.constant(length), clips, frames, stride, starts)
    assert numbers.numpy().tolist() == expected(length, clips, frames, stride, starts)


def test_frames_by_hand():
    """Ten frames: wrapped, the third of four clips runs over the end; spread, none does."""
    assert views.frame_numbers(10, 4, 3, 2, "wrapped").numpy().tolist() == [
        [0, 2, 4],
        [2, 4, 6],
        [5, 7, 9],
        [7, 9, 1],
    ]
    assert views.frame_numbers(10, 4, 3, 2, "spread").numpy().tolist() == [
        [0, 2, 4],
        [2, 4, 6],
        [3, 5, 7],
        [5, 7, 9],
    ]
    assert views.frame_numbers(3, 2, 3, 2, "spread").numpy().tolist() == [[0, 2, 2], [0, 2, 2]]
    with pytest.raises(ValueError, match="test_starts"):
        views.frame_numbers(3, 2, 3, 2, "random")


@pytest.mark.parametrize("length", [1, 5, 16, 17, 40])
def test_one_clip_is_the_middle_as_it_is_served(length):
    served = preprocess_ops_3d.sample_sequence(tf.range(length), 8, random=False, stride=2)
    assert views.frame_numbers(length, 1, 8, 2, "spread").numpy().tolist() == [served.numpy().tolist()]


@pytest.mark.parametrize(
    ("size", "corners"),
    [
        ((10, 17), [(0, 0), (0, 3), (0, 6)]),  # 17 - 10 is odd: half of it is 3, and two of those are 6
        ((18, 10), [(0, 0), (4, 0), (8, 0)]),
        ((10, 10), [(0, 0)] * 3),
        ((12, 20), [(1, 0), (1, 5), (1, 10)]),
    ],
)
def test_three_crops_lie_along_the_longer_side(size, corners):
    frames = np.random.default_rng(0).integers(0, 256, (2, *size, 3), "uint8")
    crops = views.three_crops(tf.constant(frames), 10, 10).numpy()
    for crop, (top, left) in zip(crops, corners, strict=True):
        np.testing.assert_array_equal(crop, frames[:, top : top + 10, left : left + 10])


def encoded(count, height, width):
    """Noise as JPEGs, and the pixels they hold."""
    frames = np.random.default_rng(count).integers(0, 256, (count, height, width, 3), "uint8")
    jpegs = [tf.io.encode_jpeg(frame).numpy() for frame in frames]
    return tf.constant(jpegs), np.stack([tf.io.decode_jpeg(jpeg).numpy() for jpeg in jpegs])


@pytest.mark.parametrize("size", [(24, 37), (37, 24)])
def test_views_come_clip_by_clip_and_crop_by_crop(size):
    jpegs, pixels = encoded(11, *size)
    shown = views.views(jpegs, (3, 24, 24, 3), 2, clips=4, crops=3, starts="wrapped", short_side=24)
    right = []
    for numbers in expected(11, 4, 3, 2, "wrapped"):
        for offset in (0, 6, 12):
            top, left = (offset, 0) if size[0] > size[1] else (0, offset)
            right.append(pixels[numbers][:, top : top + 24, left : left + 24])
    np.testing.assert_array_equal(shown, np.concatenate(right))
    whole = views.views(jpegs, (3, None, None, 3), 2, clips=4, crops=1, starts="spread", short_side=24)
    np.testing.assert_array_equal(whole, pixels[np.ravel(expected(11, 4, 3, 2, "spread"))])
    centre = views.views(jpegs, (3, 20, 20, 3), 1, clips=1, crops=1, starts="spread", short_side=24)
    top, left = (side // 2 - 10 for side in size)
    np.testing.assert_array_equal(centre, pixels[4:7, top : top + 20, left : left + 20])


@pytest.mark.parametrize(
    ("experiment", "protocol", "views_of", "shape", "starts", "combine"),
    [
        ("non_local_c2d_kinetics400", None, (10, 3), (8, 256, 256, 3), "wrapped", "mean"),
        ("non_local_c2d_kinetics400", "paper", (10, 1), (8, None, None, 3), "spread", "mean"),
        ("non_local_c2d_kinetics400", "centre", (1, 1), (8, 224, 224, 3), "spread", "mean"),
        ("paper_nl_i3d_r101_5_charades", None, (10, 3), (128, 320, 320, 3), "spread", "max"),
    ],
)
def test_a_task_is_tested_as_the_official_code_or_the_paper_does(
    experiment, protocol, views_of, shape, starts, combine
):
    config = exp_factory.get_exp_config(experiment).task
    chosen = answers.of(config).set_views(None, None, protocol)
    data = config.validation_data
    assert (chosen["clips"], chosen["crops"]) == views_of == (data.num_test_clips, data.num_test_crops)
    assert answers.of(config).set_views(None, None, protocol, "max")["combine"] == "max"
    assert (tuple(data.feature_shape), data.test_starts, chosen["combine"]) == (shape, starts, combine)
    parser.Parser(data, "image/encoded", "clip/label/index")


@pytest.mark.parametrize(
    ("protocol", "clips", "crops", "message"),
    [("paper", None, 3, "leave --crops out"), ("centre", 3, None, "choose --protocol=spread")],
)
def test_views_that_a_protocol_has_not_are_refused(protocol, clips, crops, message):
    of_task = answers.of(exp_factory.get_exp_config("c2d_kinetics400").task)
    with pytest.raises(ValueError, match=message):
        of_task.set_views(clips, crops, protocol)


def test_frames_smaller_than_the_crops_of_training_are_refused():
    config = exp_factory.get_exp_config("c2d_kinetics400").task
    config.validation_data.min_image_size = 200
    with pytest.raises(ValueError, match="min_image_size.* is 200, less than the crops of training"):
        answers.of(config).set_views(None, None)
