"""Workers that share the work of a command: how they know of each other (TF_CONFIG), and starting them."""

import contextlib
import json
import os
import socket
import sys

from keras_nonlocal import errors, processes

VARIABLE = "TF_CONFIG"
COMMANDS = ("train", "evaluate")


def launch(workers: int, arguments: list[str]) -> None:
    """Runs a command by several workers on this machine, until all have done their share.

    Args:
      workers: how many.
      arguments: the command and its flags.

    Raises:
      UserError: for a command that cannot be shared.
      Stopped: if one fails, with its exit code.
    """
    _check_command(arguments)
    addresses = _free_addresses(workers)
    # Else each would have a thread for every core.
    threads = {"TF_NUM_INTRAOP_THREADS": str(max(1, len(os.sched_getaffinity(0)) // workers))}
    names = [f"worker {index}" for index in range(workers)]
    commands = dict.fromkeys(names, processes.command(*arguments))
    environments = {
        name: {**threads, **os.environ, VARIABLE: _text(addresses, index)} for index, name in enumerate(names)
    }
    if failed := processes.together(commands, environments):
        name, code = failed
        raise errors.Stopped(f"{name} was the first to end, with exit code {code}", code)


def join(addresses: list[str], index: int, arguments: list[str]) -> None:
    """Runs a command in place of this process as one of several workers, of which each machine has one.

    Args:
      addresses: host:port of all workers, in the same order on each machine.
      index: of this one.
      arguments: the command and its flags.

    Raises:
      UserError: for a command that cannot be shared, or addresses that are none.
    """
    _check_command(arguments)
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 2**16:
            raise errors.UserError(f"--hosts lists host:port, separated by commas. Received: {address!r}")
    if len(set(addresses)) < len(addresses):
        raise errors.UserError(f"--hosts must name each worker once. Received: {','.join(addresses)}")
    if index is None or not 0 <= index < len(addresses):
        raise errors.UserError(
            f"--index says which of --hosts this machine is, 0 to {len(addresses) - 1}. Received: {index}"
        )
    command = processes.command(*arguments)
    sys.stdout.flush()
    os.execve(command[0], command, {**os.environ, VARIABLE: _text(addresses, index)})


def place() -> tuple[int, int]:
    """Which worker this process is, and of how many; (0, 1) without TF_CONFIG.

    Raises:
      UserError: for a TF_CONFIG that cannot be read.
    """
    text = os.environ.get(VARIABLE) or "{}"
    try:
        config = json.loads(text)
        chiefs, workers = (len(config.get("cluster", {}).get(kind, [])) for kind in ("chief", "worker"))
        task = config.get("task", {})
        index = int(task.get("index", 0)) + (chiefs if task.get("type") == "worker" else 0)
    except (ValueError, TypeError, AttributeError) as error:
        raise errors.UserError(
            f"{VARIABLE} must be the JSON that `keras-nonlocal launch` sets: unset it. Received: {text}"
        ) from error
    return index, max(chiefs + workers, 1)


def _check_command(arguments):
    if not arguments or arguments[0] not in COMMANDS:
        raise errors.UserError(
            f"launch runs {' or '.join(COMMANDS)}: write `keras-nonlocal launch --workers=2 -- train --experiment=...`"
            f". Received: {' '.join(arguments) or 'no command'}"
        )


def _text(addresses, index):
    return json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})


def _free_addresses(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
