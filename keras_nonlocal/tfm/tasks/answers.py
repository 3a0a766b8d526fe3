"""What training, evaluation, export and the paper's tables ask of a task, beside tfm's own interface.

tfm asks a task for its model, records, losses and metrics. The rest is asked here, so that nobody else knows a task by
its name: a task's file registers its answers for the class of its configuration, tfm's own tasks have theirs too.
"""

import tensorflow as tf
import tf_keras
from official.core import config_definitions as cfg
from official.core import task_factory

from keras_nonlocal import errors
from keras_nonlocal.tfm.scoring import kept_results


class ByTask(dict):
    """What belongs to a task, by the class of its configuration; also to tasks whose configuration derives from it."""

    def register(self, config_class: type):
        """Decorates what belongs to the tasks of this configuration."""

        def decorate(thing):
            self[config_class] = thing
            return thing

        return decorate

    def find(self, config: cfg.TaskConfig, default=None):
        """What belongs to the task of a configuration, or the default."""
        return next((self[base] for base in type(config).__mro__ if base in self), default)


ANSWERS = ByTask()

# Scalars of training that TensorBoard shows and the console does not.
ONLY_DRAWN = ("examples_per_second", "waiting_for_data", "gradient_norm")


class Answers:
    """Of a task that says nothing of itself. Others derive from it and are registered with `ANSWERS.register`.

    Args:
      config: the configuration of the task.
    """

    # The metrics of an evaluation that are printed, in order. None: all there are.
    metrics: tuple[str, ...] | None = None
    # The metric, or "loss", that the best checkpoint is best in, and whether that is "higher" or "lower". None: no such
    # checkpoint is kept.
    best_metric: tuple[str, str] | None = None
    # What writes the records.
    records_from = "what wrote them"
    # How the paper gives its scores in such tasks.
    score = ""
    # Which of keras_nonlocal.tfm.scoring makes the result of a test out of the scores of every video. None: the metrics
    # of the task are the result.
    scoring: str | None = None

    def __init__(self, config: cfg.TaskConfig):
        self.config = config

    def shown(self, values: dict) -> list[str]:
        """Which of the values of a step of training or of an evaluation are printed, in order."""
        metrics = self.metrics or sorted(set(values) - {"loss", "learning_rate", "step", *ONLY_DRAWN})
        return [name for name in ("loss", *metrics, "learning_rate") if name in values]

    def input_shape(self, data: cfg.DataConfig) -> tuple[int, ...] | None:
        """Sizes of one example of training or test data; None for a model that takes more than one array."""
        return None

    def counted(self) -> tuple[tf_keras.Model, tuple[int, ...]]:
        """The network whose size the paper's tables give, with random weights, and the sizes of one example."""
        return task_factory.get_task(self.config).build_model(), self.input_shape(self.config.train_data)

    def set_views(
        self, clips: int | None, crops: int | None, protocol: str | None = None, combine: str | None = None
    ) -> dict[str, int | str]:
        """Configures which views of an example a test scores, and how it combines them; None for the task's own way.

        Returns:
          {"clips": ..., "crops": ...} and what else there is to say as they are now, empty for a task without views.

        Raises:
          UserError: if the task has none, and some are asked for.
        """
        if (clips, crops, protocol, combine) != (None,) * 4:
            raise errors.UserError(
                "--clips and --crops are for videos, of which this task has none: leave them out, and --protocol and "
                f"--combine too. Received: clips={clips}, crops={crops}, protocol={protocol}, combine={combine}"
            )
        return {}

    def kept_results(self) -> kept_results.KeptResults | None:
        """What keeps the results of a test whose metrics are the task's own; None if there are none to be written."""
        return None

    def explain(self, error: tf.errors.OpError) -> str | None:
        """What the user got wrong when reading records failed with this error, in a sentence; None if nothing."""
        if isinstance(error, tf.errors.DataLossError):
            return (
                f"a file of task.*_data.input_path is not a whole TFRecord file ({errors.first_line(error)}): let it "
                f"match files of records only, and write a damaged one again with {self.records_from}."
            )
        return None


def of(config: cfg.TaskConfig) -> Answers:
    """The answers of the task of a configuration."""
    return ANSWERS.find(config, Answers)(config)


def own_words(error: tf.errors.OpError, start: str) -> str:
    """What an assertion of the input pipeline says from there on, out of the graph's message."""
    line = error.message[error.message.find(start) :].split("\n")[0].split("'")[0]
    return line.replace("] [", " ").strip(" ]")
