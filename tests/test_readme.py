"""What the README promises: the first example runs as printed, and what it links to is there."""

import pathlib
import re

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parent.parent
GUIDES = [ROOT / "README.md", *(ROOT / room / "README.md" for room in ("training", "saved_models"))]
GUIDES += sorted((ROOT / "docs").glob("*.md"))


def test_the_layer_examples_run_as_printed(tmp_path, monkeypatch):
    model, training, insertion = re.findall(r"```python\n(.*?)```", GUIDES[0].read_text(), re.DOTALL)
    assert len([line for line in model.splitlines() if line.strip()]) <= 10
    images = np.random.default_rng(0).normal(size=(2, 32, 40, 3)).astype("float32")
    names = {"images": images, "labels": np.array([3, 7])}
    monkeypatch.chdir(tmp_path)
    exec(model, names)  # noqa: S102
    exec(training, names)  # noqa: S102
    loaded = names["keras"].models.load_model("model.keras")
    np.testing.assert_allclose(loaded(images), names["model"](images), atol=1e-5)

    trained = names["trained"] = names["keras"].applications.ResNet50(weights=None, input_shape=(32, 40, 3))
    exec(insertion, names)  # noqa: S102
    assert names["model"].count_params() > trained.count_params()
    np.testing.assert_array_equal(names["model"](images), trained(images))


@pytest.mark.slow
def test_the_examples_of_inserting_run_as_printed():
    names = {}
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "inserting.md").read_text(), re.DOTALL):
        exec(block, names)  # noqa: S102
    image = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype("float32")
    expected = names["trained"](image)
    np.testing.assert_array_equal(names["model"](image), expected)
    np.testing.assert_allclose(names["video"](np.stack([image] * 8, axis=1)), expected, atol=1e-6)


def test_the_readme_is_two_minutes_of_reading():
    text = re.sub(r"```.*?```", "", GUIDES[0].read_text(), flags=re.DOTALL)
    assert len(text.split()) <= 2 * 250


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(guide):
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", guide.read_text())
    assert targets or guide.parent != ROOT
    assert all((guide.parent / target).exists() for target in targets), targets


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_have_the_flags_that_guides_give_them(guide):
    text = guide.read_text().replace("\\\n", " ")
    for name, arguments in re.findall(r"^ *keras-nonlocal (\w+)(.*)$", text, re.MULTILINE):
        source = (ROOT / "keras_nonlocal" / "commands" / f"{name}.py").read_text()
        known = set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', source))
        if "experiment_flags.define(" in source:
            known |= {"experiment", "mode", "model_dir", "config_file", "params_override", "register"}
        if "experiment_flags.define_run(" in source:
            known |= {"experiment", "model_dir", "register"}
        assert set(re.findall(r"--(\w+)", arguments)) <= known, (name, arguments)
