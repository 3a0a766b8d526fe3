"""Safetensors files of our own, with our names and layout, which say what network they are of."""

import json

from keras_nonlocal.models import video_resnet
from keras_nonlocal.weights.formats.values import CheckpointError, printable
from keras_nonlocal.weights.sources.source import Source

NAME = "keras_nonlocal"
# Of a file that does not say.
UNKNOWN_LICENCE = "that of the checkpoint it was imported from"
# What a file says of its network, besides `classes`, and how much text and how large numbers that may be.
ARGUMENTS = {
    *("block_counts", "width", "inflate", "stem", "temporal_stride"),
    *("norm_frozen", "non_local", "group_frames", "non_local_block"),
}
BLOCK_FLAGS = ("pool_before_projection", "scale", "use_bias", "use_out_bias")
BLOCK_ARGUMENTS = {"pairwise", "pool_size", "norm", *BLOCK_FLAGS}
MAX_TEXT = 100_000
MAX_COUNT = 2**20


class Own(Source):
    name = NAME
    title = "keras_nonlocal"
    licence = UNKNOWN_LICENCE

    def recognises(self, tensors):
        return "conv1/kernel" in tensors

    def target(self, name):
        return tuple(name.partition("/")[::2])

    def config(self, metadata):
        return metadata.get(NAME)

    def licence_of(self, metadata):
        return printable(metadata.get("licence")) or self.licence

    def layout(self, array, target, rank):
        return array

    def arguments(self, checkpoint, targets, options):
        try:
            if len(checkpoint.config or "") > MAX_TEXT:
                raise ValueError
            found = json.loads(checkpoint.config or "")
            found["block_counts"] = tuple(found["block_counts"])
            if "pool_size" in found["non_local_block"]:
                found["non_local_block"]["pool_size"] = tuple(found["non_local_block"]["pool_size"])
            valid = _are_arguments(found)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            valid = False
        if not valid:
            raise CheckpointError("it does not say what network it is of, as ours do.")
        return found


def metadata(arguments, checkpoint):
    """What a file says beside its tensors, {name: text}.

    Args:
      arguments: of its network.
      checkpoint: reading.Checkpoint that its weights are from.
    """
    origin = {"source": checkpoint.path, "sha256": checkpoint.sha256, "licence": checkpoint.licence}
    return {**origin, NAME: json.dumps(arguments)}


def _are_arguments(found):
    """Whether these are all arguments of a network of ours, of the types that they have."""
    stages, counts, block = video_resnet.STAGES, found["block_counts"], found["non_local_block"]

    def is_of_stages(values, is_valid):
        return type(values) is dict and all(stage in stages and is_valid(value) for stage, value in values.items())

    def are_places(indices):
        return type(indices) is list and all(type(i) is int and 0 <= i < max(counts) for i in indices)

    return (
        found.keys() - {"classes"} == ARGUMENTS
        and len(counts) == len(stages)
        and all(map(_is_count, (*counts, found["width"], found.get("classes", 1))))
        and found["inflate"] in video_resnet.INFLATIONS
        and found["stem"] in video_resnet.STEMS
        and found["temporal_stride"] in (2, 8)
        and type(found["norm_frozen"]) is bool
        and is_of_stages(found["non_local"], are_places)
        and is_of_stages(found["group_frames"], _is_count)
        and block.keys() <= BLOCK_ARGUMENTS
        and block.get("norm") in ("batch_norm", None)
        and type(block.get("pairwise", "")) is str
        and all(map(_is_count, block.get("pool_size", ())))
        and all(type(block.get(option, True)) is bool for option in BLOCK_FLAGS)
    )


def _is_count(value):
    return type(value) is int and 0 < value <= MAX_COUNT
