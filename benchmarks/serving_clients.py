"""Many clients at once, each with a connection that it keeps, and what became of every request."""

import dataclasses
import functools
import http.client
import random
import threading
import time
import urllib.parse
from collections.abc import Callable, Sequence

import numpy as np
import serving_cases

from keras_nonlocal.serving.apis import grpc

TIMEOUT = 60.0
TOLERANCE = 1e-3
OK, REFUSED = "OK", "INVALID_ARGUMENT"
METHOD = "/tensorflow.serving.PredictionService/Predict"


@dataclasses.dataclass(frozen=True)
class Request:
    """What is sent, and the answer in outputs by name, or None of one that has to be refused."""

    body: bytes
    answer: dict[str, np.ndarray] | None


@dataclasses.dataclass(frozen=True)
class Reply:
    """Seconds of wall, the canonical code, or None if there was no reply, and the body or the error's text."""

    seconds: float
    code: str | None
    body: bytes | str


class RestClient:
    """Sends bodies to one model.

    Args:
      url: "http://host:port".
      name: of the model.
    """

    read = staticmethod(serving_cases.read_rest)
    _CODES = {200: OK, 400: REFUSED}

    def __init__(self, url: str, name: str):
        self._address = urllib.parse.urlsplit(url).netloc
        self._path = f"/v1/models/{name}:predict"
        self._connection = None

    def send(self, body):
        """Returns the code and the body; raises OSError or HTTPException where there is no reply."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self._address, timeout=TIMEOUT)
        try:
            self._connection.request("POST", self._path, body)
            response = self._connection.getresponse()
            content = response.read()
        except BaseException:
            self.close()
            raise
        return self._CODES.get(response.status, f"HTTP {response.status}"), content

    def close(self):
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class GrpcClient:
    """Sends serialized PredictRequests.

    Args:
      address: "host:port".
    """

    read = staticmethod(serving_cases.read_grpc)
    # The server's own refusals. These say that nobody answered.
    _LOST = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}

    def __init__(self, address: str):
        # A connection of its own, as clients in processes of their own would have.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        self._channel = grpc.insecure_channel(address, options)
        self._call = self._channel.unary_unary(METHOD)

    def send(self, body):
        """Returns the code and the body; raises OSError where there is no reply."""
        try:
            return OK, self._call(body, timeout=TIMEOUT)
        except grpc.RpcError as error:
            if error.code() in self._LOST:
                raise OSError(f"{error.code().name}: {error.details()}") from error
            return error.code().name, error.details()

    def close(self):
        self._channel.close()


def of_protocol(case, server, protocol: str) -> tuple[Callable, list[Request], list[Request]]:
    """What makes a client of a server, and good and bad requests to it.

    Args:
      case: a serving_cases.Case.
      server: with `rest_url` and `grpc_url`.
      protocol: "rest" or "grpc".
    """
    if protocol == "rest":
        connect = functools.partial(RestClient, server.rest_url, serving_cases.MODEL)
        good, bad = serving_cases.rest_good(case), serving_cases.rest_bad(case)
    else:
        connect = functools.partial(GrpcClient, server.grpc_url.removeprefix("grpc://"))
        good, bad = serving_cases.grpc_good(case), serving_cases.grpc_bad(case)
    good = [Request(body, answer) for body, answer in zip(good, case.answers, strict=True)]
    return connect, good, [Request(body, None) for body in bad]


def plan(good: Sequence[Request], bad: Sequence[Request], count: int, share: float, seed: int = 0) -> list[Request]:
    """`count` requests, a share of them bad, in a random order."""
    bad_count = round(count * share) if bad else 0
    chosen = [bad[i % len(bad)] for i in range(bad_count)] + [good[i % len(good)] for i in range(count - bad_count)]
    random.Random(seed).shuffle(chosen)
    return chosen


def drive(connect: Callable, requests: Sequence[Request], clients: int) -> tuple[list[Reply], float]:
    """Sends all requests, each client its next one when it has the answer to the last.

    Args:
      connect: makes a client.
      requests: to send.
      clients: how many send at the same time.

    Returns:
      The Reply to each, and the seconds of wall of all.
    """
    replies = [None] * len(requests)
    numbers = iter(range(len(requests)))
    lock = threading.Lock()

    def work():
        client = connect()
        try:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                replies[number] = _timed(client, requests[number].body)
        finally:
            client.close()

    threads = [threading.Thread(target=work) for _ in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return replies, time.perf_counter() - start


def _timed(client, body):
    start = time.perf_counter()
    try:
        code, content = client.send(body)
    except (OSError, http.client.HTTPException) as error:
        return Reply(time.perf_counter() - start, None, f"{type(error).__name__}: {error}")
    return Reply(time.perf_counter() - start, code, content)


@dataclasses.dataclass
class Verdict:
    """How many requests were answered rightly, refused rightly, lost, and neither; and an example of the last two."""

    answered: int = 0
    refused: int = 0
    lost: int = 0
    wrong: int = 0
    largest_difference: float = 0.0
    example: str = ""

    def add(self, request: Request, reply: Reply, read: Callable) -> None:
        """Counts one reply, which `read` takes the outputs from."""
        if reply.code is None:
            self.lost += 1
            self.example = self.example or str(reply.body)
        elif request.answer is None and reply.code == REFUSED:
            self.refused += 1
        elif request.answer is None or reply.code != OK:
            kind = "bad" if request.answer is None else "good"
            self._add_wrong(f"{reply.code} to a {kind} request: {reply.body[:200]}")
        else:
            found = serving_cases.difference(read(reply.body), request.answer)
            self.largest_difference = max(self.largest_difference, found)
            if found <= TOLERANCE:
                self.answered += 1
            else:
                self._add_wrong(f"an answer that is {found:.1e} away")

    def _add_wrong(self, why):
        self.wrong += 1
        self.example = self.example or why


def judge(requests: Sequence[Request], replies: Sequence[Reply], read: Callable) -> Verdict:
    """Compares all replies with what they should be."""
    verdict = Verdict()
    for request, reply in zip(requests, replies, strict=True):
        verdict.add(request, reply, read)
    return verdict


def percentiles(seconds: Sequence[float]) -> list[float]:
    """p50, p95 and p99, in ms."""
    return [float(value) for value in np.percentile(np.asarray(seconds) * 1e3, [50, 95, 99])]
