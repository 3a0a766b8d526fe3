"""TensorFlow Serving's own server, the program tensorflow_model_server, as a child process."""

import os
import signal
import subprocess
import time

from keras_nonlocal.errors import UserError, first_line
from keras_nonlocal.serving import client

PROGRAM = "tensorflow_model_server"
_GRPC_THREADS = 64  # by default 4 for each CPU, and a call beyond that fails instead of waiting
_RETRY_MICROSECONDS = 1_000_000  # between its 5 tries to load; by default a minute, so a broken model would take 5
_STATUS_SECONDS = 2.0
_STOP_SECONDS = 10.0


class ModelServer:
    """A running tensorflow_model_server; a context manager, whose end ends the process.

    Attributes:
      grpc_url: "grpc://host:port".
      rest_url: "http://host:port".
    """

    def __init__(self, program, base_path, model_name, host, port, rest_api_port):
        """Starts the process.

        Args:
          program: path of the executable.
          base_path: absolute path of the directory with numbered versions.
          model_name: name that requests use.
          host: address of this machine to reach it at; it listens on all of them.
          port: gRPC port.
          rest_api_port: REST port.

        Raises:
          UserError: the program cannot be started.
        """
        self.grpc_url = f"grpc://{host}:{port}"
        self.rest_url = f"http://{host}:{rest_api_port}"
        self._model_name = model_name
        self._client = client.Client(self.rest_url, model_name, timeout=_STATUS_SECONDS, retries=0)
        command = [
            program,
            f"--port={port}",
            f"--rest_api_port={rest_api_port}",
            f"--model_name={model_name}",
            f"--model_base_path={base_path}",
            f"--grpc_max_threads={_GRPC_THREADS}",
            f"--load_retry_interval_micros={_RETRY_MICROSECONDS}",
        ]
        print(f"TensorFlow Serving runs, on all addresses of this machine: {' '.join(command)}", flush=True)
        try:
            # Its lines go to stderr. A session of its own: Ctrl-C reaches this process alone, which then ends it.
            self._process = subprocess.Popen(command, env=_environment(), stdout=2, start_new_session=True)
        except OSError as error:
            raise UserError(
                f"{program} cannot be started ({first_line(error)}); mend it, or take it off PATH, then the local "
                "server runs"
            ) from error

    def wait_until_available(self, is_stopping, seconds=600.0):
        """Waits until a version of the model answers, with a line of progress now and then.

        Args:
          is_stopping: function without arguments, whether to give up.
          seconds: how long to wait.

        Returns:
          The version (int), or None if is_stopping came first.

        Raises:
          UserError: the process ends, or the time is over.
        """
        start, next_line = time.monotonic(), 2.0
        while not is_stopping():
            self.check_running()
            version = self._available_version()
            if version is not None:
                return version
            waited = time.monotonic() - start
            if waited > seconds:
                raise UserError(
                    f"{PROGRAM} did not make model {self._model_name!r} available within {seconds:g} s; see its own "
                    "lines above, or start it by hand, with the command above, for a model that takes longer"
                )
            if waited > next_line:
                print(f"waiting for model {self._model_name} to load: {waited:.0f} s", flush=True)
                next_line *= 2
            time.sleep(0.1)
        return None

    def _available_version(self):
        try:
            states = self._client.states()
        except UserError:  # REST opens last, after the model has loaded and gRPC is open
            return None
        return max((version for version, state in states.items() if state == "AVAILABLE"), default=None)

    def check_running(self):
        """Raises UserError if the process has ended."""
        code = self._process.poll()
        if code is not None:
            how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
            raise UserError(f"{PROGRAM} ended by itself with {how}; see its own lines above for the reason")

    def stop(self):
        """Ends the process, by force if it takes more than some seconds."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._client.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def _environment():
    """This process's, but errors are printed: nothing else tells why a model does not load."""
    environment = dict(os.environ)
    if environment.get("TF_CPP_MIN_LOG_LEVEL") == "3":
        environment["TF_CPP_MIN_LOG_LEVEL"] = "2"
    return environment
