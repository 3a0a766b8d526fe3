"""Loaded SavedModels, checked requests to them, and the switch from one version to the next."""

import dataclasses
import gc
import re
import threading

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import error_codes_pb2, saved_model_pb2

from keras_nonlocal.errors import UserError
from keras_nonlocal.serving import constants, publish, quiet
from keras_nonlocal.serving.apis import prediction_log_pb2

MAX_RANK = 32  # of a NumPy array, in all its versions
# What Python's TensorFlow wraps around the message a C++ server would give.
_PYTHON_PREFIX = re.compile(r"^Graph execution error:\n\nDetected at node .*?<stack traces unavailable>\n", re.DOTALL)
_PYTHON_SUFFIX = re.compile(r" \[Op:\w+\]( name: .*)?$")


class RequestError(Exception):
    """A request cannot be answered; code is a canonical status name such as "INVALID_ARGUMENT"."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code
        self.message = message


def dtype_name(dtype):
    """Names a dtype as TensorFlow's C++ does: half, float and double, not float16, float32 and float64."""
    return {tf.float16: "half", tf.float32: "float", tf.float64: "double"}.get(dtype, dtype.name)


def shape_text(shape):
    """Writes a shape as TensorFlow's C++ does: [?,8,8,3]."""
    return "[" + ",".join("?" if size is None else str(size) for size in shape) + "]"


class Signature:
    """One served function: its input specs and a run that checks before it computes."""

    def __init__(self, function):
        self._function = function
        self.inputs = dict(sorted(function.structured_input_signature[1].items()))
        self.outputs = sorted(function.structured_outputs)

    def run(self, tensors):
        """Computes the outputs.

        Args:
          tensors: dict of input alias to tf.Tensor.

        Returns:
          Dict of output alias to numpy array.

        Raises:
          RequestError: a dtype or shape is not the signature's, or the model fails.
        """
        for position, (alias, spec) in enumerate(self.inputs.items()):
            _check_input(position, alias, spec, tensors[alias])
        try:
            return {alias: _as_array(tensor) for alias, tensor in self._function(**tensors).items()}
        except tf.errors.OpError as error:
            message = _PYTHON_SUFFIX.sub("", _PYTHON_PREFIX.sub("", error.message))
            raise RequestError(error_codes_pb2.Code.Name(error.error_code), message) from error


def _as_array(tensor):
    # The numpy() of a string scalar is bare bytes.
    return np.array(tensor.numpy(), dtype=object) if tensor.dtype == tf.string else tensor.numpy()


def wrong_dtype(position, expected, found):
    """Returns the RequestError for an input, the position-th of its signature, of another dtype than expected."""
    return RequestError(
        "INVALID_ARGUMENT",
        f"Expects arg[{position}] to be {dtype_name(expected)} but {dtype_name(found)} is provided",
    )


def _check_input(position, alias, spec, tensor):
    # TensorFlow's convolutions abort the whole process on a wrong rank or an empty image, so nothing that breaks the
    # signature may reach them.
    if tensor.dtype != spec.dtype:
        raise wrong_dtype(position, spec.dtype, tensor.dtype)
    if not spec.shape.is_compatible_with(tensor.shape):
        raise RequestError(
            "INVALID_ARGUMENT",
            f"Shape of input {alias} {shape_text(tensor.shape)} is not compatible with expected shape "
            f"{shape_text(spec.shape)}",
        )
    if 0 in tensor.shape:
        raise RequestError("INVALID_ARGUMENT", f"Input {alias} is empty: its shape is {shape_text(tensor.shape)}")


class Servable:
    """One version of a model, in memory."""

    def __init__(self, path, version):
        publish.check_servable(path)
        self.version = version
        self.signature_defs = _read_signature_defs(path)
        with quiet.quiet_loading():
            self._loaded = tf.saved_model.load(str(path), tags=[constants.SERVE_TAG])  # keeps the variables alive
        self.signatures = {name: Signature(function) for name, function in self._loaded.signatures.items()}
        self._warm_up(path / constants.WARMUP_FILE)

    def _warm_up(self, path):
        """Replays the recorded requests, so that the first client does not wait for tracing and autotuning."""
        if not path.exists():
            return
        try:
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
                signature = self.signatures[request.model_spec.signature_name or constants.DEFAULT_SIGNATURE]
                signature.run({alias: tf.constant(tf.make_ndarray(proto)) for alias, proto in request.inputs.items()})
        except KeyError as error:
            raise UserError(f"warm-up file {path} does not fit the model: it has no {error}") from error
        except (RequestError, tf.errors.OpError, DecodeError) as error:
            raise UserError(f"warm-up file {path} cannot be replayed: {error}") from error

    def unknown_ranks(self):
        """Lists the inputs (signature/alias) whose shape says nothing, so that it cannot be checked."""
        return [
            f"{name}/{alias}"
            for name, signature in self.signatures.items()
            for alias, spec in signature.inputs.items()
            if spec.shape.rank is None and spec.dtype != tf.string
        ]


def _read_signature_defs(path):
    saved_model = saved_model_pb2.SavedModel.FromString((path / constants.SAVED_MODEL_FILE).read_bytes())
    for meta_graph in saved_model.meta_graphs:
        if set(meta_graph.meta_info_def.tags) == {constants.SERVE_TAG}:
            return dict(meta_graph.signature_def)
    raise UserError(f"{path} cannot be served: Could not find meta graph def matching supplied tags: {{ serve }}")


@dataclasses.dataclass(frozen=True)
class Status:
    """State of one version; state is a name of ModelVersionStatus.State, code a canonical status name."""

    version: int
    state: str
    code: str = "OK"
    message: str = ""


class Model:
    """The newest version of a model on disk, always; older ones retire when it has loaded."""

    def __init__(self, name, base_path, log):
        """Loads the newest version.

        Args:
          name: name requests use.
          base_path: directory with numbered versions.
          log: function of one line (str), for version changes.

        Raises:
          UserError: base_path holds no version, or the newest cannot be loaded.
        """
        self.name = name
        self._base_path = base_path
        self._log = log
        self._lock = threading.Lock()
        self._statuses = {}
        self._failed = None  # fingerprint of a version that failed to load: not tried again until it changes
        self._current = None
        self.refresh()
        if self._current is None:
            raise UserError(self._failure_text())

    def _failure_text(self):
        failures = [status.message for status in self.statuses() if status.message]
        return failures[0] if failures else f"{self._base_path} holds no version"

    def refresh(self):
        """Loads the newest version on disk if another one is being served; keeps the old one if that fails."""
        found = publish.versions(self._base_path)
        if not found:
            return
        newest = max(found)
        current = self._current
        if current is not None and current.version == newest:
            return
        fingerprint = _fingerprint(found[newest])
        if fingerprint == self._failed:
            return
        self._set(Status(newest, "LOADING"))
        try:
            servable = Servable(found[newest], newest)
        except Exception as error:  # Whatever a broken model raises must not end the version that works.
            self._failed = fingerprint
            missing = not (found[newest] / constants.SAVED_MODEL_FILE).exists()
            message = str(error) or type(error).__name__
            self._set(Status(newest, "END", "NOT_FOUND" if missing else "INVALID_ARGUMENT", message))
            if current is not None:
                self._log(
                    f"error: version {newest} of {self.name} does not load, version {current.version} stays: {message}"
                )
            return
        self._failed = None
        self._current = servable  # requests that hold the old one finish on it
        self._set(Status(newest, "AVAILABLE"))
        for alias in servable.unknown_ranks():
            self._log(
                f"warning: input {alias} has no known rank, so a wrong shape can end the server; export it with a shape"
            )
        if current is not None:
            self._set(Status(current.version, "END"))
            self._log(f"model {self.name}: version {newest} serves, version {current.version} is retired")
            del current
            gc.collect()  # the old variables sit in reference cycles

    def find(self, name, version=None, label=None):
        """Returns the servable that a request names, of a version (int) or the newest.

        Raises:
          RequestError: the model has another name, that version is not loaded, or a label is given: none is known.
        """
        if not name:
            raise RequestError("INVALID_ARGUMENT", "ModelSpec has no name specified.")
        if label:
            raise RequestError("INVALID_ARGUMENT", f"Unrecognized servable version label: {label}")
        current = self._current
        if name != self.name or version not in (None, current.version):
            wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise RequestError("NOT_FOUND", f"Servable not found for request: {wanted}")
        return current

    def find_statuses(self, name, version=None):
        """Returns the statuses that a request names, newest first.

        Raises:
          RequestError: the model has another name, or that version was never seen.
        """
        found = [status for status in self.statuses() if name == self.name and version in (None, status.version)]
        if not found:
            what = "any versions" if version is None else f"version {version}"
            raise RequestError("NOT_FOUND", f"Could not find {what} of model {name}")
        return found

    def statuses(self):
        """Returns the statuses of all versions seen, newest first."""
        with self._lock:
            return sorted(self._statuses.values(), key=lambda status: -status.version)

    def _set(self, status):
        with self._lock:
            self._statuses[status.version] = status


def _fingerprint(path):
    """Tells one state of a version's files from another, so that a copy still under way is tried again."""
    files = sorted(child for child in path.rglob("*") if child.is_file())
    return str(path), tuple((str(child), child.stat().st_size, child.stat().st_mtime_ns) for child in files)


def select_signature(servable, name, missing_code, missing_text):
    """Returns the named signature, None if it is no function; raises RequestError if there is none of that name."""
    if name not in servable.signature_defs:
        raise RequestError(missing_code, missing_text.format(name))
    return servable.signatures.get(name)
