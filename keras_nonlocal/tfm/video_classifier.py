"""A backbone of clips and its classifier: tfm's model, with the dropout and the weight decay of the official code."""

from collections.abc import Sequence
from typing import Any

import tf_keras

from keras_nonlocal.tfm import dropout


@tf_keras.utils.register_keras_serializable("keras_nonlocal")
class VideoClassifier(tf_keras.Model):
    """Logits of clips: the average over positions of the backbone's last map, dropout, and a linear classifier.

    tfm's VideoClassificationModel layer by layer, so that either's checkpoints are the other's. What differs: dropout
    is a function of the step, the classifier starts from N(0, 0.01) as the official code's, and its bias decays too.

    Args:
      backbone: from clips to {"2": res2, ..., "5": res5}.
      num_classes: of the classifier.
      input_shape: (T, H, W, 3) of a clip, any of them None.
      dropout_rate: before the classifier. Default 0.
      endpoints: names of the maps that are averaged and put one after the other. Default the last.
      kernel_regularizer: of the classifier's kernel and bias. Default none.

    Call arguments: `inputs`, {"image": (B, T, H, W, 3)}, normalised; `training`. Returns (B, num_classes).
    """

    def __init__(
        self,
        backbone: tf_keras.Model,
        num_classes: int,
        input_shape: Sequence[int | None],
        dropout_rate: float = 0.0,
        endpoints: Sequence[str] | None = None,
        kernel_regularizer: Any = None,
        name: str = "video_classifier",
        **kwargs,
    ) -> None:
        inputs = {"image": tf_keras.Input(tuple(input_shape))}
        maps = backbone(inputs["image"])
        names = tuple(endpoints or [max(maps)])
        pooled = [tf_keras.layers.GlobalAveragePooling3D()(maps[name]) for name in names]  # (B, T, H, W, C) -> (B, C)
        x = pooled[0] if len(pooled) == 1 else tf_keras.layers.Concatenate()(pooled)
        x = dropout.Dropout(dropout_rate)(x)
        logits = tf_keras.layers.Dense(
            num_classes,
            kernel_initializer=tf_keras.initializers.RandomNormal(stddev=0.01),
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=kernel_regularizer,
        )(x)
        super().__init__(inputs=inputs, outputs=logits, name=name, **kwargs)
        self._arguments = {
            "num_classes": num_classes,
            "input_shape": tuple(input_shape),
            "dropout_rate": dropout_rate,
            "endpoints": names,
            "name": name,
        }

    @property
    def backbone(self) -> tf_keras.Model:
        """The network of maps in it."""
        return next(layer for layer in self.layers if isinstance(layer, tf_keras.Model))

    @property
    def checkpoint_items(self) -> dict[str, tf_keras.Model]:
        """What tfm keeps in a checkpoint besides the model: its backbone, under a name of its own."""
        return {"backbone": self.backbone}

    def get_config(self):
        return {
            **self._arguments,
            "backbone": tf_keras.saving.serialize_keras_object(self.backbone),
            "kernel_regularizer": tf_keras.regularizers.serialize(self.layers[-1].kernel_regularizer),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        backbone = tf_keras.saving.deserialize_keras_object(config["backbone"], custom_objects)
        regularizer = tf_keras.regularizers.get(config["kernel_regularizer"])
        return cls(**{**config, "backbone": backbone, "kernel_regularizer": regularizer})
