"""The README is the first page. What only the site needs, its table of contents, is added to it here."""

import pathlib

CONTENTS = pathlib.Path(__file__).parent.parent / "contents.md"


def add_contents(app, document, source):
    if document == app.config.root_doc:
        app.env.note_dependency(str(CONTENTS))
        source[0] += "\n" + CONTENTS.read_text()


def setup(app):
    app.connect("source-read", add_contents)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
