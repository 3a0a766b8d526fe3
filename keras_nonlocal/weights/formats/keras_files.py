"""What a file of Keras is of, by the names in it: nothing of it is built, and Keras is not needed."""

import itertools
import json
import zipfile

import h5py

from keras_nonlocal.weights.formats import zips
from keras_nonlocal.weights.formats.values import shown

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
# In a .keras file, which is a zip.
CONFIG, WEIGHTS = "config.json", "model.weights.h5"
# Of the configuration of a model, in characters; those of keras.applications have up to a million.
MAX_CONFIG = 16 * 2**20
# Of an attribute, in its elements.
MAX_ELEMENTS = 100_000
SHOWN_NAMES = 3
# What h5py, zipfile and json raise for damaged files, and Python for one with other things in it than Keras writes.
DAMAGE = (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, EOFError, zipfile.BadZipFile)


def describe(path):
    """A phrase for messages, such as "a Keras file of the model 'mobilenetv2_1.00_224'".

    Args:
      path: str or os.PathLike, of an HDF5 file or a zip.
    """
    try:
        with open(path, "rb") as file:
            is_zip = file.read(len(zips.MAGIC)) == zips.MAGIC
        if is_zip:
            with zipfile.ZipFile(path) as archive, archive.open(CONFIG) as file:
                return _of_model(file.read(MAX_CONFIG))
        with h5py.File(path, "r") as file:
            if "model_config" in file.attrs:
                return _of_model(_attribute(file, "model_config"))
            layers = _layers(file)
            return (
                f"a Keras file of weights, of the layers {_list(layers)}"
                if layers
                else f"an HDF5 file of {_list(file)}"
            )
    except DAMAGE:
        return "a damaged file, or one that Keras has not written"


def _of_model(text):
    return f"a Keras file of the model {shown(json.loads(text[:MAX_CONFIG])['config']['name'])}"


def _layers(file):
    """Names of layers in a file of weights, the first ones at least."""
    if "layer_names" in file.attrs:  # as before Keras 3
        return [name.decode() if isinstance(name, bytes) else str(name) for name in _attribute(file, "layer_names")]
    if "layers" not in file:
        return []
    layers = _group(file, "layers")
    keys = itertools.islice(layers, SHOWN_NAMES + 1)
    return [_attribute(_group(_group(layers, key), "vars"), "name", key) for key in keys]


def _list(names):
    """The first of some names."""
    names = [shown(name) for name in itertools.islice(names, SHOWN_NAMES + 1)]
    return ", ".join([*names[:SHOWN_NAMES], *(["..."] if len(names) > SHOWN_NAMES else [])]) or "nothing"


def _attribute(group, name, default=None):
    if name not in group.attrs:
        return default
    if group.attrs.get_id(name).get_space().get_simple_extent_npoints() > MAX_ELEMENTS:
        raise ValueError
    return group.attrs[name]


def _group(parent, name):
    """The group of a name in the file itself: a link of HDF5 may lead to any other file."""
    if not isinstance(parent.get(name, getlink=True), h5py.HardLink):
        raise KeyError(name)
    return parent[name]
