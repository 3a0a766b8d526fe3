"""What SlowFast's configuration, a YAML text in its checkpoints, says of the function that the weights are of.

A setting that changes what the network computes is used, or the checkpoint is refused; what only matters in training is
not looked at.
"""

import dataclasses
import functools
import json

from keras_nonlocal.models import video_resnet
from keras_nonlocal.weights.formats.values import CheckpointError, shown

MAX_TEXT = 200_000
MAX_DEPTH = 16
FORMS = {"softmax": "embedded_gaussian", "dot_product": "dot_product"}
# Of these, a network of ours has the values listed and no other.
SETTINGS = {
    ("MODEL", "ARCH"): ["c2d", "i3d"],
    ("NONLOCAL", "INSTANTIATION"): list(FORMS),
    ("RESNET", "TRANS_FUNC"): ["bottleneck_transform"],
    ("RESNET", "STRIDE_1X1"): [False],
    ("RESNET", "NUM_GROUPS"): [1],
    ("RESNET", "SPATIAL_STRIDES"): [[[1], [2], [2], [2]]],
    ("RESNET", "SPATIAL_DILATIONS"): [[[1], [1], [1], [1]]],
    ("BN", "NORM_TYPE"): ["batchnorm", "sync_batchnorm", "sync_batchnorm_apex"],
    ("BN", "EPSILON"): [1e-5],
    ("DATA", "INPUT_CHANNEL_NUM"): [[3]],
    ("DATA", "REVERSE_INPUT_CHANNEL"): [False],
}
SECTIONS = {section for section, _ in SETTINGS} | {"DETECTION"}
# After pool2, which ARCH c2d and i3d have.
FRAMES_PER_POSITION = {"res2": 1, "res3": 2, "res4": 2, "res5": 2}
STRANGE = "its configuration `cfg` is not written as SlowFast writes it."


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a configuration says; None for what it does not.

    Args:
      pairwise: form of the non-local blocks.
      pool_sizes: {stage: (T, H, W)} of them.
      groups: {stage: into how many groups a clip's frames fall}, without those of one group.
      frames: of a clip.
      detection: whether the classifier takes boxes.
      activation: of the classifier in the test.
      pixels: how frames are scaled, in words.
    """

    pairwise: str | None = None
    pool_sizes: dict = dataclasses.field(default_factory=dict)
    groups: dict = dataclasses.field(default_factory=dict)
    frames: int | None = None
    detection: bool = False
    activation: str | None = None
    pixels: str | None = None


@functools.lru_cache(maxsize=1)
def settings(text):
    """The Settings of a configuration, or of a file without one, whose text is None.

    Raises:
      CheckpointError: for a text that is none, or a setting that no network of ours has.
    """
    if text is None:
        return Settings()
    found = _sections(text)
    if not found:
        raise CheckpointError(STRANGE)

    def get(section, key):
        return found.get(section, {}).get(key)

    for (section, key), values in SETTINGS.items():
        value = get(section, key)
        if value is not None and value not in values:
            can = " or ".join(map(_shown, values))
            raise CheckpointError(f"its configuration has {section}.{key} {_shown(value)}; our networks have {can}.")
    pools = _by_stage(get("NONLOCAL", "POOL"), "NONLOCAL.POOL", lambda p: isinstance(p, list) and len(p) == 3)
    groups = _by_stage(get("NONLOCAL", "GROUP"), "NONLOCAL.GROUP", _is_count)
    if not all(_is_count(size) for pool in pools.values() for size in pool):
        raise CheckpointError("its configuration's NONLOCAL.POOL are not three positive integers for each stage.")
    frames = get("DATA", "NUM_FRAMES")
    return Settings(
        pairwise=FORMS.get(get("NONLOCAL", "INSTANTIATION")),
        pool_sizes={stage: tuple(pool) for stage, pool in pools.items()},
        groups={stage: count for stage, count in groups.items() if count > 1},
        frames=frames if _is_count(frames) else None,
        detection=bool(get("DETECTION", "ENABLE")),
        activation=get("MODEL", "HEAD_ACT"),
        pixels=_pixels(get("DATA", "MEAN"), get("DATA", "STD")),
    )


def group_frames(settings, stages):
    """{stage: frames that a position of its non-local blocks sees}, for the stages that have such blocks.

    SlowFast says into how many groups a clip falls; how long these are, its number of frames says.
    """
    found = {}
    for stage in sorted(settings.groups.keys() & stages):
        groups = settings.groups[stage]
        positions, rest = divmod((settings.frames or 0) // FRAMES_PER_POSITION[stage], groups)
        if not positions or rest:
            raise CheckpointError(
                f"its configuration has {groups} NONLOCAL.GROUP in {stage}, into which DATA.NUM_FRAMES "
                f"{settings.frames} do not fall; give `group_frames`."
            )
        found[stage] = positions
    return found


def pool_size(settings, stages):
    """The (T, H, W) that the non-local blocks of these stages pool by, which must be one."""
    sizes = sorted({settings.pool_sizes[stage] for stage in stages})
    if len(sizes) > 1:
        raise CheckpointError(
            f"its configuration's NONLOCAL.POOL differ between the stages, {', '.join(map(str, sizes))}; in our "
            "networks they are alike."
        )
    return sizes[0]


def _pixels(mean, deviation):
    """What a network wants of its frames, or None where that is not said."""

    def are_of_pixels(values):
        return (
            isinstance(values, list)
            and len(values) == 3
            and all(type(n) in (int, float) and abs(n) < 1e4 for n in values)
        )

    if are_of_pixels(mean) and are_of_pixels(deviation):
        return f"RGB in [0, 1], (x - {mean}) / {deviation}"
    return None


def _by_stage(value, name, is_valid):
    """{stage: setting of the only pathway} of a list for each stage of a list for each pathway."""
    if value is None:
        return {}
    stages = video_resnet.STAGES
    if not isinstance(value, list) or len(value) != len(stages):
        raise CheckpointError(f"its configuration's {name} must have {len(stages)} stages; it is {_shown(value)}.")
    if not all(isinstance(pathways, list) and pathways and is_valid(pathways[0]) for pathways in value):
        raise CheckpointError(f"its configuration's {name} makes no sense: {_shown(value)}.")
    return {stage: pathways[0] for stage, pathways in zip(stages, value, strict=True)}


def _is_count(value):
    return type(value) is int and 0 < value <= 10_000


def _shown(value):
    return json.dumps(value, default=str)[:80] if isinstance(value, list) else shown(value)


def _sections(text):
    """{section: {key: value}} of the SECTIONS in a YAML text."""
    if len(text) > MAX_TEXT:
        raise CheckpointError(f"its configuration `cfg` has more than {MAX_TEXT} characters.")
    yaml = _yaml()

    class Loader(yaml.SafeLoader):
        nested = 0

        def compose_node(self, parent, index):
            # Aliases name values, of which a few lines can make a value of any size. SlowFast writes none.
            if self.nested == MAX_DEPTH or self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("too deep, or an alias")
            self.nested += 1
            node = super().compose_node(parent, index)
            self.nested -= 1
            return node

    try:
        found = yaml.load(text, Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CheckpointError(STRANGE) from error
    if not isinstance(found, dict) or not all(isinstance(found.get(name, {}), dict) for name in SECTIONS):
        raise CheckpointError(STRANGE)
    return {name: found[name] for name in SECTIONS if name in found}


def _yaml():
    try:
        import yaml
    except ImportError as error:
        raise CheckpointError(
            "it holds a configuration of SlowFast, which takes PyYAML to read: pip install 'keras_nonlocal[convert]'."
        ) from error
    return yaml
