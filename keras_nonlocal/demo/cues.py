"""Images in COCO's format whose objects are told apart by another object: "which cue is somewhere in the image?"

Each image is a frame of real footage with a real handwritten 0 or 1 in it, the cue, and some other digits, 2 to 9. Cues
are of the categories that they look like. The other digits are of one category where the cue is a 0 and of another
where it is a 1: nothing in or around their boxes says which. A detector that finds every digit and does not look at the
cue is right in half of them.

A cue may be near or far; how far is measured as max(|dy|, |dx|) of the boxes' centres, because what convolutions see is
a square. Digits and footage are those of keras_nonlocal.demo.clips: train, validation and test share neither a digit
image nor a piece of footage.
"""

import os
import pathlib

import numpy as np

from keras_nonlocal import errors
from keras_nonlocal.data.records import writer
from keras_nonlocal.demo import clips

with errors.needs_extra("demo"):
    import cv2
    import tqdm

SIZE = 128, 640  # pixels, height and width: far wider than what convolutions see
DIGIT = 28  # pixels
RULED = 3  # digits beside the cue
# Centres are no nearer to each other, so that no two digits overlap.
APART = 32  # pixels
NAMES = ("digit under a 0", "digit under a 1", "0", "1")
CATEGORIES = [{"id": number, "name": name} for number, name in enumerate(NAMES, start=1)]
RULED_IDS, CUE_IDS = (1, 2), (3, 4)
# A pixel that the digit covers by this much or more is in its box.
COVERED = 0.25


def compose(source: clips.Source, rng: np.random.Generator, cue: int) -> tuple[np.ndarray, list[dict]]:
    """An image of a cue and RULED other digits.

    Args:
      source: digits and footage.
      rng: a numpy Generator.
      cue: 0 or 1, the class of the digit that decides.

    Returns:
      (*SIZE, 3) uint8, and for each digit, the cue first, {"category_id": an id of CATEGORIES, "bbox": [x, y,
      width, height] in pixels}.
    """
    image = clips.background(source, rng, 1, SIZE)[0]
    chosen = [rng.choice(np.flatnonzero(source.classes == cue))]
    chosen += list(rng.choice(np.flatnonzero(source.classes > 1), RULED, replace=False))
    categories = [CUE_IDS[cue], *[RULED_IDS[cue]] * RULED]
    objects = []
    for index, category, (top, left) in zip(chosen, categories, _places(rng, 1 + RULED), strict=True):
        cover = clips.enlarge(source.digits[index], DIGIT)
        clips.blend(image, cover, top, left)
        objects.append({"category_id": category, "bbox": _box(cover, top, left)})
    return image, objects


def _places(rng, count):
    """(count, 2) first rows and columns of digits that do not overlap."""
    while True:
        places = rng.integers([side - DIGIT + 1 for side in SIZE], size=(count, 2))
        distances = np.abs(places[:, None] - places[None]).max(axis=-1) + APART * np.eye(count, dtype=int)
        if distances.min() >= APART:
            return places


def _box(cover, top, left):
    """[x, y, width, height] of what a digit covers."""
    rows, columns = (np.flatnonzero((cover >= COVERED).any(axis=axis)) for axis in (1, 0))
    return [
        int(left + columns[0]), int(top + rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)
    ]  # fmt: skip


def distance(box: list[float], other: list[float]) -> float:
    """max(|dy|, |dx|) of the centres of two boxes [x, y, width, height], in pixels.

    >>> distance([0, 0, 10, 10], [100, 20, 10, 30])
    100.0
    """
    return max(abs(box[axis] + box[axis + 2] / 2 - other[axis] - other[axis + 2] / 2) for axis in (0, 1))


def write(out: str | os.PathLike, counts: dict[str, int], seed: int = 0) -> None:
    """Writes JPEG files to out/SPLIT and annotations to out/SPLIT.json, which is written last.

    Args:
      out: folder.
      counts: {"train": n, "validation": n, "test": n}, how many images; the cue of every second one is a 1.
      seed: draws the training images; validation and test are the same for every seed.
    """
    with tqdm.tqdm(total=sum(counts.values()), unit="image", desc="composing") as progress:
        for number, (split, count) in enumerate(counts.items()):
            folder = pathlib.Path(out) / split
            writer.make_dir(folder)
            source = clips.load_source(split)
            rng = np.random.default_rng([number, seed if split == "train" else 0])
            images, annotations = [], []
            for index in range(count):
                image, objects = compose(source, rng, cue=index % 2)
                name = f"{index:06}.jpg"
                # Bytes: OpenCV says nothing of a full disk.
                (folder / name).write_bytes(cv2.imencode(".jpg", image[..., ::-1])[1].tobytes())  # RGB -> BGR
                images.append({"id": index, "file_name": name, "height": SIZE[0], "width": SIZE[1]})
                for each in objects:
                    area = each["bbox"][2] * each["bbox"][3]
                    ids = {"id": len(annotations) + 1, "image_id": index}
                    annotations.append({**ids, **each, "area": area, "iscrowd": 0})
                progress.update()
            content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
            writer.write_json(pathlib.Path(out) / f"{split}.json", content)
