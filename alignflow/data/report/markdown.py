"""Text of models, data and files inside Markdown, where none of it can become an image, a link or HTML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from alignflow.data.printable import printable

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")  # all of ASCII's: each may be written as itself behind a backslash
_LINK_STARTS = re.compile(r"(?i)(https?:|ftp:|mailto:|xmpp:|www\.|@)")
_WORD_JOINER = "\u2060"


def escaped(text: object) -> str:
    """A text in one line that renders as itself; what readers turn into links by themselves is broken up by a word joiner."""
    line = printable(" ".join(str(text).split()))
    return _PUNCTUATION.sub(r"\\\1", _LINK_STARTS.sub(rf"\1{_WORD_JOINER}", line))


def fenced(text: str) -> str:
    """A text of several lines as a block of code, behind a fence that it cannot close."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    body = printable(text.replace("\r\n", "\n").replace("\r", "\n"))
    return f"{fence}text\n{body}\n{fence}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
