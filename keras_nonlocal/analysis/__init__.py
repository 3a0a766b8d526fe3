"""A model in, facts out: what it costs and what it attends to, of either Keras."""

from keras_nonlocal.analysis import (
    advise,
    attention_maps,
    attention_numbers,
    blocks,
    cost,
    plot,
    receptive_field,
    summaries,
)

__all__ = [
    "advise",
    "attention_maps",
    "attention_numbers",
    "blocks",
    "cost",
    "plot",
    "receptive_field",
    "summaries",
]
