"""What docstrings write as Markdown does and reStructuredText otherwise: tables, blocks of code, stars before names."""

import itertools
import re

from docutils import nodes
from sphinx.util import inspect


def rewrite(app, what, name, obj, options, lines):
    written = []
    for kind, group in itertools.groupby(lines, _kinds()):
        write = {"table": _table, "code": _code, "text": _text}[kind]
        written += write(list(group))
    lines[:] = written


def _kinds():
    """A function that says of each line, in order, what it is part of."""
    inside = False

    def kind(line):
        nonlocal inside
        fence = line.strip().startswith("```")
        code = inside or fence or line.strip().startswith((">>>", "..."))
        inside ^= fence
        return "code" if code else "table" if line.strip().startswith("|") else "text"

    return kind


def _text(lines):
    lines = [line.replace("://host", r"\://host") for line in lines]  # which are no links
    return [re.sub(r"(?<=[\s(])\*{1,2}(?=\w)", lambda stars: r"\*" * len(stars[0]), f" {line}")[1:] for line in lines]


def _code(lines):
    if lines[0].strip() == "```python":
        return [".. code-block:: python", "", *(f"   {line}" for line in lines[1:-1]), ""]
    return lines  # of the interpreter, which reStructuredText knows


def _table(rows):
    cells = [[cell.strip() for cell in row.strip().strip("|").split("|")] for row in rows]
    table = [".. list-table::", "   :header-rows: 1", ""]
    for first, *others in [cells[0], *cells[2:]]:  # the second line separates
        table += [f"   * - {first}", *(f"     - {cell}" for cell in others)]
    return [*table, ""]


def show_arguments(app, what, name, obj, options, signature, return_annotation):
    """The arguments of a layer: Sphinx looks at Keras' own __new__, which takes anything."""
    if what == "class" and signature == "(*args, **kwargs)":
        shown = inspect.signature(obj).replace(return_annotation=inspect.Signature.empty)
        return inspect.stringify_signature(shown, unqualified_typehints=True), return_annotation
    return None


def separate(app, doctree):
    """A colon between an argument and what it is, where Sphinx has two hyphens."""
    for text in list(doctree.findall(lambda node: isinstance(node, nodes.Text) and node == " -- ")):
        text.parent.replace(text, nodes.Text(": "))


def setup(app):
    app.connect("autodoc-process-signature", show_arguments)
    app.connect("doctree-read", separate)
    app.connect("autodoc-process-docstring", rewrite, priority=400)  # before napoleon's
    return {"parallel_read_safe": True, "parallel_write_safe": True}
