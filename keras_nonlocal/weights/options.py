"""What a caller may say of a checkpoint where its file does not tell."""

from keras_nonlocal import errors
from keras_nonlocal.models import video_resnet
from keras_nonlocal.ops import pairwise

OPTIONS = ("stem", "temporal_stride", "pairwise", "pool_size", "pool_before_projection", "scale", "group_frames")
TEMPORAL_STRIDES = (2, 8)


def checked(options):
    """The options, {name: value}, as models.video_resnet and NonLocal3D take them.

    Raises:
      UserError: for an option that there is not, or a value that it cannot have.
    """
    try:
        return {errors.check_choice("options", name, OPTIONS): _CHECKS[name](value) for name, value in options.items()}
    except ValueError as e:
        raise errors.UserError(str(e)) from None


def _temporal_stride(value):
    if isinstance(value, bool) or value not in TEMPORAL_STRIDES:
        raise ValueError(f"`temporal_stride` must be 2 or 8. Received: temporal_stride={value!r}")
    return int(value)


def _pool_size(value):
    if not isinstance(value, tuple | list) or len(value) != 3 or not all(map(errors.is_positive_int, value)):
        raise ValueError(f"`pool_size` must be three positive integers. Received: pool_size={value!r}")
    return tuple(map(int, value))


def _group_frames(value):
    groups = {} if value is None else value
    if not isinstance(groups, dict) or not groups.keys() <= set(video_resnet.STAGES):
        raise ValueError(f"`group_frames` must be a dict from stages to frames. Received: group_frames={value!r}")
    return {stage: errors.check_positive_int("group_frames", frames) for stage, frames in groups.items()}


_CHECKS = {
    "stem": lambda value: errors.check_choice("stem", value, video_resnet.STEMS),
    "temporal_stride": _temporal_stride,
    "pairwise": lambda value: errors.check_choice("pairwise", value, pairwise.FORMS),
    "pool_size": _pool_size,
    "pool_before_projection": lambda value: errors.check_bool("pool_before_projection", value),
    "scale": lambda value: errors.check_bool("scale", value),
    "group_frames": _group_frames,
}
