"""Writes signatures as a SavedModel, with warm-up requests, verifies and publishes it."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_nonlocal.export import guards, plain, verify
from keras_nonlocal.export.options import Options
from keras_nonlocal.export.signatures import Signature
from keras_nonlocal.serving import constants, warmup
from keras_nonlocal.serving import publish as publishing


def write(
    signatures: Mapping[str, Signature],
    model: Any,
    directory: str | os.PathLike[str],
    options: Options | None = None,
) -> None:
    """Writes a SavedModel that holds these functions and what they need of a model, and nothing else of it.

    Args:
      signatures: {name: Signature}; one is `serving_default`.
      model: a Keras model of either flavour or a tf.Module, which all variables and tables of the functions are of.
      directory: that is filled, made if missing.
      options: what is chosen of it: its labels, finite, verify and batch_sizes. Default Options().

    Raises:
      UserError: if it does not answer as the functions do, see verify.verify.
    """
    options = options or Options()
    directory = os.fspath(directory)
    module = tf.Module()
    module.kept = kept_of(model)
    if options.finite:
        signatures = {name: guards.finite(signature) for name, signature in signatures.items()}
    functions = {name: signature.concrete() for name, signature in signatures.items()}
    # Nobody trains what is served.
    saving = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, directory, functions, saving)
    plain.make_plain(directory)
    requests = {name: _warm(signature.example) for name, signature in signatures.items()}
    warmup.write_warmup(directory, requests, options.batch_sizes)
    if options.labels:
        tf.io.gfile.copy(options.labels, os.path.join(directory, constants.LABELS_FILE))
    if options.verify:  # last, because it sums up all files
        verify.verify(directory, {name: _golden(functions[name], each) for name, each in signatures.items()})


def _warm(example):
    """The first row of an example. Pixels are black there: an array of one value takes no room."""
    rows = {name: value[:1] for name, value in example.items()}
    return {name: np.zeros_like(row) if row.dtype == np.uint8 else row for name, row in rows.items()}


def _golden(function, signature):
    """An example and what a function makes of it, which calls Keras' layers, as (inputs, outputs)."""
    answer = function(**{name: tf.constant(value) for name, value in signature.example.items()})
    return dict(signature.example), {name: value.numpy() for name, value in answer.items()}


def publish(
    signatures: Mapping[str, Signature],
    model: Any,
    export_dir: str | os.PathLike[str],
    options: Options | None = None,
) -> str:
    """Publishes what `write` writes as the next version of export_dir, and returns its path; see serving.publish."""
    return publishing.publish(lambda directory: write(signatures, model, directory, options), export_dir)


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
