"""Puts non-local blocks into tfm's ResNets, of images and of clips."""

import itertools

import tf_keras

from keras_nonlocal.models import video_resnet
from keras_nonlocal.tfm.backbones import blocks


def shared_arguments(input_specs, arguments, norm_activation_config, l2_regularizer):
    """What ResNets of images and of clips take alike, from what tfm gives its builders.

    Args:
      input_specs, norm_activation_config, l2_regularizer: those of a builder.
      arguments: a backbone's configuration as a dict, whose stochastic_depth_drop_rate has another name there.
    """
    arguments = dict(arguments)
    return {
        "input_specs": input_specs,
        "init_stochastic_depth_rate": arguments.pop("stochastic_depth_drop_rate"),
        "activation": norm_activation_config.activation,
        "use_sync_bn": norm_activation_config.use_sync_bn,
        "norm_momentum": norm_activation_config.norm_momentum,
        "norm_epsilon": norm_activation_config.norm_epsilon,
        "kernel_regularizer": l2_regularizer,
        **arguments,
    }


def from_config(network_class, config):
    """A network of its arguments, frozen as a whole if it was: tf_keras leaves that to layers, which are built anew.

    Args:
      network_class: a backbone.
      config: its arguments, and `trainable`, which files of before do not have.
    """
    config = dict(config)
    trainable = config.pop("trainable", True)
    network = network_class(**config)
    if not trainable:
        network.trainable = False
    return network


class PlacingMixin:
    """Builds chosen residual blocks of a ResNet as ones with a non-local block; put before tfm's class.

    The ResNet calls `_place` before tfm's __init__, which builds the graph.
    """

    def _place(self, model_id, specs, non_local, non_local_block):
        """Says what goes where.

        Args:
          model_id: depth.
          specs: tfm's RESNET_SPECS, {depth: [(kind of block, filters, number of blocks) for each stage]}.
          non_local: {"res3": [1, 3], ...}, residual blocks counted from 0, or None.
          non_local_block: arguments of the non-local blocks, or None.

        Raises:
          ValueError: for a depth, a stage or an index that does not exist.
        """
        if model_id not in specs:
            raise ValueError(f"`model_id` must be one of {list(specs)}. Received: model_id={model_id!r}")
        block_counts = [count for _, _, count in specs[model_id]]
        # tf_keras takes no container for an attribute before its own __init__.
        object.__setattr__(self, "_placement", video_resnet.checked_placement(non_local, block_counts))
        object.__setattr__(self, "_non_local_block", dict(non_local_block or {}))

    def _block_group(self, *args, block_fn, name, **kwargs):
        # tfm's block_group_l3 is the paper's res3.
        placed = self._placement[f"res{name.removeprefix('block_group_l')}"]
        indices = itertools.count()

        def make(**options):
            return self._make_block(block_fn, next(indices) in placed, options)

        return super()._block_group(*args, block_fn=make, name=name, **kwargs)

    def _make_block(self, block_fn, with_non_local, options):
        if with_non_local:
            return blocks.WITH_NON_LOCAL[block_fn](**options, non_local=self._non_local_block)
        return block_fn(**options)

    def get_config(self):
        return {
            **super().get_config(),
            "name": self.name,
            "trainable": self.trainable,
            "input_specs": self._input_specs.get_config(),  # tfm leaves it out, and forgets the size of the inputs
            "non_local": {stage: list(indices) for stage, indices in self._placement.items()},
            "non_local_block": dict(self._non_local_block),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        input_specs = tf_keras.layers.InputSpec.from_config(config["input_specs"])
        return from_config(cls, {**config, "input_specs": input_specs})
