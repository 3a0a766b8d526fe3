"""The pages that people read, as tests need them: where they are, and the blocks of code in them."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent
ROOMS = (
    ".",
    "docs",
    "docs/benchmarks",
    "docs/examples",
    "training",
    "saved_models",
    "saved_models/deploy",
    "benchmarks",
)
PAGES = sorted(path for room in ROOMS for path in (ROOT / room).glob("*.md"))
PAGES.remove(ROOT / "docs" / "contents.md")


def name(page):
    """As README.md, docs/layer.md."""
    return page.relative_to(ROOT).as_posix()


def blocks(page, language):
    """The blocks of a language, as printed."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def run(page, names, sizes=None):
    """Runs all Python of a page, one block after the other, as one program.

    Args:
      page: path.
      names: what the page takes as given; gets what it makes.
      sizes: {text of the page: what stands in its place}, for networks that are too large for a test.
    """
    code = "\n".join(blocks(page, "python"))
    for written, run_instead in (sizes or {}).items():
        assert written in code, written
        code = code.replace(written, run_instead)
    exec(compile(code, name(page), "exec"), names)  # noqa: S102
    return names
