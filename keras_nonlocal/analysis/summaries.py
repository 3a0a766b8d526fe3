"""What a model attends to while it trains, for TensorBoard."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_nonlocal.analysis import attention_numbers, plot
from keras_nonlocal.analysis.attention_maps import attention_maps


class AttentionSummary:
    """Writes, each time it is called, what a model's blocks attend to in one and the same clip or photo.

    TensorBoard shows the numbers of every block, see attention_numbers.Numbers, as curves, and as images `overview` and
    for one query of each block `arrows` and `heatmap`. It is a callback of either Keras by
    `keras.callbacks.LambdaCallback(on_epoch_end=summary)`. Each call runs the model up to every block anew, which takes
    some seconds for a large one.

    Args:
      model: that trains.
      x: a batch of one, as the model takes it.
      pictures: (T, H, W, 3) or (H, W, 3) uint8, of what size the model sees; None for sequences.
      log_dir: folder of TensorBoard.
      query: the place of the query, see attention_maps. Default for each block the middle one of up to 64, so that
        pictures of all times show the same.

    Call arguments:
      step: under which TensorBoard shows it, such as the epoch.
      logs: what Keras gives its callbacks; not used.

    Example:

    >>> model = keras_nonlocal.models.C2D(50, (4, 64, 64, 3), width=4, non_local={"res3": [1]})
    >>> clip = np.zeros([4, 64, 64, 3], "uint8")
    >>> summary = summaries.AttentionSummary(model, clip[None] / 127.5 - 1, clip, "logs")
    >>> callback = keras.callbacks.LambdaCallback(on_epoch_end=summary)  # for model.fit
    """

    def __init__(
        self,
        model: Any,
        x: Any,
        pictures: np.ndarray | None,
        log_dir: str | os.PathLike[str],
        query: Sequence[float] | None = None,
    ) -> None:
        self._model = model
        self._x = x
        self._pictures = pictures
        self._query = query
        self._writer = tf.summary.create_file_writer(os.fspath(log_dir))

    def __call__(self, step: int, logs: Mapping[str, Any] | None = None) -> None:
        maps = attention_maps(self._model, self._x, top_k=None)
        asked = maps
        if self._query is not None:
            asked = attention_maps(self._model, self._x, queries=[self._query], top_k=None)
        with self._writer.as_default(step):
            for path, found in maps.items():
                for name, value in vars(attention_numbers.numbers(found)).items():
                    if np.isfinite(value):
                        tf.summary.scalar(f"attention/{path}/{name}", value)
            self._image("attention/overview", plot.overview(maps))
            for path, found in asked.items():
                query = found.queries.shape[1] // 2
                self._image(f"attention/{path}/heatmap", plot.heatmap(self._pictures, found, query=query))
                if found.rank > 1:
                    self._image(f"attention/{path}/arrows", plot.arrows(self._pictures, found, query=query))
        self._writer.flush()

    def _image(self, name, figure):
        tf.summary.image(name, plot.pixels(figure)[np.newaxis])
