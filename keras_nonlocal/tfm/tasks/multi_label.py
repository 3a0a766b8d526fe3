"""Video classification where a clip is of any number of classes, or none: the task of Charades (section 5.2)."""

import dataclasses

import tensorflow as tf
import tf_keras
from official.core import task_factory

from keras_nonlocal.tfm.tasks import answers, video_classification


@dataclasses.dataclass
class MultiLabelConfig(video_classification.VideoClassificationConfig):
    """As VideoClassificationConfig, with a sigmoid for each class; set `is_multilabel` in both data parts."""


@task_factory.register_task_cls(MultiLabelConfig)
class MultiLabelTask(video_classification.VideoClassificationTask):
    """tfm's multi-label classification with the paper's loss and metric."""

    def build_losses(self, labels, model_outputs, aux_losses=None):
        """The binary cross-entropy, averaged over clips: tfm would leave one for each, whose gradients add up."""
        loss = tf.reduce_mean(tf_keras.losses.binary_crossentropy(labels, model_outputs))
        total = loss + tf.add_n(aux_losses) if aux_losses else loss
        return {"class_loss": loss, self.loss: total}

    def build_metrics(self, training=True):
        """The mean average precision of a run's curve, from 200 thresholds; that of a test is exact."""
        if training:
            return []
        num_classes = self._get_num_classes()
        return [
            tf_keras.metrics.AUC(curve="PR", multi_label=True, num_labels=num_classes, name="mean_average_precision")
        ]


@answers.ANSWERS.register(MultiLabelConfig)
class MultiLabelAnswers(video_classification.ClipAnswers):
    """As those of video classification, by the mean average precision. Tested as SlowFast and LFB test Charades."""

    metrics = ("mean_average_precision",)
    best_metric = ("mean_average_precision", "higher")
    score = "mAP"
    scoring = "many_labels"
    protocol = "spread"
    combine = "max"
