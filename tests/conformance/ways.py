"""Ways to a model of the same outputs: functions of a model, a folder, its Keras and a maker of fresh models."""

import copy
import pickle
import typing

import blocks
import tensorflow as tf


def keras_file(model, folder, module, fresh):
    model.save(folder / "model.keras")
    return module.models.load_model(folder / "model.keras", safe_mode=True)


def h5_file(model, folder, module, fresh):
    model.save(folder / "model.h5")
    return module.models.load_model(folder / "model.h5")


def weights_h5(model, folder, module, fresh):
    model.save_weights(folder / "model.weights.h5")
    again = fresh()
    again.load_weights(folder / "model.weights.h5")
    return again


def checkpoint(model, folder, module, fresh):
    path = tf.train.Checkpoint(model=model).write(str(folder / "checkpoint"))
    again = fresh()
    tf.train.Checkpoint(model=again).read(path).assert_consumed()
    return again


def tf_weights(model, folder, module, fresh):
    model.save_weights(str(folder / "weights"), save_format="tf")
    again = fresh()
    again.load_weights(str(folder / "weights")).assert_consumed()
    return again


def saved_model_folder(model, folder, module, fresh):
    model.save(folder / "saved_model", save_format="tf")
    return module.models.load_model(folder / "saved_model")


def clone(model, folder, module, fresh):
    again = module.models.clone_model(model)
    again.set_weights(model.get_weights())
    return again


def config(model, folder, module, fresh):
    again = type(model).from_config(model.get_config())
    again.set_weights(model.get_weights())
    return again


def json(model, folder, module, fresh):
    again = module.models.model_from_json(model.to_json())
    again.set_weights(model.get_weights())
    return again


def pickled(model, folder, module, fresh):
    return pickle.loads(pickle.dumps(model))


def deep_copy(model, folder, module, fresh):
    return copy.deepcopy(model)


class Way(typing.NamedTuple):
    """One of the functions above with the flavour of its models."""

    flavour: str
    function: typing.Callable

    def __str__(self):
        return f"{self.flavour}-{self.function.__name__}"

    def __call__(self, model, folder, fresh=None):
        return self.function(model, folder, blocks.FLAVOURS[self.flavour].keras, fresh)


OF_WEIGHTS = (weights_h5, checkpoint, tf_weights)
EVERYWHERE = (keras_file, h5_file, weights_h5, checkpoint, clone, config, json, pickled, deep_copy)
ALL = (
    *(Way(flavour, function) for flavour in blocks.FLAVOURS for function in EVERYWHERE),
    Way("tf_keras", tf_weights),
    Way("tf_keras", saved_model_folder),
)
OF_LAYERS = tuple(way for way in ALL if way.function not in OF_WEIGHTS)
