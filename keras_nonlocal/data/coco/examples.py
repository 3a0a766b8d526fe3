"""Annotated images to tf.train.Example, in the form tf-models-official reads; keypoints in one of our own."""

import collections
import dataclasses
from typing import ClassVar

import numpy as np
import tensorflow as tf

from keras_nonlocal import errors, features
from keras_nonlocal.data.coco import annotations, objects, pictures
from keras_nonlocal.data.coco.annotations import AnnotatedImage
from keras_nonlocal.data.records.maker import ExampleMaker

with errors.needs_extra("coco"):
    import cv2


@dataclasses.dataclass(frozen=True)
class CocoExamples(ExampleMaker):
    """Makes one example of each image, with the objects that can be used; there may be none.

    Beside the image it holds `image/height`, `image/width`, `image/filename`, `image/source_id` (its id) and
    `image/format`, and of each object `image/object/bbox/xmin` and so on as parts of the image's width and height,
    `class/label` (the category's id), `class/text`, `area`, `is_crowd` and, if asked for, `mask`, a PNG of 0 and 1 as
    large as the image. `image/object/keypoint/x`, `/y` and `/visibility` have K values for each object: indices of
    pixels as parts of width and height, and 0, 1 or 2. All are 0 where an object has none, and x and y wherever
    visibility is.

    Args:
      images_dir: the folder of the images.
      masks: whether to write masks; default False.
      keypoints: K, how many an object has; default 0 writes none.
    """

    images_dir: str
    masks: bool = False
    keypoints: int = 0

    noun: ClassVar = "image"
    bad_item: ClassVar = pictures.BadPicture
    totals: ClassVar = {
        "objects": 0, "crowds": 0, "negatives": 0, "clipped": 0, "left_out": [], "cut": [], "keypoints_outside": [],
        "rewritten": [], "rotated": [],
    }  # fmt: skip
    byte_options: ClassVar = ("masks", "keypoints")

    @property
    def folder(self) -> str:
        """The folder of the images."""
        return self.images_dir

    def make(self, item: AnnotatedImage) -> tuple[list[bytes], dict]:
        """The example of an image, in a list, and what it adds to the report."""
        picture, found, additions = self.read(item)
        return [self._example(item, picture, found)], additions

    def check(self, item: AnnotatedImage) -> dict:
        """Decodes an image and its masks and returns what it adds to the report."""
        return self.read(item)[2]

    def read(self, item: AnnotatedImage) -> tuple[pictures.Picture, list[tuple[str, objects.Object]], dict]:
        """An image, the names and objects in it, and what they add to the report.

        Raises:
          BadPicture: there is no such image, it is damaged, or of another size than the list says.
        """
        picture = pictures.read(item.path)
        _check_size(item, picture)
        found, additions = [], {key: 0 if start == 0 else [] for key, start in self.totals.items()}
        for annotation, label in zip(item.annotations, item.labels, strict=True):
            try:
                one = objects.read(annotation, picture.height, picture.width, self.masks, self.keypoints)
            except objects.BadObject as error:
                additions["left_out"].append(annotations.left_out(item.name, annotation, error.kind, error.reason))
                continue
            found.append((label, one))
            self._count(item, annotation, one, additions)
        additions["negatives"] = int(not found)
        if picture.was:
            additions["rewritten"].append({"name": item.name, "was": picture.was})
        if picture.orientation != 1:
            additions["rotated"].append({"name": item.name, "orientation": picture.orientation})
        return picture, found, additions

    def bad_parts(self, report: dict) -> dict[str, int]:
        """Annotations that are left out, unless there was nothing in them."""
        return {"annotations": sum(each["kind"] != objects.HARMLESS for each in report["left_out"])}

    def remarks(self, report: dict) -> list[str]:
        """Lines about what is not in the records as the list or the file has it."""
        kinds = collections.Counter(each["kind"] for each in report["left_out"])
        formats = collections.Counter(each["was"] for each in report["rewritten"])
        told = {
            "annotations are left out ({}): the report says why": kinds,
            "boxes stuck out by more than a pixel and are cut to their image": len(report["cut"]),
            "objects have keypoints outside their image, which count as not labelled": len(report["keypoints_outside"]),
            "images are stored as PNG, as TensorFlow does not read them as they are ({})": formats,
            "images are rotated or mirrored by EXIF, which is not heeded: annotations are of the stored pixels": len(
                report["rotated"]
            ),
        }
        return [_told(text, count) for text, count in told.items() if count]

    def start_worker(self) -> None:
        """Leaves the other CPUs to the other workers."""
        cv2.setNumThreads(1)
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)

    def _count(self, item, annotation, one, additions):
        which = {"name": item.name, "annotation": annotation["id"]}
        additions["objects"] += 1
        additions["crowds"] += one.is_crowd
        if one.sticks_out > objects.ROUNDING_PIXELS:
            additions["cut"].append({**which, "pixels": round(one.sticks_out, 2)})
        elif one.sticks_out:
            additions["clipped"] += 1
        if one.outside:
            additions["keypoints_outside"].append({**which, "keypoints": one.outside})

    def _example(self, item, picture, found):
        height, width = picture.height, picture.width
        names, found = [name for name, _ in found], [one for _, one in found]
        x1, y1, x2, y2 = np.reshape([one.box for one in found], (len(found), 4)).T
        values = {
            features.ENCODED: _bytes([picture.encoded]),
            features.FORMAT: _bytes([picture.format.encode()]),
            features.HEIGHT: _integers([height]),
            features.WIDTH: _integers([width]),
            features.FILE_NAME: _bytes([item.name.encode()]),
            features.SOURCE_ID: _bytes([str(item.id).encode()]),
            features.BOX_X1: _floats(x1 / width),
            features.BOX_X2: _floats(x2 / width),
            features.BOX_Y1: _floats(y1 / height),
            features.BOX_Y2: _floats(y2 / height),
            features.OBJECT_CLASS: _integers([one.category for one in found]),
            features.OBJECT_NAME: _bytes([name.encode() for name in names]),
            features.OBJECT_AREA: _floats([one.area for one in found]),
            features.OBJECT_IS_CROWD: _integers([one.is_crowd for one in found]),
        }
        if self.masks:
            values[features.OBJECT_MASK] = _bytes([_png(one.mask) for one in found])
        if self.keypoints:
            keypoints = np.reshape([one.keypoints for one in found], (len(found) * self.keypoints, 3))
            values[features.KEYPOINT_X] = _floats(keypoints[:, 0] / width)
            values[features.KEYPOINT_Y] = _floats(keypoints[:, 1] / height)
            values[features.KEYPOINT_VISIBILITY] = _integers(keypoints[:, 2])
        example = tf.train.Example(features=tf.train.Features(feature=values))
        # Features are a map: without an order the same image would give other bytes in another run.
        return example.SerializeToString(deterministic=True)


def _check_size(item, picture):
    found = picture.height, picture.width
    if item.size in (None, found):
        return
    reason = f"is {found[1]}x{found[0]} and its list says {item.size[1]}x{item.size[0]}"
    if item.size == found[::-1] and picture.orientation > 4:
        reason += ", as a viewer shows it that heeds EXIF; store its pixels so, without an orientation"
    else:
        reason += "; take the file that was annotated, or correct the list"
    raise pictures.BadPicture(reason)


def _told(text, count):
    """A remark: the count, and of what where it counts kinds."""
    if isinstance(count, int):
        return f"{count:,} {text}"
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in sorted(count.items()))
    return f"{count.total():,} {text.format(kinds)}"


def _png(mask):
    return cv2.imencode(".png", mask)[1].tobytes()


def _bytes(values):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


def _floats(values):
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def _integers(values):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=np.array(values, np.int64)))
