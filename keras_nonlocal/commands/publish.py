"""Lists the published versions of a model, makes one of them the one that is served, and goes back.

    keras-nonlocal publish list --model_base_path=saved_models/clips --model_config_file=saved_models/models.config

    keras-nonlocal publish promote --version=3 --label=canary --model_base_path=saved_models/clips \
        --model_config_file=saved_models/models.config

    keras-nonlocal publish rollback --model_base_path=saved_models/clips \
        --model_config_file=saved_models/models.config

The file is TensorFlow Serving's, which reads it again every --model_config_file_poll_wait_seconds. It names the labels
that clients may ask for and the versions to load: those with a label. `promote` without --label makes a version
`stable` and keeps the one before it loaded as `previous`, which `rollback` makes stable again; with --label it takes
that label away. Nothing that was published is ever changed or removed.
"""

from pathlib import Path

from absl import flags

from keras_nonlocal import errors
from keras_nonlocal.serving import constants, promotion, version_facts

flags.DEFINE_string("model_base_path", None, "Directory with numbered versions.", required=True)
flags.DEFINE_string("model_config_file", None, "TensorFlow Serving's models.config; promote makes it if missing.")
flags.DEFINE_string("model_name", None, "Name that requests use; default is that of the directory.")
flags.DEFINE_integer("version", None, "Which version to promote.", lower_bound=1)
flags.DEFINE_string("label", constants.STABLE_LABEL, "What to call it.")
FLAGS = flags.FLAGS
TAKES_ARGUMENTS = True
ACTIONS = ("list", "promote", "rollback")


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
        labels = promotion.promote(FLAGS.model_config_file, version=FLAGS.version, **where)
    else:
        labels = promotion.rollback(FLAGS.model_config_file, **where)
    print(f"{FLAGS.model_config_file}: {promotion.text(labels)}")
    highest = max(labels.values())
    if highest != labels.get(constants.STABLE_LABEL):
        print(f"requests that name no label go to the highest version, which is {highest} and not the stable one")


def _listed():
    labels, served = {}, None
    if FLAGS.model_config_file:
        name = FLAGS.model_name or Path(FLAGS.model_base_path).resolve().name
        labels, served = promotion.read_labels(FLAGS.model_config_file, name)
    return version_facts.table(version_facts.describe_versions(FLAGS.model_base_path), labels, served)
