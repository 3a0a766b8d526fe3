"""How far a block's results are from float64 in each dtype, by form and by the magnitude of its features.

    python benchmarks/precision.py --out=docs/benchmarks/precision.md

Every block gets the same weights and inputs as in float64, but rounded to its dtype, and is compared with float64 on
these rounded numbers: what remains is what the block itself rounds.
"""

import os

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # oneDNN's kernels, off by default on CPUs without AVX-512
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import report
import tensorflow as tf
from absl import app, flags

import keras_nonlocal
from keras_nonlocal.ops import pairwise

flags.DEFINE_string("out", "docs/benchmarks/precision.md", "The report; empty to only print it.")

POSITIONS, CHANNELS = (28, 28), 256
POLICIES = {"float32": "float32", "float16": "mixed_float16", "bfloat16": "mixed_bfloat16"}
# Features as after a ReLU: those of a trained network, small and large ones.
MAGNITUDES = (0.1, 1.0, 4.0)


def block(form, implementation, policy, weights):
    layer = keras_nonlocal.NonLocal2D(form, norm=None, pool_size=1, implementation=implementation, dtype=policy)
    layer.build((None, *POSITIONS, CHANNELS))
    if weights is None:
        generator = np.random.default_rng(1)
        weights = [generator.normal(scale=w.shape[0] ** -0.5, size=w.shape) for w in layer.weights]
    layer.set_weights(weights)
    return layer, weights


def outcome(layer, x, dz):
    """The attention, z - x and dx, in float64, for a loss of sum(z dz)."""
    x = tf.cast(x, layer.compute_dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        z = layer(x)
        change = tf.cast(z, "float64") - tf.cast(x, "float64")
    dx = tape.gradient(z, x, tf.cast(dz, z.dtype))
    _, attention = layer(x, return_attention_scores=True)
    return [tf.cast(each, "float64").numpy() for each in (attention, change, dx)]


def error(found, exact):
    """The largest difference, relative to the largest number."""
    return np.abs(found - exact).max() / np.abs(exact).max()


def main(_):
    generator = np.random.default_rng(0)
    x = np.maximum(generator.normal(size=(1, *POSITIONS, CHANNELS)), 0)
    dz = generator.normal(size=x.shape)
    rows = []
    for form in pairwise.FORMS:
        fast = {"softmax": "chunked", "count": "sorted" if form == "concatenation" else "associated"}
        implementation = fast[pairwise.get(form).normalization]
        _, weights = block(form, "dense", "float64", None)
        for magnitude in MAGNITUDES:
            for dtype, policy in POLICIES.items():
                rounded = [tf.cast(each, dtype) for each in (*weights, magnitude * x, dz)]
                *w, inputs, cotangent = [tf.cast(each, "float64").numpy() for each in rounded]
                exact = outcome(block(form, "dense", "float64", w)[0], inputs, cotangent)
                row = [form, magnitude, dtype]
                for name in ("dense", implementation):
                    found = outcome(block(form, name, policy, w)[0], inputs, cotangent)
                    errors = [f"{error(a, b):.0e}" for a, b in zip(found, exact, strict=True)]
                    row += errors if name == "dense" else errors[1:]
                rows.append([*row, implementation])
                print(*rows[-1], flush=True)
    columns = ["form", "magnitude of x", "dtype", "attention", "z - x, dense", "dx, dense"]
    columns += ["z - x", "dx", "evaluation of these"]
    text = (
        f"{report.heading('Precision of a block by form, dtype and magnitude')}\n"
        "Largest difference from float64, relative to the largest number of each result, for "
        f"{POSITIONS[0]} x {POSITIONS[1]} positions of {CHANNELS} channels. x is max(0, N(0, 1)) times the magnitude, "
        "the weights are N(0, 1 / inputs), both rounded to the dtype before anything is compared. 16-bit dtypes are "
        f"Keras' mixed policies.\n\n{report.table(columns, rows)}"
    )
    print(text)
    report.write(flags.FLAGS.out, text)


if __name__ == "__main__":
    app.run(main)
