"""Ports to listen on: whether they are free, and which are."""

import contextlib
import errno
import socket

from keras_nonlocal.errors import UserError


def choose_ports(host, **ports):
    """Finds ports that can be listened on.

    Args:
      host: address to listen on.
      **ports: flag name to port number; 0 stands for any free one.

    Returns:
      The port numbers (list of int), in the order of the flags, with free ones in place of 0.

    Raises:
      UserError: a port is taken or reserved, two are the same, or host is no address of this machine.
    """
    numbers = [number for number in ports.values() if number]
    if len(set(numbers)) < len(numbers):
        raise UserError(f"port {numbers[0]} is given twice; {' and '.join('--' + flag for flag in ports)} must differ")
    with contextlib.ExitStack() as probes:  # all open at once: else two free ones could be the same
        return [_choose(probes.enter_context(socket.socket()), host, number, flag) for flag, number in ports.items()]


def _choose(probe, host, port, flag):
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((host, port))
    except OSError as error:
        raise bind_error(error, host, port, flag) from error
    return probe.getsockname()[1]


def bind_error(error, host, port, flag):
    """Returns the UserError for a port, given by a flag, that could not be bound."""
    number = getattr(error, "errno", errno.EADDRINUSE)
    if number == errno.EADDRINUSE:
        return UserError(
            f"port {port} is already in use on {host}; stop the program that has it, or give --{flag} "
            "another number (0 picks a free one)"
        )
    if number == errno.EACCES:
        return UserError(f"port {port} is reserved for the system; give --{flag} a number above 1023")
    return UserError(f"cannot listen on {host}:{port} ({error}); give --host an address of this machine")
