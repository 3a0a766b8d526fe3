"""The demo's result: a table of the models, their learning curves, and where the non-local one looks."""

import contextlib
import os
import pathlib

import numpy as np
import tensorflow as tf

from keras_nonlocal import errors
from keras_nonlocal.analysis import attention_maps, blocks, plot
from keras_nonlocal.data.records import writer
from keras_nonlocal.demo import attention, clips, curves, experiments  # noqa: F401  (registers what it loads)
from keras_nonlocal.tfm import train
from keras_nonlocal.tfm.inputs import pixels

with errors.needs_extra("demo"):
    from official.core import task_factory

NAMES = {"c2d": "C2D", "non_local_c2d": "non-local C2D"}
ATTENTION = ("attention.png", "attention_heat.png")  # arrows, and a heat map
CLIPS = 100  # that the rule of the attention's pictures looks at


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
    figure.savefig(path, dpi=110)


def draw_attention(work_dir, folder, count=10):
    """Draws what a position on a digit of a held-out clip attends to: attention.png and attention_heat.png.

    Which block, clip and position is the rule of keras_nonlocal.demo.attention, so that the same pictures come out
    whenever the model is the same.

    Args:
      work_dir: folder of the demo, with non_local_c2d/ in it.
      folder: where the pictures go.
      count: how many arrows.

    Returns:
      What the pictures show, in words: the share of attention in other frames and on the other digit, of the position
      shown, and on average of those that the rule chooses in all of the clips.

    Raises:
      UserError: if the model answers none of the clips right.
    """
    model, data = _trained(work_dir)
    shown, places, labels = _test_clips(data.feature_shape[0], data.temporal_stride)
    inputs = pixels.normalize(shown)

    def is_right():
        return np.argmax(model(inputs, training=False), axis=1) == labels

    right = is_right()
    candidates = np.flatnonzero(right & (labels == clips.LABELS.index("same")))
    if not candidates.size:
        raise errors.UserError(
            f"{work_dir} holds a model that answers no clip of one class twice right, of {len(shown)} clips: train it "
            "for longer before its attention is drawn."
        )
    right_without = {}
    for name, layer in blocks.paths(model.backbone).items():
        with _identity(layer):
            right_without[name] = is_right().sum()
    block = attention.choose_block(right_without)
    queries = [np.concatenate([attention.points(place) for place in digits]) for digits in places]
    (found,) = attention_maps.attention_maps(model.backbone, inputs, block, queries, top_k=None).values()
    looks = [attention.look(found, number, digits) for number, digits in enumerate(places)]
    first = attention.choose_clip(looks, candidates)
    seen = looks[first]
    figures = (
        # An arrow ends in one frame of those that its key is pooled of, in which the digit need not be.
        plot.arrows(_brightest(shown[first], found.key_size[0]), found, first, seen.query, count),
        plot.heatmap(shown[first], found, first, seen.query),
    )
    for name, figure in zip(ATTENTION, figures, strict=True):
        plot.save(figure, os.path.join(folder, name))
    on, other = ("early", "late")[seen.digit], ("late", "early")[seen.digit]
    mean = np.mean([(each.elsewhere, each.on_other) for each in looks], axis=0)
    place = ", ".join(f"{each:g}" for each in found.queries[first, seen.query])
    return (
        f"attention in {block}, without which {right_without[block]} of {len(shown)} clips are answered right and not "
        f"{right.sum()}: of ({place}) on the {on} digit {_percent(seen.elsewhere)} in other frames, "
        f"{_percent(seen.on_other)} on the {other} digit; chosen so in {len(looks)} test clips, on average "
        f"{_percent(mean[0])} and {_percent(mean[1])} "
        f"(spread evenly {_percent(seen.even[0])} and {_percent(seen.even[1])})"
    )


def _brightest(clip, count):
    """A clip, (T, H, W, 3), each of whose frames is the brightest of each pixel in the `count` frames of its key."""
    steps = clip.reshape(-1, count, *clip.shape[1:]).max(axis=1)  # (T / count, H, W, 3)
    return np.repeat(steps, count, axis=0)


@contextlib.contextmanager
def _identity(block):
    """Makes a block the identity for a while: the norm behind W_z gives 0."""
    weights = block.norm.get_weights()
    gamma, beta, *statistics = weights
    block.norm.set_weights([np.zeros_like(gamma), np.zeros_like(beta), *statistics])
    try:
        yield
    finally:
        block.norm.set_weights(weights)


def _percent(share):
    return f"{100 * share:.0f} %"


def _trained(work_dir):
    """The non-local model of the demo with the weights of its last checkpoint, and how its clips are taken."""
    model_dir = str(pathlib.Path(work_dir) / "non_local_c2d")
    params = train.load_experiment("non_local_c2d_demo", model_dir)
    model = task_factory.get_task(params.task).build_model()
    checkpoint = tf.train.Checkpoint(model=model)
    checkpoint.read(train.latest_checkpoint(model_dir)).expect_partial().assert_existing_objects_matched()
    return model, params.task.validation_data


def _test_clips(frames, stride, count=CLIPS):
    """Clips of test digits and footage, every second of one class twice.

    Returns:
      (B, T, H, W, 3) uint8; for each clip its digits' two (frame of the clip, y, x); and the labels, (B,).
    """
    source = clips.load_source("test")
    rng = np.random.default_rng(0)
    start = (clips.FRAMES - frames * stride) // 2
    labels = np.arange(count) % 2
    composed = [clips.compose(source, rng, same=clips.LABELS[label] == "same") for label in labels]
    # A digit stays for two frames of the video, one of which is in the clip.
    places = [[((first - start + 1) // stride, y, x) for first, y, x in digits] for _, digits in composed]
    shown = np.stack([video[start : start + frames * stride : stride] for video, _ in composed])
    return shown, places, labels


def _read(path):
    result = writer.read_json(path)
    if result is None:
        raise errors.UserError(f"{path} is not there: let keras-nonlocal demo run to its end first.")
    return result
