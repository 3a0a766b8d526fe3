"""What the demo on annotated photos found: a table, and pictures of what the served detectors answered."""

import os
import pathlib
from collections.abc import Sequence

import numpy as np

from keras_nonlocal import errors
from keras_nonlocal.data.records import writer
from keras_nonlocal.demo import results

with errors.needs_extra("demo"):
    import cv2

LEAST = 0.9
# {name of a run: title, metrics that its photos are learned by}
LEARNED = {
    "retinanet": ("RetinaNet", ("AP",)),
    "mask_rcnn": ("Mask R-CNN", ("AP", "mask_AP")),
    "keypoint_rcnn": ("keypoint R-CNN", ("AP", "keypoint_AP")),
}
SHOWN = {"AP": "box AP", "mask_AP": "mask AP", "keypoint_AP": "keypoint AP"}
HEIGHT = 330  # pixels of a picture


def report(work: str | os.PathLike) -> str:
    """What came out, as Markdown.

    Args:
      work: the folder of a seed, with <run>/test/result.json of keras-nonlocal evaluate and seconds_<run>.json.
    """
    lines = [["detector", *SHOWN.values(), "parameters", "steps", "training seconds", "of CPU"]]
    for name, (title, metrics) in LEARNED.items():
        result, took = _read(work, f"{name}/test/result.json"), _read(work, f"seconds_{name}.json")
        scores = [f"{result[metric]:.3f}" if metric in metrics else "-" for metric in SHOWN]
        lines.append([title, *scores, f"{result['parameters']:,}", str(result["step"]), f"{took['seconds']:.0f}",
                      f"{took['cpu_seconds']:.0f}"])  # fmt: skip
    return results.table(lines)


def check(work: str | os.PathLike) -> None:
    """Raises UserError if a detector has less than LEAST of a metric on the photos that it learned.

    Args:
      work: the folder of a seed.
    """
    for name, (title, metrics) in LEARNED.items():
        result = _read(work, f"{name}/test/result.json")
        for metric in metrics:
            if not result[metric] >= LEAST:
                raise errors.UserError(
                    f"{title} has {metric} {result[metric]:.3f} of photos that it learned by heart, and must have "
                    f"{LEAST}: report it with {work}/{name}."
                )


def join(paths: Sequence[str | os.PathLike], out: str | os.PathLike) -> None:
    """Writes images side by side, all HEIGHT high, as one JPEG file.

    Args:
      paths: of the images.
      out: the file.
    """
    images = [cv2.imread(os.fspath(path)) for path in paths]
    scaled = [cv2.resize(image, None, fx=HEIGHT / len(image), fy=HEIGHT / len(image), interpolation=cv2.INTER_AREA)
              for image in images]  # fmt: skip
    encoded = cv2.imencode(".jpg", np.concatenate(scaled, axis=1), [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    with writer.WholeFile(out) as temporary:
        pathlib.Path(temporary).write_bytes(encoded.tobytes())


def _read(work, name):
    return results.read(pathlib.Path(work) / name, "demo_coco")
