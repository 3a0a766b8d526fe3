"""Calls of a model server over REST."""

import time
import urllib.parse
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from google.protobuf import json_format
from tensorflow.core.protobuf import meta_graph_pb2

from keras_nonlocal.errors import UserError, first_line
from keras_nonlocal.serving import calls, json_arrays
from keras_nonlocal.serving.apis import get_model_metadata_pb2, urllib3

_KEPT_CONNECTIONS = 128  # more calls than that at a time open and close connections of their own
_SIGNATURE_SECONDS = 10.0
# The server's own word for it, and a proxy's that does not reach the server.
_BUSY = (502, 503)


class RestCalls:
    """Calls of one model over REST, from any thread, over connections that are kept.

    Args:
      url: "http://host:port" or "https://host", with the path before `/v1/models` if a proxy has one.
      model_name: name of the served model.
      ca_file: PEM file of the certificates to trust over https; None for the system's.
      headers: sent with every request.
    """

    def __init__(self, url: str, model_name: str, ca_file: str | None, headers: Mapping[str, str]):
        self._url = f"{url.rstrip('/')}/v1/models/{urllib.parse.quote(model_name, safe='')}"
        # A manager asks no proxy: one set for the web would only break calls within a private network.
        self._pool = urllib3.PoolManager(
            maxsize=_KEPT_CONNECTIONS, ca_certs=ca_file, headers={"Content-Type": "application/json", **headers}
        )
        self._known = {}  # {version: (when to ask again, signatures)}

    def predict(
        self, inputs: Mapping[str, npt.ArrayLike], signature_name: str, version: int | str | None, timeout: float
    ) -> dict[str, np.ndarray]:
        """As Client.predict, once, within timeout seconds."""
        deadline = time.monotonic() + timeout
        signature = self._find(signature_name, version, timeout)
        if unknown := sorted(set(inputs) - set(signature.inputs)):  # which the server would ignore
            raise UserError(f"signature {signature_name!r} takes {sorted(signature.inputs)}, not {unknown}")
        body = json_arrays.request_body(inputs, signature_name)
        outputs = self._call(version, ":predict", "outputs", _left(deadline, self._url), body)
        if len(signature.outputs) == 1:  # which comes without its name
            outputs = {next(iter(signature.outputs)): outputs}
        elif set(outputs) != set(signature.outputs):  # those of a version that was not there before
            signature = self.signatures(version, _left(deadline, self._url)).signature_def[signature_name]
        try:
            return {alias: json_arrays.to_array(alias, value, signature.outputs[alias])
                    for alias, value in outputs.items()}  # fmt: skip
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{self._url} answered with something else than the signature says: {error}") from error

    def signatures(self, version: int | str | None, timeout: float) -> get_model_metadata_pb2.SignatureDefMap:
        """What a version's served functions take and give."""
        metadata = self._call(version, "/metadata", "metadata", timeout)
        found = get_model_metadata_pb2.SignatureDefMap()
        json_format.ParseDict(metadata["signature_def"], found, ignore_unknown_fields=True)
        self._known[version] = (time.monotonic() + _SIGNATURE_SECONDS, found)
        return found

    def states(self, version: int | None, timeout: float) -> dict[int, str]:
        """As Client.states, once, within timeout seconds."""
        statuses = self._call(version, "", "model_version_status", timeout)
        return {int(status["version"]): status["state"] for status in statuses}

    def close(self) -> None:
        """Closes the connections."""
        self._pool.clear()

    def _find(self, name, version, timeout) -> meta_graph_pb2.SignatureDef:
        """A signature, asked for now and then only: JSON leaves out what it says, and a newer version may change it."""
        until, found = self._known.get(version, (0.0, None))
        if found is None or time.monotonic() > until or name not in found.signature_def:
            found = self.signatures(version, timeout)
        return calls.pick(found, name)

    def _call(self, version, path, key, timeout, body=None):
        """Returns what the reply holds under a key; of a GET, or of a POST if there is a body."""
        address = self._url + _which(version) + path
        status, data = self._send(address, timeout, body)
        try:
            reply = json_arrays.parse(data)
        except ValueError as error:
            reply = None
            reason = str(error)
        else:
            reason = f"its reply has no {key!r}"
        if status != 200:
            text = reply["error"] if isinstance(reply, dict) and "error" in reply else _plain(data)
            raise (calls.busy if status in _BUSY else calls.refused)(address, str(status), text)
        if not isinstance(reply, dict) or key not in reply:
            raise UserError(f"{address} is not the address of a model server: {reason}")
        return reply[key]

    def _send(self, address, timeout, body):
        """Returns the status (int) and the whole reply (bytes)."""
        deadline = time.monotonic() + timeout
        response = None
        try:
            response = self._pool.request(
                "GET" if body is None else "POST",
                address,
                body=body,
                timeout=urllib3.Timeout(total=timeout),
                retries=False,
                redirect=False,
                preload_content=False,
            )
            # The timeout is between two packets; a reply that trickles in ends here.
            chunks = []
            while chunk := response.read1(2**20):
                chunks.append(chunk)
                _left(deadline, address)
            response.release_conn()
            return response.status, b"".join(chunks)
        except urllib3.exceptions.SSLError as error:
            raise calls.untrusted(address, error) from error
        except urllib3.exceptions.HTTPError as error:
            reason = error.__cause__ or error.args[-1]  # what the system said
            is_late = isinstance(error, urllib3.exceptions.TimeoutError) or isinstance(reason, TimeoutError)
            # To urllib3 a refused connection is a kind of timeout.
            if is_late and not isinstance(error, urllib3.exceptions.NewConnectionError):
                raise calls.late(address, f"{timeout:.3g} s") from error
            # There was no connection, or it broke.
            raise calls.unreachable(address, first_line(reason)) from error
        finally:
            if response is not None and not response.closed:
                response.close()


def _which(version):
    """The part of an address that names a version, or a label."""
    if version is None:
        return ""
    if isinstance(version, str):
        return f"/labels/{urllib.parse.quote(version, safe='')}"
    return f"/versions/{version}"


def _left(deadline, address):
    left = deadline - time.monotonic()
    if left <= 0:
        raise calls.late(address, "the time is over")
    return left


def _plain(data):
    return " ".join(data[:300].decode("utf-8", "replace").split())
