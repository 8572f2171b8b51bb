"""Plain text: a column `text`, or the passages of a .txt file."""

from __future__ import annotations

import re

from alignflow.data.records import assistant, user
from alignflow.data.sources import transcript
from alignflow.data.sources.base import Row, RowError, column, text
from alignflow.data.sources.meanings import parse_with
from alignflow.data.sources.transcripts import is_transcript

_SENTENCE = re.compile(r"(?<=[.!?])\s+")


def parse(row: Row, kind: str) -> list[Row]:
    """Rows of the table `kind`; raises RowError. A text that is a conversation is read as one, and not cut at a sentence."""
    if kind in transcript.PARSERS:
        if "role" in row:
            raise RowError("one_turn_of_several")
        if isinstance(row.get("text"), str) and is_transcript(row["text"]):
            return transcript.parse(row, kind)
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
