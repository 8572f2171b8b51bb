"""A conversation as one text in the column `text`: guanaco's `### Human:`, hh-rlhf's `Human:`, ChatML."""

from __future__ import annotations

from alignflow.data.sources.base import Messages, Row, RowError, column, text
from alignflow.data.sources.conversations import demonstration, placed, prompt_of
from alignflow.data.sources.meanings import parse_with
from alignflow.data.sources.prompts import prompt_row
from alignflow.data.sources.transcripts import is_transcript, transcript_turns


def parse(row: Row, kind: str) -> list[Row]:
    """Rows of the table `kind`; raises RowError."""
    return parse_with(PARSERS, row, kind)


def _turns(row: Row) -> Messages:
    value = text(column(row, "text"))
    if not is_transcript(value):
        raise RowError("no_transcript")
    return placed(row, transcript_turns(value))


PARSERS = {
    "demonstrations": lambda row: [demonstration(_turns(row))],
    "prompts": lambda row: [prompt_row(prompt_of(_turns(row)), row)],
}
