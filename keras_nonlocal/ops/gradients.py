"""Loops of a number of steps, known or not, that keep one step alive, and gradients of one's own for them."""

import tensorflow as tf
from tensorflow.python.saved_model import save_context


def loop(count, body, carry, stacked):
    """Runs body(0), ..., body(count - 1) one after the other.

    Args:
      count: number of steps, at least 1; an int or a scalar tensor.
      body: from (step, *carry) to (outputs, carry), both tuples.
      carry: the tuple of tensors the first step gets.
      stacked: a tf.TensorSpec for each output of a step.

    Returns:
      The outputs of all steps, stacked on a new first axis, and the last carry.
    """
    if isinstance(count, int) and count == 1:
        outputs, carry = body(0, *carry)
        return tuple(output[None] for output in outputs), carry
    arrays = tuple(tf.TensorArray(spec.dtype, size=count, element_shape=spec.shape) for spec in stacked)

    def step(index, arrays, carry):
        outputs, carry = body(index, *carry)
        arrays = tuple(array.write(index, output) for array, output in zip(arrays, outputs, strict=True))
        return index + 1, arrays, carry

    # One iteration at a time: parallel ones would each hold their matrices.
    _, arrays, carry = tf.while_loop(
        lambda index, *_: index < count, step, (tf.constant(0), arrays, carry), parallel_iterations=1
    )
    return tuple(array.stack() for array in arrays), carry


def with_gradients(forward, backward):
    """A function of tensors with a gradient of its own, which can be differentiated again.

    Args:
      forward: from the inputs to (y, saved), where saved is a tensor that backward wants to keep, or None.
      backward: from (inputs, saved, dy) to the gradients in the inputs, in operations that can be differentiated; what
        is saved may stand in them by way of `known` only, and is None where backward has to do without.

    Returns:
      The function, from inputs to y.
    """

    @tf.custom_gradient
    def function(*inputs):
        # Hidden from any tape, which would otherwise keep every step of a loop that runs eagerly.
        y, saved = forward(*map(tf.stop_gradient, inputs))

        def gradients(dy):
            # A SavedModel keeps the gradient of an operation, but not the gradient of an operation in that.
            kept = None if save_context.in_save_context() else saved
            # Nothing of the way back before it is its turn: what it needs no dy for could otherwise be computed while
            # the way forward still holds its own matrices.
            with tf.control_dependencies([y, dy]):
                firsts = backward(inputs, kept, dy)
            return tuple(tf.cast(first, x.dtype) for first, x in zip(firsts, inputs, strict=True))

        return y, gradients

    return function


def known(value, function, gradients, *inputs):
    """function(*inputs), whose value may be there already: then it is computed only for a gradient through it.

    Args:
      value: what function(*inputs) is, or None.
      function: from the inputs to one tensor.
      gradients: from (inputs, dvalue) to the gradients in the inputs, in operations that can be differentiated. Not by
        a tape of its own, which forward-mode differentiation would stop.
      *inputs: tensors.

    Returns:
      The value, with the gradients of function.
    """
    if value is None:
        return function(*inputs)

    @tf.custom_gradient
    def operation(*inputs):
        return tf.stop_gradient(value), lambda dvalue: gradients(inputs, dvalue)

    # As tensors of this graph: what differentiates the gradient of a tf.function finds no others.
    return operation(*map(tf.identity, inputs))
