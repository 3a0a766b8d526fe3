"""What calls of a model server have in common over either protocol: deadlines, tries again, signatures, errors."""

import itertools
import random
import time
from collections.abc import Callable
from typing import Any

from tensorflow.core.protobuf import meta_graph_pb2

from keras_nonlocal.errors import UserError
from keras_nonlocal.serving.apis import get_model_metadata_pb2

_FIRST_PAUSE = 0.2  # seconds, twice as many after each try
_LONGEST_PAUSE = 5.0


class Unavailable(UserError):
    """No server answers, or it cannot just now: of all errors the one after which a call is worth another try."""


def with_retries(call: Callable[[float], Any], timeout: float, retries: int) -> Any:
    """Calls until there is an answer, or an error that would come again.

    Args:
      call: takes the seconds that are left, and raises Unavailable where another try may succeed.
      timeout: seconds for all tries and the pauses between them.
      retries: how many tries after the first.

    Returns:
      What call returns.

    Raises:
      UserError: that of the last try.
    """
    deadline = time.monotonic() + timeout
    for number in itertools.count():
        try:
            return call(deadline - time.monotonic())
        except Unavailable:
            # Clients that failed together must not all come back together.
            pause = random.uniform(0.5, 1) * min(_FIRST_PAUSE * 2**number, _LONGEST_PAUSE)
            if number == retries or time.monotonic() + pause >= deadline:
                raise
        time.sleep(pause)


def pick(signatures: get_model_metadata_pb2.SignatureDefMap, name: str) -> meta_graph_pb2.SignatureDef:
    """The signature of a name; raises UserError, with the names there are, where it is not one of them."""
    if name not in signatures.signature_def:
        names = sorted(name for name in signatures.signature_def if not name.startswith("__"))
        raise UserError(f"the model has no signature {name!r}; it has {', '.join(names)}")
    return signatures.signature_def[name]


def refused(address: str, code: str, text: str) -> UserError:
    """The server answered, with an error, whose lines become one."""
    text = " ".join(text.split())
    if "Servable not found" in text or "Could not find" in text:
        return UserError(f"the server at {address} does not have this model or version: {text}")
    return UserError(f"the server at {address} refused the request ({code}): {text}")


def busy(address: str, code: str, text: str) -> Unavailable:
    """The server, or the proxy before it, answered that it cannot now."""
    return Unavailable(
        f"the server at {address} is restarting or has too much to do ({code}): {text}; try later, or with more retries"
    )


def unreachable(address: str, reason: Any) -> Unavailable:
    """There is no connection."""
    return Unavailable(
        f"no model server answers at {address} ({reason}); start one with keras-nonlocal serve, or check the address"
    )


def late(address: str, reason: Any) -> UserError:
    """The time is over."""
    return UserError(f"no answer from {address} in time ({reason}); try a longer timeout or a smaller batch")


def untrusted(address: str, reason: Any) -> UserError:
    """TLS failed."""
    return UserError(
        f"no trusted connection to {address} ({reason}); check that it speaks TLS, and that ca_file holds the "
        "certificate that signed the server's"
    )
