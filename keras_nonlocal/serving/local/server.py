"""The local server: REST and gRPC in this process, over one model."""

import os
import sys
import threading
from concurrent import futures
from pathlib import Path

from keras_nonlocal.serving import ports
from keras_nonlocal.serving.apis import grpc
from keras_nonlocal.serving.local import grpc_service, rest_service
from keras_nonlocal.serving.local.servable import Model

_GRPC_THREADS = 32


class LocalServer:
    """A server in this process, for development and tests; a context manager.

    Attributes:
      model: the servable.Model it serves.
      grpc_url: "grpc://host:port".
      rest_url: "http://host:port".
    """

    def __init__(
        self,
        base_path: str | os.PathLike[str],
        model_name: str,
        host: str = "127.0.0.1",
        port: int = 0,
        rest_api_port: int = 0,
        poll_seconds: float = 1.0,
    ):
        """Binds the ports, loads the newest version and starts to answer.

        Args:
          base_path: directory with numbered versions.
          model_name: name that requests use.
          host: address to listen on.
          port: gRPC port; 0 (default) for a free one.
          rest_api_port: REST port; 0 (default) for a free one.
          poll_seconds: how often to look for a new version.

        Raises:
          UserError: a port is taken, or the newest version cannot be loaded.
        """
        ports.choose_ports(host, port=port, rest_api_port=rest_api_port)
        try:
            self._rest = rest_service.RestServer(host, rest_api_port, _print_error)
        except OSError as error:
            raise ports.bind_error(error, host, rest_api_port, "rest_api_port") from error
        self._grpc = _make_grpc_server()
        try:
            try:
                bound = self._grpc.add_insecure_port(f"{host}:{port}")
            except RuntimeError as error:
                raise ports.bind_error(error, host, port, "port") from error
            self.model = Model(model_name, Path(base_path), _print)
        except BaseException:
            self._rest.server_close()
            self._grpc.stop(None)
            raise
        self.grpc_url = f"grpc://{host}:{bound}"
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


def _print(line):
    print(line, flush=True)


def _print_error(line):
    print(line, file=sys.stderr, flush=True)
