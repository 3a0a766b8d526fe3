"""Errors that say which thing, what rule, what came, and what to do."""

import contextlib
import functools
import numbers
import sys

import numpy as np


class UserError(ValueError):
    """Something the user gave is wrong; its message is one sentence that names the thing and the cure."""


class Stopped(Exception):
    """A command was asked to stop and has, in order: its message says how to go on.

    Args:
      message: a sentence.
      code: the exit code of the command.
    """

    def __init__(self, message, code):
        super().__init__(message)
        self.code = code


class MissingExtra(UserError, ImportError):
    """A package that one of the extras brings is not installed."""


@contextlib.contextmanager
def needs_extra(extra):
    """Turns the lack of a package that is imported within into a MissingExtra, which says how to install it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtra(f"{error.name} is not installed: pip install 'keras_nonlocal[{extra}]'") from error


def first_line(error):
    """What an exception says, on one line: its reason, or its type where it gives none."""
    text = getattr(error, "strerror", None) or str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip() and "Graph execution error" not in line]
    return lines[0] if lines else type(error).__name__


def exit_on_user_error(main):
    """Wraps a script's main: a UserError prints `error: <sentence>` and exits with 1, Ctrl-C `stopped` and with 130.

    Stopped prints its sentence and exits with its code. None of them shows a traceback.
    """

    @functools.wraps(main)
    def wrapped(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            sys.exit(1)
        except Stopped as stopped:
            print(stopped, file=sys.stderr, flush=True)
            sys.exit(stopped.code)
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr, flush=True)
            sys.exit(130)

    return wrapped


def check_choice(argument, value, choices, condition=""):
    """Returns value if it is one of choices (under this condition, as " for a=b"); raises ValueError otherwise."""
    if isinstance(value, str) and value in choices:
        return value
    choices = ", ".join(map(repr, choices))
    raise ValueError(f"`{argument}` must be one of {choices}{condition}. Received: {argument}={value!r}")


def check_bool(argument, value):
    """Returns value as a bool if it is one, of Python or NumPy; raises ValueError otherwise."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise ValueError(f"`{argument}` must be True or False. Received: {argument}={value!r}")


def check_positive_int(argument, value):
    """Returns value as an int if it is an integer above 0; raises ValueError otherwise."""
    if is_positive_int(value):
        return int(value)
    raise ValueError(f"`{argument}` must be a positive integer. Received: {argument}={value!r}")


def is_positive_int(value):
    """Whether value is an integer, of Python or NumPy, above 0."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and value > 0


def check_number(argument, value, low, high=None):
    """Returns value if it is a number from low to high, bounds included; raises ValueError otherwise."""
    rule = f"at least {low}" if high is None else f"between {low} and {high}"
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if is_number and low <= value <= (value if high is None else high):
        return value
    raise ValueError(f"`{argument}` must be a number {rule}. Received: {argument}={value!r}")


def is_finite_number(value):
    """Whether value is a number, of Python or NumPy, and neither infinite nor NaN, nor too large for a float."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return is_number and abs(value) <= sys.float_info.max
