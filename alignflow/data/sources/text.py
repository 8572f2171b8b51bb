"""Plain text: a column `text`, or the passages of a .txt file."""

from __future__ import annotations

import re

from alignflow.data.records import assistant, user
from alignflow.data.sources.base import Row, RowError, column, parse_with, text

_SENTENCE = re.compile(r"(?<=[.!?])\s+")


def parse(row: Row, kind: str) -> list[Row]:
    """Rows of the table `kind`; raises RowError."""
    return parse_with(PARSERS, row, kind)


def split(row: Row) -> tuple[str, str]:
    """The first sentence, and the rest with the space before it: what a story model continues."""
    whole = text(column(row, "text")).strip()
    first = _SENTENCE.search(whole)
    if first is None:
        raise RowError("one_sentence")
    return whole[: first.start()], whole[first.start() :]


def _demonstration(row: Row) -> list[Row]:
    begin, rest = split(row)
    return [{"messages": [*user(begin), *assistant(rest)]}]


PARSERS = {
    "texts": lambda row: [{"text": text(column(row, "text"))}],
    "demonstrations": _demonstration,
    "prompts": lambda row: [{"prompt": user(split(row)[0]), "instructions": None}],
}
