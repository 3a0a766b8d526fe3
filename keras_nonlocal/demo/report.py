"""The demo's result: a table of the models, their learning curves, and where the non-local one looks."""

import pathlib

import numpy as np
import tensorflow as tf
from matplotlib import pyplot
from official.core import task_factory

from keras_nonlocal import errors
from keras_nonlocal.analysis import attention_maps
from keras_nonlocal.data.records import writer
from keras_nonlocal.demo import clips, curves, experiments  # noqa: F401  (registers what it loads)
from keras_nonlocal.tfm import train
from keras_nonlocal.tfm.tasks import video_input

NAMES = {"c2d": "C2D", "non_local_c2d": "non-local C2D"}


def table(work_dir):
    """The models side by side, as Markdown.

    Args:
      work_dir: folder with <model>/test.json of keras-nonlocal evaluate and seconds.json, {model: seconds of training}.

    Returns:
      The lines (str).
    """
    work = pathlib.Path(work_dir)
    seconds = _read(work / "seconds.json")
    lines = ["| model | test accuracy | parameters | GMACs | training seconds |", "|---|---|---|---|---|"]
    for model, name in NAMES.items():
        result = _read(work / model / "test.json")
        lines.append(
            f"| {name} | {result['accuracy']:.3f} | {result['parameters']:,} | {result['multiply_adds'] / 1e9:.3f} "
            f"| {seconds[model]:.0f} |"
        )
    return "\n".join(lines)


def draw_curves(work_dir, path):
    """Draws both models' accuracy over training, with the most that average pooling can reach."""
    runs = {name: str(pathlib.Path(work_dir) / model) for model, name in NAMES.items()}
    figure = curves.draw(runs, clips.CEILING, f"{clips.CEILING}: the most that frames can reach without meeting")
    _save(figure, path)


def draw_attention(work_dir, path, block="res3_0_nonlocal", count=20):
    """Draws what the late digit of a held-out clip attends to.

    The clip is the first test video of one class twice that the model answers right, so that the same picture comes
    out whenever the model is the same.

    Args:
      work_dir: folder of the demo, with non_local_c2d/ in it.
      path: PNG to write.
      block: the non-local block. Default the first.
      count: how many arrows.
    """
    model_dir = str(pathlib.Path(work_dir) / "non_local_c2d")
    params = train.load_experiment("non_local_c2d_demo", model_dir)
    model = task_factory.get_task(params.task).build_model()
    checkpoint = tf.train.Checkpoint(model=model)
    checkpoint.read(train.latest_checkpoint(model_dir)).expect_partial().assert_existing_objects_matched()
    data = params.task.validation_data
    clip, late = _right_answer(model, data)
    attention = attention_maps.attention_map(model.backbone, block, video_input.normalize(clip))
    steps, height, width = attention.query_grid
    query = (
        late[0] * steps // len(clip),
        late[1] * height // clips.SIZE,
        late[2] * width // clips.SIZE,
    )
    # A step of the block's time axis is the maximum over several frames, and so is what stands for it here.
    frames = clip.reshape(steps, -1, *clip.shape[1:]).max(axis=1)  # (T, H, W, 3) -> (T', T / T', H, W, 3) -> (T', ...)
    figure = attention_maps.draw_arrows(frames, attention, query, count)
    figure.suptitle(f"{block}: the {count} keys that the late digit (red) attends to most", fontsize=11)
    _save(figure, path)


def _right_answer(model, data):
    """A clip (T, H, W, 3) uint8 of one class twice, answered right, and its late digit's (frame of the clip, y, x)."""
    source = clips.load_source("test")
    rng = np.random.default_rng(0)
    frames, stride = data.feature_shape[0], data.temporal_stride
    start = (clips.FRAMES - frames * stride) // 2
    same = clips.LABELS.index("same")
    for _ in range(100):
        video, places = clips.compose(source, rng, same=True)
        clip = video[start : start + frames * stride : stride]
        if int(np.argmax(model(video_input.normalize(clip[None]), training=False))) == same:
            first, y, x = places[1]
            # The digit stays for two frames of the video, one of which is in the clip.
            return clip, ((first - start + 1) // stride, y, x)
    raise RuntimeError("Not one of 100 clips of one class twice is answered right: the model has not learned the task.")


def _read(path):
    result = writer.read_json(path)
    if result is None:
        raise errors.UserError(f"{path} is not there: let keras-nonlocal demo run to its end first.")
    return result


def _save(figure, path):
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
