"""The site as `make docs` builds it: complete, without the network, and every link in it leads somewhere."""

import html.parser
import subprocess
import sys
import urllib.parse

import pages
import pytest

from keras_nonlocal import export, models, surgery, weights

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
    done = subprocess.run(command, cwd=pages.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    root = (folder / "html").resolve()
    return root, {path: Page(path.read_text()) for path in root.rglob("*.html") if "_static" not in path.parts}


def target(path, link):
    """(file, anchor) that a link of a page leads to."""
    file, _, anchor = urllib.parse.unquote(link).partition("#")
    return (path.parent / file.partition("?")[0]).resolve() if file else path, anchor


@pytest.mark.slow
def test_the_site(site):
    root, site = site
    assert {pages.name(page)[:-3] + ".html" for page in pages.PAGES} <= {str(path.relative_to(root)) for path in site}
    for path, page in site.items():
        for loaded in page.loaded:
            assert "://" not in loaded, (path, loaded)
            assert loaded.startswith("data:") or target(path, loaded)[0].exists(), (path, loaded)
        for link in page.links:
            if not link.startswith(("http://", "https://", "mailto:")):
                file, anchor = target(path, link)
                assert file.exists(), (path, link)
                assert not anchor or file not in site or anchor in site[file].ids, (path, link)
    ids = set().union(*(page.ids for page in site.values()))
    for room in (export, models, surgery, weights):
        assert {f"{room.__name__}.{name}" for name in room.__all__} <= ids
    for name in ("NonLocal1D", "NonLocal2D", "NonLocal3D", "BatchNormalization", "Conv3D", "MaxPooling3D"):
        assert {f"keras_nonlocal.layers.{name}", f"keras_nonlocal.tfm.layers.{name}"} <= ids
    others = ("advise.advise", "attention_maps.attention_maps", "cost.cost", "plot.overview")
    assert {"keras_nonlocal.serving.client.Client", *(f"keras_nonlocal.analysis.{name}" for name in others)} <= ids
    styles = [path.read_text() for path in root.rglob("*.css")]
    assert styles and not any("url(http" in style or "@import" in style for style in styles)
    mathematics = (root / "docs" / "mathematics.html").read_text()
    assert mathematics.count("<math") > 50 and "\\theta" not in mathematics
    commands = (root / "docs" / "api" / "commands.html").read_text()
    assert "--params_override" in commands and "Nothing in the file is executed" in commands
    assert "pool_before_projection" in (root / "docs" / "api" / "layers.html").read_text()
