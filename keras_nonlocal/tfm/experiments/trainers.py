"""Optimizers and schedules that experiments share."""

from official.core import config_definitions as cfg

from keras_nonlocal import paper
from keras_nonlocal.tfm import optimizers, trainer

PRECISE_NORM_STEPS = 200  # of the official code


def sgd(learning_rate: dict, nesterov: bool = True, warmup: dict | None = None) -> optimizers.OptimizationConfig:
    """Momentum 0.9, with Nesterov as the official code, with a learning rate as tfm's configurations say it."""
    optimizer = {"type": "corrected_sgd", "corrected_sgd": {"nesterov": nesterov}}
    return optimizers.OptimizationConfig(
        {"optimizer": optimizer, "learning_rate": learning_rate, **({"warmup": warmup} if warmup else {})}
    )


def falling(
    train_steps: int,
    falls: tuple[int, ...],
    learning_rate: float,
    batch_size: int,
    norm_frozen: bool = True,
    nesterov: bool = True,
    warm_up: int = 0,
) -> trainer.TrainerConfig:
    """SGD with a learning rate that falls to a tenth each time.

    Args:
      train_steps: in all.
      falls: steps at which the rate falls.
      learning_rate: to begin with.
      batch_size: that the rate is for, of all replicas together.
      norm_frozen: whether batch norm keeps what it starts with; otherwise its statistics are made precise.
      nesterov: whether momentum is Nesterov's.
      warm_up: steps in which the rate rises from a third, linearly.

    Returns:
      A TrainerConfig.
    """
    rates = {"boundaries": list(falls), "values": [learning_rate / 10**i for i in range(len(falls) + 1)]}
    rise = {"warmup_steps": warm_up, "warmup_learning_rate": learning_rate / 3}
    return trainer.TrainerConfig(
        train_steps=train_steps,
        steps_per_loop=100,
        summary_interval=100,
        checkpoint_interval=5_000,
        validation_interval=5_000,
        validation_steps=-1,
        optimizer_config=sgd(
            {"type": "stepwise", "stepwise": rates}, nesterov, {"type": "linear", "linear": rise} if warm_up else None
        ),
        precise_norm_steps=0 if norm_frozen else PRECISE_NORM_STEPS,
        base_batch_size=batch_size,
    )


def of_paper(recipe: paper.Recipe) -> trainer.TrainerConfig:
    """The trainer of a recipe of the paper."""
    return falling(
        recipe.steps,
        recipe.falls,
        recipe.learning_rate,
        recipe.batch_size,
        recipe.norm_frozen,
        recipe.nesterov,
        recipe.warm_up,
    )


def of_tfm(stock: cfg.TrainerConfig, batch_size: int) -> trainer.TrainerConfig:
    """The trainer of an experiment of tfm's, its schedule and optimizer included, as one of ours.

    Args:
      stock: tfm's.
      batch_size: that its learning rate is for, of all replicas together.
    """
    return trainer.TrainerConfig(stock.as_dict(), base_batch_size=batch_size)
