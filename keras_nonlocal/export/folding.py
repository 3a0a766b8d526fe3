"""A trained model with its batch norms folded, after a check that it answers as before."""

from typing import Any

import tensorflow as tf

from keras_nonlocal import errors, surgery

# How far folded norms may move an output, relative to the largest one, by the dtype that the network computes in.
TOLERANCE = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 1e-1}
CURE = "export it as it was trained, with --nofold_norms."


def folded(model: Any, inputs: Any) -> Any:
    """A model with its batch norms folded, after a check on these inputs.

    Args:
      model: a trained functional model of either Keras.
      inputs: a batch as it takes it: a tensor, or a list or dict of them.

    Returns:
      The folded model. Each of its outputs is within TOLERANCE of the model's, relative to the largest.

    Raises:
      UserError: if they are not, or the model is not functional.
    """
    try:
        copy = surgery.fold_norms(model)
    except ValueError as error:
        raise errors.UserError(f"the batch norms of the network cannot be folded: {error}; {CURE}") from error
    tolerance = TOLERANCE.get(model.compute_dtype, TOLERANCE["float32"])
    answers = (tf.nest.flatten(each(inputs, training=False)) for each in (model, copy))
    for trained, found in zip(*answers, strict=True):
        difference = _difference(trained, found)
        if not difference <= tolerance:  # nor may it be NaN
            raise errors.UserError(
                f"with its batch norms folded the network answers differently: by {difference:.1e} of the largest "
                f"output, allowed are {tolerance:g}; {CURE}"
            )
    return copy


def _difference(trained, found):
    """How far an output is from what it was, relative to the largest; 0 of what is no number."""
    if not (trained.dtype.is_floating or trained.dtype.is_integer):
        return 0.0
    trained, found = (tf.cast(each, tf.float64) for each in (trained, found))
    largest = tf.reduce_max(tf.abs(trained))
    # Where all is zero, so is what is right.
    return float(tf.reduce_max(tf.abs(found - trained)) / (largest if largest else 1.0))
