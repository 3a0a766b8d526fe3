"""How far off the answers to clips padded into one batch are, and what it costs to keep the padding out.

    python benchmarks/padded.py --out=docs/benchmarks/padded.md

A small C2D with two non-local blocks and random weights answers clips of several sizes alone, padded into one batch as
TensorFlow Serving pads them, and padded but told of it by surgery.masked, as the signature `padded` is.
"""

import os

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # oneDNN's kernels, off by default on CPUs without AVX-512
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import statistics
import time

import numpy as np
import report
import tensorflow as tf
from absl import app, flags

import keras_nonlocal

flags.DEFINE_string("out", "docs/benchmarks/padded.md", "The report; empty to only print it.")
flags.DEFINE_integer("rounds", 15, "Of which the times are medians.", lower_bound=1)

SIZES = (8, 96, 64), (5, 96, 96), (8, 64, 72), (4, 80, 96)
CLASSES = 10


def network():
    """The C2D, with weights and statistics of which none does nothing."""
    model = keras_nonlocal.models.C2D(
        input_shape=(None, None, None, 3),
        classes=CLASSES,
        block_counts=(1, 1, 1, 1),
        width=16,
        non_local={"res3": [0], "res4": [0]},
    )
    generator = np.random.default_rng(0)
    for variable in model.variables:
        shape = variable.shape
        if len(shape) > 1:
            variable.assign(generator.normal(scale=np.prod(shape[:-1]) ** -0.5, size=shape))
        elif "variance" in variable.path:
            variable.assign(generator.uniform(0.5, 2, shape))
        else:
            variable.assign(generator.normal(size=shape))
    return model


def padded(clips):
    """The clips in one array, each filled up with its first value; and the mask of what is valid."""
    largest = np.max([clip.shape[:3] for clip in clips], 0)
    batch = np.stack([np.broadcast_to(clip.flat[0], (*largest, 3)) for clip in clips]).copy()
    mask = np.zeros(batch.shape[:4], bool)
    for number, clip in enumerate(clips):
        box = (number, *map(slice, clip.shape[:3]))
        batch[box], mask[box] = clip, True
    return tf.constant(batch), tf.constant(mask)


def cpu_seconds(functions, rounds):
    """Medians of what a call of each takes, in turns: other processes change it less than the time that passes."""
    seconds = [[] for _ in functions]
    for _ in range(rounds):
        for function, found in zip(functions, seconds, strict=True):
            start = time.process_time()
            function()
            found.append(time.process_time() - start)
    return [statistics.median(found) for found in seconds]


def main(_):
    model = network()
    generator = np.random.default_rng(1)
    clips = [generator.uniform(-2, 2, (*size, 3)).astype("float32") for size in SIZES]
    batch, mask = padded(clips)
    masked = keras_nonlocal.surgery.masked(model)
    plain, told = tf.function(model), tf.function(lambda: masked([batch, mask]))
    wanted = np.stack([model(clip[None])[0] for clip in clips])
    runs = {"padded": lambda: plain(batch), "padded, with its sizes": told}
    rows = []
    for name, run in runs.items():
        found = run().numpy()
        off = np.abs(found - wanted).max(1) / np.abs(wanted).max(1)
        chances = np.abs(tf.nn.softmax(found) - tf.nn.softmax(wanted)).max()
        rows.append([name, f"{off.min():.1e}", f"{off.max():.1e}", f"{chances:.1e}"])
    seconds = cpu_seconds(list(runs.values()), flags.FLAGS.rounds)
    rows = [[*row, f"{each / seconds[0]:.2f}"] for row, each in zip(rows, seconds, strict=True)]
    columns = ["clips", "logits off, least", "logits off, most", "probabilities off, most", "CPU time"]
    text = (
        f"{report.heading('Clips of several sizes in one batch')}\n"
        f"Clips of {', '.join(' x '.join(map(str, size)) for size in SIZES)} in a batch, compared with each of them "
        "alone: logits relative to the largest of the clip, probabilities as they are; the CPU time of a batch by "
        f"that of the same array without sizes.\n\n{report.table(columns, rows)}"
    )
    print(text)
    report.write(flags.FLAGS.out, text)


if __name__ == "__main__":
    app.run(main)
