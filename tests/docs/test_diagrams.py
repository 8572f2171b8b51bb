"""Diagrams of the site are files of its own: a script that draws them would have to come from elsewhere."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

DOCS = Path(__file__).parents[2] / "docs"
DRAWN = {"stage-call.svg": "architecture.md", "machines.svg": "deploy.md"}


def test_no_page_of_the_site_needs_a_script_for_its_diagrams():
    assert [page.name for page in DOCS.rglob("*.md") if "```mermaid" in page.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize(("file", "page"), DRAWN.items())
def test_a_diagram_loads_nothing_has_a_title_and_is_described_on_its_page(file, page):
    text = (DOCS / "images" / file).read_text(encoding="utf-8")
    assert re.findall(r"https?://[^\s\"')]+", text) == ["http://www.w3.org/2000/svg"]
    assert ElementTree.fromstring(text).findtext("{http://www.w3.org/2000/svg}title")
    assert re.search(rf"!\[[^\]]{{40,}}\]\(images/{file}\)", (DOCS / page).read_text(encoding="utf-8"))
