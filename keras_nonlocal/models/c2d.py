"""C2D and I3D as Keras 3 models, in the manner of keras.applications."""

from collections.abc import Sequence
from typing import Any, Literal

import keras

from keras_nonlocal import errors, layers
from keras_nonlocal.models import video_resnet


def C2D(
    depth: Literal[50, 101] = 50,
    input_shape: Sequence[int | None] = (8, 224, 224, 3),
    classes: int = 400,
    dropout: float = 0.5,
    include_top: bool = True,
    window: Sequence[int] | None = None,
    name: str = "c2d",
    **arguments: Any,
) -> keras.Model:
    """C2D, the paper's baseline: a 2D ResNet run over the frames, which meet in pooling only (Table 1).

    Args:
      depth: 50 or 101; not looked at when `block_counts` is given.
      input_shape: (T, H, W, 3) of a clip, normalised; any of T, H, W may be None. Default (8, 224, 224, 3).
      classes: of the classifier. Default 400, Kinetics.
      dropout: rate before the classifier. Default 0.5.
      include_top: end in the classifier's logits; otherwise in res5's feature map.
      window: (T', H', W') of res5 that the classifier looks at, sliding over what larger clips leave of it: the fully
        convolutional test of the official code and SlowFast, for which it is what the training crops left, as (4, 7, 7)
        of 8 frames of 224 x 224. The output is then the softmax averaged over all places. Default None: the classifier
        looks at the average of all of res5, and the output are its logits.
      name: of the model.
      **arguments: `non_local`, `non_local_block`, `temporal_stride`, `stem`, `block_counts`, `width`, ..., those of
        keras_nonlocal.models.video_resnet.video_resnet.

    Returns:
      A functional keras.Model from clips to logits (B, classes), with `window` to probabilities (B, classes), without
      the top to (B, T', H', W', C).

    Raises:
      ValueError: for an argument out of range, naming it.

    Example:

    >>> model = keras_nonlocal.models.C2D(50, non_local={"res3": [1, 3], "res4": [1, 3, 5]})
    >>> model.output_shape
    (None, 400)
    """
    return _model(depth, input_shape, classes, dropout, include_top, window, name, inflate=None, **arguments)


def I3D(
    depth: Literal[50, 101] = 50,
    input_shape: Sequence[int | None] = (8, 224, 224, 3),
    classes: int = 400,
    dropout: float = 0.5,
    include_top: bool = True,
    window: Sequence[int] | None = None,
    name: str = "i3d",
    inflate: Literal["3x1x1", "3x3x3"] = "3x1x1",
    **arguments: Any,
) -> keras.Model:
    """I3D, a C2D with the kernels of every second residual block inflated over time (section 4).

    Args:
      inflate: "3x1x1" (default, the first 1x1 convolution) or "3x3x3" (the 3x3 convolution). The rest is C2D's.

    Returns:
      A functional keras.Model, as C2D.

    Example:

    >>> keras_nonlocal.models.I3D(50, input_shape=(32, 224, 224, 3), temporal_stride=8).output_shape
    (None, 400)
    """
    return _model(depth, input_shape, classes, dropout, include_top, window, name, inflate=inflate, **arguments)


def c2d_or_i3d(inflate, **arguments):
    """An I3D, or without `inflate` a C2D, which has no such argument."""
    return I3D(inflate=inflate, **arguments) if inflate else C2D(**arguments)


def _model(depth, input_shape, classes, dropout, include_top, window, name, **arguments):
    if "block_counts" not in arguments:
        if not errors.is_positive_int(depth) or depth not in video_resnet.BLOCK_COUNTS:
            raise ValueError(f"`depth` must be one of {list(video_resnet.BLOCK_COUNTS)}. Received: depth={depth!r}")
        arguments["block_counts"] = video_resnet.BLOCK_COUNTS[depth]
    inputs = keras.Input(input_shape, name="clip")
    x = video_resnet.video_resnet(keras, layers, inputs, **arguments)["5"]
    if include_top:
        errors.check_positive_int("classes", classes)
        if window is None:
            x = keras.layers.GlobalAveragePooling3D(name="pool5")(x)
        else:
            x = keras.layers.AveragePooling3D(tuple(window), strides=1, name="pool5")(x)
        x = keras.layers.Dropout(dropout, name="dropout")(x)
        initializer = keras.initializers.RandomNormal(stddev=0.01)
        x = keras.layers.Dense(classes, kernel_initializer=initializer, dtype="float32", name="pred")(x)
        if window is not None:
            x = keras.layers.Softmax(name="softmax")(x)
            x = keras.layers.GlobalAveragePooling3D(name="places")(x)
    return keras.Model(inputs, x, name=name)
