"""Alpaca: `instruction`, an optional `input`, and `output`; pairs as `chosen` and `rejected` in place of it."""

from __future__ import annotations

from alignflow.data.records import assistant, user
from alignflow.data.sources.base import Messages, Row, as_answer, column, demonstration, parse_with, preference, prompt_row, text


def parse(row: Row, kind: str) -> list[Row]:
    """Rows of the table `kind`; raises RowError."""
    return parse_with(PARSERS, row, kind)


def request(row: Row) -> Messages:
    """The instruction, and its input below it where there is one."""
    instruction = text(column(row, "instruction"))
    context = row.get("input")
    return user(f"{instruction}\n\n{context}" if isinstance(context, str) and context.strip() else instruction)


PARSERS = {
    "demonstrations": lambda row: [demonstration([*request(row), *assistant(text(column(row, "output")))])],
    "prompts": lambda row: [prompt_row(request(row), row)],
    "preferences": lambda row: [preference(request(row), as_answer(column(row, "chosen")), as_answer(column(row, "rejected")))],
}
