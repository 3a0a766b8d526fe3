"""What a network attends to in one video or photo while it trains, for TensorBoard."""

import os

import numpy as np
import tf_keras
from official.core import config_definitions as cfg

from keras_nonlocal import errors
from keras_nonlocal.analysis import blocks
from keras_nonlocal.analysis.summaries import AttentionSummary
from keras_nonlocal.export import pictures
from keras_nonlocal.tfm import export

FOLDER = "attention"


class Explanation:
    """Shows TensorBoard, each time it is called, what the blocks of a run's network attend to in one file.

    Args:
      params: the ExperimentConfig of the run.
      path: a video, JPEG or PNG file, of which the network sees what a served one does.
      model_dir: folder of the run; what is shown goes to `model_dir/attention`.

    Call arguments:
      model: the network as it is now.
      step: under which TensorBoard shows it.

    Raises:
      UserError: if the file cannot be read, or the task or the network has no attention that can be drawn.
    """

    def __init__(self, params: cfg.ExperimentConfig, path: str | os.PathLike[str], model_dir: str) -> None:
        module_class = export.signatures.MODULES.find(params.task)
        example = None if module_class is None else module_class.random_inputs(params)
        if example is None:
            raise errors.UserError(
                f"the attention of a {type(params.task).__name__} is not drawn while it trains: leave --explain out, "
                "and call keras_nonlocal.attention_maps on the trained network"
            )
        self._params = params
        self._seen = pictures.read(
            path, example.shape[1:-1], getattr(params.task.validation_data, "temporal_stride", None)
        )
        self._module_class = module_class
        self._log_dir = os.path.join(model_dir, FOLDER)
        self._summary = None

    def __call__(self, model: tf_keras.Model, step: int) -> None:
        if not blocks.paths(model):
            raise errors.UserError("the network has no non-local block to look into: leave --explain out")
        try:
            if self._summary is None:
                x = self._module_class(self._params, model).prepare(self._seen[np.newaxis])
                self._summary = AttentionSummary(model, x, self._seen, self._log_dir)
            self._summary(step)
        except ValueError as error:
            raise errors.UserError(f"what blocks attend to cannot be shown: {error}; leave --explain out") from error
