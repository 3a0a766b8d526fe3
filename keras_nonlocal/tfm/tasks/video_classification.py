"""tfm's video classification task on our clips, with a start from a trunk that has no non-local blocks."""

import contextlib
import dataclasses

import tensorflow as tf
from absl import logging
from official.core import task_factory
from official.vision.configs import common
from official.vision.configs import video_classification as tfm_configs
from official.vision.dataloaders import video_input
from official.vision.tasks import video_classification

from keras_nonlocal import errors
from keras_nonlocal.tfm import warm_start
from keras_nonlocal.tfm.backbones import configs
from keras_nonlocal.tfm.inputs import keyed, parser, pixels, settings
from keras_nonlocal.tfm.tasks import answers


@dataclasses.dataclass
class VideoClassificationModel(tfm_configs.VideoClassificationModel):
    """tfm's video classifier with the batch norm and dropout of the paper."""

    backbone: configs.Backbone3D = dataclasses.field(default_factory=configs.Backbone3D)
    norm_activation: common.NormActivation = dataclasses.field(
        default_factory=lambda: common.NormActivation(norm_momentum=0.9, norm_epsilon=1e-5, use_sync_bn=False)
    )
    dropout_rate: float = 0.5


@dataclasses.dataclass
class DataConfig(tfm_configs.DataConfig):
    """tfm's video data with the augmentation of the paper.

    Args:
      min_image_size: the short side of test frames, and the least one of training frames, in pixels.
      max_image_size: the largest short side of training frames.
      scale_sampling: how the short side of training frames is drawn: "uniform", or "inverse" as SlowFast does, where 1
        over it is uniform.
      random_flip: mirror half of the training clips.
      outside_frames: what a training clip shows of a video that is shorter: it starts over ("wrap", as the official
        code), or its first and last frame stand still ("clamp", as SlowFast's for Charades).
    """

    min_image_size: int = 256
    max_image_size: int = 320
    scale_sampling: str = "uniform"
    random_flip: bool = True
    outside_frames: str = "wrap"


@dataclasses.dataclass
class VideoClassificationConfig(tfm_configs.VideoClassificationTask):
    """tfm's video classification on our data and networks.

    Args:
      init_checkpoint_modules: "all" and "backbone" as in tfm; "trunk" reads a backbone without non-local blocks into
        one that has them, and leaves those at the identity they start as.
    """

    model: VideoClassificationModel = dataclasses.field(default_factory=VideoClassificationModel)
    train_data: DataConfig = dataclasses.field(
        default_factory=lambda: DataConfig(is_training=True, drop_remainder=True)
    )
    validation_data: DataConfig = dataclasses.field(
        default_factory=lambda: DataConfig(is_training=False, drop_remainder=False)
    )


@task_factory.register_task_cls(VideoClassificationConfig)
class VideoClassificationTask(video_classification.VideoClassificationTask):
    """Video classification with the paper's clips; see VideoClassificationConfig."""

    # Where training begins: as many batches as these are behind it.
    first_step = 0

    def build_inputs(self, params, input_context=None):
        settings.check(params)
        decode = parser.decoder(params).decode
        parse = parser.Parser(params, params.image_field_key, params.label_field_key).parse_fn(params.is_training)
        try:
            return keyed.dataset(
                params,
                lambda record, seed: parse({**decode(record), parser.SEED: seed}),
                input_context,
                self.first_step,
                video_input.PostBatchProcessor(params),
            )
        except tf.errors.OpError as error:  # of `cache`, which reads at once
            if message := answers.of(self.task_config).explain(error):
                raise errors.UserError(message) from error
            raise

    def build_metrics(self, training=True):
        metrics = super().build_metrics(training)
        # Top-5 says nothing of five classes or less, and top-1 is accuracy.
        useless = {"top_1_accuracy"} | ({"top_5_accuracy"} if self._get_num_classes() <= 5 else set())
        return [metric for metric in metrics if metric.name not in useless]

    def initialize(self, model):
        if self.task_config.init_checkpoint and self.task_config.init_checkpoint_modules == "trunk":
            path = self.task_config.init_checkpoint
            report = warm_start.warm_start(model.backbone, self.task_config.model, path, "task.init_checkpoint")
            logging.info("Started the backbone from the trunk: %s", report.lines()[-1])
        else:
            super().initialize(model)


@answers.ANSWERS.register(tfm_configs.VideoClassificationTask)
class VideoClassificationAnswers(answers.Answers):
    """Of classifiers of clips, ours and tfm's. Their steps average the scores of all views of a video."""

    metrics = ("accuracy", "top_1_accuracy", "top_5_accuracy")
    best_metric = ("accuracy", "higher")
    records_from = "keras-nonlocal prepare_videos"
    score = "top-1 / top-5"

    def input_shape(self, data):
        return tuple(data.feature_shape)

    def set_views(self, clips, crops):
        views = {"clips": clips or 10, "crops": crops or 1}
        self.config.validation_data.override({f"num_test_{name}": number for name, number in views.items()})
        return views

    def explain(self, error):
        if isinstance(error, tf.errors.DataLossError):
            for data in (self.config.train_data, self.config.validation_data):
                with contextlib.suppress(errors.UserError):
                    if path := keyed.damaged_file(data.input_path, error):
                        return f"{path} is damaged: write it again with {self.records_from}."
        if parser.LABEL_ERROR in error.message:
            return (
                f"task.*_data.num_classes is {self.config.train_data.num_classes}, but in the records "
                f"{answers.own_words(error, parser.LABEL_ERROR)}: set it to the number of lines of labels.txt "
                "beside the records."
            )
        if parser.LABEL_COUNT_ERROR in error.message:
            found = answers.own_words(error, parser.LABEL_COUNT_ERROR)
            return (
                f"task.*_data.is_multilabel is off, but in the records {found}: use an experiment of several "
                "labels, such as the paper's of Charades, or other records."
            )
        for words in (pixels.FRAME_ERROR, "Invalid JPEG data"):
            if words in error.message:
                return (
                    "the records of task.*_data.input_path cannot be decoded, "
                    f"{answers.own_words(error, words)}: write them again with {self.records_from}."
                )
        return super().explain(error)

    def scores(self, logits: tf.Tensor) -> tf.Tensor:
        """What an export makes of logits: what tfm's steps of the same task make of them.

        Args:
          logits: (B, classes).

        Returns:
          Float32 of the same shape: a sigmoid for each class where a clip may be of several (`is_multilabel`),
          otherwise a softmax.
        """
        logits = tf.cast(logits, tf.float32)
        return tf.sigmoid(logits) if self.config.train_data.is_multilabel else tf.nn.softmax(logits)
