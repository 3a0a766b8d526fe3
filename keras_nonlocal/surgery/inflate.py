"""Makes networks of clips of trained networks of images, of either Keras, by inflating their kernels over time."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from keras_nonlocal import errors
from keras_nonlocal.layers import flavour
from keras_nonlocal.surgery import copying, functional, places

HOWS = ("centre", "average")
PICTURES = 4  # rank of what is inflated: (batch, H, W, channels)


def inflate(
    model: Any,
    frames: int | None = None,
    kernel_frames: Mapping[str, int] | None = None,
    how: Literal["centre", "average"] = "centre",
) -> Any:
    """The network of clips that a trained network of images becomes.

    All frames go through the network of images, side by side, and global poolings take the mean or the maximum over
    time as well: on a clip of one image over and over the answer is the image's, up to rounding. Chosen convolutions
    get kernels of several frames, and NonLocal2D becomes NonLocal3D, which looks at all frames. Time has no strides and
    is not pooled before the end. Convolutions, max-poolings and batch norms are those of keras_nonlocal, which are fast
    in 3D; files hold them as such.

    Args:
      model: a functional or sequential model of Keras 3 or tf_keras of images (H, W, channels), also one with such
        models inside: of convolutions (without groups or dilation), poolings, paddings, norms, merges, non-local
        blocks, layers that work position by position, and behind global poolings any layer.
      frames: of the clips; default any number.
      kernel_frames: for names or patterns of convolutions (as in `insert`), over how many frames their kernels go, odd
        numbers: {"conv[2345]_block*_1_conv": 3} inflates the first 1 x 1 convolution of all blocks of a Keras ResNet.
        Default: all over one, as the paper's C2D. Beyond the ends of a clip there are zeros.
      how: what a kernel of several frames is at the start. "centre" (default): the image's in the middle, zeros before
        and after, so that the answer to any clip is that without `kernel_frames`, until it is trained. "average": the
        image's divided by the number of frames in each, as the paper's I3D; at the ends of a clip, where some of the
        frames are zeros, the network then gives less than on the image.

    Returns:
      A functional model of the same Keras, with the same names of layers, inputs and outputs, for inputs
      (frames, H, W, channels). Not compiled; what was frozen is frozen. `model` is not changed, and shares no weights.

    Raises:
      TypeError: if `model` is no model of either Keras.
      ValueError: for an argument out of range, if the model is not functional or takes no images, and for a layer that
        has no form in 3D, naming it.

    Example:

    >>> network = keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3))
    >>> video = keras_nonlocal.inflate(network, frames=4, kernel_frames={"conv4_block[135]_1_conv": 3})
    >>> image = np.random.default_rng(0).normal(size=[1, 64, 64, 3]).astype("float32")
    >>> bool(np.allclose(video(np.stack([image] * 4, axis=1)), network(image), atol=1e-5))
    True

    Carreira and Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017; Wang et al., "Non-local Neural Networks",
    CVPR 2018, section 4.1.
    """
    keras = functional.flavour(model)
    graph = functional.required_graph(model)
    frames = None if frames is None else errors.check_positive_int("frames", frames)
    how = errors.check_choice("how", how, HOWS)
    if not any(_is_picture(x) for call in functional.calls(graph) for x in call.inputs):
        raise ValueError(
            "`model` must take images, (batch, H, W, channels). "
            f"Received: model of inputs {[tuple(x.shape) for x in model.inputs]}"
        )
    return _Inflation(keras, frames, _kernels(keras, model, kernel_frames or {}), how).copy(model)


def inflated_kernel(kernel: np.ndarray, frames: int, how: str = "average") -> np.ndarray:
    """A kernel of images over time; on a clip of one image over and over it gives what `kernel` gives on the image.

    Args:
      kernel: (k, k, C, C').
      frames: temporal size.
      how: "average", repeated and divided by the number of frames, or "centre", in the middle of zeros.

    Returns:
      (frames, k, k, C, C').
    """
    if how == "average":
        return np.repeat(kernel[None], frames, axis=0) / frames
    inflated = np.zeros((frames, *kernel.shape), kernel.dtype)
    inflated[frames // 2] = kernel
    return inflated


class _Inflation(copying.ModelCopy):
    """The copy that takes clips."""

    def __init__(self, keras, frames, kernels, how):
        super().__init__(keras)
        self._frames = frames
        self._kernels = kernels  # id of a convolution: frames of its kernel
        self._how = how

    def input(self, layer):
        x = layer.output
        if not _is_picture(x):
            return super().input(layer)
        batch, *shape = x.shape
        return self._keras.Input((self._frames, *shape), batch_size=batch, dtype=x.dtype, name=layer.name)

    def make(self, call):
        layer = call.layer
        if not any(map(_is_picture, [*call.inputs, *call.outputs])):
            return copying.copy_layer(layer)
        home = flavour.home(self._keras)
        if not hasattr(layer, "weights") or type(layer).__name__ == "TFOpLambda":
            _check_operation(call)
            return copying.copy_layer(layer)
        name = type(layer).__name__
        own = (getattr(module, name, None) for module in (self._keras.layers, home))
        if name not in _INFLATED or type(layer) not in own:
            raise _refused(layer, "which has no form in 3D that is known here")
        target, changes = _INFLATED[name]
        config = {key: value for key, value in layer.get_config().items() if key != "batch_input_shape"}
        config = changes(layer, config)
        inflated = getattr(home, target, None) or getattr(self._keras.layers, target)
        if name != "Conv2D":
            return inflated.from_config(config)
        frames = self._kernels.get(id(layer), 1)
        convolution = inflated.from_config({**config, "kernel_size": (frames, *layer.kernel_size)})
        if frames == 1 or config["padding"] == "same":
            return convolution
        padding = ((frames // 2, frames // 2), (0, 0), (0, 0))  # in time only
        return _Padded(self._keras.layers.ZeroPadding3D(padding, name=f"{layer.name}_frames"), convolution)

    def take_weights(self, layer, copy):
        copy = copy.convolution if isinstance(copy, _Padded) else copy
        weights = layer.get_weights() if type(layer).__name__ == "Conv2D" else None
        if weights:
            weights[0] = inflated_kernel(weights[0], self._kernels.get(id(layer), 1), self._how)
        copying.take_weights(layer, copy, weights)


class _Padded:
    """A convolution behind a padding of time."""

    def __init__(self, padding, convolution):
        self.padding = padding
        self.convolution = convolution

    def __call__(self, x):
        return self.convolution(self.padding(x))

    @property
    def trainable(self):
        return self.convolution.trainable

    @trainable.setter
    def trainable(self, value):
        self.convolution.trainable = value


def _kernels(keras, model, kernel_frames):
    """{id of a convolution: frames of its kernel}."""
    known, kernels = places.find(model), {}
    for pattern, frames in kernel_frames.items():
        if not errors.is_positive_int(frames) or frames % 2 == 0:
            raise ValueError(f"`kernel_frames` must be odd numbers of frames. Received: {frames!r} for {pattern!r}")
        for place in places.choose(known, pattern, "kernel_frames"):
            if type(place.layer) is not keras.layers.Conv2D:
                raise ValueError(
                    "`kernel_frames` must name convolutions only. "
                    f"Received: {pattern!r}, which {place.path!r} ({type(place.layer).__name__}) is of"
                )
            kernels[id(place.layer)] = int(frames)
    return kernels


def _is_picture(x):
    return len(x.shape) == PICTURES


def _refused(layer, why):
    return ValueError(
        f"`model` must be of layers that can be inflated over time. Received: {layer.name!r} ({type(layer).__name__}), "
        f"{why}"
    )


# What a layer of images becomes: (class, function of the layer and its config that gives the new config).


def _same(layer, config):
    return config


def _convolution(layer, config):
    _check_channels(layer)
    if layer.groups != 1 or any(rate != 1 for rate in layer.dilation_rate):
        why = f"with groups={layer.groups} and dilation_rate={tuple(layer.dilation_rate)}: only 1 has kernels in 3D"
        raise _refused(layer, why)
    # To a kernel of one pixel the two are the same, and "same" keeps the frames too.
    padding = "same" if set(layer.kernel_size) == {1} else layer.padding
    return {**config, "strides": (1, *layer.strides), "dilation_rate": (1, 1, 1), "padding": padding}


def _pooling(layer, config):
    _check_channels(layer)
    return {**config, "pool_size": (1, *layer.pool_size), "strides": (1, *layer.strides)}


def _channels_last(layer, config):
    _check_channels(layer)
    return config


def _borders(key):
    def changes(layer, config):
        _check_channels(layer)
        return {**config, key: ((0, 0), *getattr(layer, key))}

    return changes


def _upsampling(layer, config):
    _check_channels(layer)
    if layer.interpolation != "nearest":
        raise _refused(layer, f"with interpolation={layer.interpolation!r}: in 3D there is 'nearest' only")
    config = {key: value for key, value in config.items() if key != "interpolation"}
    return {**config, "size": (1, *layer.size)}


def _over_channels(layer, config):
    axes = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
    if [axis % PICTURES for axis in axes if axis is not None] != [PICTURES - 1]:
        raise _refused(layer, f"with axis={layer.axis}: it must be the channels', which are last")
    return {**config, "axis": -1}


def _block(layer, config):
    return {**config, "pool_size": (1, *layer.pool_size)}


def _check_channels(layer):
    if layer.data_format != "channels_last":
        raise _refused(layer, "with channels first: they must be last")


_POINTWISE = (
    *("Activation", "ReLU", "LeakyReLU", "ELU", "Identity", "Dense", "Dropout", "GaussianNoise", "GaussianDropout"),
    *("Rescaling", "Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "ActivityRegularization"),
)
_INFLATED = {
    **{name: (name, _same) for name in _POINTWISE},
    **{name: (name, _over_channels) for name in ("BatchNormalization", "LayerNormalization", "GroupNormalization")},
    **{name: (name, _over_channels) for name in ("UnitNormalization", "Softmax", "Concatenate")},
    "Conv2D": ("Conv3D", _convolution),
    **{f"{kind}Pooling2D": (f"{kind}Pooling3D", _pooling) for kind in ("Max", "Average")},
    **{f"Global{kind}Pooling2D": (f"Global{kind}Pooling3D", _channels_last) for kind in ("Max", "Average")},
    "SpatialDropout2D": ("SpatialDropout3D", _channels_last),
    "ZeroPadding2D": ("ZeroPadding3D", _borders("padding")),
    "Cropping2D": ("Cropping3D", _borders("cropping")),
    "UpSampling2D": ("UpSampling3D", _upsampling),
    "NonLocal2D": ("NonLocal3D", _block),
}
# Of Keras 3 by the class of the operation, of tf_keras by what it calls the function.
_OPERATIONS = {
    *("Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Maximum", "Minimum", "Relu"),
    *("__operators__.add", "math.add", "math.subtract", "math.multiply", "math.truediv", "math.divide"),
    *("math.maximum", "math.minimum", "nn.relu"),
}


def _check_operation(call):
    """Raises ValueError unless an operation works position by position."""
    layer = call.layer
    is_tf = type(layer).__name__ == "TFOpLambda"
    name = layer.get_config()["function"] if is_tf else type(layer).__name__
    given = [x for x in [*call.args, *call.kwargs.values()] if not functional.is_symbolic(x)]
    if name not in _OPERATIONS or not all(np.ndim(x) == 0 for x in given):
        raise _refused(layer, "an operation that is not known to work position by position: use a layer in its place")
