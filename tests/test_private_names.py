"""What a thing calls _private is its own: rooms ask each other by public names. Held by walking the syntax trees."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / "keras_nonlocal"
ROOMS = ("ops", "layers", "models", "surgery", "analysis", "demo", "tfm/layers.py", "tfm/backbones")
MODULES = sorted(path for room in ROOMS for path in [PACKAGE / room, *(PACKAGE / room).rglob("*.py")] if path.is_file())
# Neither Keras shows the graph of a model, or the layers inside a layer: one module knows what they call them.
GRAPHS = PACKAGE / "surgery" / "functional.py"


def private_reads(source):
    """The names that begin with one underscore and are read of anything but the object or the class itself."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            of, name = node.value, node.attr
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr", "setattr"):
            of, name = node.args[0], getattr(node.args[1], "value", "")
        else:
            continue
        own = ast.unparse(of) in ("self", "cls", "super()", "type(self)")
        if str(name).startswith("_") and not str(name).startswith("__") and not own:
            yield f"{ast.unparse(of)}.{name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_only_public_names_of_others_are_read(path):
    found = sorted(set(private_reads(path.read_text())))
    if path == GRAPHS:
        assert found == ["graph._nodes_by_depth", "holder._nodes_by_depth", "layer._flatten_layers",
                         "model._functional", "x._keras_history"]  # fmt: skip
    else:
        assert found == []


def test_the_check_sees_private_names():
    assert list(private_reads("self._a, cls._a, super()._a, x.__name__, layer.theta, getattr(x, name)")) == []
    assert list(private_reads("layer._a")) == ["layer._a"]
    assert list(private_reads("type(layer)._keras.Model")) == ["type(layer)._keras"]
    assert list(private_reads("getattr(layer, '_a', None)")) == ["layer._a"]
