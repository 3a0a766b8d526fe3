"""A new task is its own file: training, evaluation and export ask it, and know none by name."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.core import base_task, exp_factory, task_factory
from official.core import config_definitions as cfg
from official.modeling import optimization
from official.vision.configs import image_classification, maskrcnn, retinanet, semantic_segmentation
from official.vision.configs import video_classification as tfm_video_classification

from keras_nonlocal import errors, surgery
from keras_nonlocal.export import Signature
from keras_nonlocal.tfm import evaluate, export, train
from keras_nonlocal.tfm.tasks import answers, multi_label

FEATURES = {"x": tf.io.FixedLenFeature([3], tf.float32), "y": tf.io.FixedLenFeature([1], tf.float32)}


# What a file in tasks/ holds.


@dataclasses.dataclass
class SumConfig(cfg.TaskConfig):
    """Learns the sum of three numbers."""


@task_factory.register_task_cls(SumConfig)
class SumTask(base_task.Task):
    def build_model(self):
        x = tf_keras.Input((3,))
        return tf_keras.Model(x, tf_keras.layers.Dense(1, kernel_initializer="zeros")(x))

    def build_inputs(self, params, input_context=None):
        def parse(record):
            example = tf.io.parse_single_example(record, FEATURES)
            return example["x"], example["y"]

        records = tf.data.TFRecordDataset(tf.io.gfile.glob(params.input_path)).map(parse)
        return (records.repeat() if params.is_training else records).batch(params.global_batch_size)

    def build_losses(self, labels, model_outputs, aux_losses=None):
        return tf.reduce_mean((labels - model_outputs) ** 2)

    def build_metrics(self, training=True):
        return [tf_keras.metrics.MeanAbsoluteError(name="error"), tf_keras.metrics.RootMeanSquaredError(name="other")]

    def validation_step(self, inputs, model, metrics=None):
        logs = super().validation_step(inputs, model)
        self.process_metrics(metrics, inputs[1], model(inputs[0]))
        return logs


@answers.ANSWERS.register(SumConfig)
class SumAnswers(answers.Answers):
    metrics = ("error",)
    best_metric = ("error", "lower")
    records_from = "a pencil"

    def input_shape(self, data):
        return (3,)


# What a file in export/ holds.


@export.signatures.MODULES.register(SumConfig)
class SumModule(export.signatures.Signatures):
    @classmethod
    def random_inputs(cls, params):
        return tf.random.stateless_normal([2, 3], [0, 0])

    @tf.function
    def serve(self, numbers):
        return {"sum": self.model(numbers, training=False)}

    def signatures(self):
        specs, example = {"numbers": tf.TensorSpec([None, 3], tf.float32)}, {"numbers": np.eye(2, 3, dtype="float32")}
        return {"serving_default": Signature(self.serve, specs, example)}


# What an experiment is.


@exp_factory.register_config_factory("sum_of_random_numbers")
def sum_of_random_numbers():
    optimizer = {
        "optimizer": {"type": "sgd"},
        "learning_rate": {"type": "constant", "constant": {"learning_rate": 0.1}},
    }
    return cfg.ExperimentConfig(
        task=SumConfig(
            train_data=cfg.DataConfig(is_training=True, global_batch_size=8),
            validation_data=cfg.DataConfig(is_training=False, global_batch_size=4),
        ),
        trainer=cfg.TrainerConfig(
            train_steps=3, steps_per_loop=1, summary_interval=1, checkpoint_interval=1, validation_interval=1,
            validation_steps=1, optimizer_config=optimization.OptimizationConfig(optimizer),
        ),
    )  # fmt: skip


def write_records(path, numbers):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for x in numbers:
            features = {
                name: tf.train.Feature(float_list=tf.train.FloatList(value=values))
                for name, values in {"x": x, "y": [x.sum()]}.items()
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    return str(path)


@pytest.fixture
def records(tmp_path):
    return write_records(tmp_path / "numbers.tfrecord", np.random.default_rng(0).normal(size=(10, 3)))


@pytest.mark.parametrize("best", ["error", "loss"])
def test_a_task_of_its_own_is_trained_evaluated_and_exported(best, records, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(SumAnswers, "best_metric", (best, "lower"))
    params = exp_factory.get_exp_config("sum_of_random_numbers")
    data = {"input_path": records}
    params.override({"task": {"train_data": data, "validation_data": data}})
    folder = str(tmp_path / "run")
    train.run(params, "train_and_eval", folder, seed=0)
    lines = capsys.readouterr().out.splitlines()
    assert "4 parameters (3 weights)" in lines[0]
    assert [line.split()[2::2] for line in lines if line.startswith("eval")] == [["loss", "error"]] * 3
    errors_then = [float(line.split()[5]) for line in lines if line.startswith("eval")]
    assert errors_then[2] < errors_then[0]
    info = json.loads((pathlib.Path(folder) / "best" / "info.json").read_text())
    assert info["best_ckpt_global_step"] == 3
    assert train.load_experiment("sum_of_random_numbers", folder).trainer.best_checkpoint_metric_comp == "lower"

    result = evaluate.evaluate("sum_of_random_numbers", folder, out=str(tmp_path / "test.json"))
    model = task_factory.get_task(params.task).build_model()
    tf.train.Checkpoint(model=model).read(train.latest_checkpoint(folder)).expect_partial()
    x, y = zip(*task_factory.get_task(params.task).build_inputs(params.task.validation_data).unbatch(), strict=True)
    assert len(x) == 10
    assert result["error"] == pytest.approx(np.abs(model(tf.stack(x)) - tf.stack(y)).mean(), rel=1e-5), "of all records"
    assert (result["best_metric"], result["metrics"], result["multiply_adds"]) == (best, ["loss", "error"], 3)
    assert result == json.loads((tmp_path / "test.json").read_text())
    assert evaluate.summary(result).startswith(f"loss {result['loss']:.4g}  error {result['error']:.4g} at step 3; 4 ")
    easy = write_records(tmp_path / "zeros.tfrecord", np.zeros((4, 3)))
    assert evaluate.evaluate("sum_of_random_numbers", folder, easy)["error"] < info["error"]
    assert json.loads((pathlib.Path(folder) / "best" / "info.json").read_text()) == info, "a test changes no best"
    with pytest.raises(errors.UserError, match="--clips and --crops are for videos.*Received: clips=2, crops=None"):
        evaluate.evaluate("sum_of_random_numbers", folder, clips=2)

    monkeypatch.setattr(surgery, "fold_norms", None)  # not called on request
    path = export.export_run("sum_of_random_numbers", folder, str(tmp_path / "sums"), fold_norms=False)
    served = tf.saved_model.load(path).signatures["serving_default"]
    np.testing.assert_allclose(served(numbers=x[0][None])["sum"], model(x[0][None]), rtol=1e-5)
    params.override({"task": {"train_data": {"input_path": "nowhere"}}})
    with pytest.raises(errors.UserError, match="train_data.input_path 'nowhere' matches no file: .* with a pencil"):
        train.run(params, "train", folder)


def test_a_task_without_signatures_is_not_exported(tmp_path):
    params = cfg.ExperimentConfig(task=semantic_segmentation.SemanticSegmentationTask())
    known = "MaskRCNNTask, RetinaNetTask, ImageClassificationTask, VideoClassificationTask"
    with pytest.raises(
        errors.UserError, match=f"task SemanticSegmentationTask cannot be exported: export one of {known}"
    ):
        export.export(params, "nowhere", str(tmp_path / "saved"))
    assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize(
    ("config", "best"),
    [
        (tfm_video_classification.VideoClassificationTask(), ("accuracy", "higher")),
        (multi_label.MultiLabelConfig(), ("mean_average_precision", "higher")),
        (retinanet.RetinaNetTask(), ("AP", "higher")),
        (maskrcnn.MaskRCNNTask(), ("AP", "higher")),
        (maskrcnn.MaskRCNNTask(use_coco_metrics=False), None),
        (image_classification.ImageClassificationTask(), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_best(config, best):
    assert answers.of(config).best_metric == best


def test_an_evaluation_shows_what_says_most():
    values = dict.fromkeys(["AR", "mask_AP", "AP50", "AP", "loss", "learning_rate", "step", "accuracy", "x"], 0.5)
    assert answers.of(maskrcnn.MaskRCNNTask()).shown(values) == ["AP", "AP50", "mask_AP", "learning_rate"]
    assert answers.of(tfm_video_classification.VideoClassificationTask()).shown(values) == [
        "loss",
        "accuracy",
        "learning_rate",
    ]
    known_by_nobody = answers.of(image_classification.ImageClassificationTask())
    assert known_by_nobody.shown({"step": 1, "b": 2, "loss": 3, "a": 4}) == ["loss", "a", "b"]
