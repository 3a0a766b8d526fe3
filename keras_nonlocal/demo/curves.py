"""Learning curves out of TensorBoard event files."""

from keras_nonlocal.analysis import plot


def read(folder, metric="accuracy"):
    """The values of a metric over a training run.

    Args:
      folder: where the event files are, such as MODEL_DIR/train or MODEL_DIR/validation.
      metric: name of the scalar.

    Returns:
      Two lists: steps and values, in order; empty if there is no such metric.
    """
    import tensorflow as tf
    from tensorboard.backend.event_processing import event_accumulator

    events = event_accumulator.EventAccumulator(folder, size_guidance={event_accumulator.TENSORS: 0})
    events.Reload()
    if metric not in events.Tags()["tensors"]:
        return [], []
    points = {event.step: float(tf.make_ndarray(event.tensor_proto)) for event in events.Tensors(metric)}
    return sorted(points), [points[step] for step in sorted(points)]


def draw(runs, ceiling=None, ceiling_label=None, metric="accuracy"):
    """Draws runs into one picture: validation as lines with dots, training as thin lines.

    Args:
      runs: {name: model_dir} of training runs.
      ceiling: a value to draw as a dashed line. Default none.
      ceiling_label: what to write on it.
      metric: name of the scalar. Default accuracy.

    Returns:
      A matplotlib Figure.
    """
    figure, (axis,) = plot.new_figure(1, (7, 4.2))
    for index, (name, model_dir) in enumerate(runs.items()):
        axis.plot(*read(f"{model_dir}/train", metric), color=f"C{index}", linewidth=1, alpha=0.5)
        axis.plot(*read(f"{model_dir}/validation", metric), "o-", color=f"C{index}", markersize=4, label=name)
    if ceiling is not None:
        axis.axhline(ceiling, color="black", linestyle="--", linewidth=1)
        axis.annotate(ceiling_label or "", (0.01, ceiling), xycoords=("axes fraction", "data"), va="bottom", fontsize=9)
    axis.set_xlabel("training step")
    axis.set_ylabel(f"{metric} (dots: validation, thin: training)")
    axis.grid(alpha=0.3)
    axis.legend(loc="upper left")
    figure.tight_layout()
    return figure
