"""What people read while a run goes on."""

import time

import tensorflow as tf


def eta(seconds: float) -> str:
    """The time left as people read it, such as "ETA 1:02:03"."""
    left = round(seconds)
    return f"ETA {left // 3600}:{left // 60 % 60:02}:{left % 60:02}"


class TrainProgress:
    """Prints step, loss, metrics, rate and the time left after every loop of steps."""

    def __init__(self, global_step, train_steps, of_task, console):
        self._global_step = global_step
        self._train_steps = train_steps
        self._of_task = of_task
        self._console = console
        self._last = None

    def __call__(self, output):
        step, now = int(self._global_step.numpy()), time.monotonic()
        line = f"train {step:>7}/{self._train_steps}" + _as_text(self._of_task, _floats(output))
        if self._last and self._last[0] == step:
            return  # asked to stop before a step
        if self._last:
            # The first loop also builds the graph: its rate says nothing.
            rate = (step - self._last[0]) / (now - self._last[1])
            line += f"  {rate:.2f} steps/s  {eta((self._train_steps - step) / rate)}"
        self._last = step, now
        print(line, file=self._console, flush=True)


class EvalProgress:
    """Prints and keeps the metrics of an evaluation."""

    def __init__(self, global_step, metrics, of_task, console):
        self._global_step = global_step
        self._metrics = metrics
        self._of_task = of_task
        self._console = console

    def __call__(self, output):
        self._metrics.update(_floats(output), step=int(self._global_step.numpy()))
        print(
            f"eval  {self._metrics['step']:>7}" + _as_text(self._of_task, self._metrics), file=self._console, flush=True
        )


def _floats(output):
    # A learning rate that never changes is a variable, on several replicas one that float() does not take.
    values = {name: float(tf.convert_to_tensor(value)) for name, value in output.items() if not isinstance(value, dict)}
    for old, new in (("training_loss", "loss"), ("validation_loss", "loss")):
        if old in values:
            values[new] = values.pop(old)
    return values


def _as_text(of_task, values):
    return "".join(f"  {name} {values[name]:.4g}" for name in of_task.shown(values))
