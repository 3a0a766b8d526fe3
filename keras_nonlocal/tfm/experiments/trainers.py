"""Optimizers and schedules that experiments share."""

from keras_nonlocal import paper
from keras_nonlocal.tfm import optimizers, trainer

PRECISE_NORM_STEPS = 200  # of the official code


def sgd(learning_rate: dict) -> optimizers.OptimizationConfig:
    """Momentum 0.9 with Nesterov, as the official code, with a learning rate as tfm's configurations say it."""
    return optimizers.OptimizationConfig({"learning_rate": learning_rate})


def falling(
    train_steps: int, falls: tuple[int, ...], learning_rate: float, batch_size: int, norm_frozen: bool = True
) -> trainer.TrainerConfig:
    """SGD with a learning rate that falls to a tenth each time.

    Args:
      train_steps: in all.
      falls: steps at which the rate falls.
      learning_rate: to begin with.
      batch_size: that the rate is for, of all replicas together.
      norm_frozen: whether batch norm keeps what it starts with; otherwise its statistics are made precise.

    Returns:
      A TrainerConfig.
    """
    values = [learning_rate / 10**i for i in range(len(falls) + 1)]
    return trainer.TrainerConfig(
        train_steps=train_steps,
        steps_per_loop=100,
        summary_interval=100,
        checkpoint_interval=5_000,
        validation_interval=5_000,
        validation_steps=-1,
        optimizer_config=sgd({"type": "stepwise", "stepwise": {"boundaries": list(falls), "values": values}}),
        precise_norm_steps=0 if norm_frozen else PRECISE_NORM_STEPS,
        base_batch_size=batch_size,
    )


def of_paper(recipe: paper.Recipe) -> trainer.TrainerConfig:
    """The trainer of a recipe of the paper."""
    return falling(recipe.steps, recipe.falls, recipe.learning_rate, recipe.batch_size, recipe.norm_frozen)
