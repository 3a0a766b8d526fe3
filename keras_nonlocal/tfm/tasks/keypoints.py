"""Detection of objects and their keypoints (section 5.3, Table 6): tfm's task of Mask R-CNN, and what keypoints add."""

import tensorflow as tf
import tf_keras
from official.common import dataset_fn as dataset_fns
from official.core import input_reader, task_factory
from official.vision.tasks import maskrcnn

from keras_nonlocal import errors
from keras_nonlocal.tfm.heads import keypoint
from keras_nonlocal.tfm.inputs import keypoint_parser, keypoint_records
from keras_nonlocal.tfm.keypoints import checks, config, model, targets
from keras_nonlocal.tfm.scoring import coco_keypoints
from keras_nonlocal.tfm.tasks import answers, detection

LOSS = "keypoint_loss"


@task_factory.register_task_cls(config.KeypointTask)
class KeypointRCNNTask(maskrcnn.MaskRCNNTask):
    """Keypoint R-CNN; see keras_nonlocal.tfm.keypoints.config."""

    def build_model(self):
        checks.check(self.task_config)
        size, weight_decay = self.task_config.model.input_size, self.task_config.losses.l2_weight_decay
        # The gradient of half the square is the weight.
        regularizer = tf_keras.regularizers.l2(weight_decay / 2) if weight_decay else None
        inputs = tf_keras.layers.InputSpec(shape=[None, *size])
        detector = model.build(inputs, self.task_config.model, regularizer)
        if self.task_config.freeze_backbone:
            detector.backbone.trainable = False
        detector(tf_keras.Input(size), image_shape=tf_keras.Input([2]), training=False)  # makes its weights
        return detector

    def build_inputs(self, params, input_context=None, dataset_fn=None):
        records = dataset_fn or dataset_fns.pick_dataset_fn(params.file_type)
        if params.is_training:
            self._check_records(params, records)
        reader = input_reader.InputReader(
            params,
            dataset_fn=_with_keypoints(records) if params.is_training else records,
            decoder_fn=self._decoder(params).decode,
            parser_fn=self._parser(params).parse_fn(params.is_training),
        )
        return reader.read(input_context=input_context)

    def _check_records(self, params, dataset_fn):
        """Refuses records of which none has a visible keypoint: training would read them for ever."""
        name, path = "task.train_data.input_path", params.input_path
        if not isinstance(path, str | list | tuple):
            raise errors.UserError(
                f"{name} must be a pattern of files or a list of them, for records of keypoints are not mixed. "
                f"Received: {path!r}"
            )
        try:
            first = list(_with_keypoints(dataset_fn)(input_reader.match_files(path)).take(1))
        except tf.errors.OpError as error:
            raise errors.UserError(answers.of(self.task_config).explain(error) or errors.first_line(error)) from error
        if not first:
            raise errors.UserError(f"{name} must match records with a visible keypoint, and none has. Received: {path}")

    def _decoder(self, params):
        settings = params.decoder.get()
        return keypoint_records.Decoder(
            self.task_config.model.num_keypoints,
            include_mask=self.task_config.model.include_mask,
            regenerate_source_id=settings.regenerate_source_id,
            mask_binarize_threshold=settings.mask_binarize_threshold,
        )

    def _parser(self, params):
        of_model, of_data = self.task_config.model, params.parser
        return keypoint_parser.Parser(
            mirrored=self.task_config.mirrored,
            output_size=of_model.input_size[:2],
            min_level=of_model.min_level,
            max_level=of_model.max_level,
            num_scales=of_model.anchor.num_scales,
            aspect_ratios=of_model.anchor.aspect_ratios,
            anchor_size=of_model.anchor.anchor_size,
            rpn_match_threshold=of_data.rpn_match_threshold,
            rpn_unmatched_threshold=of_data.rpn_unmatched_threshold,
            rpn_batch_size_per_im=of_data.rpn_batch_size_per_im,
            rpn_fg_fraction=of_data.rpn_fg_fraction,
            aug_rand_hflip=of_data.aug_rand_hflip,
            aug_scale_min=of_data.aug_scale_min,
            aug_scale_max=of_data.aug_scale_max,
            aug_type=of_data.aug_type,
            skip_crowd_during_training=of_data.skip_crowd_during_training,
            max_num_instances=of_data.max_num_instances,
            include_mask=of_model.include_mask,
            outer_boxes_scale=of_model.outer_boxes_scale,
            mask_crop_size=of_data.mask_crop_size,
            dtype=params.dtype,
        )

    def train_step(self, inputs, model, optimizer, metrics=None):
        """tfm's, with a model that is given the keypoints too."""
        _, labels = inputs
        return super().train_step(inputs, _Taught(model, labels), optimizer, metrics)

    def build_losses(self, outputs, labels, aux_losses=None):
        """tfm's, and the cross-entropy of heat maps, times its weight, in the losses that are sums."""
        losses = super().build_losses(outputs, labels, aux_losses)
        # tfm has made everything float32; labels are below 2^24, so none was rounded.
        positions = tf.cast(outputs["keypoint_labels"], tf.int32)
        losses[LOSS] = targets.loss(outputs["keypoint_outputs"], positions, outputs["keypoint_weights"])
        weighted = self.task_config.losses.keypoint_weight * losses[LOSS]
        losses["model_loss"] += weighted
        losses["total_loss"] += self.task_config.losses.loss_weight * weighted
        return losses

    def build_metrics(self, training=True):
        metrics = super().build_metrics(training)
        return [*metrics, tf_keras.metrics.Mean(LOSS, dtype=tf.float32)] if training else metrics

    def _build_coco_metrics(self):
        super()._build_coco_metrics()
        self.keypoint_metric = coco_keypoints.KeypointEvaluator(
            self.task_config.annotation_file, self.task_config.sigmas, self.task_config.decoding
        )
        self.coco_metric = _Evaluators(self.coco_metric, self.keypoint_metric)

    def _update_metrics(self, labels, outputs, logs):
        super()._update_metrics(labels, outputs, logs)
        if not self.task_config.use_coco_metrics:
            return
        _, predictions = logs[self.coco_metric.name]
        predictions["detection_keypoints"] = outputs["detection_keypoints"]
        if self.task_config.decoding == "bicubic":
            predictions["keypoint_outputs"] = outputs["keypoint_outputs"]


class _Taught:
    """A model that is also given the keypoints of a batch when it is called, as tfm's step of training has no way to.

    Args:
      model: a KeypointRCNNModel.
      labels: of the batch.
    """

    def __init__(self, model, labels):
        self._model = model
        self._keypoints = {name: labels[name] for name in ("gt_keypoints", "gt_visibility")}

    def __call__(self, images, **kwargs):
        return self._model(images, **kwargs, **self._keypoints)

    def __getattr__(self, name):
        return getattr(self._model, name)


class _Evaluators:
    """tfm's evaluator of boxes and masks and ours of keypoints, as the one that tfm's task has room for.

    tfm's would judge keypoints too if it saw them, and that is broken.
    """

    def __init__(self, boxes, keypoints):
        self._boxes, self._keypoints = boxes, keypoints
        self.name = boxes.name

    def reset_states(self):
        self._boxes.reset_states()
        self._keypoints.reset_states()

    def update_state(self, groundtruths, predictions):
        self._keypoints.update_state(groundtruths, predictions)
        self._boxes.update_state(
            {name: value for name, value in groundtruths.items() if name not in ("keypoints", "visibility")},
            {name: value for name, value in predictions.items() if "keypoint" not in name},
        )

    def result(self):
        return {**self._boxes.result(), **self._keypoints.result()}


def _with_keypoints(dataset_fn):
    return lambda files: dataset_fn(files).filter(keypoint_records.has_keypoints)


@answers.ANSWERS.register(config.KeypointTask)
class KeypointAnswers(detection.DetectionAnswers):
    """As of other detectors; the best is best in its keypoints."""

    metrics = (*detection.DetectionAnswers.metrics, *(f"keypoint_AP{which}" for which in ("", "50", "75", "m", "l")))
    score = "keypoint AP (AP50 / AP75)"

    @property
    def best_metric(self):
        return ("keypoint_AP", "higher") if self.config.use_coco_metrics else None

    def counted_head(self):
        """The keypoint head, with random weights, and the sizes of the crop of one region."""
        of_model = self.config.model
        side = of_model.keypoint_roi_aligner.crop_size
        head = keypoint.KeypointHead(of_model.num_keypoints, **of_model.keypoint_head.as_dict())
        return head, (1, side, side, of_model.decoder.get().num_filters)

    def explain(self, error):
        if keypoint_records.KEYPOINT_ERROR in error.message:
            found = answers.own_words(error, keypoint_records.KEYPOINT_ERROR)
            return (
                f"the records of task.*_data.input_path do not fit task.model: {found}: set num_keypoints, or write "
                f"them again with {self.records_from} --keypoints."
            )
        return super().explain(error)
