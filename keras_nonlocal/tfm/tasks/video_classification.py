"""tfm's video classification task on our clips, with a start from a trunk that has no non-local blocks."""

import contextlib
import dataclasses

import tensorflow as tf
import tf_keras
from absl import logging
from official.core import task_factory
from official.vision.configs import common
from official.vision.configs import video_classification as tfm_configs
from official.vision.dataloaders import video_input
from official.vision.modeling.backbones import factory
from official.vision.tasks import video_classification

from keras_nonlocal import errors, features
from keras_nonlocal.tfm import dropout, video_classifier, warm_start
from keras_nonlocal.tfm.backbones import configs
from keras_nonlocal.tfm.inputs import keyed, parser, pixels, sources, video_files, videos, views
from keras_nonlocal.tfm.tasks import answers, sliding


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
      videos: the folder or tars of videos that are read without records, with `file_type: video`; input_path is their
        list then, as keras-nonlocal prepare_videos takes it, and `split` picks its rows.
      labels: file of class names for these, one a line.
      list_format: of the list; None sees which it is.
      video_decoder: "opencv", or "ffmpeg" for tensorflow-io's.
      test_starts: where test clips start, "spread" or "wrapped"; see keras_nonlocal.tfm.inputs.views.
    """

    min_image_size: int = 256
    max_image_size: int = 320
    scale_sampling: str = "uniform"
    random_flip: bool = True
    outside_frames: str = "wrap"
    test_starts: str = "spread"
    videos: str = ""
    labels: str = ""
    list_format: str | None = None
    video_decoder: str = "opencv"


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

    def build_model(self):
        """tfm's classifier with the official code's dropout, weight decay and start: see VideoClassifier."""
        model_config = self.task_config.model
        shape = self._get_feature_shape()
        weight_decay = self.task_config.losses.l2_weight_decay
        # The gradient of half the square is the weight.
        regularizer = tf_keras.regularizers.l2(weight_decay / 2) if weight_decay else None
        inputs = tf_keras.layers.InputSpec(shape=[None, *shape])
        backbone = factory.build_backbone(inputs, model_config.backbone, model_config.norm_activation, regularizer)
        if self.task_config.freeze_backbone:
            backbone.trainable = False
        return video_classifier.VideoClassifier(
            backbone,
            self._get_num_classes(),
            shape,
            model_config.dropout_rate,
            sorted(backbone.output_specs) if model_config.aggregate_endpoints else model_config.require_endpoints,
            regularizer,
        )

    def train_step(self, inputs, model, optimizer, metrics=None):
        """tfm's, with the dropout of this step."""
        with dropout.at(self.task_config.train_data.seed or 0, optimizer.iterations):
            return super().train_step(inputs, model, optimizer, metrics)

    def norm_step(self, inputs, model):
        """What a batch does to the statistics of batch norm, and nothing else; the classifier has none."""
        features, _ = inputs
        model.backbone(features["image"], training=True)

    def build_inputs(self, params, input_context=None):
        source, decode = sources.of(params), parser.decoder(params)
        parse = parser.Parser(params, params.image_field_key, params.label_field_key).parse_fn(params.is_training)
        try:
            return keyed.dataset(
                params,
                source,
                lambda record, seed: parse({**decode(record), parser.SEED: seed}),
                input_context,
                self.first_step,
                video_input.PostBatchProcessor(params),
            )
        except tf.errors.OpError as error:  # of `cache`, which reads at once
            if message := answers.of(self.task_config).explain(error):
                raise errors.UserError(message) from error
            raise

    def build_test_inputs(self, params, input_context=None):
        """Every video once, in all its views as pixels and with its name."""
        source, decode = sources.of(params), parser.decoder(params, features.DATA_PATH)
        parse = videos.Parser(params, params.image_field_key, params.label_field_key).parse_fn(False)
        return keyed.dataset(params, source, lambda record, _: parse(decode(record)), input_context)

    def build_test_model(self, model):
        """The network of a test, from normalized clips to scores, with the weights of one that trains."""
        config = self.task_config
        return sliding.slid(
            model, config.train_data.feature_shape, config.validation_data.feature_shape, answers.of(config).scores
        )

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
        elif self.task_config.init_checkpoint and self.task_config.init_checkpoint_modules == "backbone":
            path = self.task_config.init_checkpoint
            warm_start.restore(model.backbone, self.task_config.model, path, "task.init_checkpoint")
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

    def set_views(self, clips, crops, protocol=None, combine=None):
        if (protocol, combine) != (None, None):
            raise errors.UserError(
                "--protocol and --combine are for the video tasks of keras_nonlocal, not tf-models-official's: leave "
                f"them out. Received: protocol={protocol}, combine={combine}"
            )
        chosen = {"clips": clips or 10, "crops": crops or 1}
        self.config.validation_data.override({f"num_test_{name}": number for name, number in chosen.items()})
        return chosen

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
        if video_files.VIDEO_ERROR in error.message:
            return error.message.partition(f"{video_files.VIDEO_ERROR}: ")[2].partition("\n")[0]
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


@answers.ANSWERS.register(VideoClassificationConfig)
class ClipAnswers(VideoClassificationAnswers):
    """Of our classifiers of clips, which are tested as the official code tests."""

    scoring = "one_label"
    # Unless the user says something else.
    protocol = "official"
    combine = "mean"

    def input_shape(self, data):
        # Of whole frames there is no one size.
        return None if None in data.feature_shape else super().input_shape(data)

    def set_views(self, clips, crops, protocol=None, combine=None):
        protocol, combine = protocol or self.protocol, combine or self.combine
        errors.check_choice("protocol", protocol, views.PROTOCOLS)
        errors.check_choice("combine", combine, views.COMBINE)
        placing = views.PROTOCOLS[protocol]
        clips, crops = clips or placing.clips, crops or placing.crops
        if placing.size == "frame" and crops > 1:
            raise errors.UserError(
                f"--protocol={protocol} sees whole frames: leave --crops out. Received: crops={crops}"
            )
        if placing.size == "configured" and (clips, crops) != (1, 1):
            raise errors.UserError(
                f"--protocol={protocol} sees one clip and one crop: leave --clips and --crops out, or choose "
                f"--protocol=spread. Received: clips={clips}, crops={crops}"
            )
        data = self.config.validation_data
        side, trained = data.min_image_size, self.config.train_data.feature_shape[1:3]
        if placing.size != "configured" and side < max(trained):
            raise errors.UserError(
                f"task.validation_data.min_image_size, the short side of test frames, is {side}, less than the crops "
                f"of training {tuple(trained)}: train with a larger one, or test with --protocol=centre."
            )
        length, *size, channels = data.feature_shape
        size = {"square": [side, side], "frame": [None, None], "configured": size}[placing.size]
        data.override(
            {
                "num_test_clips": clips,
                "num_test_crops": crops,
                "test_starts": placing.starts,
                "feature_shape": (length, *size, channels),
            }
        )
        return {"protocol": protocol, "clips": clips, "crops": crops, "combine": combine}
