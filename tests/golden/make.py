"""Writes the golden files of this version: models in every format, which later versions must go on loading.

    python tests/golden/make.py tests/golden/0.1

Run it once for a version, before anything changes how models are saved; never again for the same folder.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import blocks
import numpy as np
import tensorflow as tf
import tf_keras
from official.core import exp_factory, task_factory

import keras_nonlocal
from keras_nonlocal.demo import experiments  # noqa: F401  (registers them)
from keras_nonlocal.tfm.backbones import non_local_resnet, video_resnet  # noqa: F401

CHANNELS = 4
# One block after another, of every form and with the arguments that say something.
ARGUMENTS = (
    dict(pairwise="embedded_gaussian", extent="time", pool_size=1),
    dict(pairwise="gaussian", pool_before_projection=False, use_out_bias=False),
    dict(pairwise="dot_product", group_frames=2, norm=None, inner_channels=3),
    dict(pairwise="unembedded_dot_product", extent="space", scale=False),
    dict(pairwise="concatenation", use_bias=False, norm_momentum=0.5),
)


def layers_model(flavour):
    """All forms one after another over a masked clip."""
    module = blocks.FLAVOURS[flavour].keras
    clip = x = module.Input((4, 4, 4, CHANNELS), name="clip")
    mask = module.Input((4,), dtype="bool", name="mask")
    for index, arguments in enumerate(ARGUMENTS):
        x = blocks.make(flavour, 3, name=f"block_{index}", **arguments)(x, mask=mask)
    model = module.Model([clip, mask], x, name="layers")
    randomise(model)
    return model


def network(flavour):
    """A tiny non-local I3D with its classifier, or as the backbone of tfm."""
    arguments = dict(block_counts=(1, 1, 1, 1), width=2, inflate="3x1x1", non_local={"res3": [0], "res4": [0]})
    if flavour == "keras":
        model = keras_nonlocal.models.I3D(classes=3, input_shape=(4, 32, 32, 3), **arguments)
    else:
        model = video_resnet.VideoResNet(input_shape=(4, 32, 32, 3), **arguments)
    randomise(model)
    return model


def image_network():
    model = non_local_resnet.NonLocalResNet(
        10,
        input_specs=tf_keras.layers.InputSpec(shape=[None, 32, 32, 3]),
        depth_multiplier=0.0625,
        non_local={"res4": [0]},
    )
    randomise(model)
    return model


def task_model():
    """The model of a video classification task, which tfm's trainer saves."""
    params = exp_factory.get_exp_config("non_local_c2d_demo")
    params.override({"task": {"model": {"backbone": {"video_resnet": {"width": 2}}}}})
    model = task_factory.get_task(params.task).build_model()
    randomise(model)
    return model


def randomise(model):
    generator = np.random.default_rng(0)
    model.set_weights([(0.2 + np.abs(generator.normal(size=w.shape))).astype("float32") for w in model.get_weights()])


def inputs(model):
    """Arrays for a model of these, of fixed numbers."""
    generator = np.random.default_rng(1)
    arrays = []
    for x in model.inputs:
        shape = [size or 2 for size in x.shape[1:]]
        array = generator.normal(size=(2, *shape)).astype("float32")
        arrays.append(array > -0.7 if "bool" in str(x.dtype) else array)
    return arrays if len(arrays) > 1 else arrays[0]


def outputs(model, given):
    """What comes out, as a list of arrays."""
    return [np.asarray(x) for x in tf.nest.flatten(model(given, training=False))]


def write(folder, name, model, ways):
    given = inputs(model)
    for way in ways:
        WAYS[way](model, folder / name)
    arrays = {f"y{i}": y for i, y in enumerate(outputs(model, given))}
    np.savez_compressed(folder / f"{name}.npz", **arrays)


def _keras(model, path):
    model.save(f"{path}.keras")


def _h5(model, path):
    model.save(f"{path}.h5")


def _weights(model, path):
    model.save_weights(f"{path}.weights.h5")


def _checkpoint(model, path):
    items = {"model": model, **getattr(model, "checkpoint_items", {})}
    tf.train.Checkpoint(**items).write(f"{path}.ckpt")


def _export(model, path):
    model.export(f"{path}_export")


def _saved_model(model, path):
    model.save(f"{path}_saved_model", save_format="tf")


WAYS = {
    "keras": _keras,
    "h5": _h5,
    "weights": _weights,
    "checkpoint": _checkpoint,
    "export": _export,
    "saved_model": _saved_model,
}
MODELS = {
    "keras_layers": (lambda: layers_model("keras"), ("keras", "h5", "weights", "checkpoint", "export")),
    "tf_keras_layers": (
        lambda: layers_model("tf_keras"),
        ("keras", "h5", "weights", "checkpoint", "export", "saved_model"),
    ),
    "keras_network": (lambda: network("keras"), ("keras", "weights")),
    "tf_keras_network": (lambda: network("tf_keras"), ("keras", "checkpoint")),
    "image_network": (image_network, ("keras", "checkpoint")),
    "task": (task_model, ("checkpoint",)),
}


def main(folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    for name, (make, ways) in MODELS.items():
        write(folder, name, make(), ways)
    print(f"wrote {folder}")


if __name__ == "__main__":
    main(*sys.argv[1:])
