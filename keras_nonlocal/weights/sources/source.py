"""What a source of checkpoints is: everything that differs between those who write them.

A target is (layer, weight) of models.video_resnet: ("conv1_bn", "gamma"), or ("res3_1_nonlocal", "theta/kernel").
"""

import re

from keras_nonlocal.weights import structure

CLASSIFIER = "pred"
LINEAR = {"w": "kernel", "weight": "kernel", "b": "bias", "bias": "bias"}
PYTORCH_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
PYTORCH_STATE = {r".*num_batches_tracked": "a counter of the training"}
BLOCK_CONVENTIONS = ("pairwise", "pool_size", "pool_before_projection", "scale")


class Source:
    """Who writes checkpoints, with the conventions of their code and released models.

    Attributes:
      name: by which it is called in arguments and reports.
      title: by which it is called in sentences.
      files: the endings of those that only it writes, in words; None where there are none.
      licence: of the weights.
      pixels: what a network gets for a frame, in words; None if unknown.
      state_key: where a file has its dict of tensors; None if it is the file.
      training_state: {pattern of names: why these tensors are no weights}.
      names: (pattern, function from its groups to a target) for all its tensors; a KeyError is none.
      also_of: names of sources that write files with these names too.
      affine_suffix: what names of scales end in where a norm has a scale and a shift only; None where none has.
      norm_epsilon: of the batch norms.
      conventions: what no file tells, unless the caller says otherwise: `stem`, `temporal_stride`, and of the non-local
        blocks BLOCK_CONVENTIONS, as models.video_resnet and NonLocal3D call them. None for what the source has both of.
    """

    name = title = files = licence = None
    pixels = state_key = affine_suffix = None
    training_state = {}
    names = ()
    also_of = ()
    norm_epsilon = 1e-5
    conventions = {}

    def recognises(self, tensors):
        """Whether these names of tensors are its."""
        raise NotImplementedError

    def target(self, name):
        """(layer, weight) of a tensor, or None for a name that the source's networks do not have."""
        for pattern, found in self.names:
            match = re.fullmatch(pattern, name)
            if match:
                try:
                    return found(*match.groups())
                except KeyError:  # a weight that no norm has
                    return None
        return None

    def why_no_weight(self, name):
        """Why a tensor of this name is no weight, or None for one that is."""
        return next((why for pattern, why in self.training_state.items() if re.fullmatch(pattern, name)), None)

    def config(self, metadata):
        """The text of the configuration in what a file holds beside its tensors, or None."""
        return None

    def licence_of(self, metadata):
        """The licence of a file, from what it holds beside its tensors."""
        return self.licence

    def layout(self, array, target, rank):
        """A view of a tensor in our layout: (O, I, T, H, W) -> (T, H, W, I, O), or (I, O) for what is a Dense here."""
        if target[1] == "w_f":
            return array.reshape(-1)  # (1, 2C', 1, 1) -> (2C',)
        if not target[1].endswith("kernel"):
            return array
        if rank == 5:
            array = array[:, :, None] if array.ndim == 4 else array
            return array.transpose(2, 3, 4, 1, 0) if array.ndim == 5 else array
        if array.ndim > 2 and set(array.shape[2:]) == {1}:
            array = array.reshape(array.shape[:2])  # (O, I, 1, 1, 1) -> (O, I)
        return array.T if array.ndim == 2 else array

    def arguments(self, checkpoint, targets, options):
        """The arguments of models.video_resnet.video_resnet, and `classes`, that a checkpoint was trained with.

        Args:
          checkpoint: a reading.Checkpoint.
          targets: {(layer, weight): (name, array)} of its tensors.
          options: {option: value} that the caller gives; see weights.options.

        Returns:
          A dict. Its temporal_stride is None where nothing tells it, and pairwise where theta and phi are all that
          does.

        Raises:
          CheckpointError: for a checkpoint that is none of these networks.
        """
        found = structure.network(targets, self.affine_suffix)
        network = {
            **{name: self.conventions[name] for name in ("stem", "temporal_stride")},
            "group_frames": {},
            **found,
        }
        if found["non_local"]:
            conventions = {name: self.conventions[name] for name in BLOCK_CONVENTIONS}
            network["non_local_block"] = {**conventions, **found["non_local_block"]}
        network = self.settle(network, checkpoint, targets, options)
        network |= {name: options[name] for name in ("stem", "temporal_stride", "group_frames") if name in options}
        network["group_frames"] = {
            stage: frames for stage, frames in network["group_frames"].items() if stage in found["non_local"]
        }
        if found["non_local"]:
            network["non_local_block"] |= {name: options[name] for name in BLOCK_CONVENTIONS if name in options}
        return network

    def settle(self, network, checkpoint, targets, options):
        """The arguments of a network after what a file says in a way of its source's own.

        Args:
          network: arguments by the tensors and the conventions; options are put in later.
          checkpoint, targets, options: those of `arguments`.
        """
        return network

    def pixels_of(self, checkpoint):
        """What the network of a checkpoint gets for a frame, in words, or None if that is unknown."""
        return self.pixels

    def check_softmax(self, checkpoint):
        """Raises CheckpointError if a checkpoint's classifier ends in something else than the softmax of `window`."""


def residual(stage, index, part, weight):
    """The target of a residual block's convolution or norm, such as ("res3_0_branch2a_bn", "gamma")."""
    return f"res{stage}_{index}_{part}", weight


def non_local(stage, index, part, weight):
    """The target of a non-local block's part, such as ("res3_1_nonlocal", "theta/kernel")."""
    return f"res{stage}_{index}_nonlocal", f"{part}/{weight}"
