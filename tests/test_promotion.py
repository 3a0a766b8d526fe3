"""Which version is served: what `keras-nonlocal publish` lists, and what it writes into models.config."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import tensorflow as tf
from google.protobuf import text_format

from keras_nonlocal.errors import UserError
from keras_nonlocal.serving import promotion, version_facts
from keras_nonlocal.serving.apis import model_server_config_pb2
from keras_nonlocal.serving.local.server import LocalServer


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Five versions of 6 parameters, the fifth cut off in the middle."""

    class Scale(tf.Module):
        def __init__(self):
            super().__init__()
            self.factors = tf.Variable(tf.ones([2, 3]))

        @tf.function(input_signature=[tf.TensorSpec([None, 3], name="x")])
        def serve(self, x):
            return {"y": self.factors[0] * x}

    base = tmp_path_factory.mktemp("saved_models") / "clips"
    module = Scale()
    tf.saved_model.save(module, str(base / "1"), signatures={"serving_default": module.serve, "again": module.serve})
    for version in "2345":
        shutil.copytree(base / "1", base / version)
    index = base / "5" / "variables" / "variables.index"
    os.truncate(index, index.stat().st_size // 2)
    return base


@pytest.fixture
def config(tmp_path):
    return tmp_path / "models.config"


def model(config, name="clips"):
    parsed = model_server_config_pb2.ModelServerConfig()
    text_format.Parse(config.read_text(), parsed)
    (found,) = [one for one in parsed.model_config_list.config if one.name == name]
    return found


def loaded(config):
    return list(model(config).model_version_policy.specific.versions)


def test_promote_and_roll_back(saved, config):
    assert promotion.promote(config, saved, 1) == {"stable": 1}
    assert model(config).base_path == str(saved) and model(config).model_platform == "tensorflow"
    # A server refuses a file that moves a label to what it has not loaded, and then does not load it either.
    assert promotion.promote(config, saved, 2) == {"stable": 1}
    assert loaded(config) == [1, 2] and dict(model(config).version_labels) == {"stable": 1}
    assert promotion.promote(config, saved, 2) == {"stable": 2, "previous": 1}
    # What the label leaves stays loaded: there is something to go back to.
    assert loaded(config) == [1, 2] and dict(model(config).version_labels) == {"stable": 2, "previous": 1}
    assert promotion.promote(config, saved, 4) == {"stable": 2, "previous": 1}
    assert loaded(config) == [1, 2, 4]
    assert promotion.promote(config, saved, 4) == {"stable": 4, "previous": 2}
    assert loaded(config) == [2, 4]
    assert promotion.promote(config, saved, 4) == {"stable": 4, "previous": 2}  # and once more
    assert promotion.rollback(config, saved) == {"stable": 2}
    # 4 is not loaded: a request without a label goes to the highest version that is.
    assert loaded(config) == [2] and dict(model(config).version_labels) == {"stable": 2}
    with pytest.raises(UserError, match="knows no former version of clips"):
        promotion.rollback(config, saved)
    assert loaded(config) == [2]


def test_a_canary(saved, config):
    promotion.promote(config, saved, 1)
    # Nobody has this label, so a server takes it at once.
    assert promotion.promote(config, saved, 3, label="canary") == {"stable": 1, "canary": 3}
    assert loaded(config) == [1, 3]
    assert promotion.rollback(config, saved, label="canary") == {"stable": 1}
    assert loaded(config) == [1]
    with pytest.raises(UserError, match="no version of clips is 'canary' .* labels are stable -> 1"):
        promotion.rollback(config, saved, label="canary")
    promotion.promote(config, saved, 2, label="canary")
    assert promotion.promote(config, saved, 3, label="canary") == {"stable": 1, "canary": 2}
    assert loaded(config) == [1, 2, 3]
    assert promotion.promote(config, saved, 3, label="canary") == {"stable": 1, "canary": 3}
    assert loaded(config) == [1, 3]
    # It is loaded, so that this is one step; and a canary that becomes stable is none any more.
    assert promotion.promote(config, saved, 3) == {"stable": 3, "previous": 1}
    assert promotion.read_labels(config, "clips") == ({"stable": 3, "previous": 1}, [1, 3])


WRITTEN = """# Ours.
# Mounted at /models.

model_config_list {
  config { name: "clips" base_path: "/models/clips" model_platform: "tensorflow" model_version_policy { all {} } }
  config { name: "other" base_path: "/models/other" model_platform: "tensorflow" version_labels { key: "a" value: 9 } }
}
"""


def test_keeps_what_a_file_says_of_other_things(saved, config):
    config.write_text(WRITTEN)
    assert promotion.read_labels(config, "clips") == ({}, None)
    promotion.promote(config, saved, 2)
    assert config.read_text().startswith("# Ours.\n# Mounted at /models.\n\nmodel_config_list {")
    assert model(config).base_path == "/models/clips" and loaded(config) == [2]
    before = model_server_config_pb2.ModelServerConfig()
    text_format.Parse(WRITTEN, before)
    assert model(config, "other") == before.model_config_list.config[1]
    promotion.promote(config, saved, 1, model_name="same_files")
    assert promotion.read_labels(config, "same_files")[0] == {"stable": 1}
    assert [path.name for path in config.parent.iterdir()] == ["models.config"]


def test_never_promotes_what_does_not_load(saved, config):
    with pytest.raises(UserError, match="cannot be loaded for serving"):
        promotion.promote(config, saved, 5)
    with pytest.raises(UserError, match="has no version 9; it has 1, 2, 3, 4, 5"):
        promotion.promote(config, saved, 9)
    assert not config.exists()


def test_a_version_that_was_removed_is_named(saved, config, tmp_path):
    base = tmp_path / "clips"
    shutil.copytree(saved, base)
    for version in (1, 2, 2):
        promotion.promote(config, base, version)
    shutil.rmtree(base / "1")  # the former one: there is nothing to go back to any more
    with pytest.raises(UserError, match="knows no former version of clips that is still there"):
        promotion.rollback(config, base)
    assert promotion.promote(config, base, 3, label="canary") == {"stable": 2, "canary": 3}
    before = config.read_text()
    shutil.rmtree(base / "2")
    with pytest.raises(UserError, match=r"lacks what labels of .* name \(stable -> 2\)"):
        promotion.promote(config, base, 4, label="canary")
    assert config.read_text() == before
    assert promotion.promote(config, base, 3) == {"stable": 3}


@pytest.mark.parametrize("label", ["", "a/b", "previous", "ä"])
def test_bad_labels(saved, config, label):
    with pytest.raises(UserError, match="label"):
        promotion.promote(config, saved, 1, label=label)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"model_config_list { config { nome: 'clips' } }", "is no models.config of TensorFlow Serving: 1:30"),
        (b"\xff\xfe", "cannot be read"),
        (b"custom_model_config { }", "has a custom_model_config"),
    ],
    ids=["field", "bytes", "custom"],
)
def test_a_file_that_is_something_else_is_left_alone(saved, config, content, message):
    config.write_bytes(content)
    with pytest.raises(UserError, match=message):
        promotion.promote(config, saved, 1)
    assert config.read_bytes() == content


def test_the_list(saved, config):
    promotion.promote(config, saved, 1)
    promotion.promote(config, saved, 3, label="canary")
    facts = version_facts.describe_versions(saved)
    assert [one.version for one in facts] == [5, 4, 3, 2, 1]
    assert [one.parameters for one in facts] == [None, 6, 6, 6, 6]
    assert {one.signatures for one in facts} == {("again", "serving_default")}
    assert [one.problem is None for one in facts] == [False, True, True, True, True]
    size = sum(path.stat().st_size for path in (saved / "1").rglob("*") if path.is_file())
    assert facts[-1].bytes == size
    lines = version_facts.table(facts, *promotion.read_labels(config, "clips")).splitlines()
    assert lines[0].split() == "version served labels size written parameters signatures loads".split()
    assert [line.split()[:3] for line in lines[1:6]] == [
        ["5", "-", "-"], ["4", "-", "-"], ["3", "yes", "canary"], ["2", "-", "-"], ["1", "yes", "stable"]
    ]  # fmt: skip
    assert [line.split()[-3:] for line in lines[1:3]] == [
        ["?", "again,serving_default", "NO"], ["6", "again,serving_default", "yes"]
    ]  # fmt: skip
    assert lines[6].startswith("version 5: ") and "cannot be loaded for serving" in lines[6] and len(lines) == 7
    # Of a server without a file, or with one that leaves it open, the highest.
    assert version_facts.table(facts[1:], {}, None).splitlines()[1].split()[:2] == ["4", "yes"]
    with pytest.raises(UserError, match="holds no version"):
        version_facts.describe_versions(saved / "1")


def test_a_version_with_a_broken_graph_is_listed(tmp_path):
    (tmp_path / "clips" / "1").mkdir(parents=True)
    (tmp_path / "clips" / "2").mkdir()
    (tmp_path / "clips" / "2" / "saved_model.pb").write_bytes(b"\xff" * 50)
    facts = version_facts.describe_versions(tmp_path / "clips")
    assert [(one.version, one.parameters, one.signatures, one.problem is None) for one in facts] == [
        (2, None, (), False), (1, None, (), False)
    ]  # fmt: skip


# Command lines in children of one process that has imported TensorFlow: that is what takes long.
RUN = """
import json, os, sys
from keras_nonlocal import commands
import keras_nonlocal.serving.promotion, keras_nonlocal.serving.publish
for words in json.loads(sys.argv[1]):
    print("<<", flush=True)
    if not os.fork():
        os.dup2(1, 2)
        sys.argv = ["keras-nonlocal", "publish", *words]
        commands.main()
    os.wait()
"""


def test_the_command(saved, config, tmp_path):
    for version in "12":
        shutil.copytree(saved / version, tmp_path / "clips" / version)
    base, file = f"--model_base_path={tmp_path / 'clips'}", f"--model_config_file={config}"
    with LocalServer(tmp_path / "clips", "clips") as server:  # of version 2, whatever the file says
        lines = [
            [base],
            ["promote", base, "--version=1"],
            ["rollback", base, file, "--version=1"],
            ["promote", base, file, "--version=1"],
            ["promote", base, file, "--version=2"],
            ["promote", base, file, "--version=2", "--label=canary"],
            ["rollback", base, file, "--label=canary"],
            ["promote", base, file, "--version=2", f"--rest={server.rest_url}"],
            ["list", base, file],
            ["rollback", base, file],
        ]
        done = subprocess.run(
            [sys.executable, "-c", RUN, json.dumps(lines)], capture_output=True, text=True, check=True
        )
    found = done.stdout.split("<<\n")[1:]
    highest = "requests that name no label go to the highest version, which is 2 and not the stable one\n"
    to_load = f"{config}: version 2 is to be loaded, beside those there are\n"
    again = "when its state is AVAILABLE, run the same command again: then it becomes stable\n"
    assert found[:8] == [
        "error: say what to do, one of list, promote, rollback; not nothing\n",
        "error: promote writes --model_config_file: say which\n",
        "error: --version goes with promote, which needs it, and with nothing else\n",
        f"{config}: stable -> 1\n",
        f"{to_load}{again}{config}: stable -> 1\n{highest}",
        f"{config}: canary -> 2, stable -> 1\n{highest}",
        f"{config}: stable -> 1\n",
        f"{to_load}{config}: previous -> 1, stable -> 2\n",
    ]
    assert re.search(r"^2 +yes +stable .*\n1 +yes +previous ", found[8], re.M)
    assert found[9] == f"{config}: stable -> 1\n"


def test_a_file_that_cannot_be_written_is_one_sentence(saved, tmp_path):
    with pytest.raises(UserError, match="nowhere/models.config cannot be written: No such file or directory"):
        promotion.promote(tmp_path / "nowhere" / "models.config", saved, 1)
