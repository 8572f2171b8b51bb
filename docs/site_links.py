"""A hook of mkdocs: the site holds the pages of docs/ alone, so a link to another file of the repository becomes its text."""

from __future__ import annotations

import posixpath
import re
from typing import Any

LINK = re.compile(r"(?<!!)\[([^]]+)\]\(([^)\s]+)\)")
FOLDER_PAGES = ("adr",)
"""Folders of docs/ that pages link to as a whole: GitHub lists them, the site has no page for them."""


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """The text of a page without the links that lead out of docs/."""
    folder = posixpath.dirname(page.file.src_uri)
    return LINK.sub(lambda link: link[0] if is_on_the_site(folder, link[2]) else link[1], markdown)


def is_on_the_site(folder: str, target: str) -> bool:
    """Whether a link of a page in a folder of docs/ leads to another site, or to a page of docs/."""
    if ":" in target or target.startswith("#"):
        return True
    place = posixpath.normpath(posixpath.join(folder, target.partition("#")[0]))
    return not place.startswith("..") and place not in FOLDER_PAGES
