"""What a skeleton of keypoints is: names, left and right, which are joined, and how exactly people mark them."""

import dataclasses

from keras_nonlocal import errors


@dataclasses.dataclass(frozen=True)
class Skeleton:
    """Keypoints of one kind of object, in the order of annotations and results.

    Args:
      names: of the keypoints.
      flip_pairs: keypoints that a mirror exchanges, by their numbers from 0, such as ((1, 2), (3, 4)).
      edges: keypoints that a drawing joins, by their numbers from 0.
      sigmas: standard deviation of a person who marks each keypoint, relative to the root of the object's area, as the
        evaluation of COCO takes it.

    Raises:
      UserError: if a number is out of range or in two pairs, or there are not as many sigmas as names.
    """

    names: tuple[str, ...]
    flip_pairs: tuple[tuple[int, int], ...]
    edges: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]

    def __post_init__(self):
        if len(self.sigmas) != len(self.names) or min(self.sigmas, default=1) <= 0:
            raise errors.UserError(
                f"sigmas must be positive, one for each of the {len(self.names)} keypoints. Received: {self.sigmas}"
            )
        for rule, pairs in (("flip_pairs", self.flip_pairs), ("edges", self.edges)):
            if wrong := [pair for pair in pairs if not all(0 <= number < len(self.names) for number in pair)]:
                raise errors.UserError(
                    f"{rule} must number the {len(self.names)} keypoints from 0. Received: {wrong[0]}"
                )
        flipped = [number for pair in self.flip_pairs for number in pair]
        if len(set(flipped)) < len(flipped):
            raise errors.UserError(
                f"flip_pairs must have each keypoint in one pair at most. Received: {self.flip_pairs}"
            )

    @property
    def mirrored(self) -> tuple[int, ...]:
        """For each keypoint the number of the one that takes its place in a mirror.

        Example:

        >>> COCO_PERSON.mirrored[:5]
        (0, 2, 1, 4, 3)
        """
        order = list(range(len(self.names)))
        for one, other in self.flip_pairs:
            order[one], order[other] = other, one
        return tuple(order)


COCO_PERSON = Skeleton(
    names=(
        "nose",
        "left_eye",
        "right_eye",
        "left_ear",
        "right_ear",
        "left_shoulder",
        "right_shoulder",
        "left_elbow",
        "right_elbow",
        "left_wrist",
        "right_wrist",
        "left_hip",
        "right_hip",
        "left_knee",
        "right_knee",
        "left_ankle",
        "right_ankle",
    ),
    flip_pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    edges=(
        (15, 13),
        (13, 11),
        (16, 14),
        (14, 12),
        (11, 12),
        (5, 11),
        (6, 12),
        (5, 6),
        (5, 7),
        (6, 8),
        (7, 9),
        (8, 10),
        (1, 2),
        (0, 1),
        (0, 2),
        (1, 3),
        (2, 4),
        (3, 5),
        (4, 6),
    ),
    sigmas=(
        0.026,
        0.025,
        0.025,
        0.035,
        0.035,
        0.079,
        0.079,
        0.072,
        0.072,
        0.062,
        0.062,
        0.107,
        0.107,
        0.087,
        0.087,
        0.089,
        0.089,
    ),
)
