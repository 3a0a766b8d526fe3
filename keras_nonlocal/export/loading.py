"""Reads a saved Keras model of either flavour, and runs no code that comes with the file."""

import importlib
import json
import os
import pathlib
import zipfile
from collections.abc import Iterator
from typing import Any

from keras_nonlocal import errors
from keras_nonlocal.layers.flavour import HOMES
from keras_nonlocal.serving import constants

METADATA = "keras_metadata.pb"  # of a SavedModel that tf_keras can make a model of again
# Whose classes a file may name; those of others must have been registered by their own module.
TRUSTED = ("builtins", "keras", "tf_keras", "keras_nonlocal", "official")


def load_model(path: str | os.PathLike[str]) -> Any:
    """Loads a model without its optimizer and losses.

    Args:
      path: a `.keras` or `.h5` file of Keras 3 or tf_keras, or the directory that `model.save` of
        tf_keras wrote.

    Returns:
      The model, of the Keras that wrote it.

    Raises:
      UserError: for what is none, is damaged, holds Python code (a Lambda layer) or a class that nobody registered.
    """
    path = pathlib.Path(path)
    try:
        version, configs = _described(path)
    except errors.UserError:
        raise
    except Exception as error:  # Each format fails in its own way.
        raise errors.UserError(f"{path} cannot be read as a Keras model: {errors.first_line(error)}") from error
    name = "keras" if version.startswith("3") else "tf_keras"
    with errors.needs_extra("tfm"):
        keras = importlib.import_module(name)
        importlib.import_module(HOMES[name])  # whose layers it registers
    for config in configs:
        _check(path, config, keras.saving.get_custom_objects())
    try:
        # Of a SavedModel tf_keras has no safe mode; the check above is all there is.
        return keras.models.load_model(str(path), compile=False, **({} if path.is_dir() else {"safe_mode": True}))
    except Exception as error:
        raise errors.UserError(
            f"{path} cannot be loaded: {errors.first_line(error)}; a class of yours must be decorated with "
            "register_keras_serializable, and its module imported by --register"
        ) from error


def _described(path):
    """(version of Keras, configurations as nested dicts and lists) of a saved model."""
    if path.is_dir():
        if not (path / METADATA).is_file():
            raise errors.UserError(
                f"{path} holds no {METADATA}, so it is no model that tf_keras saved: give a .keras or .h5 file; "
                f"what is a SavedModel already, with a {constants.SAVED_MODEL_FILE}, needs no export"
            )
        with errors.needs_extra("tfm"):
            saved_metadata_pb2 = importlib.import_module("tf_keras.protobuf.saved_metadata_pb2")
        nodes = saved_metadata_pb2.SavedMetadata.FromString((path / METADATA).read_bytes()).nodes
        return "2", [json.loads(node.metadata) for node in nodes]
    if not path.is_file():
        raise errors.UserError(f"{path} is not there: give a .keras or .h5 file, or a directory that tf_keras saved")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            metadata, config = (json.loads(archive.read(name)) for name in ("metadata.json", "config.json"))
        return metadata["keras_version"], [config]
    import h5py

    with h5py.File(path, "r") as file:
        if "model_config" not in file.attrs:
            raise errors.UserError(f"{path} holds weights and no model: save it whole, by model.save")
        return _text(file.attrs["keras_version"]), [json.loads(_text(file.attrs["model_config"]))]


def _text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


def _check(path, config, registered):
    """Raises UserError for a configuration that would run code from the file or import a module that it names."""
    for each in _dicts(config):
        if each.get("class_name") in ("Lambda", "__lambda__"):
            raise errors.UserError(
                f"{path} holds a Lambda layer, whose Python code would be run: write it as a layer of its own, "
                "decorated with register_keras_serializable, and save the model again"
            )
        module = each.get("module")
        if not isinstance(module, str) or "class_name" not in each or each.get("registered_name") in registered:
            continue
        if module.split(".")[0] not in TRUSTED:
            raise errors.UserError(
                f"{path} holds {each['class_name']} of the module {module}, which is not imported because a file says "
                "so: decorate the class with register_keras_serializable, and import its module by --register"
            )


def _dicts(value) -> Iterator[dict]:
    if isinstance(value, dict):
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _dicts(each)
