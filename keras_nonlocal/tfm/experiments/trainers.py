"""Optimizers and schedules that experiments share."""

from official.core import config_definitions as cfg
from official.modeling import optimization


def sgd(learning_rate: dict) -> optimization.OptimizationConfig:
    """Momentum 0.9 with Nesterov, as the official code, with a learning rate as tfm's configurations say it."""
    return optimization.OptimizationConfig(
        {
            "optimizer": {"type": "sgd", "sgd": {"momentum": 0.9, "nesterov": True}},
            "learning_rate": learning_rate,
        }
    )


def falling(train_steps: int, falls: tuple[int, ...], learning_rate: float) -> cfg.TrainerConfig:
    """SGD with a learning rate that falls to a tenth each time.

    Args:
      train_steps: in all.
      falls: steps at which the rate falls.
      learning_rate: to begin with.

    Returns:
      A TrainerConfig.
    """
    values = [learning_rate / 10**i for i in range(len(falls) + 1)]
    return cfg.TrainerConfig(
        train_steps=train_steps,
        steps_per_loop=100,
        summary_interval=100,
        checkpoint_interval=5_000,
        validation_interval=5_000,
        validation_steps=-1,
        optimizer_config=sgd({"type": "stepwise", "stepwise": {"boundaries": list(falls), "values": values}}),
    )
