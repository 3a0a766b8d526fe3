"""Any Keras model, of either flavour, as a SavedModel for TensorFlow Serving."""

import os
from typing import Any

import tensorflow as tf

from keras_nonlocal import errors
from keras_nonlocal.export import explaining, folding, padding, saved_model, tensors
from keras_nonlocal.export.options import Options
from keras_nonlocal.export.portable import portable as make_portable
from keras_nonlocal.export.signatures import Signature
from keras_nonlocal.serving import constants
from keras_nonlocal.surgery import functional


def export_model(model: Any, export_dir: str | os.PathLike[str], **chosen: Any) -> str:
    """Publishes a model as the next version of a directory, with warm-up requests.

    `serving_default` takes the model's inputs by their names, with every size checked that the model knows, and calls
    it with training=False. Outputs are named `output_0`, or by the keys or the output layers of a model of several;
    16-bit inputs and outputs are float32 there, as JSON has no others.

    Args:
      model: of Keras 3 or tf_keras: functional, sequential and built, or a subclass that was called or loaded.
      export_dir: `saved_models/<name>`; the version is the next free number in it.
      chosen: fields of export.Options, as `padded=True`.

    Returns:
      The path of the new version.

    Raises:
      TypeError: if `model` is no model of either Keras.
      ValueError: if it is not known what it takes, or a SavedModel cannot take or give it.
      UserError: if it cannot be published, would not load in TensorFlow Serving, or answers differently when folded.

    Example:

    >>> from keras_nonlocal import export
    >>> model = keras.Sequential([keras.Input((8, 8, 4), name="maps"), keras_nonlocal.NonLocal2D()])
    >>> path = export.export_model(model, "saved_models/non_local")  # doctest: +ELLIPSIS
    signature        operations        rows       Keras       alone     allowed
    serving_default  ...
    >>> tf.saved_model.load(path).signatures["serving_default"](maps=tf.zeros([1, 8, 8, 4]))["output_0"].shape
    TensorShape([1, 8, 8, 4])
    """
    options = Options(**chosen)
    signatures, served = signatures_of(model, options.fold_norms, options.portable)
    default = signatures[constants.DEFAULT_SIGNATURE]
    if options.explain and len(default.specs) == 1:
        signatures |= _explain_signatures(served, default, options.explain_block, options.explain_top_k)
    if options.padded:
        signatures[constants.PADDED_SIGNATURE] = _padded_signature(served, default)
    return saved_model.publish(signatures, served, export_dir, options)


def signatures_of(model: Any, fold_norms: bool = True, portable: bool = False) -> tuple[dict[str, Signature], Any]:
    """({name: Signature}, the model that they are of): the model itself, or it with its norms folded."""
    inputs = tensors.inputs_of(model)
    example = inputs.example()
    if fold_norms and functional.graph(model) is not None:
        model = folding.folded(model, inputs.of_graph(example))
    if portable:
        shapes = [value.shape[1:] for value in example.values()]
        print(make_portable(model, shapes[0] if len(shapes) == 1 else None))

    @tf.function
    def serve(**named):
        return tensors.outputs_of(model, inputs.call(model, inputs.checked(named)))

    return {constants.DEFAULT_SIGNATURE: Signature(serve, inputs.specs, example)}, model


def _padded_signature(model, served):
    inputs = tensors.inputs_of(model)
    if len(served.specs) != 1:
        raise errors.UserError(
            f"the network cannot serve padded inputs: it takes several, {', '.join(served.specs)}; leave out --padded"
        )
    ((name, example),) = served.example.items()
    return padding.padded_signature(
        model,
        name,
        example,
        lambda value: tf.cast(value, inputs.dtypes[name]),
        lambda outputs: tensors.outputs_of(model, outputs),
    )


def _explain_signatures(model, served, block, top_k):
    inputs = tensors.inputs_of(model)

    def prepare(value):
        return inputs.alone(inputs.checked(dict.fromkeys(inputs.specs, value)))

    return explaining.explain_signatures(model, served, prepare, block, top_k)
