"""Some annotated images as pictures to look at."""

import os

import numpy as np
import tensorflow as tf

from keras_nonlocal import drawing, files
from keras_nonlocal.data.coco import pictures
from keras_nonlocal.data.coco.objects import Object
from keras_nonlocal.data.records.plan import Plan

SAMPLES = 8


def draw(plan: Plan, edges: tuple[tuple[int, int], ...], out_dir: str) -> list[str]:
    """Draws up to 8 of a plan's images with their objects; in the records' order, so that it is a mixture of them.

    Args:
      plan: whose maker is CocoExamples.
      edges: pairs of keypoints that are joined.
      out_dir: the folder of `<split>-check-1.png` and so on.

    Returns:
      Their paths.
    """
    drawn = []
    for item in plan.items:
        if len(drawn) == SAMPLES:
            break
        if not item.annotations:
            continue
        try:
            picture, found, _ = plan.maker.read(item)
        except pictures.BadPicture:
            continue
        if _shows(plan.maker, found):
            drawn.append(os.path.join(out_dir, f"{plan.split}-check-{len(drawn) + 1}.png"))
            with files.whole_file(drawn[-1]) as temporary:
                tf.io.write_file(temporary, tf.io.encode_png(_drawn(plan.maker, picture, found, edges)))
    return drawn


def _shows(maker, found: list[tuple[str, Object]]):
    """Whether there is something to see: of people without keypoints there are many."""
    return any(one.keypoints[:, 2].any() if maker.keypoints else True for _, one in found)


def _drawn(maker, picture, found, edges):
    image = tf.io.decode_image(picture.encoded, channels=3).numpy()
    names = [f"{name} (crowd)" if one.is_crowd else name for name, one in found]
    objects = [one for _, one in found]
    # x and y in indices of pixels, whose centres are half a pixel further -> y and x
    keypoints = np.stack([one.keypoints[:, [1, 0, 2]] + [0.5, 0.5, 0] for one in objects])
    return drawing.draw(
        image,
        np.array([one.box for one in objects])[:, [1, 0, 3, 2]],
        names,
        np.stack([one.mask for one in objects]) > 0 if maker.masks else None,
        keypoints if maker.keypoints else None,
        edges,
    )
