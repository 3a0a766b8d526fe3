"""Serves a published model: by TensorFlow Serving if it is installed, else by a local server of the same protocol."""

import errno
import gc
import os
import shutil
import signal
import socket
import sys
import threading
from concurrent import futures
from pathlib import Path

import grpc

from keras_nonlocal.errors import UserError
from keras_nonlocal.serving import publish
from keras_nonlocal.serving.local import grpc_service, rest_service
from keras_nonlocal.serving.local.servable import Model

_TENSORFLOW_SERVING = "tensorflow_model_server"
_GRPC_THREADS = 32
_TENSORFLOW_SERVING_THREADS = 64  # of gRPC; its default is 4 for each CPU, and calls beyond that are refused


def run(model_base_path, model_name, host="127.0.0.1", port=8500, rest_api_port=8501):
    """Serves until SIGTERM or Ctrl-C; does not return if TensorFlow Serving takes over the process.

    Args:
        model_base_path: `saved_models/<name>`, with numbered versions.
        model_name: name clients ask for.
        host: address to listen on; the default takes no calls from other machines.
        port: gRPC port; 0 for a free one.
        rest_api_port: REST port; 0 for a free one.

    Raises:
        UserError: there is no model to serve, or a port is taken.
    """
    base_path = check_base_path(model_base_path)
    check_ports(host, port=port, rest_api_port=rest_api_port)
    program = shutil.which(_TENSORFLOW_SERVING)
    if program:
        _exec_tensorflow_serving(program, base_path, model_name, port, rest_api_port)
    # A clip in JSON is millions of lists; at Python's default the collector takes two thirds of the parsing time.
    gc.set_threshold(100_000, 20, 20)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    _print(
        f"{_TENSORFLOW_SERVING} is not on PATH: the local server runs instead, which is meant for development; "
        "production wants TensorFlow Serving"
    )
    with LocalServer(base_path, model_name, host, port, rest_api_port) as server:
        _print(
            f"ready model={model_name} version={server.model.get().version} grpc={server.grpc_address} "
            f"rest={server.rest_url}"
        )
        stop.wait()
    _print("stopped")


def check_base_path(model_base_path):
    """Returns the absolute path of a model that can be served; raises UserError if nothing there is a version."""
    base = Path(model_base_path).absolute()
    if not base.is_dir():
        raise UserError(f"there is no directory {model_base_path}; publish a model there first")
    if (base / "saved_model.pb").exists():
        raise UserError(f"{model_base_path} is one version; give the directory above it as --model_base_path")
    if not publish.versions(base):
        raise UserError(
            f"{model_base_path} holds no version: no directory in it has a whole number for a name, "
            f"such as {model_base_path}/1; publish a model there first"
        )
    return base


def check_ports(host, **ports):
    """Raises UserError if a port cannot be listened on.

    Args:
        host: address to listen on.
        **ports: flag name to port number; 0 stands for any free one.
    """
    numbers = [number for number in ports.values() if number]
    if len(set(numbers)) < len(numbers):
        raise UserError(f"port {numbers[0]} is given twice; {' and '.join('--' + flag for flag in ports)} must differ")
    for flag, number in ports.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, number))
            except OSError as error:
                raise _bind_error(error, host, number, flag) from error


class LocalServer:
    """A server in this process, for development and tests; a context manager.

    Attributes:
        model: the servable.Model it serves.
        grpc_address: "host:port" of gRPC.
        rest_url: "http://host:port" of REST.
    """

    def __init__(self, base_path, model_name, host="127.0.0.1", port=0, rest_api_port=0, poll_seconds=1.0):
        """Binds the ports, loads the newest version and starts to answer.

        Args:
            base_path: directory with numbered versions.
            model_name: name clients ask for.
            host: address to listen on.
            port: gRPC port; 0 (default) for a free one.
            rest_api_port: REST port; 0 (default) for a free one.
            poll_seconds: how often to look for a new version.

        Raises:
            UserError: a port is taken, or the newest version cannot be loaded.
        """
        check_ports(host, port=port, rest_api_port=rest_api_port)
        try:
            self._rest = rest_service.RestServer(host, rest_api_port, _print_error)
        except OSError as error:
            raise _bind_error(error, host, rest_api_port, "rest_api_port") from error
        self._grpc = _make_grpc_server()
        try:
            try:
                bound = self._grpc.add_insecure_port(f"{host}:{port}")
            except RuntimeError as error:
                raise _bind_error(error, host, port, "port") from error
            self.model = Model(model_name, Path(base_path), _print)
        except BaseException:
            self._rest.server_close()
            self._grpc.stop(None)
            raise
        self.grpc_address = f"{host}:{bound}"
        self.rest_url = f"http://{host}:{self._rest.server_address[1]}"
        self._stopping = threading.Event()
        self._start(poll_seconds)

    def _start(self, poll_seconds):
        grpc_service.add_services(self._grpc, self.model, _print_error)
        self._grpc.start()
        self._rest.model = self.model
        self._rest.server_activate()
        self._threads = [
            threading.Thread(target=self._rest.serve_forever, args=(0.05,), daemon=True),
            threading.Thread(target=self._poll, args=(poll_seconds,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _poll(self, seconds):
        while not self._stopping.wait(seconds):
            try:
                self.model.refresh()
            except Exception as error:  # A directory that vanishes while it is read must not end the polling.
                _print_error(f"error: looking for versions: {error}")

    def stop(self):
        """Lets the requests being answered finish, for a few seconds at most, and closes both ports."""
        self._stopping.set()
        grpc_stopped = self._grpc.stop(5.0)
        self._rest.stop()
        grpc_stopped.wait()
        for thread in self._threads:
            thread.join(5.0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def _make_grpc_server():
    return grpc.server(
        futures.ThreadPoolExecutor(_GRPC_THREADS),
        options=[
            ("grpc.max_receive_message_length", grpc_service.MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # else two servers share a port and each gets half of the calls
        ],
    )


def _exec_tensorflow_serving(program, base_path, model_name, port, rest_api_port):
    if not port or not rest_api_port:
        raise UserError(f"{_TENSORFLOW_SERVING} picks no free port; give --port and --rest_api_port a number")
    command = [
        program,
        f"--port={port}",
        f"--rest_api_port={rest_api_port}",
        f"--model_name={model_name}",
        f"--model_base_path={base_path}",
        f"--grpc_max_threads={_TENSORFLOW_SERVING_THREADS}",
    ]
    _print(f"TensorFlow Serving takes over, on all addresses of this machine: {' '.join(command)}")
    os.execv(program, command)


def _bind_error(error, host, port, flag):
    number = getattr(error, "errno", errno.EADDRINUSE)
    if number == errno.EADDRINUSE:
        return UserError(
            f"port {port} is already in use on {host}; stop the program that has it, or give --{flag} "
            "another number (0 picks a free one)"
        )
    if number == errno.EACCES:
        return UserError(f"port {port} is reserved for the system; give --{flag} a number above 1023")
    return UserError(f"cannot listen on {host}:{port} ({error}); give --host an address of this machine")


def _print(line):
    print(line, flush=True)


def _print_error(line):
    print(line, file=sys.stderr, flush=True)
