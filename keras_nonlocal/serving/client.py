"""A client of TensorFlow Serving, or of the local server, over REST or gRPC."""

import collections
import concurrent.futures
import os
import threading
import time
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt
from tensorflow.core.protobuf import meta_graph_pb2

from keras_nonlocal.errors import UserError, check_number, check_positive_int, first_line
from keras_nonlocal.serving import calls, classification, constants, detections, explanations, over_grpc, over_rest

_SCHEMES = ("grpc", "grpcs", "http", "https")
_GRPC_PORTS = {"grpc": 8500, "grpcs": 443}
_ASYNC_CALLS = 32
_POLL_SECONDS = 0.2

Inputs = Mapping[str, npt.ArrayLike]


class Client:
    """Asks one served model, over the protocol that the target names; from any number of threads.

    Every call has one deadline. Within it, a call that finds no server, or one that is restarting or overloaded (gRPC
    UNAVAILABLE, HTTP 502 and 503), is tried again after pauses that double, from 0.1 to 0.2 s on; what would fail again
    is not. Connections are kept: make one client and close it at the end, or use it as a context manager.

    Args:
      target: "grpc://host:port" or "http://host:port"; with TLS "grpcs://host:port" or "https://host:port". Without a
        port: 8500, as TensorFlow Serving has it, of grpc, 443 of grpcs and https, 80 of http. HTTP may have the path
        that a proxy puts before `/v1/models`.
      model_name: name of the served model.
      timeout: seconds for a call, with all its tries.
      retries: how many tries after the first.
      ca_file: PEM file of the certificates to trust with TLS. Default: the system's over https, gRPC's own over grpcs.
      headers: sent with every call, such as {"Authorization": "Bearer TOKEN"} for a proxy that asks for it.

    Raises:
      UserError: the target is none of these, or ca_file cannot be read.

    Example:

    ```python
    with Client("grpc://127.0.0.1:8500", "clips") as client:
        client.wait_until_available()
        client.predict({"frames": frames})["probabilities"]
        client.classify("clip.mp4", labels="labels.txt")
    ```
    """

    def __init__(
        self,
        target: str,
        model_name: str,
        timeout: float = 60.0,
        retries: int = 3,
        ca_file: str | os.PathLike[str] | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        self._timeout = _check_timeout(timeout)
        self._retries = check_number("retries", retries, 0)
        self.target = target
        self.model_name = model_name
        self._calls = _connect(target, model_name, _check_ca_file(ca_file), dict(headers or {}))
        self._lock = threading.Lock()
        self._executor = None

    def predict(
        self, inputs: Inputs, signature_name: str = constants.DEFAULT_SIGNATURE, version: int | str | None = None
    ) -> dict[str, np.ndarray]:
        """Calls a served function.

        Args:
          inputs: {alias: array}, over gRPC of the signature's dtype. Bytes are of dtype object, or a list.
          signature_name: served function to call.
          version: number (int) or label (str), such as "stable"; default is the newest.

        Returns:
          {alias: array} of the signature's dtype; strings are bytes.

        Raises:
          UserError: no server answers in time, or it refuses the request.
        """
        return self._try(self._calls.predict, inputs, signature_name, version)

    def predict_async(
        self, inputs: Inputs, signature_name: str = constants.DEFAULT_SIGNATURE, version: int | str | None = None
    ) -> concurrent.futures.Future:
        """As predict, without waiting: 32 calls run at a time, and the time of a call begins when it runs.

        Returns:
          Future of what predict returns or raises.
        """
        with self._lock:
            if self._executor is None:
                self._executor = concurrent.futures.ThreadPoolExecutor(_ASYNC_CALLS, "keras_nonlocal_client")
            return self._executor.submit(self.predict, inputs, signature_name, version)

    def predict_many(
        self,
        batches: Iterable[Inputs],
        signature_name: str = constants.DEFAULT_SIGNATURE,
        version: int | str | None = None,
        concurrency: int = 8,
    ) -> Iterator[dict[str, np.ndarray]]:
        """Calls a served function for each of many batches, some at a time.

        Args:
          batches: inputs of predict, such as a generator makes. No more than `concurrency` of them, with their
            answers, are in memory at a time.
          signature_name: served function to call.
          version: number (int) or label (str), such as "stable"; default is the newest.
          concurrency: how many calls at a time.

        Returns:
          Iterator of the answers, in the order of the batches; it raises what a call raised in that call's place.

        Raises:
          ValueError: concurrency is no positive integer.
        """
        return self._many(iter(batches), signature_name, version, check_positive_int("concurrency", concurrency))

    def signature(
        self, name: str = constants.DEFAULT_SIGNATURE, version: int | str | None = None
    ) -> meta_graph_pb2.SignatureDef:
        """What a served function takes and gives; errors as predict, and of a function that the model does not have.

        Over gRPC servers do not say it of a label, and neither does this.
        """
        found = self._try(self._calls.signatures, version)
        return calls.pick(found, name)

    def states(self, version: int | None = None) -> dict[int, str]:
        """The state of each version: "LOADING", "AVAILABLE", "END" and so on; errors as predict."""
        return self._try(self._calls.states, version)

    def wait_until_available(self, version: int | None = None, timeout: float | None = None) -> None:
        """Waits until a version is AVAILABLE: a server answers before its model does.

        Args:
          version: version (int) to wait for; default is any.
          timeout: seconds to wait; default is the client's.

        Raises:
          UserError: no version is available in time; names the last states or error.
        """
        timeout = self._timeout if timeout is None else _check_timeout(timeout)
        deadline = time.monotonic() + timeout
        while True:
            try:
                states = self._calls.states(version, max(deadline - time.monotonic(), _POLL_SECONDS))
                if "AVAILABLE" in states.values():
                    return
                problem = f"its versions are {states}"
            except UserError as error:
                problem = str(error)
            if time.monotonic() + _POLL_SECONDS > deadline:
                raise UserError(f"model {self.model_name!r} is not available after {timeout:g} s: {problem}")
            time.sleep(_POLL_SECONDS)

    def classify(
        self,
        path: str | os.PathLike[str],
        labels: str | os.PathLike[str] | None = None,
        top_k: int = 5,
        signature_name: str | None = None,
        stride: int | None = None,
    ) -> list[classification.Scored]:
        """The likeliest classes of a video or photo.

        Args:
          path: video, JPEG or PNG file.
          labels: text file with one class name a line; default gives class numbers.
          top_k: how many classes.
          signature_name: served function to call; default is `serving_default`, for a photo `encoded`.
          stride: distance of the frames of a clip that is sent; default spreads them over the video.

        Returns:
          List of (name, number, probability), the likeliest first.

        Raises:
          UserError: the file cannot be read, the model gives no probabilities, the labels are of another model, or as
            predict.
        """
        name = signature_name or classification.default_signature(path)
        inputs = classification.request(path, self.signature(name), stride)
        probabilities = classification.from_outputs(self._one(inputs, name))
        return classification.top(probabilities, labels, check_positive_int("top_k", top_k))

    def detect(
        self, path: str | os.PathLike[str], score: float = 0.5, signature_name: str = constants.ENCODED_SIGNATURE
    ) -> detections.Detections:
        """The objects in a photo, which `detections.draw` draws.

        Args:
          path: JPEG or PNG file.
          score: what has less is left out.
          signature_name: served function to call.

        Returns:
          Detections.

        Raises:
          UserError: the photo cannot be read, the model is no detector, or as predict.
        """
        inputs = detections.request(path, self.signature(signature_name))
        return detections.from_outputs(self._one(inputs, signature_name), check_number("score", score, 0, 1))

    def explain(
        self,
        source: str | os.PathLike[str] | np.ndarray,
        queries: npt.ArrayLike,
        signature_name: str = constants.EXPLAIN_SIGNATURE,
        stride: int | None = None,
    ) -> explanations.Explanation:
        """Where chosen positions of a clip or photo look, which `explanations.draw` draws.

        Args:
          source: video, JPEG or PNG file; or (T, H, W, 3) or (H, W, 3), as the served function takes it.
          queries: (Q, 3) frame, y and x, or (Q, 2) y and x of a model of photos; in frames and pixels of what is sent,
            the centre of the first pixel being 0.5, 0.5 and of the first frame 0.
          signature_name: served function to call.
          stride: distance of the frames of a clip that is sent; default spreads them over the video.

        Returns:
          Explanation.

        Raises:
          UserError: the file cannot be read, the function explains nothing, or as predict.
        """
        inputs = explanations.request(source, queries, self.signature(signature_name), stride)
        return explanations.from_outputs(self._one(inputs, signature_name), inputs)

    def close(self) -> None:
        """Drops calls that have not begun, waits for those that have, and closes the connections."""
        with self._lock:
            if self._executor is not None:
                self._executor.shutdown(cancel_futures=True)
        self._calls.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _try(self, call, *args):
        return calls.with_retries(lambda left: call(*args, left), self._timeout, self._retries)

    def _one(self, inputs, signature_name):
        """The outputs for a batch of one, without the batch dimension."""
        return {alias: values[0] for alias, values in self.predict(inputs, signature_name).items()}

    def _many(self, batches, signature_name, version, concurrency):
        executor = concurrent.futures.ThreadPoolExecutor(concurrency, "keras_nonlocal_client")
        running = collections.deque()
        try:
            for inputs in batches:
                running.append(executor.submit(self.predict, inputs, signature_name, version))
                del inputs
                if len(running) == concurrency:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            executor.shutdown(wait=False, cancel_futures=True)


def _connect(target, model_name, ca_file, headers):
    parts = urllib.parse.urlsplit(target)
    try:
        is_known = parts.scheme in _SCHEMES and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number
        is_known = False
    if not is_known:
        raise UserError(
            "`target` must be grpc://host:port, grpcs://host:port, http://host:port or https://host:port. "
            f"Received: target={target!r}"
        )
    if parts.scheme.startswith("http"):
        return over_rest.RestCalls(target, model_name, ca_file, headers)
    address = parts.netloc if parts.port else f"{parts.netloc.rstrip(':')}:{_GRPC_PORTS[parts.scheme]}"
    return over_grpc.GrpcCalls(address, model_name, parts.scheme == "grpcs", ca_file, headers)


def _check_ca_file(ca_file):
    if ca_file is None:
        return None
    try:
        with open(ca_file, "rb"):
            return os.fspath(ca_file)
    except OSError as error:
        raise UserError(f"`ca_file` cannot be read ({first_line(error)}). Received: ca_file={ca_file!r}") from error


def _check_timeout(timeout):
    if check_number("timeout", timeout, 0) == 0:
        raise ValueError(f"`timeout` must be more than 0 seconds. Received: timeout={timeout!r}")
    return timeout
