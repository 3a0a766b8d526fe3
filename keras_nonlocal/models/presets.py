"""The networks of the paper's tables by name, for either Keras; keras_nonlocal.paper holds them.

All are the 32-frame networks of Table 1 (temporal stride 8); the 128-frame ones of Table 2(g) are the same networks on
longer clips.
"""

from keras_nonlocal import paper


def find(name: str) -> paper.Network:
    """The network of this name. Raises ValueError for an unknown one, with the known ones."""
    if name in paper.NETWORKS:
        return paper.NETWORKS[name]
    raise ValueError(f"`name` must be one of {', '.join(paper.NETWORKS)}. Received: name={name!r}")


def arguments(network: paper.Network) -> dict:
    """Those of keras_nonlocal.models.video_resnet.video_resnet, but the block counts, which are the depth's."""
    return dict(
        inflate=network.inflate,
        temporal_stride=8,
        non_local={stage: list(indices) for stage, indices in network.non_local.items()},
        non_local_block=dict(network.non_local_block),
    )


def description(network: paper.Network) -> str:
    """What it is and the rows of the paper that it is in, on one line."""
    kind = "C2D" if network.inflate is None else f"I3D ({network.inflate})"
    blocks = sum(map(len, network.non_local.values()))
    where = ", ".join(f"{stage} {list(indices)}" for stage, indices in network.non_local.items())
    what = "".join(f", {value}" for value in network.non_local_block.values())
    non_local = f" with {blocks} non-local block{'s' * (blocks > 1)} ({where}{what})" if blocks else ""
    rows = [paper.place(row) for row in paper.ROWS if paper.RUNS[row.run].network == network.name]
    return f"{kind} ResNet-{network.depth}{non_local}: {'; '.join(rows)}"
