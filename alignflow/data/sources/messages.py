"""OpenAI's chat format: `messages` [{role, content}], with an optional `label` for single answers; rows of ShareGPT among them are read, too."""

from __future__ import annotations

from alignflow.data.sources.base import Messages, Row, column
from alignflow.data.sources.conversations import demonstration, placed, prompt_of, unpaired
from alignflow.data.sources.labels import label
from alignflow.data.sources.meanings import parse_with
from alignflow.data.sources.prompts import prompt_row
from alignflow.data.sources.turns import turn_list


def parse(row: Row, kind: str) -> list[Row]:
    """Rows of the table `kind`; raises RowError."""
    return parse_with(PARSERS, row, kind)


def _turns(row: Row) -> Messages:
    return placed(row, turn_list(column(row, "messages", "conversations", "conversation")))


PARSERS = {
    "demonstrations": lambda row: [demonstration(_turns(row))],
    "prompts": lambda row: [prompt_row(prompt_of(_turns(row)), row)],
    "unpaired": lambda row: [unpaired(_turns(row), label(row))],
}
