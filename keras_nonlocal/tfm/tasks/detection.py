"""tfm's own tasks on COCO, RetinaNet and Mask R-CNN: what is asked of them here."""

import tf_keras
from official.vision.configs import maskrcnn, retinanet
from official.vision.modeling.backbones import factory

from keras_nonlocal.tfm.scoring import kept_results
from keras_nonlocal.tfm.tasks import answers


@answers.ANSWERS.register(retinanet.RetinaNetTask)
@answers.ANSWERS.register(maskrcnn.MaskRCNNTask)
class DetectionAnswers(answers.Answers):
    """Of detectors. Their paper's tables count the backbone alone."""

    metrics = ("AP", "AP50", "AP75", "mask_AP", "mask_AP50", "mask_AP75")
    score = "AP (AP50 / AP75)"
    records_from = "keras-nonlocal prepare_coco"

    @property
    def best_metric(self):
        return ("AP", "higher") if self.config.use_coco_metrics else None

    def kept_results(self):
        return kept_results.KeptResults() if self.config.use_coco_metrics else None

    def shown(self, values):
        # An evaluation of Mask R-CNN computes no loss.
        return [name for name in super().shown(values) if name != "loss" or "AP" not in values]

    def counted(self):
        model = self.config.model
        specs = tf_keras.layers.InputSpec(shape=[None, *model.input_size])
        return factory.build_backbone(specs, model.backbone, model.norm_activation), tuple(model.input_size)
