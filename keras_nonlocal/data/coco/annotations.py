"""Files of annotations in COCO's format: which images there are, and what was annotated in each."""

import dataclasses
import functools
import hashlib
import json
import os
from typing import Any

from keras_nonlocal import errors
from keras_nonlocal.data import texts
from keras_nonlocal.errors import UserError

# What a record may need of an annotation; everything else is left alone.
_KEYS = ("id", "category_id", "bbox", "area", "iscrowd", "segmentation", "keypoints")

MAX_CATEGORY = 99_999


@dataclasses.dataclass(frozen=True)
class AnnotatedImage:
    """An image of the list.

    Args:
      name: its `file_name`.
      path: the file; it need not exist.
      id: COCO's, by which an evaluation finds its annotations.
      size: height and width in pixels as the list says, None where it does not.
      annotations: of COCO's format, as dicts, not looked into yet.
      labels: the name of the category of each of them.
    """

    name: str
    path: str
    id: int
    size: tuple[int, int] | None
    annotations: tuple[dict, ...]
    labels: tuple[str, ...]

    @functools.cached_property
    def annotation(self) -> str:
        """All that decides its record besides the name and the file, as a digest: polygons are long."""
        return hashlib.sha256(json.dumps([self.id, self.size, self.annotations]).encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Category:
    """A class of objects.

    Args:
      id: from 1 on; there may be gaps between those of a file.
      name: for people.
      keypoints: their names, none where it has none.
      edges: pairs of keypoints, from 0 on, that a drawing joins.
    """

    id: int
    name: str
    keypoints: tuple[str, ...] = ()
    edges: tuple[tuple[int, int], ...] = ()


@dataclasses.dataclass(frozen=True)
class Annotations:
    """What a file says.

    Args:
      path: of the file.
      images: in its order.
      categories: in the order of their ids.
      left_out: annotations of no image or of no category, as `left_out` makes them.
    """

    path: str
    images: tuple[AnnotatedImage, ...]
    categories: tuple[Category, ...]
    left_out: tuple[dict, ...]

    @property
    def class_names(self) -> list[str]:
        """The name of each class that a detector counts: 0 is the background, and gaps between ids are classes too."""
        names = {category.id: category.name for category in self.categories if category.id}
        gaps = {number: f"(no category {number})" for number in range(1, max(names) + 1)}
        return ["background", *({**gaps, **names}[number] for number in gaps)]

    @property
    def keypoints(self) -> tuple[str, ...]:
        """The names of an object's keypoints.

        Raises:
          UserError: no category has any, or two have different numbers of them.
        """
        return self._person.keypoints

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """Which of them a drawing joins."""
        return self._person.edges

    @property
    def _person(self):
        found = [category for category in self.categories if category.keypoints]
        if not found:
            raise UserError(
                f'no category of {self.path} names its "keypoints"; give a file of keypoints, such as '
                "person_keypoints_train2017.json, or leave --keypoints out"
            )
        for category in found:
            if len(category.keypoints) != len(found[0].keypoints):
                raise UserError(
                    f"category {found[0].name} of {self.path} has {len(found[0].keypoints)} keypoints and category "
                    f"{category.name} has {len(category.keypoints)}; a detector has one number of them, so write a "
                    "file for each"
                )
        return found[0]


def left_out(name: str, annotation: dict, kind: str, reason: str) -> dict:
    """What a report says of an annotation that is not in the records: `name` is its image's."""
    return {"name": name, "annotation": annotation["id"], "kind": kind, "reason": reason}


def read(path: str | os.PathLike, images_dir: str | os.PathLike) -> Annotations:
    """Reads a file such as instances_train2017.json, of any categories.

    Args:
      path: the file.
      images_dir: the folder that its `file_name`s start from.

    Returns:
      Annotations: each image with what is annotated in it, which nobody has looked into yet.

    Raises:
      UserError: no such file, another format, ids that are no integers or that two have, an image listed twice, a
        category that would be the background, or not one of the images exists.
    """
    found = _load(path)
    categories = _categories(path, found["categories"])
    entries = _by_id(path, "image", found["images"])
    _check_names(path, entries)
    of_image, unused = _dealt_out(path, found["annotations"], entries, categories)
    if not any(categories):
        raise UserError(f"{path} has no category above 0; a detector needs one")
    images = [_image(path, images_dir, entry, of_image[number], categories) for number, entry in entries.items()]
    if not any(os.path.exists(image.path) for image in images):
        first = f", such as {images[0].path}" if images else ""
        raise UserError(
            f"not one of the {len(images)} images of {path} exists{first}; give the folder they are in as --images"
        )
    return Annotations(os.fspath(path), tuple(images), tuple(categories[key] for key in sorted(categories)), (*unused,))


def _dealt_out(path, listed, entries, categories):
    """The annotations of each image, by its id, and those of no image or no category."""
    of_image = {number: [] for number in entries}
    unused = []
    for number, annotation in _by_id(path, "annotation", listed).items():
        category, image = (_integer(path, "annotation", annotation, key) for key in ("category_id", "image_id"))
        if image not in entries:
            unused.append(left_out("", annotation, "no_image", f"there is no image {image}"))
        elif category not in categories:
            name = entries[image]["file_name"]
            unused.append(left_out(name, annotation, "unknown_category", f"there is no category {category}"))
        elif category == 0:
            raise UserError(
                f"annotation {number} of {path} is of category 0, {categories[0].name}, and a detector's class 0 is "
                "the background; number the categories from 1"
            )
        else:
            of_image[image].append({key: annotation[key] for key in _KEYS if key in annotation})
    return of_image, unused


def _load(path):
    """The JSON, which has all parts."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            found = json.load(file)
    except OSError as error:
        raise UserError(f"annotations {path} cannot be read ({error.strerror}); check the path") from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"annotations {path} are not JSON ({errors.first_line(error)}); download the file again"
        ) from error
    parts = ("images", "annotations", "categories")
    missing = [part for part in parts if not isinstance(found, dict) or not isinstance(found.get(part), list)]
    if missing:
        what = " as a detector's results are" if isinstance(found, list) else ""
        raise UserError(
            f"{path} is no file of annotations in COCO's format: it has no list of {' and '.join(missing)}{what}; give "
            "one such as instances_train2017.json"
        )
    return found


def _by_id(path, what, entries):
    """The entries by their ids, in their order."""
    found = {}
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise UserError(f"{what} number {position} of {path} is {_short(entry)}; it must be an object with an id")
        number = _integer(path, f"{what} number {position}", entry, "id")
        if number in found:
            listed = "is listed twice" if what == "image" else "is there twice"
            raise UserError(f"{what} {number} of {path} {listed}; each has an id of its own, so remove or renumber one")
        found[number] = entry
    return found


def _integer(path, what, entry, key):
    value = entry.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        which = f"{what} {entry['id']}" if key != "id" else what
        raise UserError(
            f"{which} of {path} must have an integer as {key}, as evaluations need it. Received: {_short(value)}"
        )
    return value


def _categories(path, entries):
    """{id: Category}, without looking at whether it is used."""
    found = {}
    for number, entry in _by_id(path, "category", entries).items():
        name, keypoints = entry.get("name"), entry.get("keypoints") or []
        if not isinstance(name, str) or not name.strip():
            raise UserError(f"category {number} of {path} must have a name. Received: {_short(name)}")
        if not 0 <= number <= MAX_CATEGORY:
            raise UserError(
                f"category {name} of {path} must have an id from 1 to {MAX_CATEGORY:,}: detectors have a class for "
                f"each number up to the highest. Received: {number}"
            )
        if not isinstance(keypoints, list):
            raise UserError(
                f"category {number} of {path} must have a list of names as keypoints. Received: {_short(keypoints)}"
            )
        # Drawings alone need the edges: what is no pair of keypoints joins nothing.
        pairs = entry.get("skeleton") if isinstance(entry.get("skeleton"), list) else []
        edges = tuple((pair[0] - 1, pair[1] - 1) for pair in pairs if _is_edge(pair, len(keypoints)))
        texts.printable(f"category {number} of {path}", name)
        found[number] = Category(number, name.strip(), tuple(map(str, keypoints)), edges)
    names = [category.name for category in found.values() if category.id]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"two categories of {path} are called {twice!r}; give each a name of its own")
    return found


def _is_edge(pair, count):
    return isinstance(pair, list) and len(pair) == 2 and all(type(end) is int and 1 <= end <= count for end in pair)


def _check_names(path, entries):
    numbers = {}
    for number, entry in entries.items():
        name = entry.get("file_name")
        if not isinstance(name, str) or not name:
            raise UserError(f"image {number} of {path} must have a file_name. Received: {_short(name)}")
        texts.printable(f"image {number} of {path}", name)
        if name in numbers:
            raise UserError(
                f"{name} is listed twice in {path}, as image {numbers[name]} and as image {number}; give all its "
                "annotations one of these as image_id and remove the other"
            )
        numbers[name] = number


def _image(path, images_dir, entry, annotations, categories):
    size = tuple(entry.get(key) for key in ("height", "width"))
    if size != (None, None) and not all(type(value) is int and value > 0 for value in size):
        raise UserError(
            f"image {entry['id']} of {path} must have positive integers as height and width, or none. Received: {size}"
        )
    return AnnotatedImage(
        entry["file_name"],
        os.path.join(images_dir, entry["file_name"]),
        entry["id"],
        None if size == (None, None) else size,
        tuple(annotations),
        tuple(categories[annotation["category_id"]].name for annotation in annotations),
    )


def _short(value: Any):
    return texts.quoted(value) if isinstance(value, str) else repr(value)[:80]
