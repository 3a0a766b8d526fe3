"""Publishes a SavedModel so that a server sees all of it or nothing."""

import errno
import os
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from keras_nonlocal import files
from keras_nonlocal.errors import UserError, first_line
from keras_nonlocal.serving import constants, quiet

MAX_VERSION = 2**63 - 1
# Not an integer, so no server reads it as a version; names its writer, so that a later run can tell that it died.
_TEMP_NAME = re.compile(r"\.tmp-(?P<pid>\d+)-(?P<serial>\d+)@(?P<host>.+)")


def versions(base_path: str | os.PathLike[str]) -> dict[int, Path]:
    """Lists the versions a server would see.

    Args:
      base_path: directory of a model, `saved_models/<name>`.

    Returns:
      Dict of version (int) to its path; empty if there is none or no such directory.
    """
    found = {}
    try:
        children = sorted(Path(base_path).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return found
    for child in children:
        if re.fullmatch(r"[0-9]{1,19}", child.name) and int(child.name) <= MAX_VERSION and child.is_dir():
            found[int(child.name)] = child
    return found


def publish(write: Callable[[str], object], base_path: str | os.PathLike[str], version: int | None = None) -> str:
    """Writes a SavedModel beside its siblings and moves it into place in one step.

    Args:
      write: function of one argument, an empty directory (str) it fills with a SavedModel.
      base_path: `saved_models/<name>`; made if missing.
      version: positive int; default is the highest existing version plus 1, starting at 1.

    Returns:
      The absolute path (str) of the new version, `<base_path>/<version>`.

    Raises:
      UserError: the version exists, base_path is no directory of a model or cannot be written, or the result cannot
        be served.
    """
    base = _checked_base_path(base_path)
    _check_version(base, version)
    base.mkdir(parents=True, exist_ok=True)
    _remove_stale(base)
    temp = _make_temp(base)
    try:
        write(str(temp))
        check_servable(temp)
        files.sync_tree(temp)
        return str(_move(temp, base, version))
    except (OSError, tf.errors.ResourceExhaustedError) as error:  # TensorFlow's word for a full disk
        raise UserError(
            f"nothing was published, {base} cannot be written ({first_line(error)}): make room, or correct the "
            "permissions, and run the same command again"
        ) from error
    finally:
        shutil.rmtree(temp, ignore_errors=True)  # gone already if the move was made


def check_servable(path: str | os.PathLike[str]) -> None:
    """Loads a SavedModel the way TensorFlow Serving does and checks that every signature's variables come with it.

    `tf.saved_model.load` is more forgiving: it reads models, such as a Keras 3 model kept in a plain tf.Module, whose
    variables TensorFlow Serving does not find.

    Args:
      path: directory of a SavedModel.

    Raises:
      UserError: the SavedModel is missing, broken, has no `serving_default`, or lacks variables.
    """
    path = Path(path)
    if not (path / constants.SAVED_MODEL_FILE).is_file():
        raise UserError(f"{path} is not a SavedModel: it holds no {constants.SAVED_MODEL_FILE}")
    quiet.quiet_sessions()
    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph, config=quiet.cpu_only()) as session:
        signatures = _load_for_serving(session, path)
        if constants.DEFAULT_SIGNATURE not in signatures:
            raise UserError(f"{path} has no signature {constants.DEFAULT_SIGNATURE!r}; it has {sorted(signatures)}")
        for name, signature in signatures.items():
            missing = _unloaded_variables(session, graph, signature)
            if missing:
                raise UserError(
                    f"signature {name!r} of {path} cannot be served: TensorFlow Serving would not load its variables "
                    f"{', '.join(missing)}; export a Keras 3 model with keras.export.ExportArchive or model.export"
                )


def _load_for_serving(session, path):
    """Runs the loader TensorFlow Serving uses; returns the signatures."""
    try:
        with quiet.quiet_loading():
            loaded = tf.compat.v1.saved_model.loader.load(session, [constants.SERVE_TAG], str(path))
        return dict(loaded.signature_def)
    except Exception as error:  # The loader has no class of its own for a broken file.
        raise UserError(f"{path} cannot be loaded for serving: {first_line(error)}") from error


def _unloaded_variables(session, graph, signature):
    """Names the variables that a signature's outputs depend on and that hold no value."""
    handles, seen = [], set()
    pending = [
        graph.as_graph_element(output.name, allow_tensor=True).op
        for output in signature.outputs.values()
        if output.WhichOneof("encoding") == "name" and ":" in output.name
    ]
    while pending:
        op = pending.pop()
        if op in seen:
            continue
        seen.add(op)
        if op.type == "VarHandleOp":
            handles.append(op)
        pending.extend([tensor.op for tensor in op.inputs] + list(op.control_inputs))
    with graph.as_default():
        filled = session.run([tf.raw_ops.VarIsInitializedOp(resource=op.outputs[0]) for op in handles])
    return sorted(op.name for op, is_filled in zip(handles, filled, strict=True) if not is_filled)


def _checked_base_path(base_path):
    base = Path(base_path).resolve()
    if re.fullmatch(r"[0-9]+", base.name):
        raise UserError(
            f"{base_path} ends with a number, which names a version; give the model's directory, saved_models/<name>"
        )
    if (base / constants.SAVED_MODEL_FILE).exists():
        raise UserError(f"{base_path} is itself a SavedModel; give the directory that holds the numbered versions")
    if base.exists() and not base.is_dir():
        raise UserError(f"{base_path} is a file; give the model's directory, saved_models/<name>")
    return base


def _check_version(base, version):
    if version is None:
        return
    if not isinstance(version, int) or isinstance(version, bool) or not 0 < version <= MAX_VERSION:
        raise UserError(f"version must be an integer from 1 to {MAX_VERSION}, not {version!r}")
    if version in versions(base):
        raise _version_exists(versions(base)[version])


def _version_exists(path):
    return UserError(
        f"version {int(path.name)} exists already in {path.parent} and is never overwritten; "
        "choose a higher version, or leave it out to take the next free one"
    )


def _make_temp(base):
    # A child of base_path is on its file system for sure, which the rename needs; mkdtemp's mode 0700 would keep a
    # server that runs as another user out.
    serial = 0
    while True:
        try:
            temp = base / f".tmp-{os.getpid()}-{serial}@{socket.gethostname()}"
            temp.mkdir()
            return temp
        except FileExistsError:
            serial += 1  # another thread of this process publishes too


def _remove_stale(base):
    for child in base.iterdir():
        match = _TEMP_NAME.fullmatch(child.name)
        # Processes of another host sharing the disk cannot be seen from here.
        if match and match["host"] == socket.gethostname() and not _is_alive(int(match["pid"])):
            shutil.rmtree(child, ignore_errors=True)


def _is_alive(pid):
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _move(temp, base, version):
    while True:
        highest = max(versions(base), default=0)
        if version is None and highest == MAX_VERSION:
            raise UserError(f"no version is left above {highest} in {base}")
        target = base / str(highest + 1 if version is None else version)
        _check_version(base, version)
        try:
            os.rename(temp, target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            if version is not None or not target.is_dir():
                raise _version_exists(target) from error
            continue  # another publisher took this version between the look and the move
        files.sync(base)
        return target
