"""Records of images with keypoints, written as tests say, in the way that COCO's are written."""

import dataclasses

import numpy as np
import tensorflow as tf


@dataclasses.dataclass
class Item:
    """An object: its box as y1, x1, y2, x2 in pixels, and (x, y, v) of each keypoint as COCO counts pixels."""

    box: tuple
    keypoints: list
    label: int = 1
    crowd: int = 0
    mask: np.ndarray | None = None


def record(image, items, source_id=1, **other):
    """A serialized tf.train.Example.

    Args:
      image: uint8 (H, W, 3).
      items: the objects; with masks if the first one has one.
      source_id: of the image.
      **other: features instead of those written here, by the part of their name after "keypoint/".
    """
    height, width, _ = image.shape
    boxes = np.reshape([item.box for item in items], [-1, 4]) / [height, width, height, width]
    points = np.reshape([point for item in items for point in item.keypoints], [-1, 3]).astype(float)
    shown = points[:, 2] > 0
    example = tf.train.Example()
    feature = example.features.feature
    feature["image/encoded"].bytes_list.value.append(tf.io.encode_png(image).numpy())
    feature["image/source_id"].bytes_list.value.append(str(source_id).encode())
    feature["image/height"].int64_list.value.append(height)
    feature["image/width"].int64_list.value.append(width)
    for name, column in zip(("ymin", "xmin", "ymax", "xmax"), boxes.T, strict=True):
        feature[f"image/object/bbox/{name}"].float_list.value.extend(column)
    feature["image/object/class/label"].int64_list.value.extend(item.label for item in items)
    feature["image/object/is_crowd"].int64_list.value.extend(item.crowd for item in items)
    areas = [(item.box[2] - item.box[0]) * (item.box[3] - item.box[1]) for item in items]
    feature["image/object/area"].float_list.value.extend(areas)
    keypoints = {
        "x": np.where(shown, points[:, 0] / width, 0),
        "y": np.where(shown, points[:, 1] / height, 0),
        "visibility": points[:, 2],
        **other,
    }
    feature["image/object/keypoint/x"].float_list.value.extend(keypoints["x"])
    feature["image/object/keypoint/y"].float_list.value.extend(keypoints["y"])
    feature["image/object/keypoint/visibility"].int64_list.value.extend(int(v) for v in keypoints["visibility"])
    if items and items[0].mask is not None:
        masks = [tf.io.encode_png(item.mask[..., np.newaxis]).numpy() for item in items]
        feature["image/object/mask"].bytes_list.value.extend(masks)
    return example.SerializeToString()


def write(path, records):
    """Writes records to a file and returns its path as text."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for each in records:
            writer.write(each)
    return str(path)
