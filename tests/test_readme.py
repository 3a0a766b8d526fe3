"""What the README promises: the first example runs as printed, and what it links to is there."""

import pathlib
import re

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parent.parent
GUIDES = [ROOT / "README.md", ROOT / "training" / "README.md", ROOT / "saved_models" / "README.md"]


def test_the_layer_example_runs_as_printed(tmp_path, monkeypatch):
    model, training = re.findall(r"```python\n(.*?)```", GUIDES[0].read_text(), re.DOTALL)
    assert len([line for line in model.splitlines() if line.strip()]) <= 10
    images = np.random.default_rng(0).normal(size=(2, 16, 20, 3)).astype("float32")
    names = {"images": images, "labels": np.array([3, 7])}
    monkeypatch.chdir(tmp_path)
    exec(model, names)  # noqa: S102
    exec(training, names)  # noqa: S102
    loaded = names["keras"].models.load_model("model.keras")
    np.testing.assert_allclose(loaded(images), names["model"](images), atol=1e-5)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(guide):
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", guide.read_text())
    assert targets or guide.parent != ROOT
    assert all((guide.parent / target).exists() for target in targets), targets


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: str(path.relative_to(ROOT)))
def test_scripts_have_the_flags_that_guides_give_them(guide):
    text = guide.read_text().replace("\\\n", " ")
    commands = re.findall(r"^ *python ((?:training|saved_models)/\w+\.py)(.*)$", text, re.MULTILINE)
    for script, arguments in commands:
        source = (ROOT / script).read_text()
        known = set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', source))
        if "tfm_flags.define_flags()" in source:
            known |= {"experiment", "mode", "model_dir", "config_file", "params_override"}
        assert set(re.findall(r"--(\w+)", arguments)) <= known, (script, arguments)
