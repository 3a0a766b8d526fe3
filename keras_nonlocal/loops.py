"""Loops of a number of steps, known or not, that keep one step alive, and gradients of one's own for them."""

import tensorflow as tf


def loop(count, body, carry, stacked):
    """Runs body(0), ..., body(count - 1) one after the other; differentiate it with `with_gradients` only.

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


def with_gradients(forward, backward, definition, name):
    """A function of tensors with a gradient of its own.

    Args:
      forward: from the inputs to (y, saved), where saved is whatever backward wants to keep.
      backward: from (inputs, y, saved, dy) to the gradients in the inputs. Its own gradients are never taken.
      definition: the same function of the inputs in plain operations, from which the second-order gradients come; None
        where it would need more memory than there is, so that they are refused.
      name: of the evaluation, to be said when they are.

    Returns:
      The function, from inputs to y.
    """

    @tf.custom_gradient
    def function(*inputs):
        # Hidden from any tape, which would otherwise keep every step of a loop that runs eagerly.
        y, saved = forward(*map(tf.stop_gradient, inputs))

        def gradients(dy):
            @tf.custom_gradient
            def first_order(dy, *inputs):
                # Nothing of the way back before it is its turn: what it needs no dy for could otherwise be computed
                # while the way forward still holds its own matrices.
                with tf.control_dependencies([y, dy]):
                    firsts = backward(tuple(map(tf.stop_gradient, inputs)), y, saved, tf.stop_gradient(dy))

                def second_order(*cotangents):
                    if definition is None:
                        raise NotImplementedError(
                            f"Second-order gradients of the {name!r} evaluation are not available: give the layer "
                            "implementation='dense', which has them and needs memory for the whole attention."
                        )
                    return _second_order(definition, inputs, dy, cotangents)

                return firsts, second_order

            return first_order(dy, *inputs)

        return y, gradients

    return function


def _second_order(definition, inputs, dy, cotangents):
    """The gradients of sum(first-order gradients * cotangents) in dy and in the inputs."""
    with tf.GradientTape() as outer:
        outer.watch((dy, *inputs))
        with tf.GradientTape() as inner:
            inner.watch(inputs)
            y = definition(*inputs)
        firsts = inner.gradient(y, inputs, dy)
        total = tf.add_n([tf.reduce_sum(first * c) for first, c in zip(firsts, cotangents, strict=True)])
    return outer.gradient(total, (dy, *inputs))
