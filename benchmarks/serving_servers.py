"""Starts the server that is measured, TensorFlow Serving or the local stand-in, and looks at its memory and metrics."""

import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import urllib.request

import keras_nonlocal
from keras_nonlocal.serving import Client, model_server, ports

ROOT = pathlib.Path(__file__).parent.parent
CONFIGS = ROOT / "saved_models" / "deploy"
RUNS = re.compile(r"^:tensorflow:serving:batching_session:wrapped_run_count(?:\{[^}]*\})? (\d+)", re.M)


class Server:
    """A running server.

    Attributes:
      name: which one it is, with its version.
      rest_url: "http://host:port".
      grpc_url: "grpc://host:port".
    """

    def __init__(self, name, process, rest_url, grpc_url):
        self.name, self.rest_url, self.grpc_url = name, rest_url, grpc_url
        self._process = process

    def has_ended(self) -> bool:
        """Whether it crashed."""
        return self._process.poll() is not None

    def mib(self) -> float:
        """Its resident memory; NaN if it has ended."""
        path = pathlib.Path(f"/proc/{self._process.pid}/status")
        found = None if self.has_ended() else re.search(r"VmRSS:\s+(\d+)", path.read_text())
        return int(found[1]) / 1024 if found else float("nan")

    def batches(self) -> int | None:
        """How many batches it has run, or None where it does not batch or does not tell."""
        try:
            with urllib.request.urlopen(f"{self.rest_url}/monitoring/prometheus/metrics", timeout=10) as response:
                found = RUNS.search(response.read().decode())
        except OSError:
            return None
        return int(found[1]) if found else None


def program(only_local: bool) -> str | None:
    """The path of tensorflow_model_server, or None for the local server."""
    return None if only_local else shutil.which(model_server.PROGRAM)


@contextlib.contextmanager
def started(base: pathlib.Path, name: str, only_local: bool = False, batching: bool = False):
    """A Server with a model, once that is available.

    Args:
      base: directory with numbered versions.
      name: that requests use.
      only_local: the local server, even if TensorFlow Serving is there.
      batching: of TensorFlow Serving, by saved_models/deploy/batching.config.
    """
    path = program(only_local)
    start = _local(base, name) if path is None else _tensorflow_serving(path, base, name, batching)
    with start as server:
        with Client(server.rest_url, name) as client:
            client.wait_until_available(timeout=120.0)
        yield server


@contextlib.contextmanager
def _tensorflow_serving(path, base, name, batching):
    port, rest_port = ports.choose_ports("0.0.0.0", port=0, rest_api_port=0)
    command = [
        path,
        f"--port={port}",
        f"--rest_api_port={rest_port}",
        f"--model_name={name}",
        f"--model_base_path={base}",
        "--grpc_max_threads=64",
        f"--monitoring_config_file={CONFIGS / 'monitoring.config'}",
    ]
    if batching:
        command += ["--enable_batching=true", f"--batching_parameters_file={CONFIGS / 'batching.config'}"]
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0]
    with _running(command, subprocess.DEVNULL) as process:
        name = f"{version}{', batching' if batching else ''}"
        yield Server(name, process, f"http://127.0.0.1:{rest_port}", f"grpc://127.0.0.1:{port}")


@contextlib.contextmanager
def _local(base, name):
    arguments = [f"--model_base_path={base}", f"--model_name={name}", "--port=0", "--rest_api_port=0"]
    # On no PATH is TensorFlow Serving.
    with _running(
        [sys.executable, ROOT / "saved_models" / "serve.py", *arguments], subprocess.PIPE, PATH=""
    ) as process:
        ready = next((line for line in process.stdout if line.startswith("ready ")), "")
        found = re.search(r"grpc=(\S+) rest=(\S+)", ready)
        if not found:
            raise RuntimeError(f"the local server did not start: exit code {process.wait(10)}")
        # Nobody reads on: a full pipe would stop it.
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield Server(f"the local stand-in of keras_nonlocal {keras_nonlocal.__version__}", process, found[2], found[1])


@contextlib.contextmanager
def _running(command, stdout, **environment):
    process = subprocess.Popen(
        list(map(str, command)), stdout=stdout, stderr=subprocess.DEVNULL, text=True, env={**os.environ, **environment}
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
