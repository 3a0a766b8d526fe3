"""Imported weights as files of our own."""

import errno
import os
import shutil

from keras_nonlocal import errors, files, models
from keras_nonlocal.weights import building, loading
from keras_nonlocal.weights.options import checked
from keras_nonlocal.weights.sources import own

# Of the options, those of a network as a whole.
NETWORK_OPTIONS = ("stem", "temporal_stride")
SUFFIXES = (".weights.h5", ".safetensors")


def imported(path, model, source, options):
    """The model of a checkpoint and its Report.

    Args:
      path: of the checkpoint.
      model: "auto", or a name of models.list().
      source: see keras_nonlocal.weights.read.
      options: see keras_nonlocal.weights.load.

    Raises:
      UserError: for a checkpoint, a model or options that do not go.
    """
    if model == "auto":
        return building.build(path, source, **options)
    if model not in models.list():
        raise errors.UserError(
            f"`model` must be 'auto' or one of {', '.join(models.list())}. Received: model={model!r}"
        )
    options = checked(options)
    network = models.get(model, **{name: options[name] for name in NETWORK_OPTIONS if name in options})
    return network, loading.load(network, path, source, **options)


def save(model, report, path):
    """Writes the weights, and the report as text beside them, and returns both paths.

    Args:
      model: of Keras 3.
      report: of keras_nonlocal.weights.load.
      path: pathlib.Path that ends in .weights.h5 or .safetensors. Nothing is there before it is complete.

    Raises:
      UserError: for another ending, or where it cannot be written.
    """
    if not path.name.endswith(SUFFIXES):
        raise errors.UserError(f"--out must end in {' or '.join(SUFFIXES)}. Received: {path}")
    text = path.with_name(f"{path.name}.txt")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _check_room(model, path.parent)
        # Keras wants its own ending on a file of weights.
        with files.whole_file(path, path.with_name(f".tmp-{os.getpid()}-{path.name}")) as temporary:
            if path.name.endswith(".safetensors"):
                _save_safetensors(model, report, temporary)
            else:
                model.save_weights(temporary)
        files.write_text(text, f"{report}\n")
    except OSError as e:
        raise errors.UserError(
            f"--out {path} cannot be written ({errors.first_line(e)}); make room or correct the permissions of its "
            "folder."
        ) from e
    return path, text


def _check_room(model, folder):
    # h5py may crash the process when the disk is full; so it is not let come to that.
    needed = 2 * 4 * model.count_params()  # bytes of float32, and as many to spare
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _save_safetensors(model, report, path):
    try:
        from safetensors import SafetensorError, numpy
    except ImportError:
        raise errors.UserError("--out: `pip install 'keras_nonlocal[convert]'` to write safetensors.") from None
    arrays = {"/".join(target): variable.numpy() for target, variable in loading.variables_of(model).items()}
    try:
        numpy.save_file(arrays, path, own.metadata(report.arguments, report.checkpoint))
    except SafetensorError as e:
        raise OSError(str(e)) from e  # a full disk
