"""The paper's Mask R-CNN with a non-local block in res4 trains and is evaluated by tfm's own task."""

import cv2
import numpy as np
import pytest
import tensorflow as tf
from official.core import exp_factory
from official.vision.data.tf_example_builder import TfExampleBuilder
from sklearn.datasets import load_digits

from keras_nonlocal.tfm import train

SIZE, DIGIT = 128, 48


def write_records(path, count):
    """Images of two handwritten digits with their boxes, classes and masks, as tfm reads COCO."""
    digits = load_digits()
    generator = np.random.default_rng(0)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for index in range(count):
            image = generator.integers(60, 100, (SIZE, SIZE, 3), dtype=np.uint8)
            boxes, masks, classes = [], [], []
            for corner in range(2):
                chosen = int(generator.integers(len(digits.images)))
                digit = cv2.resize(digits.images[chosen], (DIGIT, DIGIT)) > 6
                y, x = generator.integers(0, SIZE // 2 - DIGIT, 2) + (SIZE // 2) * corner
                mask = np.zeros((SIZE, SIZE), np.uint8)
                mask[y : y + DIGIT, x : x + DIGIT] = digit
                image[mask > 0] = 230
                rows, columns = np.nonzero(mask)
                boxes.append([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1])
                masks.append(mask)
                classes.append(int(digits.target[chosen]) + 1)
            ymin, xmin, ymax, xmax = (np.array(boxes) / SIZE).T.tolist()
            builder = TfExampleBuilder()
            builder.add_image_matrix_feature(image, image_source_id=str(index).encode())
            builder.add_boxes_feature(xmin, xmax, ymin, ymax, classes)
            builder.add_instance_mask_matrices_feature(np.array(masks))
            builder.add_ints_feature("image/object/is_crowd", [0, 0])
            writer.write(builder.example.SerializeToString())


@pytest.mark.slow
def test_the_paper_s_mask_rcnn_trains_and_is_evaluated(tmp_path, capsys):
    write_records(tmp_path / "train.tfrecord", 4)
    params = exp_factory.get_exp_config("paper_nl_mask_rcnn_r50_1_coco")
    data = {"input_path": str(tmp_path / "train.tfrecord"), "global_batch_size": 2}
    params.override({
        "runtime": {"distribution_strategy": "one_device", "num_gpus": 0},
        "task": {
            "model": {"num_classes": 11, "input_size": [SIZE, SIZE, 3]},
            "train_data": {**data, "shuffle_buffer_size": 4},
            "validation_data": data,
            "annotation_file": None,
        },
        "trainer": {
            "train_steps": 4, "validation_steps": 2, "validation_interval": 4, "checkpoint_interval": 4,
            "summary_interval": 4, "steps_per_loop": 2,
        },
    })  # fmt: skip
    metrics = train.run(params, "train_and_eval", str(tmp_path / "run"), seed=0)
    assert all(0 <= metrics[name] <= 1 for name in ("AP", "mask_AP")) and metrics["step"] == 4
    lines = capsys.readouterr().out.splitlines()
    losses = [float(line.split("loss ")[1].split()[0]) for line in lines if line.startswith("train  ")]
    assert len(losses) == 2 and np.isfinite(losses).all()
    assert any(line.startswith("eval") and " mask_AP " in line for line in lines)
    checkpoint = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(tmp_path / "run")))
    out = [name for name in checkpoint.get_variable_to_shape_map()
           if "non_local/out/kernel/.ATTRIBUTES" in name and "optimizer" not in name]  # fmt: skip
    assert len(out) >= 1 and all(np.abs(checkpoint.get_tensor(name)).max() > 0 for name in out), "W_z starts at zero"
