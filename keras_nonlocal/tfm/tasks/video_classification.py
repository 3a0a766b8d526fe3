"""tfm's video classification task on our clips, with a start from a trunk that has no non-local blocks."""

import tensorflow as tf
from absl import logging
from official.core import task_factory
from official.vision.dataloaders import input_reader_factory
from official.vision.dataloaders import video_input as tfm_video_input
from official.vision.tasks import video_classification

from keras_nonlocal.tfm import configs, warm_start
from keras_nonlocal.tfm.tasks import video_input


def scores(task_config, logits):
    """What an export makes of logits: what tfm's steps of the same task make of them.

    Args:
      task_config: the configuration of the task, ours or tfm's.
      logits: (B, classes).

    Returns:
      Float32 of the same shape: a sigmoid for each class where a clip may be of several (`is_multilabel`), otherwise a
      softmax.
    """
    logits = tf.cast(logits, tf.float32)
    return tf.sigmoid(logits) if task_config.train_data.is_multilabel else tf.nn.softmax(logits)


@task_factory.register_task_cls(configs.VideoClassificationTask)
class VideoClassificationTask(video_classification.VideoClassificationTask):
    """Video classification with the paper's clips; see configs.VideoClassificationTask."""

    def build_inputs(self, params, input_context=None):
        parser = video_input.Parser(params, params.image_field_key, params.label_field_key)
        reader = input_reader_factory.input_reader_generator(
            params,
            dataset_fn=self._get_dataset_fn(params),
            decoder_fn=self._get_decoder_fn(params),
            parser_fn=parser.parse_fn(params.is_training),
            postprocess_fn=tfm_video_input.PostBatchProcessor(params),
        )
        return reader.read(input_context=input_context)

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
