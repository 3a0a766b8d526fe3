"""Who may import whom, held by walking the syntax trees and by importing in a fresh process."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "keras_nonlocal"
MODULES = sorted(PACKAGE.rglob("*.py"))
# Each room may import those before it, and the ones named with it.
ROOMS = (
    "ground",
    "ops",
    "layers",
    "paper",
    "models",
    "surgery",
    "analysis",
    "weights",
    "data",
    "serving",
    "export",
    "tfm",
    "demo",
    "commands",
)
GROUND = (
    "errors",
    "files",
    "features",
    "console",
    "configs",
    "processes",
    "cluster",
    "skeleton",
    "drawing",
    "_version",
)
FORBIDDEN = {
    "ops": {"layers"},
    "layers": {"models", "surgery", "analysis", "weights"},
    "models": {"surgery", "analysis", "weights"},
    "surgery": {"models", "weights"},
    "analysis": {"models", "weights"},
    "data": {"ops", "layers", "models", "surgery", "analysis", "weights"},
    "serving": {"ops", "layers", "models", "surgery", "analysis", "weights"},
    "export": {"models", "weights"},
    "paper": {*GROUND, "ops", "layers"},
}


def _name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path):
    """Every module that a file imports, anywhere in it; `from a import b` gives both a and a.b."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [node.module] if node.module else []
            if node.level:
                base = [*package[: len(package) - node.level + 1], *base]
            yield ".".join(base)
            yield from (".".join([*base, alias.name]) for alias in node.names)


def _imports_any(path, *names):
    return sorted(
        module for module in _imports(path) if any(module == name or module.startswith(f"{name}.") for name in names)
    )


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_only_the_rooms_on_top_need_tf_keras(path):
    if _room(path) not in ("tfm", "demo", "commands"):
        assert not _imports_any(path, "tf_keras", "official", "orbit")


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_the_package_imports_no_scripts(path):
    assert not _imports_any(path, "training", "saved_models", "benchmarks", "tests")


@pytest.mark.parametrize(
    "path", [path for path in MODULES if len(path.relative_to(PACKAGE).parts) == 1], ids=lambda path: path.stem
)
def test_the_base_does_not_need_the_rooms(path):
    """What `import keras_nonlocal` may reach comes with the base install; the tfm room asks for an extra."""
    assert not _imports_any(path, "keras_nonlocal.tfm")


@pytest.mark.parametrize("path", [path for path in ROOT.rglob("*.py") if ".venv" not in path.parts], ids=_name)
def test_a_keras_is_called_by_its_name(path):
    """Which Keras `tf.` + `keras` is depends on the environment, so it is written nowhere."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        is_tf = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        assert not (is_tf and node.attr == "keras" and node.value.id in ("tf", "tensorflow")), f"line {node.lineno}"
    assert not _imports_any(path, "tensorflow.keras")


def _room(path):
    first = path.relative_to(PACKAGE).with_suffix("").parts[0]
    return "ground" if first in GROUND else first


@pytest.mark.parametrize("path", [path for path in MODULES if path != PACKAGE / "__init__.py"], ids=_name)
def test_rooms_import_one_way(path):
    room = _room(path)
    above = {*ROOMS[ROOMS.index(room) + 1 :], *FORBIDDEN.get(room, ())}
    assert not _imports_any(path, *(f"keras_nonlocal.{name}" for name in above))


@pytest.mark.parametrize("path", sorted((PACKAGE / "data").rglob("*.py")), ids=_name)
def test_records_know_neither_videos_nor_images(path):
    """Texts of lists and labels are below records, and videos and images above them."""
    folder = path.relative_to(PACKAGE / "data").parts[0]
    above = {"video": ("coco",), "coco": ("video",), "records": ("video", "coco")}.get(
        folder, ("video", "coco", "records")
    )
    assert not _imports_any(path, *(f"keras_nonlocal.data.{name}" for name in above))
    assert folder in ("video", "coco") or not _imports_any(path, "cv2")


def test_every_module_is_in_a_room():
    assert {_room(path) for path in MODULES if path != PACKAGE / "__init__.py"} == set(ROOMS)


ONEDNN = 'os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")'


def _switches_onednn_on(path):
    """Whether a script does so before it imports anything that may import TensorFlow."""
    for node in ast.parse(path.read_text(), str(path)).body:
        if isinstance(node, ast.Expr) and ast.unparse(node) == ast.unparse(ast.parse(ONEDNN)):
            return True
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if any(module.split(".")[0] not in sys.stdlib_module_names for module in modules):
            return False
    return False


SCRIPTS = [
    path
    for folder in ("training", "benchmarks", "saved_models")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if '__name__ == "__main__"' in path.read_text()
]


@pytest.mark.parametrize("path", SCRIPTS, ids=_name)
def test_scripts_switch_onednn_on_unless_the_user_has_chosen(path):
    assert _switches_onednn_on(path), f"{ONEDNN} comes before all imports but Python's own"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_the_library_leaves_the_environment_alone(path):
    tree = ast.parse(path.read_text(), str(path))
    written = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and str(node.value).startswith("TF_ENABLE_ONEDNN") and node.value.isupper()
    ]
    assert not written


def test_what_the_serving_extra_installs_is_imported_in_one_place():
    assert [path for path in MODULES if _imports_any(path, "grpc", "tensorflow_serving", "urllib3")] == [
        PACKAGE / "serving" / "apis.py"
    ]


def test_only_the_keras_3_rooms_need_keras():
    """The mathematics, the mixins, surgery and analysis are for either Keras."""
    needs = {path.relative_to(PACKAGE).as_posix() for path in MODULES if _imports_any(path, "keras")}
    for_types = {"models/registry.py", "weights/building.py", "weights/loading.py"}
    assert needs == {"layers/__init__.py", "models/c2d.py", "tfm/warm_start/keras_applications.py", *for_types}


def test_one_module_draws():
    """The rest of the package asks it for figures, so that matplotlib is named, and missed, in one place."""
    assert [path for path in MODULES if _imports_any(path, "matplotlib")] == [PACKAGE / "analysis" / "plot.py"]


def test_tfm_layers_do_not_need_official():
    assert not _imports_any(PACKAGE / "tfm" / "layers.py", "official", "keras")


def test_layers_of_both_flavours_come_from_one_mixin():
    for path in (PACKAGE / "layers" / "__init__.py", PACKAGE / "tfm" / "layers.py"):
        assert _imports_any(path, "keras_nonlocal.layers.non_local")


def test_the_checks_see_imports(tmp_path, monkeypatch):
    """A check that cannot fail checks nothing."""
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "a" / "b").mkdir(parents=True)
    path = tmp_path / "a" / "b" / "c.py"
    path.write_text("def f():\n    from ..d import e\n    import tf_keras.layers\n    from official import vision\n")
    assert _imports_any(path, "tf_keras") == ["tf_keras.layers"]
    assert _imports_any(path, "official") == ["official", "official.vision"]
    assert _imports_any(path, "a.d.e") == ["a.d.e"]
    path.write_text(f"import os\n\nimport tensorflow\n{ONEDNN}\n")
    assert not _switches_onednn_on(path)
    path.write_text(f"import os\n\n{ONEDNN}\nimport tensorflow\n")
    assert _switches_onednn_on(path)


def test_importing_the_package_imports_neither_tf_keras_nor_official():
    code = "import sys, keras_nonlocal; print([m for m in ('tf_keras', 'official') if m in sys.modules])"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip() == "[]"
