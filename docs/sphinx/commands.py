"""The page of the commands, from their modules: what a command's text and its flags say."""

import ast
import html
import pathlib

from keras_nonlocal.commands import COMMANDS
from keras_nonlocal.serving import constants

FOLDER = pathlib.Path(__file__).parents[2] / "keras_nonlocal" / "commands"
PAGE = "docs/api/commands"
# What experiment_flags.define takes from tf-models-official.
EXPERIMENT = {
    "experiment": "Registered experiment.",
    "mode": "`train`, `train_and_eval`, `eval` or `continuous_eval`.",
    "model_dir": "Folder of the run.",
    "config_file": "YAML file of settings, or the name of one that comes with the package; may be given several times.",
    "params_override": "Settings as `a.b=1,c.d=2`, or a YAML file; they are taken last.",
    "tpu": "Name or address of a TPU; never run.",
}


def described(name):
    """A command as Markdown: its text, and a table of its flags."""
    source = (FOLDER / f"{name}.py").read_text()
    lines = source.split('"""')[1].strip().splitlines()
    text = "\n".join(line if line.startswith("    ") else _escaped(line) for line in lines)
    rows = [f"| `--{flag}` | {default} | {about} |" for flag, default, about in _flags(source)]
    table = ["| flag | default | |", "|---|---|---|", *rows] if rows else []
    return "\n".join([f"## {name}", "", text, "", *table, ""])


def _flags(source):
    for node in ast.walk(ast.parse(source)):
        called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        if called == "experiment_flags.define":
            yield from ((flag, "", about) for flag, about in EXPERIMENT.items())
            yield from _flags_of("_define_register")
        elif called == "experiment_flags.define_run":
            yield from _flags_of("define_run")
            yield from _flags_of("_define_register")
        elif called.startswith("flags.DEFINE_"):
            yield _flag(called.removeprefix("flags.DEFINE_"), node)


def _flags_of(function):
    for node in ast.parse((FOLDER / "experiment_flags.py").read_text()).body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            yield from _flags(ast.unparse(node))


def _flag(kind, call):
    name, default, *rest = call.args
    if kind == "alias":
        return ast.literal_eval(name), "", f"Another name of `--{ast.literal_eval(default)}`."
    about = next(text for text in map(_text, rest) if text)
    shown = ast.unparse(default)
    if any(word.arg == "required" and ast.unparse(word.value) == "True" for word in call.keywords):
        shown = "needed"
    elif shown in ("None", "[]"):
        shown = ""
    elif kind in ("bool", "boolean"):
        shown = "yes" if shown == "True" else "no"
    else:
        shown = f"`{shown}`"
    return ast.literal_eval(name), shown, _escaped(about)


def _escaped(text):
    """Text of a terminal as Markdown: what is between backticks stays."""
    parts = text.replace("|", "\\|").split("`")
    return "`".join(part if number % 2 else html.escape(part, quote=False) for number, part in enumerate(parts))


def _text(node):
    """A text that is written out, with names of serving.constants in it or without; else None."""
    if isinstance(node, ast.JoinedStr):
        return eval(ast.unparse(node), {"constants": constants})  # noqa: S307
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def add_commands(app, document, source):
    if document == PAGE:
        source[0] += "\n" + "\n".join(map(described, COMMANDS))


def setup(app):
    app.connect("source-read", add_commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
