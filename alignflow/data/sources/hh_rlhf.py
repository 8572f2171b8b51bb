"""Anthropic's hh-rlhf: whole transcripts ("\\n\\nHuman: ...\\n\\nAssistant: ...") in `chosen` and `rejected`."""

from __future__ import annotations

from alignflow.data.sources.base import Messages, Row, RowError, column
from alignflow.data.sources.conversations import demonstration, placed, preference, prompt_of
from alignflow.data.sources.meanings import parse_with
from alignflow.data.sources.prompts import prompt_row
from alignflow.data.sources.transcripts import transcript_turns


def parse(row: Row, kind: str) -> list[Row]:
    """Rows of the table `kind`; raises RowError."""
    return parse_with(PARSERS, row, kind)


def _turns(row: Row, side: str) -> Messages:
    transcript = column(row, side)
    if not isinstance(transcript, str):
        raise RowError("not_text")
    return placed(row, transcript_turns(transcript))


PARSERS = {
    "preferences": lambda row: [preference(_turns(row, "chosen"), _turns(row, "rejected"))],
    "demonstrations": lambda row: [demonstration(_turns(row, "chosen"))],
    "prompts": lambda row: [prompt_row(prompt_of(_turns(row, "chosen")), row)],
}
