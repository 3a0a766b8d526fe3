"""What the README and the other pages promise: links lead somewhere, commands have the flags, the site has the page."""

import re

import pages
import pytest

every_page = pytest.mark.parametrize("page", pages.PAGES, ids=pages.name)
CONTENTS = (pages.ROOT / "docs" / "contents.md").read_text()


def anchors(page):
    """The anchors that GitHub and the site give the headings of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_two_minutes_of_reading():
    text = re.sub(r"```.*?```", "", (pages.ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert len(text.split()) <= 2 * 250


@every_page
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", page.read_text())
    assert links or page.parent != pages.ROOT or page.name == "SECURITY.md"
    for target, anchor in links:
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), (target, anchor)


def test_a_heading_that_is_not_there_is_seen():
    assert "convolutions-and-onednn" in anchors(pages.ROOT / "docs" / "performance.md")
    assert "not-there" not in anchors(pages.ROOT / "docs" / "performance.md")


@every_page
def test_commands_have_the_flags_that_pages_give_them(page):
    text = page.read_text().replace("\\\n", " ")
    for name, arguments in re.findall(r"^ *keras-nonlocal (\w+)(.*)$", text, re.MULTILINE):
        source = (pages.ROOT / "keras_nonlocal" / "commands" / f"{name}.py").read_text()
        known = set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', source))
        if "experiment_flags.define(" in source:
            known |= {"experiment", "mode", "model_dir", "config_file", "params_override", "register"}
        if "experiment_flags.define_run(" in source:
            known |= {"experiment", "model_dir", "register"}
        assert set(re.findall(r"--(\w+)", arguments.split(" -- ")[0])) <= known, (name, arguments)


@every_page
def test_the_site_has_the_page(page):
    name = pages.name(page).removesuffix(".md")
    patterns = re.findall(r"^(?:.* <)?([\w/*]+)>?$", CONTENTS, re.MULTILINE)
    assert name == "README" or name in patterns or f"{name.rpartition('/')[0]}/*" in patterns
