"""What commands take without a flag."""

from keras_nonlocal import errors

VERSION = "folder, saved_models/NAME/VERSION or saved_models/NAME for its newest version"


def only(arguments: list[str], what: str) -> str:
    """The one argument of a command.

    Args:
      arguments: as absl gives them, the command first.
      what: it is, in words.

    Raises:
      UserError: if there is none, or more than one.
    """
    if len(arguments) != 2:
        raise errors.UserError(f"give one {what}")
    return arguments[1]
