"""Which published versions a server loads and what they are called: labels in TensorFlow Serving's models.config.

A server that was started with `--model_config_file` and `--model_config_file_poll_wait_seconds` takes a change over
without a restart, labels first: a file that moves a label to a version that is not loaded is refused as a whole, each
time it is read, so that the version is never loaded either. Hence a label moves in two steps: the version is loaded
beside the others, then the label is moved to it. A label that is new, or of a server that starts, needs one.
"""

import os
import re
from pathlib import Path

from google.protobuf import text_format

from keras_nonlocal import files
from keras_nonlocal.errors import UserError, first_line
from keras_nonlocal.serving import constants, publish
from keras_nonlocal.serving.apis import model_server_config_pb2


def promote(
    config_file: str | os.PathLike[str],
    base_path: str | os.PathLike[str],
    version: int,
    label: str = constants.STABLE_LABEL,
    model_name: str | None = None,
) -> dict[str, int]:
    """Gives a version a label; or, if another one has that label and this one is not loaded, has it loaded first.

    Call it again when the server has loaded the version: then the label moves. What was stable before stays loaded as
    `previous`. The file is written whole; comments at its top are kept.

    Args:
      config_file: TensorFlow Serving's models.config; made if missing. A model that it does not have is added.
      base_path: directory of the model here, `saved_models/<name>`. The file's own base_path, which is the server's, is
        left as it is.
      version: number of a version.
      label: what to call it, such as `canary`. Default `stable`.
      model_name: name that requests use; default is the name of base_path.

    Returns:
      {label: version} as they are now: without the new one if the version has to be loaded first.

    Raises:
      UserError: there is no such version, it would not load, or the file cannot be read or written.
    """
    _check_label(label)
    found = publish.versions(base_path)
    if version not in found:
        known = ", ".join(map(str, sorted(found))) or "none"
        raise UserError(f"{base_path} has no version {version}; it has {known}")
    publish.check_servable(found[version])
    config, comments = _read(config_file)
    model = _find(config, model_name or Path(base_path).resolve().name)
    if model is None:
        model = config.model_config_list.config.add(
            name=model_name or Path(base_path).resolve().name,
            base_path=str(Path(base_path).resolve()),
            model_platform=constants.MODEL_PLATFORM,
        )
    labels = _labels(model, found)
    if label in labels and version not in model.model_version_policy.specific.versions:
        return _write(config_file, config, comments, model, labels, base_path, also=version)
    former = labels.get(label)
    if label == constants.STABLE_LABEL and former != version:
        # Whatever else the version was called, a canary for one, it is no longer.
        labels = {other: number for other, number in labels.items() if number != version}
        labels.pop(constants.PREVIOUS_LABEL, None)
        if former in found:
            labels[constants.PREVIOUS_LABEL] = former
    labels[label] = version
    return _write(config_file, config, comments, model, labels, base_path)


def rollback(
    config_file: str | os.PathLike[str],
    base_path: str | os.PathLike[str],
    label: str = constants.STABLE_LABEL,
    model_name: str | None = None,
) -> dict[str, int]:
    """Makes the former version stable again, or takes another label away; a version without a label is not served.

    Args:
      config_file: TensorFlow Serving's models.config.
      base_path: directory of the model here, `saved_models/<name>`.
      label: `stable`, or the label to take away. Default `stable`.
      model_name: name that requests use; default is the name of base_path.

    Returns:
      {label: version} as they are now.

    Raises:
      UserError: there is nothing to go back to, what there is would not load, or the file cannot be read or written.
    """
    _check_label(label)
    name = model_name or Path(base_path).resolve().name
    config, comments = _read(config_file)
    model = _find(config, name)
    found = publish.versions(base_path)
    labels = {} if model is None else _labels(model, found)
    if label not in labels:
        raise UserError(f"no version of {name} is {label!r} in {config_file}; its labels are {text(labels) or 'none'}")
    del labels[label]
    if label == constants.STABLE_LABEL:
        former = labels.pop(constants.PREVIOUS_LABEL, None)
        if former is None:
            raise UserError(
                f"{config_file} knows no former version of {name} that is still there: promote one by its number"
            )
        publish.check_servable(found[former])
        labels[label] = former
    elif not labels:
        raise UserError(f"{label!r} is the only label of {name} in {config_file}: promote another version first")
    return _write(config_file, config, comments, model, labels, base_path)


def read_labels(config_file: str | os.PathLike[str], model_name: str) -> tuple[dict[str, int], list[int] | None]:
    """Reads which versions of a model have labels, and which a server is told to load.

    Args:
      config_file: TensorFlow Serving's models.config.
      model_name: name that requests use.

    Returns:
      {label: version}, and the numbers to load, or None where the file leaves that to what is there.
    """
    model = _find(_read(config_file)[0], model_name)
    if model is None:
        return {}, None
    policy = model.model_version_policy
    is_specific = policy.WhichOneof("policy_choice") == "specific"
    return dict(model.version_labels), list(policy.specific.versions) if is_specific else None


def text(labels: dict[str, int]) -> str:
    """Labels on one line: `previous -> 1, stable -> 2`."""
    return ", ".join(f"{label} -> {version}" for label, version in sorted(labels.items()))


def _check_label(label):
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", label):
        raise UserError(f"a label is part of an address: letters, digits, and _ . - only, not {label!r}")
    if label == constants.PREVIOUS_LABEL:
        raise UserError(f"the label {label!r} is kept for the version that a rollback goes back to; choose another")


def _read(config_file):
    """The configuration and the comments above it; empty ones of a file that is not there."""
    config = model_server_config_pb2.ModelServerConfig()
    try:
        content = Path(config_file).read_text(encoding="utf-8")
    except FileNotFoundError:
        return config, ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{config_file} cannot be read: {first_line(error)}") from error
    try:
        text_format.Parse(content, config)
    except text_format.ParseError as error:
        raise UserError(f"{config_file} is no models.config of TensorFlow Serving: {first_line(error)}") from error
    if config.WhichOneof("config") == "custom_model_config":
        raise UserError(f"{config_file} has a custom_model_config, which names no versions; give a model_config_list")
    return config, re.match(r"(?:[ \t]*(?:#.*)?\n)*", content)[0]


def _find(config, name):
    found = [model for model in config.model_config_list.config if model.name == name]
    return found[0] if found else None


def _labels(model, found):
    """The labels of a model. A former version may have been deleted by now, which is nobody's mistake."""
    return {
        label: version
        for label, version in model.version_labels.items()
        if label != constants.PREVIOUS_LABEL or version in found
    }


def _write(config_file, config, comments, model, labels, base_path, also=None):
    gone = {label: version for label, version in labels.items() if version not in publish.versions(base_path)}
    if gone:
        # A server refuses all labels if one of them names what it cannot load.
        raise UserError(
            f"{base_path} lacks what labels of {config_file} name ({text(gone)}): publish it again, or correct the file"
        )
    model.version_labels.clear()
    model.version_labels.update(labels)
    # Setting one policy ends another.
    versions = set(labels.values()) | ({also} - {None})
    model.model_version_policy.specific.versions[:] = sorted(versions)
    try:
        files.write_text(config_file, comments + text_format.MessageToString(config))
    except OSError as error:
        raise UserError(f"{config_file} cannot be written: {first_line(error)}") from error
    return labels
