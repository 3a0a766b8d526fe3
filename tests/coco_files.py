"""Small data sets in COCO's format: images that a test makes, and a file that says what is in them."""

import json
import pathlib

import numpy as np
import tensorflow as tf
from official.vision.dataloaders import tf_example_decoder
from PIL import Image

from keras_nonlocal.data.coco import annotations, examples
from keras_nonlocal.data.records import plan, split

HEIGHT, WIDTH = 40, 60
CATEGORIES = [
    {"id": 1, "name": "person", "keypoints": ["head", "left", "right"], "skeleton": [[1, 2], [1, 3]]},
    {"id": 4, "name": "kite"},
]
# A good annotation of the first image, which some tests spoil.
KITE = {
    "id": 7, "image_id": 5, "category_id": 4, "iscrowd": 0, "bbox": [10, 5, 20, 10], "area": 200.0,
    "segmentation": [[10, 5, 30, 5, 30, 15, 10, 15]],
}  # fmt: skip


def pixels(height=HEIGHT, width=WIDTH):
    """Smooth, so that JPEG changes it little; no two corners are alike."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 200 // height, columns * 250 // width, 90 + 0 * rows], -1).astype(np.uint8)


class Folder:
    """A data set in a folder: its images, `annotations.json`, and what becomes of them."""

    def __init__(self, path: pathlib.Path, categories=None):
        self.path = path
        self.out = path / "records"
        self.images = path / "images"
        self.images.mkdir()
        self.content = {"images": [], "annotations": [], "categories": categories or CATEGORIES}

    def image(self, number, name, size=(HEIGHT, WIDTH), save=True):
        """Lists an image; writes it unless a test does."""
        entry = {"id": number, "file_name": name}
        self.content["images"].append({**entry, **({"height": size[0], "width": size[1]} if size else {})})
        if save:
            Image.fromarray(pixels()).save(self.images / name, quality=95)

    def annotate(self, *found):
        self.content["annotations"].extend(found)

    @property
    def file(self):
        path = self.path / "annotations.json"
        path.write_text(json.dumps(self.content))
        return path

    def plan(self, masks=False, keypoints=False, shards=1):
        listed = annotations.read(self.file, self.images)
        maker = examples.CocoExamples(str(self.images), masks, len(listed.keypoints) if keypoints else 0)
        found = {"left_out": list(listed.left_out)}
        return plan.Plan("train", listed.images, listed.class_names, maker, shards, additions=found)

    def write(self, **options):
        """The report, and the records by their source_id."""
        planned = self.plan(**options)
        report = split.write(planned, str(self.out), workers=1)
        return report, self.records()

    def records(self):
        paths = sorted(map(str, self.out.glob("train-*.tfrecord")))
        found = [record.numpy() for record in tf.data.TFRecordDataset(paths)]
        return {int(feature(record, "image/source_id")[0]): record for record in found}


def feature(record, name):
    """The values of a feature of a serialised example."""
    of_type = tf.train.Example.FromString(record).features.feature[name]
    return list(getattr(of_type, of_type.WhichOneof("kind")).value)


def decoded(record, masks=False):
    """What tf-models-official reads of a record, as NumPy arrays."""
    found = tf_example_decoder.TfExampleDecoder(include_mask=masks).decode(tf.constant(record))
    return {key: value.numpy() for key, value in found.items()}
