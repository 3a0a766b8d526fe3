"""Clips out of videos without records."""

import numpy as np
import pytest
import tensorflow as tf
from official.core import task_factory
from video_files import FOOTAGE

from keras_nonlocal import errors, features
from keras_nonlocal.data.records import plan, split
from keras_nonlocal.data.video import examples, lists, reader
from keras_nonlocal.tfm.inputs import parser, sources
from keras_nonlocal.tfm.tasks import answers, multi_label, video_classification

CHARADES = """id,actions
carphone_pristine,c001 0.5 1.2;c000 3.0 9.0
carphone_distorted,
"""


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """A list of several labels a video with times, its class names, and the same as records."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "list.csv").write_text(CHARADES)
    (folder / "labels.txt").write_text("c000 Holding\nc001 Putting\n")
    names = ["c000 Holding", "c001 Putting"]
    videos, _ = lists.read_list(folder / "list.csv", FOOTAGE, labels=names)
    maker = examples.VideoExamples(str(FOOTAGE), jpeg_quality=100)
    split.write(plan.Plan("train", videos, names, maker, shards=1), str(folder), workers=1)
    return folder


def config(folder, **changes):
    return video_classification.DataConfig(
        is_training=True,
        drop_remainder=True,
        is_multilabel=True,
        num_classes=2,
        feature_shape=(4, 112, 112, 3),
        min_image_size=112,
        max_image_size=144,
        temporal_stride=2,
        global_batch_size=2,
        input_path=f"{folder}/list.csv",
    ).replace(**({"file_type": "video", "videos": str(FOOTAGE), "labels": f"{folder}/labels.txt"} | changes))


def task_of(params):
    return task_factory.get_task(multi_label.MultiLabelConfig(train_data=params, validation_data=params))


def test_decoded_records_are_those_of_the_videos(listed):
    source = sources.of(config(listed, file_type="video"))
    assert len(source) == 2
    decoded = source.read(tf.constant(0, tf.int64))
    np.testing.assert_array_equal(decoded["image/encoded"], reader.read_video(FOOTAGE / "carphone_pristine.mp4"))
    np.testing.assert_array_equal(decoded["clip/label/index"], [0, 1])
    # Frame i happens at i / 29.97 seconds, and the video has 120.
    found = {name: decoded[f"clip/action/{name}"].numpy().tolist() for name in ("index", "first", "last")}
    assert found == {"index": [1, 0], "first": [15, 90], "last": [35, 119]}
    assert decoded["clip/data_path"] == b"carphone_pristine.mp4"
    without = source.read(tf.constant(1, tf.int64))
    assert without["clip/label/index"].shape == without["clip/action/index"].shape == (0,)


def test_the_same_clips_as_out_of_records(listed):
    from_files = config(listed)
    from_records = config(listed, file_type="tfrecord", videos="", labels="", input_path=f"{listed}/train-*.tfrecord")

    def clips(params):
        source, decode = sources.of(params), parser.decoder(params, features.DATA_PATH)
        parse = parser.Parser(params, params.image_field_key, params.label_field_key).parse_fn(True)
        found = {}
        for number in range(len(source)):
            decoded = decode(source.read(tf.constant(number, tf.int64)))
            found[decoded[features.DATA_PATH].numpy()] = parse({**decoded, parser.SEED: tf.constant([3, 5], tf.int64)})
        return found

    files, records = clips(from_files), clips(from_records)
    assert files.keys() == records.keys() and len(files) == 2
    for name, (images, label) in files.items():
        # JPEG halves the resolution of colours at any quality: less than 3 grey levels of 1 / 57.375 in the mean.
        assert np.abs(images["image"] - records[name][0]["image"]).mean() < 3 / 57.375
        np.testing.assert_array_equal(label, records[name][1])


def test_training_batches(listed):
    params = config(listed)
    images, labels = next(iter(task_of(params).build_inputs(params)))
    assert images["image"].shape == (2, 4, 112, 112, 3) and labels.shape == (2, 2)


def test_a_broken_video_is_named(listed, tmp_path):
    (tmp_path / "labels.txt").write_text("0\n")
    broken = tmp_path / "videos"
    broken.mkdir()
    (broken / "cut.mp4").write_bytes((FOOTAGE / "carphone_pristine.mp4").read_bytes()[:200_000])
    (tmp_path / "list.csv").write_text("path,label\ncut.mp4,0\n")
    params = config(
        listed,
        videos=str(broken),
        input_path=f"{tmp_path}/list.csv",
        labels=f"{tmp_path}/labels.txt",
        is_multilabel=False,
        num_classes=1,
        global_batch_size=1,
    )
    task = task_factory.get_task(video_classification.VideoClassificationConfig(train_data=params))
    with pytest.raises(tf.errors.OpError) as raised:
        next(iter(task.build_inputs(params)))
    message = answers.of(task.task_config).explain(raised.value)
    assert message.startswith(str(broken / "cut.mp4")) and "\n" not in message and "download it again" in message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"videos": ""}, "videos must be given with file_type: video"),
        ({"file_type": "tfrecord"}, "videos is for videos that are read without records"),
        ({"video_decoder": "decord"}, "video_decoder must be one of opencv, ffmpeg"),
        ({"cache": True}, "cache must be left at False"),
        ({"file_type": "avi"}, "file_type must be one of tfrecord, video"),
    ],
)
def test_settings_that_do_not_go_together(listed, changes, words):
    with pytest.raises(errors.UserError, match=words):
        sources.of(config(listed, **changes))
