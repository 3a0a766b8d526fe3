"""Lists the published versions of a model, makes one of them the one that is served, and goes back.

    keras-nonlocal publish list --model_base_path=saved_models/clips --model_config_file=saved_models/models.config

    keras-nonlocal publish promote --version=3 --rest=http://127.0.0.1:8501 --model_base_path=saved_models/clips \
        --model_config_file=saved_models/models.config

    keras-nonlocal publish rollback --model_base_path=saved_models/clips \
        --model_config_file=saved_models/models.config

The file is TensorFlow Serving's, which reads it again every --model_config_file_poll_wait_seconds. It names the labels
that clients may ask for and the versions to load. `promote` has a version loaded and makes it `stable`, or what --label
says, when the server at --rest has loaded it; without --rest it tells when to run it again for that. What was stable
stays loaded as `previous`, which `rollback` makes stable again; with --label it takes that label away. Nothing that was
published is ever changed or removed.
"""

from pathlib import Path

from absl import flags

from keras_nonlocal import errors
from keras_nonlocal.serving import Client, constants, promotion, version_facts

flags.DEFINE_string("model_base_path", None, "Directory with numbered versions.", required=True)
flags.DEFINE_string("model_config_file", None, "TensorFlow Serving's models.config; promote makes it if missing.")
flags.DEFINE_string("model_name", None, "Name that requests use; default is that of the directory.")
flags.DEFINE_integer("version", None, "Which version to promote.", lower_bound=1)
flags.DEFINE_string(
    "rest", None, "Of the running server, http://host:port: promote waits until it has the version loaded."
)
flags.DEFINE_string("label", constants.STABLE_LABEL, "What to call it.")
FLAGS = flags.FLAGS
TAKES_ARGUMENTS = True
ACTIONS = ("list", "promote", "rollback")
_LOAD_SECONDS = 600.0


def main(arguments):
    if len(arguments) != 2 or arguments[1] not in ACTIONS:
        raise errors.UserError(
            f"say what to do, one of {', '.join(ACTIONS)}; not {' '.join(arguments[1:]) or 'nothing'}"
        )
    action = arguments[1]
    if action != "list" and not FLAGS.model_config_file:
        raise errors.UserError(f"{action} writes --model_config_file: say which")
    if (action == "promote") != (FLAGS.version is not None):
        raise errors.UserError("--version goes with promote, which needs it, and with nothing else")
    if action == "list":
        print(_listed())
        return
    where = dict(base_path=FLAGS.model_base_path, label=FLAGS.label, model_name=FLAGS.model_name)
    if action == "promote":
        labels = _promoted(where)
    else:
        labels = promotion.rollback(FLAGS.model_config_file, **where)
    print(f"{FLAGS.model_config_file}: {promotion.text(labels)}")
    _, served = promotion.read_labels(FLAGS.model_config_file, _model_name())
    highest = max(served)
    if highest != labels.get(constants.STABLE_LABEL):
        print(f"requests that name no label go to the highest version, which is {highest} and not the stable one")


def _promoted(where):
    """Promotes, in two steps where the version has to be loaded first; returns the labels."""
    if FLAGS.rest and _is_moved_next():
        _wait()
    labels = promotion.promote(FLAGS.model_config_file, version=FLAGS.version, **where)
    if labels.get(FLAGS.label) == FLAGS.version:
        return labels
    print(f"{FLAGS.model_config_file}: version {FLAGS.version} is to be loaded, beside those there are", flush=True)
    if not FLAGS.rest:
        print(f"when its state is AVAILABLE, run the same command again: then it becomes {FLAGS.label}")
        return labels
    _wait()
    return promotion.promote(FLAGS.model_config_file, version=FLAGS.version, **where)


def _is_moved_next():
    """Whether the file has the version loaded already, so that nothing but the label is to be changed."""
    labels, served = promotion.read_labels(FLAGS.model_config_file, _model_name())
    return FLAGS.label in labels and FLAGS.version in (served or [])


def _wait():
    with Client(FLAGS.rest, _model_name()) as client:
        client.wait_until_available(FLAGS.version, _LOAD_SECONDS)


def _model_name():
    return FLAGS.model_name or Path(FLAGS.model_base_path).resolve().name


def _listed():
    labels, served = {}, None
    if FLAGS.model_config_file:
        labels, served = promotion.read_labels(FLAGS.model_config_file, _model_name())
    return version_facts.table(version_facts.describe_versions(FLAGS.model_base_path), labels, served)
