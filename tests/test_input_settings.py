"""Every setting of the data does what it says, or is refused in a sentence."""

import dataclasses

import pytest
from official.vision.configs import common
from official.vision.configs import video_classification as tfm_configs

from keras_nonlocal import errors
from keras_nonlocal.tfm.inputs import settings
from keras_nonlocal.tfm.tasks import video_classification

# What pixels, clips, labels and batches are made with, or how fast; each has a test elsewhere or is tfm's own.
FOLLOWED = {
    "input_path", "global_batch_size", "is_training", "drop_remainder", "cache", "seed", "deterministic",
    "prefetch_buffer_size", "autotune_algorithm", "ram_budget", "feature_shape", "temporal_stride", "num_test_clips",
    "num_test_crops", "num_classes", "dtype", "label_dtype", "one_hot", "min_image_size", "is_multilabel",
    "image_field_key", "label_field_key", "file_type", "split",
}  # fmt: skip
OTHER_VALUES = {
    "aug_type": common.Augmentation(type="randaug"),
    "mixup_and_cutmix": common.MixupAndCutmix(),
    "audio_feature_shape": (8,),
    "data_format": "channels_first",
    "input_image_format": "png",
}


def test_no_setting_is_forgotten():
    known = [*settings.REFUSED, *settings.UNREAD, *FOLLOWED]
    assert sorted(known) == sorted(field.name for field in dataclasses.fields(tfm_configs.DataConfig))


@pytest.mark.parametrize("name", settings.REFUSED)
def test_a_setting_without_a_meaning_is_refused(name):
    default = getattr(tfm_configs.DataConfig(), name)
    simple = {bool: lambda value: not value, int: lambda value: value + 1, float: lambda value: value / 2 + 0.1}
    other = OTHER_VALUES.get(name) or simple.get(type(default), lambda value: "something")(default)
    for training, part in ((True, "train_data"), (False, "validation_data")):
        with pytest.raises(errors.UserError, match=rf"^task.{part}.{name} must be left at .*, for [^.]*\. Received: "):
            settings.check(video_classification.DataConfig(is_training=training, **{name: other}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"deterministic": False}, "deterministic must be left out or true"),
        ({"input_path": tfm_configs.DataConfig()}, "input_path must be a pattern"),
        ({"is_multilabel": True, "one_hot": False}, "one_hot must be left at True"),
        ({"outside_frames": "loop"}, "outside_frames must be one of wrap, clamp. Received: outside_frames='loop'"),
        ({"scale_sampling": "log"}, "scale_sampling must be one of uniform, inverse"),
        ({"feature_shape": (8, 224, 224, 1)}, r"feature_shape must be \[frames, height, width, 3\]"),
        ({"temporal_stride": 0}, "temporal_stride must be at least 1"),
        ({"min_image_size": 223}, "min_image_size must be at least 224, for crops are 224 x 224"),
        ({"max_image_size": 255}, "max_image_size must be at least min_image_size, 256"),
    ],
)
def test_a_value_that_cannot_be_is_refused(values, message):
    config = video_classification.DataConfig(is_training=True, feature_shape=(8, 224, 224, 3))
    settings.check(config)
    with pytest.raises(errors.UserError, match=f"task.train_data.{message}"):
        settings.check(config.replace(**values))


def test_tests_may_see_whole_frames():
    settings.check(video_classification.DataConfig(is_training=False, feature_shape=(8, 320, 400, 3)))
