"""The flags that benchmarks share."""

import side_by_side
from absl import flags


def define_choices(name, choices):
    """Defines a comma-separated list of choices, by default all of them."""
    choices = list(choices)
    flags.DEFINE_list(name, choices, f"Of {', '.join(choices)}.")
    flags.register_validator(name, lambda words: set(words) <= set(choices), f"has to be of {', '.join(choices)}")


def define_rounds(budget):
    """Defines --rounds, which replaces what a budget of seconds allows."""
    least = f"at least {side_by_side.MANY}, or {side_by_side.FEW} where one takes more than {side_by_side.LONG:.0f} s"
    text = f"Turns of each contestant. Default: what fits {budget:.0f} s, {least}."
    flags.DEFINE_integer("rounds", None, text, lower_bound=1)
