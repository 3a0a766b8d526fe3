"""Configuration files that come with the package: `--config_file=NAME`, or as they lie here."""

import pathlib

_FOLDER = pathlib.Path(__file__).parent


def names():
    """The names of all of them, such as "kinetics400" and "paper/nl_i3d_r50_5_128x1" (list of str)."""
    return sorted(str(path.relative_to(_FOLDER).with_suffix("")) for path in _FOLDER.rglob("*.yaml"))


def path(name):
    """The path of the file with this name; anything else, such as a path of the user's own, as it is."""
    return str(_FOLDER / f"{name}.yaml") if name in names() else name
