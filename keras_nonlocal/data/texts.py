"""Text files that users write: read with a bound, and quoted in messages of one line."""

import re
import unicodedata

from keras_nonlocal.errors import UserError

# A list of a million videos has about 100 MB; a device file has no end.
_MAX_CHARACTERS = 2**28
# Control characters and Unicode's ends of lines and paragraphs.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def read(path, what):
    """The text of a file, with its ends of lines as they are.

    Args:
      path: the file.
      what: what it is, such as "CSV", for messages.

    Raises:
      UserError: it cannot be read, is not UTF-8 or has no end.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            text = file.read(_MAX_CHARACTERS + 1)
    except UnicodeDecodeError as error:
        raise UserError(f"{what} {path} is not UTF-8 text; save it as UTF-8") from error
    except OSError as error:
        raise UserError(f"{what} {path} cannot be read ({error.strerror}); check the path") from error
    if len(text) > _MAX_CHARACTERS:
        raise UserError(f"{what} {path} has more than {_MAX_CHARACTERS:,} characters; split it into several")
    return text


def printable(where, text):
    """The text as names are compared; what would break a line of labels.txt or of a message is refused.

    Args:
      where: it stands, such as "list train.csv, line 3", for messages.
      text: the text.
    """
    if _CONTROL.search(text):
        raise UserError(
            f"{where}: {quoted(text)} holds a line break or another control character; remove it, and look for a "
            "missing quote"
        )
    return unicodedata.normalize("NFC", text)


def quoted(text):
    """The text in quotes, shortened."""
    return repr(text if len(text) <= 80 else text[:77] + "...")


def plain(text):
    """The text as it is, where it is short and printable."""
    return text if text.isprintable() and len(text) <= 200 else quoted(text)
