"""What a Keras model of either flavour takes and gives, as named tensors."""

import contextlib
import dataclasses
import inspect
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_nonlocal.export import examples, guards
from keras_nonlocal.surgery import functional

# In an example, of every size that a model leaves open but that of the batch.
OPEN_SIZE = 64


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The named inputs of a model.

    Args:
      specs: {name: what a request holds}; of 16 bits it is float32, as JSON has no others.
      structure: (args, kwargs) of a call, with names in the place of tensors.
      dtypes: {name: what the model takes}.
    """

    specs: Mapping[str, tf.TensorSpec]
    structure: Any
    dtypes: Mapping[str, tf.DType]

    def call(self, model: Callable, named: Mapping[str, tf.Tensor]) -> Any:
        """The outputs of a model for named tensors, at inference."""
        args, kwargs = self._given(named)
        return model(*args, **kwargs, **_at_inference(model))

    def of_graph(self, named: Mapping[str, tf.Tensor]) -> Any:
        """Named tensors as a functional model takes them: a tensor, or a structure of them."""
        (inputs,), _ = self._given(named)
        return inputs

    def _given(self, named):
        return tf.nest.map_structure(lambda name: tf.cast(named[name], self.dtypes[name]), self.structure)

    def checked(self, named: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The same tensors, which exist only if all have the shapes of `specs` and none is empty or too large.

        TensorFlow Serving does not look, and some kernels end the whole process.
        """
        named = {name: tf.ensure_shape(named[name], spec.shape) for name, spec in self.specs.items()}
        with contextlib.ExitStack() as stack:
            for name, value in named.items():
                stack.enter_context(guards.not_empty(name, value))
                least = math.prod(_example_shape(self.specs[name])) * value.dtype.size
                stack.enter_context(guards.not_too_large(name, value, least))
            return {name: tf.identity(value) for name, value in named.items()}

    def alone(self, named: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """The only tensor, as the model takes it."""
        (given,) = tf.nest.flatten(self._given(named))
        return given

    def example(self) -> dict[str, np.ndarray]:
        """Arrays that fit: random from 0 to 1, or the number of the row where an input takes no floats."""
        return {name: _example(spec, [number, 0]) for number, (name, spec) in enumerate(self.specs.items())}


def inputs_of(model: Any) -> Inputs:
    """Finds out what a model takes.

    Args:
      model: functional, sequential and built, or a subclass that was called or loaded.

    Raises:
      TypeError: for anything that is no model of either Keras.
      ValueError: if it is not known what it takes, or a SavedModel cannot take it.
    """
    functional.flavour(model)
    graph = functional.graph(model)
    args, kwargs = ((graph.input,), {}) if graph is not None else _of_calls(model)
    specs, dtypes = {}, {}

    def add(leaf, hint):
        if getattr(leaf, "sparse", False) or type(leaf).__name__ in ("RaggedKerasTensor", "SparseKerasTensor"):
            raise ValueError(f"`model` must take dense tensors to be exported. Received: {leaf!r}")
        name = _identifier(hint or getattr(leaf, "name", None) or "inputs")
        if name in specs:
            raise ValueError(f"`model` must have inputs of different names. Received: two of the name {name!r}")
        dtype = tf.as_dtype(leaf.dtype)
        dtypes[name] = dtype
        served = tf.float32 if dtype in (tf.float16, tf.bfloat16) else dtype
        specs[name] = tf.TensorSpec(leaf.shape, served, name)
        return name

    structure = _named((args, kwargs), add)
    return Inputs(specs, structure, dtypes)


def outputs_of(model: Any, outputs: Any) -> dict[str, tf.Tensor]:
    """Names what a model answers, and makes float32 of 16 bits.

    Args:
      model: a Keras model.
      outputs: of a call: a tensor, "output_0"; a dict, by its keys; or a list, by the names of its output layers, or
        as "output_0", "output_1" if there are none. What is nested gets the names on the way, as "boxes_0".

    Raises:
      ValueError: for what is no dense tensor.
    """
    named = {}

    def add(leaf, name):
        if not isinstance(leaf, tf.Tensor):
            raise ValueError(f"`model` must answer with dense tensors to be exported. Received: {name}={leaf!r}")
        named[name] = tf.cast(leaf, tf.float32) if leaf.dtype in (tf.float16, tf.bfloat16) else leaf

    if isinstance(outputs, list | tuple):
        names = getattr(model, "output_names", None) or ()
        if len(set(names)) != len(outputs):
            names = [f"output_{number}" for number in range(len(outputs))]
        outputs = dict(zip(names, outputs, strict=True))
    _named(outputs if isinstance(outputs, Mapping) else {"output_0": outputs}, add)
    return named


def _of_calls(model):
    """(args, kwargs) of what a model that is no graph was called with, as specs."""
    if functional.flavour(model).__name__ == "tf_keras":
        found = model.save_spec()
        if found is not None:
            args, kwargs = found
            return args, {name: spec for name, spec in kwargs.items() if isinstance(spec, tf.TypeSpec)}
    else:
        config = model.get_build_config() or {}
        shapes = config.get("shapes_dict") or {"": config["input_shape"]} if config else {}
        if shapes:
            return tuple(_specs(shape, model, name) for name, shape in shapes.items()), {}
    raise ValueError(
        "`model` must have been called, or built, before it is exported: only then is it known what it takes. "
        f"Received: model of class {type(model).__name__}"
    )


def _specs(shapes, model, name):
    """Specs of what a model of Keras 3 was built on; the size of the batch is not part of that."""
    if isinstance(shapes, Mapping):
        return {key: _specs(shape, model, key) for key, shape in shapes.items()}
    if all(size is None or isinstance(size, int) for size in shapes):
        name = name.removesuffix("_shape") or next(iter(inspect.signature(model.call).parameters))
        return tf.TensorSpec([None, *shapes[1:]], model.input_dtype, name)
    return [_specs(shape, model, f"{name}_{number}") for number, shape in enumerate(shapes)]


def _named(structure, add, hint=None):
    """The same structure of what `add` makes of each leaf and the keys on the way to it, None without any."""
    if isinstance(structure, Mapping):
        return {key: _named(each, add, f"{hint}_{key}" if hint else str(key)) for key, each in structure.items()}
    if isinstance(structure, list | tuple):
        parts = [_named(each, add, f"{hint}_{number}" if hint else None) for number, each in enumerate(structure)]
        return parts if isinstance(structure, list) else tuple(parts)
    return add(structure, hint)


def _identifier(name):
    """A name that an argument of a function can have."""
    name = re.sub(r"\W", "_", name, flags=re.ASCII)
    return f"_{name}" if name[:1].isdigit() else name


def _example_shape(spec):
    sizes = spec.shape.as_list()
    return [size if size is not None else OPEN_SIZE if axis else examples.ROWS for axis, size in enumerate(sizes)]


def _example(spec, seed):
    shape = _example_shape(spec)
    if spec.dtype.is_floating:
        return tf.random.stateless_uniform(shape, seed, dtype=spec.dtype).numpy()
    if spec.dtype == tf.bool:  # of a mask: all is valid
        return np.ones(shape, bool)
    rows = np.arange(shape[0]).reshape([-1] + [1] * (len(shape) - 1)) if shape else np.array(0)
    if spec.dtype == tf.string:
        rows = np.vectorize(lambda row: str(row).encode(), otypes=[object])(rows)
    return np.broadcast_to(rows, shape).astype(object if spec.dtype == tf.string else spec.dtype.as_numpy_dtype)


def _at_inference(model):
    """A call without the argument is one at inference."""
    return {"training": False} if "training" in inspect.signature(model.call).parameters else {}
