"""The classes of a list: their names, and the index of whatever a row calls its class."""

import re
import unicodedata

from keras_nonlocal.data import texts
from keras_nonlocal.errors import UserError

# A typo in an integer label must not make a list of a billion class names.
_MAX_CLASSES = 100_000
# Integers, also as they come out of a table that held them as floats.
_INTEGER = re.compile(r"[+-]?0*([0-9]{1,18})(\.0*)?")
# What tables write where a label is missing.
MISSING = ("", "nan", "<na>")
# How Charades calls its classes.
_CODE = re.compile(r"c(\d{3})")


def own_names(labels):
    """The class names of a list without a labels file: its own, sorted; where they are numbers, up to the highest one.

    The codes of Charades, c000 and so on, are such numbers.

    Args:
      labels: {label: where it stands} of all rows, whatever their split.

    Returns:
      List of texts in the order of their indices.

    Raises:
      UserError: some are numbers and others names, or a number is no class index.
    """
    if labels and all(map(_CODE.fullmatch, labels)):
        return [f"c{index:03d}" for index in range(max(int(label[1:]) for label in labels) + 1)]
    numbers = [label for label in labels if _is_number(label)]
    names = sorted(label for label in labels if not _is_number(label))
    if numbers and names:
        other = labels[names[0]].rpartition(", ")[2]
        raise UserError(
            f"{labels[numbers[0]]}: label {texts.quoted(numbers[0])} is a number and label {texts.quoted(names[0])} of "
            f"{other} is a name; write all as one of the two, or give the names of all classes with --labels"
        )
    indices = [_class_index(labels[label], label) for label in numbers]
    # Sorted as text, 10 would come before 2.
    return names or [str(index) for index in range(max(indices, default=-1) + 1)]


class Classes:
    """The class names, and the index of whatever a row calls its class: by name, number, or code of Charades.

    Args:
      names: list of texts in the order of their indices. `c000 Holding some clothes` has the code c000.
    """

    def __init__(self, names):
        self.names = names
        self._indices = {unicodedata.normalize("NFC", name): index for index, name in enumerate(names)}
        codes = [name.split(" ")[0] for name in names]
        if all(map(_CODE.fullmatch, codes)):
            self._indices |= {code: index for index, code in enumerate(codes)}
        # Then 3 is the class of that name, wherever it stands in the list.
        self._are_integers = any(map(_INTEGER.fullmatch, names))

    def index(self, where, label):
        """The index of the class that a row names, numbers or codes.

        Args:
          where: the row is.
          label: text.

        Raises:
          UserError: there is no such class.
        """
        if label in self._indices:
            return self._indices[label]
        if label.lower() in MISSING:
            raise UserError(f"{where}, has no label but {texts.quoted(label)}; fill it in or remove the row")
        number = _class_index(where, label) if _is_number(label) else None
        if number is None or (self._are_integers and str(number) not in self._indices):
            raise UserError(
                f"{where}: label {texts.quoted(label)} is not one of the {len(self.names)} class names; add it to the "
                "labels file or correct the row"
            )
        if self._are_integers:
            return self._indices[str(number)]
        if number >= len(self.names):
            raise UserError(
                f"{where}: label {number} is out of range; there are {len(self.names)} classes, "
                f"0 to {len(self.names) - 1}"
            )
        return number


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def _class_index(where, label):
    rule = f"it must be 0 to {_MAX_CLASSES - 1}"
    match = _INTEGER.fullmatch(label)
    if not match:
        raise UserError(
            f"{where}: label {texts.quoted(label)} is a number and no class index; {rule}, or give the names of all "
            "classes with --labels"
        )
    index = -int(match[1]) if label.startswith("-") else int(match[1])
    if not 0 <= index < _MAX_CLASSES:
        raise UserError(f"{where}: label {index} is out of range; {rule}")
    return index
