"""OpenAI's chat format: `messages` [{role, content}], with an optional `label` for single answers."""

from __future__ import annotations

from alignflow.data.records import assistant
from alignflow.data.sources.base import Row, conversation, demonstration, label, parse_with, prompt_of, prompt_row


def parse(row: Row, kind: str) -> list[Row]:
    """Rows of the table `kind`; raises RowError."""
    return parse_with(PARSERS, row, kind)


def _unpaired(row: Row) -> list[Row]:
    messages = demonstration(conversation(row["messages"]))["messages"]
    return [{"prompt": prompt_of(messages), "completion": assistant(messages[-1]["content"]), "label": label(row)}]


PARSERS = {
    "demonstrations": lambda row: [demonstration(conversation(row["messages"]))],
    "prompts": lambda row: [prompt_row(prompt_of(conversation(row["messages"])), row)],
    "unpaired": _unpaired,
}
