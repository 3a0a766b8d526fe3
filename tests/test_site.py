"""The site as `make docs` builds it: complete, without the network, and every link in it leads somewhere."""

import html.parser
import os
import pathlib
import subprocess
import sys
import urllib.parse

import pages
import pytest

pytest.importorskip("sphinx", reason="pip install '.[docs]'")


class Page(html.parser.HTMLParser):
    """The ids of a page, its links and what it loads."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loaded = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids.update(attributes[name] for name in ("id", "name") if attributes.get(name))
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        elif tag in ("img", "script", "link", "iframe", "source"):
            self.loaded += [attributes[name] for name in ("src", "href") if attributes.get(name)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", "-c", "docs",
               "-d", str(folder / "doctrees"), ".", str(folder / "html")]  # fmt: skip
    done = subprocess.run(command, cwd=pages.ROOT, env=dict(os.environ), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = (folder / "html").rglob("*.html")
    return {path.resolve(): Page(path.read_text()) for path in found if "_static" not in path.parts}


def target(path, link):
    """(file, anchor) that a link of a page leads to."""
    file, _, anchor = urllib.parse.unquote(link).partition("#")
    return (path.parent / file.partition("?")[0]).resolve() if file else path, anchor


@pytest.mark.slow
def test_the_site(site):
    (root,) = [path.parent for path in site if path.name == "README.html" and "docs" in os.listdir(path.parent)]
    assert {pages.name(page)[:-3] + ".html" for page in pages.PAGES} <= {str(path.relative_to(root)) for path in site}
    for path, page in site.items():
        for loaded in page.loaded:
            assert "://" not in loaded and (loaded.startswith("data:") or target(path, loaded)[0].exists()), (
                path,
                loaded,
            )
        for link in page.links:
            if not link.startswith(("http://", "https://", "mailto:")):
                file, anchor = target(path, link)
                assert file.exists(), (path, link)
                assert not anchor or file not in site or anchor in site[file].ids, (path, link)
    styles = [path.read_text() for path in root.rglob("*.css")]
    assert styles and not any("url(http" in style or "@import" in style for style in styles)
    mathematics = (root / "docs" / "mathematics.html").read_text()
    assert mathematics.count("<math") > 50 and "\\theta" not in pathlib.Path(root, "docs/mathematics.html").read_text()
    commands = (root / "docs" / "api" / "commands.html").read_text()
    assert "--params_override" in commands and "Nothing in the file is executed" in commands
    assert "pool_before_projection" in (root / "docs" / "api" / "layers.html").read_text()
