"""Serves a published model: by TensorFlow Serving if it is installed, else by a local server of the same protocol."""

import contextlib
import gc
import os
import shutil
import signal
import time
from pathlib import Path

from keras_nonlocal.errors import UserError
from keras_nonlocal.serving import constants, model_server, ports, publish
from keras_nonlocal.serving.local.server import LocalServer

_ALL_ADDRESSES = "0.0.0.0"


def run(
    model_base_path: str | os.PathLike[str],
    model_name: str,
    host: str = "127.0.0.1",
    port: int = 8500,
    rest_api_port: int = 8501,
) -> None:
    """Serves until Ctrl-C, SIGTERM or the terminal's end.

    Prints `ready model=... version=... grpc=grpc://HOST:PORT rest=http://HOST:PORT` when requests are answered.

    Args:
      model_base_path: `saved_models/<name>`, with numbered versions.
      model_name: name that requests use.
      host: address the local server listens on; the default takes no calls from other machines. TensorFlow Serving
        listens on all addresses.
      port: gRPC port; 0 for a free one.
      rest_api_port: REST port; 0 for a free one.

    Raises:
      UserError: there is no model to serve, a port is taken, or TensorFlow Serving ends.
    """
    base_path = check_base_path(model_base_path)
    program = shutil.which(model_server.PROGRAM)
    with _stop_signals() as received:
        if program:
            _run_tensorflow_serving(program, base_path, model_name, host, port, rest_api_port, received)
        else:
            _run_local(base_path, model_name, host, port, rest_api_port, received)
    print("stopped", flush=True)


def check_base_path(model_base_path: str | os.PathLike[str]) -> Path:
    """Returns the absolute path of a model that can be served; raises UserError if nothing there is a version."""
    base = Path(model_base_path).absolute()
    if not base.is_dir():
        raise UserError(f"there is no directory {model_base_path}; publish a model there first")
    if (base / constants.SAVED_MODEL_FILE).exists():
        raise UserError(f"{model_base_path} is one version; give the directory above it as --model_base_path")
    if not publish.versions(base):
        raise UserError(
            f"{model_base_path} holds no version: no directory in it has a whole number for a name, "
            f"such as {model_base_path}/1; publish a model there first"
        )
    return base


def _run_tensorflow_serving(program, base_path, model_name, host, port, rest_api_port, received):
    # TensorFlow Serving takes 0 for "none", and goes on without REST where it cannot have the port.
    for address in (host, _ALL_ADDRESSES):
        port, rest_api_port = ports.choose_ports(address, port=port, rest_api_port=rest_api_port)
    with model_server.ModelServer(program, base_path, model_name, host, port, rest_api_port) as server:
        version = server.wait_until_available(lambda: bool(received))
        if not received:
            _print_ready(model_name, version, server)
        while not received:
            server.check_running()
            time.sleep(0.1)


def _run_local(base_path, model_name, host, port, rest_api_port, received):
    # A clip in JSON is millions of lists; at Python's default the collector takes two thirds of the parsing time.
    gc.set_threshold(100_000, 20, 20)
    print(
        f"{model_server.PROGRAM} is not on PATH: the local server runs instead, which is meant for development; "
        "production wants TensorFlow Serving",
        flush=True,
    )
    with LocalServer(base_path, model_name, host, port, rest_api_port) as server:
        _print_ready(model_name, server.model.find(model_name).version, server)
        while not received:
            time.sleep(0.1)


def _print_ready(model_name, version, server):
    print(f"ready model={model_name} version={version} grpc={server.grpc_url} rest={server.rest_url}", flush=True)


@contextlib.contextmanager
def _stop_signals():
    """Yields a list that the signals to stop are put in, instead of ending the process."""
    received, previous = [], {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
            continue  # nohup
        # No lock may be taken in a handler, so none of threading's events.
        previous[number] = signal.signal(number, lambda number, _: received.append(number))
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
