"""The site holds docs/ alone: links that lead out of it become text, all others stay."""

from types import SimpleNamespace

import pytest

from site_links import on_page_markdown


def shown(markdown, page="tutorial.md"):
    return on_page_markdown(markdown, page=SimpleNamespace(file=SimpleNamespace(src_uri=page)), config=None, files=None)


@pytest.mark.parametrize(
    ("page", "link"),
    [
        ("tutorial.md", "[the README](../README.md#two-commands)"),
        ("methods/iterated.md", "[the README](../../README.md)"),
        ("tutorial.md", "[the README](adr)"),
    ],
)
def test_a_link_out_of_the_docs_becomes_its_text(page, link):
    assert shown(f"See {link}.", page) == "See the README."


@pytest.mark.parametrize(
    ("page", "link"),
    [
        ("tutorial.md", "[data](data.md#data)"),
        ("tutorial.md", "[below](#below)"),
        ("methods/iterated.md", "[data](../data.md)"),
        ("tutorial.md", "[paper](https://example.org/paper)"),
        ("tutorial.md", "![a picture](images/form.png)"),
    ],
)
def test_every_other_link_stays(page, link):
    assert shown(f"See {link}.", page) == f"See {link}."
