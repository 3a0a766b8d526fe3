"""Writes signatures as a SavedModel, with a warm-up request for each, and publishes it."""

import os
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from keras_nonlocal.export import guards, plain
from keras_nonlocal.export.signatures import Signature
from keras_nonlocal.serving import publish as publishing
from keras_nonlocal.serving import warmup

LABELS_FILE = "assets.extra/labels.txt"


def write(
    signatures: Mapping[str, Signature],
    model: Any,
    directory: str | os.PathLike[str],
    labels: str | None = None,
    finite: bool = False,
) -> None:
    """Writes a SavedModel that holds these functions and what they need of a model, and nothing else of it.

    Args:
      signatures: {name: Signature}; one is `serving_default`.
      model: a Keras model of either flavour or a tf.Module, which all variables and tables of the functions are of.
      directory: that is filled, made if missing.
      labels: a file of class names, one a line, kept beside the model as `assets.extra/labels.txt`. Default none.
      finite: refuse to answer with NaN or infinity. Default False.
    """
    directory = os.fspath(directory)
    module = tf.Module()
    module.kept = kept_of(model)
    if finite:
        signatures = {name: guards.finite(signature) for name, signature in signatures.items()}
    functions = {name: signature.concrete() for name, signature in signatures.items()}
    # Nobody trains what is served.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, directory, functions, options)
    plain.make_plain(directory)
    warmup.write_warmup(directory, {name: signature.example for name, signature in signatures.items()})
    if labels:
        tf.io.gfile.copy(labels, os.path.join(directory, LABELS_FILE))


def publish(
    signatures: Mapping[str, Signature],
    model: Any,
    export_dir: str | os.PathLike[str],
    labels: str | None = None,
    finite: bool = False,
) -> str:
    """Publishes what `write` writes as the next version of export_dir, and returns its path; see serving.publish."""
    return publishing.publish(lambda directory: write(signatures, model, directory, labels, finite), export_dir)


def kept_of(model: Any) -> list:
    """The variables and tables of a model, in which a SavedModel needs no layer.

    A Keras model itself would bring graphs of every layer, trained and not, and variables of Keras 3 are none that
    TensorFlow Serving finds: those inside them are.
    """
    keras_variables = getattr(model, "variables", ())
    variables = [each if isinstance(each, tf.Variable) else each.value for each in keras_variables]
    kinds = tf.Variable, tf.saved_model.experimental.TrackableResource
    found = [each for each in tf.train.TrackableView(model).descendants() if isinstance(each, kinds)]
    return list({id(each): each for each in [*variables, *found]}.values())
