"""The shapes that a network's weights must have, from its arguments alone: what a file is held against before a network
of the size that it claims is built."""

from keras_nonlocal.models import video_resnet
from keras_nonlocal.weights.formats.values import CheckpointError
from keras_nonlocal.weights.sources.source import CLASSIFIER

# Of residual blocks, and so of layers: three times those of the deepest network of the kind.
MAX_BLOCKS = 256
# A kernel's frames are left to the comparison with the network itself: there are few.
MAX_FRAMES = 7
NORM = ("gamma", "beta", "moving_mean", "moving_variance")


def check(source, targets, arguments):
    """Raises CheckpointError unless the targets are those of the network, each of its shape.

    Args:
      source: sources.source.Source of the checkpoint.
      targets: {(layer, weight): (name, array)}.
      arguments: of the network; see Source.arguments.
    """
    if sum(arguments["block_counts"]) > MAX_BLOCKS:
        raise CheckpointError(f"it has {sum(arguments['block_counts'])} residual blocks, over {MAX_BLOCKS}.")
    wanted = expected(source, arguments)
    for target, shape in wanted.items():
        if target not in targets:
            raise CheckpointError(f"it has nothing for {'/'.join(target)} of the network that it is of.")
        name, array = targets[target]
        found = source.layout(array, target, len(shape)).shape
        if not _fits(found, shape):
            must = str(shape).replace("None", "frames")
            raise CheckpointError(
                f"{name} has the shape {array.shape}, {found} in our layout, and {'/'.join(target)} of the "
                f"network that it is of {must}."
            )
    for target, (name, _) in targets.items():
        if target not in wanted:
            raise CheckpointError(f"the network that it is of has nowhere to put {name}.")


def expected(source, arguments):
    """{(layer, weight): shape in our layout} of a checkpoint's tensors; None for the frames of a kernel."""
    width = arguments["width"]
    norm = NORM[:2] if arguments["norm_frozen"] and source.affine_suffix else NORM
    found = {}

    def conv(layer, inputs, outputs, size):
        found[layer, "kernel"] = (None, size, size, inputs, outputs)
        found.update({(f"{layer}_bn", weight): (outputs,) for weight in norm})

    conv("conv1", 3, width, 7)
    channels = width
    for index, (stage, count) in enumerate(zip(video_resnet.STAGES, arguments["block_counts"], strict=True)):
        filters = width * 2**index
        for i in range(count):
            if not i:
                conv(f"{stage}_{i}_branch1", channels, 4 * filters, 1)
            conv(f"{stage}_{i}_branch2a", channels, filters, 1)
            conv(f"{stage}_{i}_branch2b", filters, filters, 3)
            conv(f"{stage}_{i}_branch2c", filters, 4 * filters, 1)
            channels = 4 * filters
        for i in arguments["non_local"].get(stage, []):
            block = _block(channels, arguments["non_local_block"])
            found.update({(f"{stage}_{i}_nonlocal", weight): shape for weight, shape in block.items()})
    if "classes" in arguments:
        found[CLASSIFIER, "kernel"] = (channels, arguments["classes"])
        found[CLASSIFIER, "bias"] = (arguments["classes"],)
    return found


def _block(channels, block):
    """{weight: shape} of a non-local block."""
    inner = max(1, channels // 2)
    embeds = block.get("pairwise") != "gaussian"
    found = {f"{part}/kernel": (channels, inner) for part in (["theta", "phi"] if embeds else []) + ["g"]}
    if block.get("use_bias"):
        found.update({weight.replace("kernel", "bias"): (inner,) for weight in list(found)})
    if block.get("pairwise") == "concatenation":
        found["w_f"] = (2 * inner,)
    found["out/kernel"] = (inner, channels)
    if block.get("use_out_bias"):
        found["out/bias"] = (channels,)
    if block.get("norm"):
        found.update({f"norm/{weight}": (channels,) for weight in NORM})
    return found


def _fits(found, shape):
    return len(found) == len(shape) and all(
        0 < size <= MAX_FRAMES if must is None else size == must > 0 for size, must in zip(found, shape, strict=True)
    )
